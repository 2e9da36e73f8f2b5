//! Why a ledger cannot be used.

use std::path::PathBuf;

/// A failure of the ledger; each names the file and the way out.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("Cannot use the folder {} for the ledger; make it writable for vgpud, or set state_dir under [daemon]", path.display())]
    Folder {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("Cannot open the ledger {}; {}", path.display(), way_out(source))]
    Open {
        path: PathBuf,
        #[source]
        source: rusqlite::Error,
    },
    #[error("There is no ledger {}; vgpud makes it at its first start, or another state_dir is set under [daemon]", path.display())]
    Missing { path: PathBuf },
    #[error(
        "The ledger {} is gone: {} shows that there was one; put a copy that `vgpuctl ledger backup` made in its place as `vgpuctl ledger backup --help` says, or, to begin with an empty one, first move away {}",
        path.display(), list(traces), list(traces)
    )]
    Gone { path: PathBuf, traces: Vec<PathBuf> },
    #[error(
        "{} is not of the ledger {}, which is a copy that was put beside it; move the former away with its -shm, and start again",
        log.display(), path.display()
    )]
    Stray { path: PathBuf, log: PathBuf },
    #[error("Cannot read {}, the log of the ledger; see what the kernel's log says about the disk", path.display())]
    Log {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error(
        "The ledger {} is damaged ({found}); move it away with its -wal and -shm, then put a copy that `vgpuctl ledger backup` made in its place as `vgpuctl ledger backup --help` says, or recover what can be read with `sqlite3 DAMAGED .recover | sqlite3 NEW`",
        path.display()
    )]
    Damaged { path: PathBuf, found: String },
    #[error("{} is no ledger of vgpud ({found}); move it away, or set another state_dir under [daemon]", path.display())]
    Foreign { path: PathBuf, found: String },
    #[error(
        "The ledger {} has schema {found} and this vgpud knows up to {known}; start the newer vgpud that wrote it, or put a copy that `vgpuctl ledger backup` made before in its place",
        path.display()
    )]
    Newer { path: PathBuf, found: u32, known: u32 },
    #[error("The ledger {} has a row in {table} that makes no sense ({found}); `vgpuctl ledger export` shows all rows, and a copy that `vgpuctl ledger backup` made can take its place", path.display())]
    Row { path: PathBuf, table: &'static str, found: String },
    #[error("Cannot write to the ledger {}, so vgpud changes nothing more; {}, then start vgpud again", path.display(), way_out(source))]
    Write {
        path: PathBuf,
        #[source]
        source: rusqlite::Error,
    },
    #[error("Cannot read the ledger {}; {}", path.display(), way_out(source))]
    Read {
        path: PathBuf,
        #[source]
        source: rusqlite::Error,
    },
    #[error("The ledger {} could not be written before; start vgpud again when the cause is mended", path.display())]
    Stopped { path: PathBuf },
}

/// What an operator does about an error of SQLite.
fn way_out(source: &rusqlite::Error) -> &'static str {
    use rusqlite::ErrorCode as C;
    match source.sqlite_error_code() {
        Some(C::DiskFull) => "make room on its file system",
        Some(C::ReadOnly | C::CannotOpen | C::PermissionDenied) => {
            "make its folder writable, and its file system if that is mounted read-only (the kernel's log says why)"
        }
        Some(C::SystemIoFailure) => {
            "see whether its file system has room, and what the kernel's log says about the disk"
        }
        Some(C::DatabaseBusy | C::DatabaseLocked) => "end the program that holds it (`fuser` names it)",
        Some(C::DatabaseCorrupt | C::NotADatabase) => {
            "see what `vgpuctl ledger check` says about it; a copy that `vgpuctl ledger backup` made can take its place"
        }
        _ => "see what `vgpuctl ledger check` says about it",
    }
}

fn list(paths: &[PathBuf]) -> String {
    let paths: Vec<_> = paths.iter().map(|path| path.display().to_string()).collect();
    paths.join(", ")
}
