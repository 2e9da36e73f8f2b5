//! Which numbers the name of a consumer means on this host.

use super::access::{Accounts, HostAccounts};
use nix::errno::Errno;
use std::time::Duration;
use vgpud_config::{Account, Consumer, ConsumerName, Quoted};

/// How long the user database may take.
const LOOK_UP: Duration = Duration::from_secs(5);

/// Why a name means nobody.
#[derive(Debug, thiserror::Error)]
pub enum ConsumerError {
    #[error(
        "This host has no {what} {} that a node could be given to; see `getent {database}`, or give a number",
        Quoted(name)
    )]
    Unknown { what: &'static str, name: String, database: &'static str },
    #[error("Cannot ask the user database about {what} {}; give a number instead", Quoted(name))]
    Database {
        what: &'static str,
        name: String,
        #[source]
        source: Errno,
    },
    #[error("The user database did not tell about {0} within {LOOK_UP:?}; give numbers instead")]
    Silent(ConsumerName),
}

/// Asks the host, which may ask a directory server.
///
/// # Errors
/// Where the host knows no such user or group, or does not answer.
pub async fn resolve(name: ConsumerName) -> Result<Consumer, ConsumerError> {
    let asked = name.clone();
    let asking = tokio::task::spawn_blocking(move || look_up(&asked, &HostAccounts));
    match tokio::time::timeout(LOOK_UP, asking).await {
        Ok(Ok(found)) => found,
        Ok(Err(_)) | Err(_) => Err(ConsumerError::Silent(name)),
    }
}

fn look_up(name: &ConsumerName, accounts: &impl Accounts) -> Result<Consumer, ConsumerError> {
    let number = |what, database, account: &Account, find: &dyn Fn(&str) -> Result<Option<u32>, Errno>| {
        match account {
            Account::Number(number) => Ok(*number),
            // By definition, whatever the database says.
            Account::Name(name) if name == "root" => Ok(0),
            Account::Name(name) => find(name)
                .map_err(|source| ConsumerError::Database { what, name: name.clone(), source })?
                .ok_or_else(|| ConsumerError::Unknown { what, name: name.clone(), database }),
        }
    };
    let group = |account| number("group", "group", account, &|name| accounts.gid(name));
    Ok(Consumer {
        uid: number("user", "passwd", &name.user, &|name| accounts.uid(name))?,
        gid: name.group.as_ref().map(group).transpose()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Known;

    impl Accounts for Known {
        fn uid(&self, user: &str) -> Result<Option<u32>, Errno> {
            if user == "ldap" { Err(Errno::EIO) } else { Ok((user == "qemu").then_some(64055)) }
        }
        fn gid(&self, group: &str) -> Result<Option<u32>, Errno> {
            Ok((group == "kvm").then_some(36))
        }
        fn name(&self, _: u32) -> Result<Option<String>, Errno> {
            Ok(None)
        }
        fn groups(&self, _: &str, _: u32) -> Result<Vec<u32>, Errno> {
            Ok(vec![])
        }
    }

    #[test]
    fn names_become_numbers_or_are_refused_by_name() {
        let look_up = |text: &str| look_up(&text.parse().unwrap(), &Known);
        assert_eq!(look_up("qemu:kvm").unwrap(), Consumer { uid: 64055, gid: Some(36) });
        assert_eq!(look_up("1000:root").unwrap(), Consumer { uid: 1000, gid: Some(0) });
        assert_eq!(look_up("root").unwrap(), Consumer::default());
        let refused = |text| look_up(text).unwrap_err().to_string();
        assert!(refused("qemo").starts_with("This host has no user \"qemo\""), "{}", refused("qemo"));
        assert!(
            refused("qemu:kwm")
                .contains("no group \"kwm\" that a node could be given to; see `getent group`")
        );
        assert!(refused("ldap").contains("give a number instead"));
    }
}
