//! Which numbers the name of a consumer means on this host.

use super::access::{self, Accounts, Unanswered};
use nix::errno::Errno;
use vgpud_config::{Account, Consumer, ConsumerName, Quoted};

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
    #[error("Cannot learn the numbers of {name}; give numbers instead")]
    Unanswered {
        name: ConsumerName,
        #[source]
        source: Unanswered,
    },
}

/// Asks the host, which may ask a directory server, about what is not a number already.
///
/// # Errors
/// Where the host knows no such user or group, or does not answer.
pub async fn resolve(name: ConsumerName) -> Result<Consumer, ConsumerError> {
    if let Some(consumer) = by_itself(&name) {
        return Ok(consumer);
    }
    let asked = name.clone();
    let found = access::ask(move |accounts| look_up(&asked, accounts)).await;
    found.map_err(|source| ConsumerError::Unanswered { name, source })?
}

/// The numbers that no user database is needed for.
fn by_itself(name: &ConsumerName) -> Option<Consumer> {
    let gid = name.group.as_ref().map(number_of).transpose().ok()?;
    Some(Consumer { uid: number_of(&name.user).ok()?, gid })
}

/// The number of an account, or else its name, which the database has to be asked about.
fn number_of(account: &Account) -> Result<u32, &String> {
    match account {
        Account::Number(number) => Ok(*number),
        // By definition, whatever the database says.
        Account::Name(name) if name == "root" => Ok(0),
        Account::Name(name) => Err(name),
    }
}

fn look_up(name: &ConsumerName, accounts: &impl Accounts) -> Result<Consumer, ConsumerError> {
    let number = |what, database, account: &Account, find: &dyn Fn(&str) -> Result<Option<u32>, Errno>| {
        number_of(account).or_else(|name| {
            find(name)
                .map_err(|source| ConsumerError::Database { what, name: name.clone(), source })?
                .ok_or_else(|| ConsumerError::Unknown { what, name: name.clone(), database })
        })
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

    #[test]
    fn numbers_and_root_are_known_without_asking() {
        let known = |text: &str| by_itself(&text.parse().unwrap());
        assert_eq!(known("1000:root"), Some(Consumer { uid: 1000, gid: Some(0) }));
        assert_eq!(known("root"), Some(Consumer::default()));
        assert_eq!((known("qemu"), known("1000:kvm")), (None, None));
    }
}
