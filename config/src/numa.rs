//! On which NUMA node a slice should be.

use crate::Quoted;
use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};

/// A NUMA node, and whether another one will do. Text form: `0` or `prefer:0`, and `require:0`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct NumaAffinity {
    /// As the kernel numbers it (`numa_node` of a PCI device in sysfs).
    pub node: u32,
    pub strength: AffinityStrength,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AffinityStrength {
    /// Before all others.
    Prefer,
    /// And no other.
    Require,
}

/// A text that names no node.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{} is no NUMA node; write prefer:0, or 0 for short, or require:0", Quoted(.0))]
pub struct NumaAffinityError(String);

impl FromStr for NumaAffinity {
    type Err = NumaAffinityError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (strength, digits) = match text.split_once(':') {
            Some(("require", digits)) => (AffinityStrength::Require, digits),
            Some(("prefer", digits)) => (AffinityStrength::Prefer, digits),
            Some(_) => return Err(NumaAffinityError(text.to_owned())),
            None => (AffinityStrength::Prefer, text),
        };
        let node = Some(digits)
            .filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()))
            .and_then(|digits| digits.parse().ok());
        node.map(|node| Self { node, strength }).ok_or_else(|| NumaAffinityError(text.to_owned()))
    }
}

impl TryFrom<String> for NumaAffinity {
    type Error = NumaAffinityError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<NumaAffinity> for String {
    fn from(affinity: NumaAffinity) -> Self {
        affinity.to_string()
    }
}

impl fmt::Display for NumaAffinity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let strength = match self.strength {
            AffinityStrength::Prefer => "prefer",
            AffinityStrength::Require => "require",
        };
        write!(f, "{strength}:{}", self.node)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_is_preferred_unless_it_is_required() {
        for (text, shown) in [("0", "prefer:0"), ("prefer:3", "prefer:3"), ("require:1", "require:1")] {
            assert_eq!(text.parse::<NumaAffinity>().unwrap().to_string(), shown);
        }
        for bad in ["", "-1", "+1", "node0", "require", "require:", "require:-1", "0:0", "4294967296"] {
            assert_eq!(
                bad.parse::<NumaAffinity>().unwrap_err().to_string(),
                format!("{bad:?} is no NUMA node; write prefer:0, or 0 for short, or require:0")
            );
        }
    }

    proptest::proptest! {
        #[test]
        fn nodes_read_back(text in "(prefer|require):(0|[1-9][0-9]{0,8})") {
            proptest::prop_assert_eq!(text.parse::<NumaAffinity>().unwrap().to_string(), text);
        }

        #[test]
        fn no_text_breaks_the_reader(text in "(prefer|require|:|[0-9]|.){0,12}") {
            let _ = text.parse::<NumaAffinity>();
        }
    }
}
