//! A copy of the ledger, made while vgpud may be writing it.

use super::{Error, Ledger};
use rusqlite::{Connection, OpenFlags, backup::Backup};
use std::{
    fs::{File, OpenOptions},
    io,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

/// Why no copy was made; what was begun is removed.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    #[error("There is a file {} already; name a new one", path.display())]
    Exists { path: PathBuf },
    #[error("Cannot write the copy {}; name a file in a folder that exists and can be written", path.display())]
    File {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("Cannot copy the ledger to {}", path.display())]
    Copy {
        path: PathBuf,
        #[source]
        source: rusqlite::Error,
    },
    #[error("The copy {} is not as it should be", path.display())]
    Verify {
        path: PathBuf,
        #[source]
        source: Error,
    },
}

impl Ledger {
    /// Copies the ledger as it is at one instant into a new file that only its owner can read, and
    /// returns its size in bytes once it is durable. SQLite's backup API sees to the instant.
    ///
    /// # Errors
    /// Where the file exists, cannot be written, or does not pass the checks of a ledger.
    pub fn back_up(&self, target: &Path) -> Result<u64, BackupError> {
        let path = || target.to_owned();
        // A symbolic link is never followed, and two backups at once do not meet.
        match OpenOptions::new().write(true).create_new(true).mode(0o600).open(target) {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                return Err(BackupError::Exists { path: path() });
            }
            Err(source) => return Err(BackupError::File { path: path(), source }),
        }
        let made = self
            .copy(target)
            .map_err(|source| BackupError::Copy { path: path(), source })
            .and_then(|()| {
                // Its check opens the file anew, as whoever restores it will.
                let check = Self::open_to_read(target).and_then(|copy| copy.check());
                check.map_err(|source| BackupError::Verify { path: path(), source })
            })
            .and_then(|_| sync(target).map_err(|source| BackupError::File { path: path(), source }));
        if made.is_err() {
            // The failure itself is told; a leftover would have to be told apart from a copy.
            let _ = std::fs::remove_file(target);
        }
        made
    }

    fn copy(&self, target: &Path) -> rusqlite::Result<()> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
            | OpenFlags::SQLITE_OPEN_NO_MUTEX
            | OpenFlags::SQLITE_OPEN_NOFOLLOW;
        let mut copy = Connection::open_with_flags(target, flags)?;
        // All pages in one step: what vgpud writes meanwhile does not start it over.
        Backup::new(self.connection(), &mut copy)?.run_to_completion(
            i32::MAX,
            Duration::from_millis(5),
            None,
        )?;
        // One file and no -wal beside it.
        copy.pragma_update_and_check(None, "journal_mode", "DELETE", |_| Ok(()))?;
        copy.close().map_err(|(_, error)| error)
    }
}

fn sync(target: &Path) -> io::Result<u64> {
    let file = File::open(target)?;
    file.sync_all()?;
    let folder = target.parent().filter(|folder| !folder.as_os_str().is_empty());
    File::open(folder.unwrap_or(Path::new(".")))?.sync_all()?;
    Ok(file.metadata()?.len())
}
