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
    #[error("Cannot open the ledger {}", path.display())]
    Open {
        path: PathBuf,
        #[source]
        source: rusqlite::Error,
    },
    #[error("There is no ledger {}; vgpud makes it at its first start, or another state_dir is set under [daemon]", path.display())]
    Missing { path: PathBuf },
    #[error(
        "The ledger {} is damaged ({found}); move it away with its -wal and -shm, then put a copy that `vgpuctl ledger backup` made in its place, or recover what can be read with `sqlite3 DAMAGED .recover | sqlite3 NEW`",
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
    #[error("Cannot write to the ledger {}; vgpud changes nothing more until it is started again", path.display())]
    Write {
        path: PathBuf,
        #[source]
        source: rusqlite::Error,
    },
    #[error("Cannot read the ledger {}", path.display())]
    Read {
        path: PathBuf,
        #[source]
        source: rusqlite::Error,
    },
    #[error("The ledger {} could not be written before; start vgpud again when the cause is mended", path.display())]
    Stopped { path: PathBuf },
}
