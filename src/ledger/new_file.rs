//! The first ledger of a state folder, and the marker by which a lost one is missed.

use super::{Error, schema, wal};
use rusqlite::{Connection, OpenFlags};
use std::{
    fs::{self, File},
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

/// Lies beside the ledger from its making on.
pub const MARKER: &str = "ledger.made";

const MARKER_TEXT: &str = "vgpud has made its ledger in this folder. Where ledger.db is missing, this file \
keeps vgpud from starting without what it had on record: put a copy that `vgpuctl ledger backup` made in \
its place. Remove this file only to begin with an empty ledger.\n";

/// Makes a ledger where there never was one. Under another name first: a crash in the middle must not
/// leave a file that would have to be taken for a damaged one.
///
/// # Errors
/// [`Error::Gone`] where there was one, or what the folder or the file is refused with.
pub fn make(path: &Path, folder: &Path) -> Result<(), Error> {
    let no_folder = |source| Error::Folder { path: folder.to_owned(), source };
    let traces = traces(path, folder).map_err(no_folder)?;
    if !traces.is_empty() {
        return Err(Error::Gone { path: path.to_owned(), traces });
    }
    let draft = path.with_extension("db.new");
    for file in [wal::beside(&draft, "-journal"), draft.clone()] {
        remove(&file).map_err(no_folder)?;
    }
    let fill = || {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
            | OpenFlags::SQLITE_OPEN_CREATE
            | OpenFlags::SQLITE_OPEN_NO_MUTEX
            | OpenFlags::SQLITE_OPEN_NOFOLLOW;
        let connection = Connection::open_with_flags(&draft, flags)?;
        connection.pragma_update(None, "synchronous", "FULL")?;
        let transaction = connection.unchecked_transaction()?;
        schema::migrate(&transaction, 0)?;
        transaction.commit()?;
        connection.close().map_err(|(_, error)| error)
    };
    fill().map_err(|source| Error::Write { path: draft.clone(), source })?;
    let rename = || {
        fs::rename(&draft, path)?;
        File::open(folder)?.sync_all()
    };
    rename().map_err(no_folder)
}

/// Writes the marker where it is missing: after the ledger is there, for a crash between the two must
/// not keep the next start from making one.
///
/// # Errors
/// Where it cannot be written.
pub fn mark(folder: &Path) -> io::Result<()> {
    let path = folder.join(MARKER);
    if path.try_exists()? {
        return Ok(());
    }
    let draft = folder.join(format!("{MARKER}.new"));
    // What was planted or left there goes, and is never written through.
    remove(&draft)?;
    let mut file = File::options().write(true).create_new(true).mode(0o600).open(&draft)?;
    file.write_all(MARKER_TEXT.as_bytes())?;
    file.sync_all()?;
    fs::rename(&draft, &path)?;
    File::open(folder)?.sync_all()
}

/// The files which show that a ledger has been there.
fn traces(path: &Path, folder: &Path) -> io::Result<Vec<PathBuf>> {
    let beside = ["-wal", "-shm", "-journal"].map(|suffix| wal::beside(path, suffix));
    let mut traces = Vec::new();
    for file in [folder.join(MARKER)].into_iter().chain(beside) {
        match fs::symlink_metadata(&file) {
            Ok(_) => traces.push(file),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(traces)
}

fn remove(file: &Path) -> io::Result<()> {
    match fs::remove_file(file) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
