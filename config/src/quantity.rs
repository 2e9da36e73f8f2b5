//! Quantities as people write them: `20GiB`, `25%`, `25%+`.

use crate::Quoted;
use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};

/// An amount of memory in bytes. Text form: a whole number with `B`, `KiB`, `MiB`, `GiB` or `TiB`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Memory(u64);

/// A share of a GPU's compute, in hundredths of a percent (1 to 10000). Text form: `25%`, `12.5%`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ComputeShare(u16);

/// What a request says of compute. Text form: `50%` (a cap), `50%+` (a guarantee).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ComputeRequest {
    pub share: ComputeShare,
    pub kind: ComputeKind,
}

/// What a share of compute is to its slice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ComputeKind {
    /// All that the slice gets, even while the neighbours are idle.
    Cap,
    /// Never less than that, and more while the neighbours leave it idle.
    Guarantee,
}

/// A text that is no such quantity.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum QuantityError {
    #[error("{} is not an amount of memory; write a whole number and a unit, such as 512MiB or 20GiB", Quoted(.0))]
    Memory(String),
    #[error("{} is not a share of compute; write a percentage from 0.01% to 100%, such as 25%", Quoted(.0))]
    Share(String),
    #[error(
        "{} is not a request for compute; write a percentage from 0.01% to 100%: 25% as a cap, 25%+ as a floor \
         with what is idle beside it",
        Quoted(.0)
    )]
    Request(String),
}

const UNITS: [(&str, u64); 5] =
    [("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1)];

impl Memory {
    /// That many bytes.
    #[must_use]
    pub const fn from_bytes(bytes: u64) -> Self {
        Self(bytes)
    }

    /// In bytes.
    #[must_use]
    pub const fn bytes(self) -> u64 {
        self.0
    }
}

impl FromStr for Memory {
    type Err = QuantityError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parse = || {
            let (unit, factor) = UNITS.into_iter().find(|(unit, _)| text.ends_with(unit))?;
            let number = text[..text.len() - unit.len()].trim_end();
            if !number.bytes().all(|byte| byte.is_ascii_digit()) {
                return None;
            }
            number.parse::<u64>().ok()?.checked_mul(factor).filter(|bytes| *bytes > 0).map(Self)
        };
        parse().ok_or_else(|| QuantityError::Memory(text.to_owned()))
    }
}

impl fmt::Display for Memory {
    /// In the largest unit that needs no fraction, so that it reads back as the same amount.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match UNITS.into_iter().find(|(_, factor)| self.0 >= *factor && self.0.is_multiple_of(*factor)) {
            Some((unit, factor)) => write!(f, "{}{unit}", self.0 / factor),
            None => write!(f, "{}B", self.0),
        }
    }
}

impl ComputeShare {
    /// The whole GPU.
    pub const WHOLE: Self = Self(10_000);

    /// One of `count` equal parts, rounded down to a hundredth of a percent, at least that.
    #[must_use]
    pub fn one_of(count: u16) -> Self {
        Self((10_000 / count.max(1)).max(1))
    }

    /// `parts` of `count` equal parts, rounded down to a hundredth of a percent, at least that and no more
    /// than the whole.
    #[must_use]
    pub fn parts_of(parts: u8, count: u8) -> Self {
        let hundredths = u32::from(parts) * 10_000 / u32::from(count.max(1));
        Self(u16::try_from(hundredths.clamp(1, 10_000)).unwrap_or(10_000))
    }

    /// In hundredths of a percent.
    #[must_use]
    pub const fn hundredths(self) -> u16 {
        self.0
    }
}

impl FromStr for ComputeShare {
    type Err = QuantityError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parse = || {
            let number = text.strip_suffix('%')?;
            let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
            if fraction.len() > 2 || !whole.bytes().chain(fraction.bytes()).all(|b| b.is_ascii_digit()) {
                return None;
            }
            let hundredths = format!("{whole}{fraction:0<2}").parse::<u16>().ok()?;
            (!whole.is_empty() && (1..=10_000).contains(&hundredths)).then_some(Self(hundredths))
        };
        parse().ok_or_else(|| QuantityError::Share(text.to_owned()))
    }
}

impl fmt::Display for ComputeShare {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, rest) = (self.0 / 100, self.0 % 100);
        match (rest, rest % 10) {
            (0, _) => write!(f, "{whole}%"),
            (_, 0) => write!(f, "{whole}.{}%", rest / 10),
            _ => write!(f, "{whole}.{rest:02}%"),
        }
    }
}

impl FromStr for ComputeRequest {
    type Err = QuantityError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (share, kind) = match text.strip_suffix('+') {
            Some(share) => (share, ComputeKind::Guarantee),
            None => (text, ComputeKind::Cap),
        };
        let share = share.parse().map_err(|_| QuantityError::Request(text.to_owned()))?;
        Ok(Self { share, kind })
    }
}

impl fmt::Display for ComputeRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let more = match self.kind {
            ComputeKind::Cap => "",
            ComputeKind::Guarantee => "+",
        };
        write!(f, "{}{more}", self.share)
    }
}

macro_rules! text_form {
    ($type:ty) => {
        impl TryFrom<String> for $type {
            type Error = QuantityError;
            fn try_from(text: String) -> Result<Self, Self::Error> {
                text.parse()
            }
        }
        impl From<$type> for String {
            fn from(quantity: $type) -> Self {
                quantity.to_string()
            }
        }
    };
}
text_form!(Memory);
text_form!(ComputeShare);
text_form!(ComputeRequest);

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn memory() {
        let read = |text: &str| text.parse::<Memory>().map(Memory::bytes);
        assert_eq!(read("20GiB").unwrap(), 20 << 30);
        assert_eq!(read("1 TiB").unwrap(), 1 << 40);
        assert_eq!(read("512B").unwrap(), 512);
        assert_eq!(Memory::from_bytes(1536 << 20).to_string(), "1536MiB");
        assert_eq!(Memory::from_bytes(0).to_string(), "0B");
        for bad in [
            "",
            "GiB",
            "0GiB",
            "20",
            "20GB",
            "20G",
            "1.5GiB",
            "-1GiB",
            "+1GiB",
            "99999999TiB",
            " 1GiB",
            "1GiB ",
        ] {
            assert_eq!(
                read(bad).unwrap_err().to_string(),
                format!(
                    "{bad:?} is not an amount of memory; write a whole number and a unit, such as 512MiB or 20GiB"
                )
            );
        }
    }

    #[test]
    fn shares_of_compute() {
        let read = |text: &str| text.parse::<ComputeShare>().map(ComputeShare::hundredths);
        for (text, hundredths) in
            [("25%", 2500), ("12.5%", 1250), ("0.01%", 1), ("100%", 10_000), ("3.22%", 322)]
        {
            assert_eq!(read(text).unwrap(), hundredths, "{text}");
        }
        for bad in
            ["", "%", "25", "0%", "100.01%", "1.234%", ".5%", "-1%", "1e1%", "700%", "25 %", "99999999%"]
        {
            assert_eq!(
                read(bad).unwrap_err().to_string(),
                format!(
                    "{bad:?} is not a share of compute; write a percentage from 0.01% to 100%, such as 25%"
                )
            );
        }
        assert_eq!(ComputeShare::one_of(1), ComputeShare::WHOLE);
        assert_eq!(ComputeShare::one_of(31).to_string(), "3.22%");
        assert_eq!(ComputeShare::one_of(0), ComputeShare::WHOLE);
        assert_eq!(ComputeShare::one_of(u16::MAX).to_string(), "0.01%");
        assert_eq!(ComputeShare::parts_of(3, 7).to_string(), "42.85%");
        for whole in [(7, 7), (9, 7), (1, 0)] {
            assert_eq!(ComputeShare::parts_of(whole.0, whole.1), ComputeShare::WHOLE);
        }
    }

    #[test]
    fn requests_for_compute() {
        let read = |text: &str| text.parse::<ComputeRequest>().map(|r| (r.share.hundredths(), r.kind));
        assert_eq!(read("50%").unwrap(), (5000, ComputeKind::Cap));
        assert_eq!(read("50%+").unwrap(), (5000, ComputeKind::Guarantee));
        assert_eq!(read("12.5%+").unwrap(), (1250, ComputeKind::Guarantee));
        for bad in ["", "+", "%+", "50+", "50+%", "50%++", "50% +", "+50%", "0%+", "101%+", "50%-"] {
            assert_eq!(
                read(bad).unwrap_err().to_string(),
                format!(
                    "{bad:?} is not a request for compute; write a percentage from 0.01% to 100%: 25% as a cap, \
                     25%+ as a floor with what is idle beside it"
                )
            );
        }
    }

    proptest! {
        #[test]
        fn memory_reads_back(bytes in 1_u64.., shift in 0_u32..60) {
            for memory in [Memory(bytes), Memory((bytes >> shift).max(1)), Memory(1 << shift)] {
                prop_assert_eq!(memory.to_string().parse(), Ok(memory));
            }
        }

        #[test]
        fn shares_read_back(hundredths in 1_u16..=10_000) {
            let share = ComputeShare(hundredths);
            prop_assert_eq!(share.to_string().parse(), Ok(share));
            for kind in [ComputeKind::Cap, ComputeKind::Guarantee] {
                let request = ComputeRequest { share, kind };
                prop_assert_eq!(request.to_string().parse(), Ok(request));
            }
        }

        #[test]
        fn no_text_breaks_the_readers(text in "([0-9.]{0,5}|.){0,3}(GiB|B|%|%\\+)?") {
            let _ = text.parse::<Memory>();
            let _ = text.parse::<ComputeShare>();
            let _ = text.parse::<ComputeRequest>();
        }
    }
}
