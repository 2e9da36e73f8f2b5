//! One daemon a state folder: a lock that the kernel drops when its holder ends.

use super::StartError;
use nix::fcntl::{Flock, FlockArg};
use std::{
    fs::{self, File},
    io::{Read, Seek, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
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
    /// [`StartError::AlreadyRunning`] with the pid of the daemon that has it.
    pub fn take(folder: &Path) -> Result<Self, StartError> {
        let path = folder.join("vgpud.lock");
        let failed = |source| StartError::Lock { path: path.clone(), source };
        // The ledger names tenants: it is nobody else's business.
        fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(failed)?;
        let mut options = File::options();
        options.read(true).write(true).create(true).truncate(false).mode(0o600);
        let file = options.open(&path).map_err(failed)?;
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
