//! Names of classes: requests that the operator has given a name.

use crate::Quoted;
use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};

/// Name of a class, such as `inference-small`: 1 to 63 characters of `a-z 0-9 -`, a letter or digit at
/// both ends. That is a label of RFC 1123, so that it can be part of a resource's name in Kubernetes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ClassName(String);

/// A text that cannot be such a name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{} cannot be the name of a class; write 1 to 63 characters of a-z 0-9 -, a letter or digit at both ends",
    Quoted(.0)
)]
pub struct ClassNameError(String);

impl FromStr for ClassName {
    type Err = ClassNameError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        let bytes = text.as_bytes();
        let ends = [bytes.first(), bytes.last()];
        if bytes.len() <= 63
            && ends.into_iter().all(|end| end.is_some_and(|byte| plain(*byte)))
            && bytes.iter().all(|byte| plain(*byte) || *byte == b'-')
        {
            return Ok(Self(text.to_owned()));
        }
        Err(ClassNameError(text.to_owned()))
    }
}

impl TryFrom<String> for ClassName {
    type Error = ClassNameError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<ClassName> for String {
    fn from(name: ClassName) -> Self {
        name.0
    }
}

impl fmt::Display for ClassName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_labels() {
        for good in ["a", "7b", "inference-small", "x--y", &"x".repeat(63)] {
            assert_eq!(good.parse::<ClassName>().unwrap().to_string(), good);
        }
        for bad in ["", "-", "a-", "-a", "A", "a.b", "a/b", "two words", "é", &"x".repeat(64)] {
            assert_eq!(
                bad.parse::<ClassName>().unwrap_err().to_string(),
                format!(
                    "{bad:?} cannot be the name of a class; write 1 to 63 characters of a-z 0-9 -, a letter or \
                     digit at both ends"
                )
            );
        }
    }

    proptest::proptest! {
        #[test]
        fn names_read_back(text in "[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?") {
            proptest::prop_assert_eq!(text.parse::<ClassName>().unwrap().to_string(), text);
        }

        #[test]
        fn no_text_breaks_the_reader(text in "([a-z-]|.){0,70}") {
            let read = text.parse::<ClassName>();
            proptest::prop_assert!(read.is_err() || read.unwrap().to_string() == text);
        }
    }
}
