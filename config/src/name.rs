//! Names that people give: owners and profiles.

use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};

/// Who holds a slice: a pod, a VM, a person. Up to 253 characters of `A-Z a-z 0-9 . _ - / : @`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Owner(String);

/// Name of a profile of a mechanism, as the mechanism spells it (`vf-8`, `nvidia-558`, `simgpu_mdev-small`).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ProfileName(String);

/// A text that cannot be such a name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} cannot be the name of {what}; write 1 to {longest} characters of A-Z a-z 0-9 . _ - / : @")]
pub struct NameError {
    what: &'static str,
    text: String,
    longest: usize,
}

fn checked(what: &'static str, text: &str, longest: usize) -> Result<String, NameError> {
    let plain = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-/:@".contains(&byte));
    if text.is_empty() || text.len() > longest || !plain {
        return Err(NameError { what, text: text.to_owned(), longest });
    }
    Ok(text.to_owned())
}

macro_rules! name {
    ($type:ident, $what:literal, $longest:literal) => {
        impl FromStr for $type {
            type Err = NameError;
            fn from_str(text: &str) -> Result<Self, NameError> {
                checked($what, text, $longest).map(Self)
            }
        }
        impl TryFrom<String> for $type {
            type Error = NameError;
            fn try_from(text: String) -> Result<Self, NameError> {
                text.parse()
            }
        }
        impl From<$type> for String {
            fn from(name: $type) -> Self {
                name.0
            }
        }
        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
        impl AsRef<str> for $type {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }
    };
}
name!(Owner, "an owner", 253);
name!(ProfileName, "a profile", 128);
