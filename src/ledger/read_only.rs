//! Reading a ledger, also from a file system that is mounted read-only.
//!
//! A reader of a file in WAL mode shares an index (`-shm`) with whoever writes, and has to make it where
//! it is missing. On a read-only file system it cannot; but there nobody writes either, so it can do
//! without: with the log, if there is one, under an index in its own memory, or with the file alone.
//! Either way it sees all that was committed. See <https://www.sqlite.org/wal.html#readonly>.

use super::{open::BUSY, wal};
use nix::sys::statvfs::{FsFlags, statvfs};
use rusqlite::{Connection, ErrorCode, OpenFlags};
use std::{fs, os::unix::ffi::OsStrExt as _, path::Path};

const FLAGS: OpenFlags = OpenFlags::SQLITE_OPEN_READ_ONLY
    .union(OpenFlags::SQLITE_OPEN_NO_MUTEX)
    .union(OpenFlags::SQLITE_OPEN_NOFOLLOW);

/// Connects to a file that exists.
///
/// # Errors
/// Where SQLite cannot open it. What it reads there is not judged yet.
pub fn connect(path: &Path) -> rusqlite::Result<Connection> {
    let connection = Connection::open_with_flags(path, FLAGS)?;
    connection.busy_timeout(BUSY)?;
    match touch(&connection) {
        Err(error) if error.sqlite_error_code() == Some(ErrorCode::CannotOpen) && nobody_writes(path) => {
            without_index(path)
        }
        _ => Ok(connection),
    }
}

/// The first read, which opens log and index.
fn touch(connection: &Connection) -> rusqlite::Result<()> {
    connection.query_row("PRAGMA schema_version", [], |_| Ok(()))
}

fn nobody_writes(path: &Path) -> bool {
    statvfs(path).is_ok_and(|about| about.flags().contains(FsFlags::ST_RDONLY))
}

fn without_index(path: &Path) -> rusqlite::Result<Connection> {
    if fs::metadata(wal::path(path)).is_ok_and(|log| log.len() > 0) {
        // Locks need a file that is open to be written.
        let connection = Connection::open_with_flags_and_vfs(path, FLAGS, "unix-none")?;
        connection.pragma_update_and_check(None, "locking_mode", "EXCLUSIVE", |_| Ok(()))?;
        return Ok(connection);
    }
    let quoted = path.as_os_str().as_bytes().iter().map(|byte| match byte {
        b'/' | b'.' | b'-' | b'_' | b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z' => char::from(*byte).to_string(),
        _ => format!("%{byte:02X}"),
    });
    let uri = format!("file:{}?immutable=1", quoted.collect::<String>());
    Connection::open_with_flags(uri, FLAGS | OpenFlags::SQLITE_OPEN_URI)
}
