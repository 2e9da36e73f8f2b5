//! The API's socket: there while the daemon serves, and never left behind by a clean stop.

use super::StartError;
use std::{
    fs, io,
    os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
};
use tokio::net::{UnixListener, UnixStream};

/// A bound socket, mode 0660, removed when this value goes.
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
    pub async fn bind(path: &Path) -> Result<(Self, UnixListener), StartError> {
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
        fs::set_permissions(path, fs::Permissions::from_mode(0o660)).map_err(failed)?;
        let inode = fs::symlink_metadata(path).map_err(failed)?.ino();
        Ok((Self { path: path.to_owned(), inode }, listener))
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
