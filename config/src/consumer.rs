//! Who may open the VFIO node of a leased slice.

use crate::{Account, Quoted};
use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};

/// A consumer as people name it: `qemu`, `qemu:kvm`, `64055:36`. Which numbers the names mean is asked
/// of the host when a lease begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsumerName {
    pub user: Account,
    pub group: Option<Account>,
}

/// A consumer as the kernel knows it; by default root.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Consumer {
    pub uid: u32,
    /// Its members may open the node too; none: the user alone.
    pub gid: Option<u32>,
}

/// A text that names no consumer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{} cannot be who opens a node; write a user as qemu or 1000, and with a group as qemu:kvm",
    Quoted(.0)
)]
pub struct ConsumerNameError(String);

impl FromStr for ConsumerName {
    type Err = ConsumerNameError;
    fn from_str(text: &str) -> Result<Self, ConsumerNameError> {
        let account = |part: &str| part.parse().map_err(|_| ConsumerNameError(text.to_owned()));
        Ok(match text.split_once(':') {
            Some((user, group)) => Self { user: account(user)?, group: Some(account(group)?) },
            None => Self { user: account(text)?, group: None },
        })
    }
}

impl fmt::Display for ConsumerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.group {
            Some(group) => write!(f, "{}:{group}", self.user),
            None => self.user.fmt(f),
        }
    }
}

impl Consumer {
    /// The mode of its node: nothing wider than it needs.
    #[must_use]
    pub const fn mode(self) -> u32 {
        if self.gid.is_some() { 0o660 } else { 0o600 }
    }

    /// The group of its node; root's where only the user may open it.
    #[must_use]
    pub fn group(self) -> u32 {
        self.gid.unwrap_or(0)
    }
}

impl fmt::Display for Consumer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.uid {
            0 => f.write_str("root")?,
            uid => write!(f, "user {uid}")?,
        }
        match self.gid {
            Some(gid) => write!(f, " and group {gid}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_consumer_is_a_user_and_perhaps_a_group() {
        for text in ["qemu", "qemu:kvm", "64055:36", "libvirt-qemu:kvm"] {
            assert_eq!(text.parse::<ConsumerName>().unwrap().to_string(), text);
        }
        for bad in ["", ":", ":kvm", "qemu:", "@kvm", "a:b:c", "two words", "4294967295"] {
            assert!(bad.parse::<ConsumerName>().is_err(), "{bad:?}");
        }
    }
}
