//! Names that vgpud gives.

use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};
use vgpud_config::Quoted;

/// A slice for its whole life: `s17`. Never used again, so that a late message cannot mean another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SliceId(u64);

/// A text that is no slice's name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{} is not the name of a slice; write s and a number, such as s17 (`vgpuctl slices` lists them)", Quoted(.0))]
pub struct SliceIdError(String);

/// Which lease of a slice: grows by one with each lease, 0 before the first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Generation(pub u64);

/// One request to create slices: all of them or none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct RequestId(pub u64);

/// Milliseconds since 1970 by the wall clock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct UnixMillis(pub u64);

impl SliceId {
    #[must_use]
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    #[must_use]
    pub const fn number(self) -> u64 {
        self.0
    }
}

impl Generation {
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl fmt::Display for SliceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "s{}", self.0)
    }
}

impl FromStr for SliceId {
    type Err = SliceIdError;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let number = text.strip_prefix('s').filter(|digits| {
            !digits.is_empty() && !digits.starts_with('0') && digits.bytes().all(|b| b.is_ascii_digit())
        });
        number.and_then(|digits| digits.parse().ok()).map(Self).ok_or_else(|| SliceIdError(text.to_owned()))
    }
}

impl TryFrom<String> for SliceId {
    type Error = SliceIdError;
    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<SliceId> for String {
    fn from(id: SliceId) -> Self {
        id.to_string()
    }
}

impl fmt::Display for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
