//! Names that people give: owners, profiles and layouts.

use crate::Quoted;
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

/// Name of a layout, such as `all-balanced`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct LayoutName(String);

/// A text that cannot be such a name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{} cannot be the name of {what}; write 1 to {longest} characters of A-Z a-z 0-9 . _ - / : @",
    Quoted(text)
)]
pub struct NameError {
    what: &'static str,
    text: String,
    longest: usize,
}

impl Owner {
    /// Whom the owner belongs to: `team-a` of `team-a/train-3`, and itself where it has no slash.
    #[must_use]
    pub fn root(&self) -> Self {
        match self.0.split_once('/') {
            Some((root, _)) if !root.is_empty() => Self(root.to_owned()),
            _ => self.clone(),
        }
    }
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
name!(LayoutName, "a layout", 128);

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_are_plain_and_of_bounded_length() {
        for good in ["pod/default:web-0", "me@host", "a", &"x".repeat(253)] {
            assert_eq!(good.parse::<Owner>().unwrap().to_string(), good);
        }
        for bad in ["", "two words", "tab\t", "naïve", "a,b", "line\n", &"x".repeat(254)] {
            assert!(bad.parse::<Owner>().is_err(), "{bad:?}");
        }
        assert!("x".repeat(129).parse::<ProfileName>().is_err());
        assert_eq!(
            "a b".parse::<ProfileName>().unwrap_err().to_string(),
            "\"a b\" cannot be the name of a profile; write 1 to 128 characters of A-Z a-z 0-9 . _ - / : @"
        );
        assert_eq!(
            "".parse::<Owner>().unwrap_err().to_string(),
            "\"\" cannot be the name of an owner; write 1 to 253 characters of A-Z a-z 0-9 . _ - / : @"
        );
    }

    proptest! {
        #[test]
        fn names_read_back(text in "[A-Za-z0-9._/:@-]{1,128}") {
            prop_assert_eq!(&text.parse::<Owner>().unwrap().to_string(), &text);
            prop_assert_eq!(&String::from(text.parse::<ProfileName>().unwrap()), &text);
        }

        #[test]
        fn no_text_breaks_the_reader(text in ".{0,300}") {
            let read = text.parse::<Owner>();
            prop_assert!(read.is_err() || read.unwrap().as_ref() == text);
        }
    }
}
