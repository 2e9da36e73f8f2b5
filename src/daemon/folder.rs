//! Folders that are vgpud's own: whoever else may rename or plant files there decides what vgpud opens.

use super::StartError;
use std::{
    fmt, fs, io,
    os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
};

/// What such a folder is for, and how to do without it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Use {
    State,
    Socket,
}

impl Use {
    pub const fn way_out(self) -> &'static str {
        match self {
            Self::State => {
                "see what is in it, make it root's own (chown root, chmod 0700), or set another state_dir under [daemon]"
            }
            Self::Socket => {
                "set a socket in a folder of its own under [daemon], such as /run/vgpud/vgpud.sock, or make this folder root's own (chown root, chmod 0755)"
            }
        }
    }
}

impl fmt::Display for Use {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::State => "state",
            Self::Socket => "socket",
        })
    }
}

/// The folder of a file, which may be given without one.
pub fn of(path: &Path) -> io::Result<PathBuf> {
    let path = std::path::absolute(path)?;
    Ok(path.parent().unwrap_or(Path::new("/")).to_owned())
}

/// Makes the folder of a socket, where others may come in and change nothing, whatever the umask.
pub fn make_for_socket(folder: &Path) -> io::Result<()> {
    if fs::exists(folder)? {
        return Ok(());
    }
    fs::DirBuilder::new().recursive(true).mode(0o755).create(folder)?;
    fs::set_permissions(folder, fs::Permissions::from_mode(0o755))
}

/// Makes the folder of notes of what was changed, for vgpud alone, whatever the umask.
pub fn make_for_notes(folder: &Path) -> io::Result<()> {
    if let Some(parent) = folder.parent() {
        make_for_socket(parent)?;
    }
    match fs::DirBuilder::new().mode(0o700).create(folder) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        made => made,
    }
}

/// Refuses a folder that somebody else owns or may write to. A symbolic link is followed where root or
/// vgpud's user made it (`/var/run`), and then it is its target that counts.
///
/// # Errors
/// [`StartError::OpenFolder`], or [`StartError::Folder`] where it cannot be looked at.
pub fn check(folder: &Path, of: Use) -> Result<(), StartError> {
    let failed = |source| StartError::Folder { path: folder.to_owned(), source };
    let refused = |why| Err(StartError::OpenFolder { path: folder.to_owned(), of, why });
    let ours = |uid: u32| uid == 0 || uid == nix::unistd::geteuid().as_raw();
    let (link, found) =
        (fs::symlink_metadata(folder).map_err(failed)?, fs::metadata(folder).map_err(failed)?);
    if !ours(link.uid()) && link.is_symlink() {
        return refused(format!("it is a symbolic link that user {} made", link.uid()));
    }
    if !found.is_dir() {
        return refused("it is no folder".to_owned());
    }
    if !ours(found.uid()) {
        return refused(format!("user {} owns it", found.uid()));
    }
    if found.mode() & 0o022 != 0 {
        return refused(format!("others may write to it (mode {:04o})", found.mode() & 0o7777));
    }
    Ok(())
}
