//! The API's socket: there while the daemon serves, and never left behind by a clean stop.

use super::{StartError, folder};
use nix::{
    fcntl::AT_FDCWD,
    sys::stat::{FchmodatFlags, Mode, fchmodat},
};
use std::{
    fs, io,
    os::unix::fs::{FileTypeExt, MetadataExt},
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

    /// Gives a socket this mode. A link that was planted at its name is not followed.
    fn set(self, path: &Path) -> io::Result<()> {
        let mode = Mode::from_bits_truncate(match self {
            Self::Own => 0o660,
            Self::All => 0o666,
        });
        Ok(fchmodat(AT_FDCWD, path, mode, FchmodatFlags::NoFollowSymlink)?)
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
    /// Where something else is there, or serves there, or where others may change what is there.
    pub async fn bind(path: &Path, openness: Openness) -> Result<(Self, UnixListener), StartError> {
        let failed = |source| StartError::Socket { path: path.to_owned(), source };
        let folder = folder::of(path).map_err(failed)?;
        folder::make_for_socket(&folder).map_err(failed)?;
        folder::check(&folder, folder::Use::Socket)?;
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
        openness.set(path).map_err(failed)?;
        let inode = fs::symlink_metadata(path).map_err(failed)?.ino();
        Ok((Self { path: path.to_owned(), inode }, listener))
    }

    /// Opens it to others, or closes it to them; who is connected stays so.
    ///
    /// # Errors
    /// As chmod(2).
    pub fn set(&self, openness: Openness) -> io::Result<()> {
        openness.set(&self.path)
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};

    fn set_mode(path: &Path, mode: u32) {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    fn mode(path: &Path) -> u32 {
        fs::symlink_metadata(path).unwrap().mode() & 0o7777
    }

    #[tokio::test]
    async fn a_folder_that_others_may_write_to_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("vgpud.sock");
        // As /tmp is.
        set_mode(dir.path(), 0o1777);
        let refusal = Socket::bind(&path, Openness::Own).await.unwrap_err().to_string();
        for part in ["not safe for vgpud's socket", "mode 1777", "/run/vgpud/vgpud.sock"] {
            assert!(refusal.contains(part), "{refusal}");
        }
        assert!(!path.try_exists().unwrap());
        let below = dir.path().join("own/vgpud.sock");
        let (socket, _listener) = Socket::bind(&below, Openness::Own).await.unwrap();
        assert_eq!((mode(&below), mode(&dir.path().join("own")) & 0o022), (0o660, 0));
        socket.set(Openness::All).unwrap();
        assert_eq!(mode(&below), 0o666);
    }

    #[tokio::test]
    async fn a_link_that_was_planted_since_is_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let (path, precious) = (dir.path().join("vgpud.sock"), dir.path().join("precious"));
        let (socket, _listener) = Socket::bind(&path, Openness::Own).await.unwrap();
        fs::write(&precious, "").unwrap();
        set_mode(&precious, 0o600);
        fs::remove_file(&path).unwrap();
        symlink(&precious, &path).unwrap();
        socket.set(Openness::All).unwrap_err();
        assert_eq!(mode(&precious), 0o600);
    }
}
