//! The role of one caller.

use super::{Role, accounts::Accounts};
use nix::errno::Errno;
use vgpud_config::{AccessSettings, Account, Principal};

/// Who the kernel says is at the other end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    pub uid: u32,
    pub gid: u32,
    /// None where it is in a process namespace that cannot be seen from here.
    pub pid: Option<i32>,
}

/// What is known of a caller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// For people: `User alice (1000)`.
    pub user: String,
    pub role: Option<Role>,
    /// Lines of the settings that gave nothing because they could not be made out.
    pub doubts: Vec<String>,
}

impl Peer {
    /// The user without a look at the accounts.
    pub fn by_number(self) -> String {
        match self.uid {
            0 => "User root (0)".to_owned(),
            uid => format!("User {uid}"),
        }
    }

    /// Whether it may do everything without being named: root, and whoever runs the daemon, who could
    /// change its settings and memory anyway.
    pub const fn is_master(self, daemon: u32) -> bool {
        self.uid == 0 || self.uid == daemon
    }

    /// Looks the caller up in the settings. A name that the host does not know names nobody.
    pub fn look_up(self, settings: &AccessSettings, accounts: &impl Accounts) -> Standing {
        let mut doubts = Vec::new();
        let name = accounts.name(self.uid).unwrap_or_else(|errno| {
            doubts.push(format!("the user database does not tell the name of user {}: {errno}", self.uid));
            None
        });
        let user =
            name.as_ref().map_or_else(|| self.by_number(), |name| format!("User {name} ({})", self.uid));
        // By the accounts, not by the process: SO_PEERGROUPS takes unsafe code, and the groups that a
        // process has given up do not make it somebody else.
        let groups = match name.map(|name| accounts.groups(&name, self.gid)) {
            None => vec![self.gid],
            Some(Ok(groups)) => groups,
            Some(Err(errno)) => {
                doubts.push(format!("the user database does not tell the groups of {user}: {errno}"));
                vec![self.gid]
            }
        };
        let lists = [
            (Role::Admin, &settings.admins),
            (Role::Operator, &settings.operators),
            (Role::Viewer, &settings.viewers),
        ];
        for (role, list) in lists {
            for principal in list {
                match names(principal, accounts) {
                    Ok(Some(Id::User(uid))) if uid == self.uid => {
                        return Standing { user, role: Some(role), doubts };
                    }
                    Ok(Some(Id::Group(gid))) if groups.contains(&gid) || gid == self.gid => {
                        return Standing { user, role: Some(role), doubts };
                    }
                    Ok(Some(_)) => {}
                    Ok(None) => doubts.push(format!(
                        "`{}` in [access] names {principal:?}, whom this host does not know",
                        role.setting(),
                        principal = principal.to_string()
                    )),
                    Err(errno) => doubts.push(format!(
                        "`{}` in [access] names {principal:?}, and the user database cannot be asked: {errno}",
                        role.setting(),
                        principal = principal.to_string()
                    )),
                }
            }
        }
        Standing { user, role: None, doubts }
    }
}

enum Id {
    User(u32),
    Group(u32),
}

fn names(principal: &Principal, accounts: &impl Accounts) -> Result<Option<Id>, Errno> {
    Ok(match principal {
        Principal::User(Account::Number(uid)) => Some(Id::User(*uid)),
        Principal::Group(Account::Number(gid)) => Some(Id::Group(*gid)),
        Principal::User(Account::Name(name)) => accounts.uid(name)?.map(Id::User),
        Principal::Group(Account::Name(name)) => accounts.gid(name)?.map(Id::Group),
    })
}
