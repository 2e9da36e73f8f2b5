//! The API's socket: there while the daemon serves, and never left behind by a clean stop.

use super::StartError;
use std::{
    fs, io,
    os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
};
use tokio::net::{UnixListener, UnixStream};
use vgpud_config::Settings;

/// Who may connect. Roles name any number of users and groups and a file's mode just one of each, so
/// as soon as somebody is named the socket is open to all, and each call is checked by who connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Openness {
    /// Mode 0660: nobody else has a role.
    Own,
    /// Mode 0666.
    All,
}

impl Openness {
    pub const fn of(settings: &Settings) -> Self {
        if settings.access.is_empty() { Self::Own } else { Self::All }
    }

    fn permissions(self) -> fs::Permissions {
        fs::Permissions::from_mode(match self {
            Self::Own => 0o660,
            Self::All => 0o666,
        })
    }
}

/// A bound socket, removed when this value goes.
#[derive(Debug)]
pub struct Socket {
    path: PathBuf,
    inode: u64,
}

impl Socket {
    /// Binds the socket. One that nobody serves is the rest of a daemon that was killed, and is
    /// removed; the caller holds the lock, so no other daemon of this state folder lives.
    ///
    /// # Errors
    /// Where something else is there, or serves there.
    pub async fn bind(path: &Path, openness: Openness) -> Result<(Self, UnixListener), StartError> {
        let failed = |source| StartError::Socket { path: path.to_owned(), source };
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).map_err(failed)?;
        }
        match fs::symlink_metadata(path) {
            Ok(found) if !found.file_type().is_socket() => {
                return Err(StartError::NotASocket { path: path.to_owned() });
            }
            Ok(_) => match UnixStream::connect(path).await {
                Ok(_) => return Err(StartError::SocketTaken { path: path.to_owned() }),
                Err(_) => {
                    tracing::info!(socket = %path.display(), "the socket of an ended daemon is removed");
                    fs::remove_file(path).map_err(failed)?;
                }
            },
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(failed(error)),
        }
        let listener = UnixListener::bind(path).map_err(failed)?;
        fs::set_permissions(path, openness.permissions()).map_err(failed)?;
        let inode = fs::symlink_metadata(path).map_err(failed)?.ino();
        Ok((Self { path: path.to_owned(), inode }, listener))
    }

    /// Opens it to others, or closes it to them; who is connected stays so.
    ///
    /// # Errors
    /// As chmod(2).
    pub fn set(&self, openness: Openness) -> io::Result<()> {
        fs::set_permissions(&self.path, openness.permissions())
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        // Somebody else's by now where it is another file.
        if fs::symlink_metadata(&self.path).is_ok_and(|found| found.ino() == self.inode)
            && let Err(error) = fs::remove_file(&self.path)
        {
            tracing::warn!(socket = %self.path.display(), %error, "cannot remove the socket");
        }
    }
}
