//! One daemon a state folder: a lock that the kernel drops when its holder ends.

use super::{StartError, folder};
use nix::fcntl::{Flock, FlockArg, OFlag};
use std::{
    fs::{self, File},
    io::{Read, Seek, Write},
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt},
    path::Path,
};

/// Held as long as the daemon runs. The file stays: removing it would let two daemons hold locks on
/// two files of one name.
#[derive(Debug)]
pub struct Lock {
    _file: Flock<File>,
}

impl Lock {
    /// Takes the lock of a state folder, which is made where it is missing.
    ///
    /// # Errors
    /// [`StartError::AlreadyRunning`] with the pid of the daemon that has it. What was planted at its name
    /// is neither followed nor written to.
    pub fn take(folder: &Path) -> Result<Self, StartError> {
        let path = folder.join("vgpud.lock");
        let failed = |source| StartError::Lock { path: path.clone(), source };
        // The ledger names tenants: it is nobody else's business.
        fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(failed)?;
        folder::check(folder, folder::Use::State)?;
        let mut options = File::options();
        options.read(true).write(true).create(true).truncate(false).mode(0o600);
        options.custom_flags((OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK).bits());
        let planted = |why| StartError::PlantedLock { path: path.clone(), why };
        let file = match options.open(&path) {
            Err(error) if error.raw_os_error() == Some(nix::libc::ELOOP) => {
                return Err(planted("it is a symbolic link"));
            }
            other => other.map_err(failed)?,
        };
        let found = file.metadata().map_err(failed)?;
        if !found.is_file() {
            return Err(planted("it is no regular file"));
        }
        if found.nlink() != 1 {
            return Err(planted("the file has another name elsewhere (a hard link)"));
        }
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(mut file) => {
                let stamp = |file: &mut File| {
                    file.set_len(0)?;
                    file.rewind()?;
                    write!(file, "{}", std::process::id())
                };
                stamp(&mut file).map_err(failed)?;
                Ok(Self { _file: file })
            }
            Err((mut file, nix::Error::EWOULDBLOCK)) => {
                let mut pid = String::new();
                // Unreadable or not yet written: then it is not known who it is.
                if file.read_to_string(&mut pid).is_err() || pid.trim().is_empty() {
                    pid = "unknown".to_owned();
                }
                Err(StartError::AlreadyRunning { path: folder.to_owned(), pid: pid.trim().to_owned() })
            }
            Err((_, errno)) => Err(failed(errno.into())),
        }
    }
}

#[cfg(test)]
mod tests;
