//! The host's users and groups.

use nix::{
    errno::Errno,
    unistd::{Gid, Group, Uid, User, getgrouplist},
};
use std::ffi::CString;

/// Reads the host's user database (nsswitch.conf(5)); may wait for a directory server.
pub trait Accounts {
    /// # Errors
    /// As the database says.
    fn uid(&self, user: &str) -> Result<Option<u32>, Errno>;
    /// # Errors
    /// As the database says.
    fn gid(&self, group: &str) -> Result<Option<u32>, Errno>;
    /// # Errors
    /// As the database says.
    fn name(&self, uid: u32) -> Result<Option<String>, Errno>;
    /// All groups of a user whose own is `gid`.
    ///
    /// # Errors
    /// As the database says.
    fn groups(&self, user: &str, gid: u32) -> Result<Vec<u32>, Errno>;
}

/// This host's.
#[derive(Clone, Copy, Debug)]
pub struct HostAccounts;

impl Accounts for HostAccounts {
    fn uid(&self, user: &str) -> Result<Option<u32>, Errno> {
        Ok(User::from_name(user)?.map(|user| user.uid.as_raw()))
    }

    fn gid(&self, group: &str) -> Result<Option<u32>, Errno> {
        Ok(Group::from_name(group)?.map(|group| group.gid.as_raw()))
    }

    fn name(&self, uid: u32) -> Result<Option<String>, Errno> {
        Ok(User::from_uid(Uid::from_raw(uid))?.map(|user| user.name))
    }

    fn groups(&self, user: &str, gid: u32) -> Result<Vec<u32>, Errno> {
        let user = CString::new(user).map_err(|_| Errno::EINVAL)?;
        Ok(getgrouplist(&user, Gid::from_raw(gid))?.into_iter().map(Gid::as_raw).collect())
    }
}
