//! Users and groups of the host, as the settings name them.

use crate::Quoted;
use serde::Deserialize;
use std::{fmt, str::FromStr};

/// A user (`alice`, `1000`) or a group (`@gpu`, `@27`). Whether the host knows a name is asked when it
/// is used, not when it is read: accounts come and go while vgpud runs.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
#[serde(try_from = "String")]
pub enum Principal {
    User(Account),
    Group(Account),
}

/// A user or a group by its name or its number.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
#[serde(try_from = "String")]
pub enum Account {
    Name(String),
    /// A uid or gid.
    Number(u32),
}

/// A text that cannot be such a name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{} cannot be a user or a group; write a user as alice or 1000, a group as @gpu or @27", Quoted(.0))]
pub struct PrincipalError(String);

/// A text that cannot be one where a user, or a group, is meant anyway.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{} cannot be a user or a group here; write its name or number alone, such as qemu or 36", Quoted(.0))]
pub struct AccountError(String);

impl FromStr for Account {
    type Err = AccountError;
    fn from_str(text: &str) -> Result<Self, AccountError> {
        let wrong = || AccountError(text.to_owned());
        if text.bytes().all(|byte| byte.is_ascii_digit()) {
            // The kernel's "no id" is 4294967295 (setresuid(2)).
            let number = text.parse().ok().filter(|number| *number != u32::MAX);
            return number.map(Self::Number).ok_or_else(wrong);
        }
        // Directories have names such as `GPU\alice` and `alice@example.org`.
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || br"._-$+\@".contains(&byte);
        if text.len() > 255 || text.starts_with(['@', '-']) || !text.bytes().all(plain) {
            return Err(wrong());
        }
        Ok(Self::Name(text.to_owned()))
    }
}

impl FromStr for Principal {
    type Err = PrincipalError;
    fn from_str(text: &str) -> Result<Self, PrincipalError> {
        let read = match text.strip_prefix('@') {
            Some(group) => group.parse().map(Self::Group),
            None => text.parse().map(Self::User),
        };
        read.map_err(|_| PrincipalError(text.to_owned()))
    }
}

impl TryFrom<String> for Account {
    type Error = AccountError;
    fn try_from(text: String) -> Result<Self, AccountError> {
        text.parse()
    }
}

impl TryFrom<String> for Principal {
    type Error = PrincipalError;
    fn try_from(text: String) -> Result<Self, PrincipalError> {
        text.parse()
    }
}

impl fmt::Display for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Number(number) => write!(f, "{number}"),
        }
    }
}

impl fmt::Display for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::User(account) => write!(f, "{account}"),
            Self::Group(account) => write!(f, "@{account}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn users_and_groups_go_by_name_or_number() {
        let name = |text: &str| Account::Name(text.to_owned());
        for (text, expected) in [
            ("alice", Principal::User(name("alice"))),
            ("1000", Principal::User(Account::Number(1000))),
            ("@gpu", Principal::Group(name("gpu"))),
            ("@27", Principal::Group(Account::Number(27))),
            ("GPU\\alice", Principal::User(name("GPU\\alice"))),
            ("@staff@example.org", Principal::Group(name("staff@example.org"))),
            ("2fast", Principal::User(name("2fast"))),
        ] {
            assert_eq!(text.parse::<Principal>(), Ok(expected), "{text}");
        }
        for bad in ["", "@", "@@gpu", "two words", "a:b", "a,b", "-1", "4294967295", "@99999999999", "né"] {
            assert!(bad.parse::<Principal>().is_err(), "{bad:?}");
        }
        assert_eq!(
            "a b".parse::<Principal>().unwrap_err().to_string(),
            "\"a b\" cannot be a user or a group; write a user as alice or 1000, a group as @gpu or @27"
        );
    }

    #[test]
    fn an_account_is_refused_without_the_way_out_of_a_principal() {
        assert_eq!("36".parse(), Ok(Account::Number(36)));
        assert_eq!(
            "@kvm".parse::<Account>().unwrap_err().to_string(),
            "\"@kvm\" cannot be a user or a group here; write its name or number alone, such as qemu or 36"
        );
    }

    proptest! {
        #[test]
        fn what_is_read_is_written_the_same(text in ".{0,20}|@?[a-z0-9]{1,6}") {
            if let Ok(principal) = text.parse::<Principal>() {
                prop_assert_eq!(principal.to_string().parse::<Principal>(), Ok(principal));
            }
        }
    }
}
