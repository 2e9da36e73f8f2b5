//! Folders that are vgpud's own: whoever else may rename or plant files there decides what vgpud opens.

use super::StartError;
use std::{fs, os::unix::fs::MetadataExt, path::Path};

/// Refuses a folder that somebody else owns or may write to. A symbolic link is followed where root or
/// vgpud's user made it (`/var/run`), and then it is its target that counts.
///
/// # Errors
/// [`StartError::OpenFolder`], or [`StartError::Folder`] where it cannot be looked at.
pub fn check(folder: &Path) -> Result<(), StartError> {
    let failed = |source| StartError::Folder { path: folder.to_owned(), source };
    let refused = |why| Err(StartError::OpenFolder { path: folder.to_owned(), why });
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
