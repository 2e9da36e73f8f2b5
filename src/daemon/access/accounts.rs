//! The host's users and groups.

use nix::{
    errno::Errno,
    unistd::{Gid, Group, Uid, User, getgrouplist},
};
use std::{ffi::CString, time::Duration};
use tokio::sync::Semaphore;

/// How long the user database may take.
const LOOK_UP: Duration = Duration::from_secs(5);

/// Look-ups at once. One that hangs keeps its thread, and the threads are needed for more than these.
static ROOM: Semaphore = Semaphore::const_new(64);

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

/// Why nothing is known of a user.
#[derive(Debug, thiserror::Error)]
pub enum Unanswered {
    #[error("the user database did not answer within {LOOK_UP:?}")]
    Silent,
    #[error("the look-up of the user broke down; vgpud's log says more")]
    Broken(#[source] tokio::task::JoinError),
}

/// Asks this host's accounts, on a thread that may wait.
///
/// # Errors
/// Where they do not answer in time.
pub async fn ask<T: Send + 'static>(
    look_up: impl FnOnce(&HostAccounts) -> T + Send + 'static,
) -> Result<T, Unanswered> {
    let asked = async {
        // Held by the thread, however long nobody waits for it any more; it is never closed.
        let room = ROOM.acquire().await.ok();
        let looked_up = tokio::task::spawn_blocking(move || {
            let _room = room;
            look_up(&HostAccounts)
        });
        looked_up.await.map_err(Unanswered::Broken)
    };
    tokio::time::timeout(LOOK_UP, asked).await.unwrap_or(Err(Unanswered::Silent))
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, Mutex, mpsc};

    /// One runtime with few threads, as a hanging database finds it.
    #[test]
    fn look_ups_that_hang_leave_threads_for_others_and_one_that_breaks_down_is_not_late() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .max_blocking_threads(65)
            .build()
            .unwrap();
        let (let_go, hang) = mpsc::channel::<()>();
        runtime.block_on(async {
            let broken = ask::<()>(|_| panic!("as it is to be")).await;
            assert!(matches!(broken, Err(Unanswered::Broken(_))), "{broken:?}");
            let hang = Arc::new(Mutex::new(hang));
            for _ in 0..100 {
                let hang = Arc::clone(&hang);
                tokio::spawn(ask(move |_| hang.lock().unwrap().recv().is_err()));
            }
            while ROOM.available_permits() > 0 {
                tokio::task::yield_now().await;
            }
            let late = ask(|_| ()).await;
            assert!(matches!(late, Err(Unanswered::Silent)), "{late:?}");
            let other = tokio::task::spawn_blocking(|| ());
            tokio::time::timeout(LOOK_UP, other).await.expect("a thread for other work").unwrap();
            drop(let_go);
        });
    }
}
