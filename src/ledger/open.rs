//! Opening the file, and the rule that nothing is written after a failure.

use super::{
    Error, new_file, read_only, schema,
    wal::{self, Fault},
};
use crate::engine::State;
use rusqlite::{Connection, OpenFlags, Transaction, TransactionBehavior, config::DbConfig, ffi};
use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

/// The open ledger. One daemon has it at a time: the lock of the state folder sees to that.
#[derive(Debug)]
pub struct Ledger {
    connection: Connection,
    path: PathBuf,
    health: Health,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Health {
    Sound,
    WriteFailed,
}

/// How long somebody else's write is waited for.
pub(super) const BUSY: Duration = Duration::from_secs(5);

/// Name of the file in the state folder.
pub const FILE: &str = "ledger.db";

impl Ledger {
    /// Opens the ledger of a state folder, makes a new one where there never was one, brings it to this
    /// program's schema, and returns the state that it holds.
    ///
    /// # Errors
    /// Where the folder cannot be used, the file is gone, or it is damaged, foreign, newer or makes no
    /// sense: then it and its log are left as they are.
    pub fn open(folder: &Path) -> Result<(Self, State), Error> {
        let path = folder.join(FILE);
        let no_folder = |source| Error::Folder { path: folder.to_owned(), source };
        fs::create_dir_all(folder).map_err(no_folder)?;
        if !path.try_exists().map_err(no_folder)? {
            new_file::make(&path, folder)?;
        }
        judge_log(&path)?;
        let connection = connect(&path).map_err(|source| Error::Open { path: path.clone(), source })?;
        let ledger = Self { connection, path, health: Health::Sound };
        ledger.check_before_use()?;
        let state = ledger.bring_up_to_date()?;
        ledger.use_log().map_err(|source| ledger.unusable(source))?;
        new_file::mark(folder).map_err(no_folder)?;
        Ok((ledger, state))
    }

    /// Opens a ledger for reading, beside a vgpud that works with it or without one.
    ///
    /// # Errors
    /// Where there is none, or it is damaged, foreign or newer.
    pub fn open_to_read(path: &Path) -> Result<Self, Error> {
        match fs::symlink_metadata(path) {
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Err(Error::Missing { path: path.to_owned() });
            }
            Err(source) => {
                let path = path.parent().unwrap_or(path).to_owned();
                return Err(Error::Folder { path, source });
            }
        }
        judge_log(path)?;
        let connection =
            read_only::connect(path).map_err(|source| Error::Open { path: path.to_owned(), source })?;
        let ledger = Self { connection, path: path.to_owned(), health: Health::Sound };
        ledger.check_before_use()?;
        Ok(ledger)
    }

    #[cfg(feature = "fuzzing")]
    pub(super) fn in_memory() -> rusqlite::Result<Self> {
        let mut connection = Connection::open_in_memory()?;
        let transaction = connection.transaction()?;
        schema::migrate(&transaction, 0)?;
        transaction.commit()?;
        Ok(Self { connection, path: FILE.into(), health: Health::Sound })
    }

    /// Judges a file that exists, without changing it.
    fn check_before_use(&self) -> Result<(), Error> {
        let number = |pragma: &str| -> Result<i64, Error> {
            let value = self.connection.query_row(&format!("PRAGMA {pragma}"), [], |row| row.get(0));
            value.map_err(|source| self.unusable(source))
        };
        let size = fs::metadata(&self.path).map_or(0, |metadata| metadata.len());
        let application = number("application_id")?;
        if application != i64::from(schema::APPLICATION_ID) {
            // A file cut to nothing passes for a new database; it is none.
            let found = match size {
                0 => return Err(self.damaged("the file is empty")),
                _ => format!("application id {application:#x}"),
            };
            return Err(Error::Foreign { path: self.path.clone(), found });
        }
        let version = number("user_version")?;
        let found = u32::try_from(version).map_err(|_| self.damaged(format!("schema {version}")))?;
        if found == 0 {
            // It is written with the tables, in one transaction.
            return Err(self.damaged("schema 0"));
        }
        if found > schema::known() {
            return Err(Error::Newer { path: self.path.clone(), found, known: schema::known() });
        }
        // With the indexes: an open intent that is not found would not be done again.
        let check = self.connection.query_row("PRAGMA integrity_check(1)", [], |row| row.get::<_, String>(0));
        match check.map_err(|source| self.unusable(source))?.as_str() {
            "ok" => Ok(()),
            // Below a line that names the database.
            found => Err(self.damaged(found.lines().last().unwrap_or(found))),
        }
    }

    /// Migrates and loads in one transaction: a file that makes no sense afterwards stays as it was.
    fn bring_up_to_date(&self) -> Result<State, Error> {
        let migrate = || {
            self.connection.pragma_update(None, "synchronous", "FULL")?;
            let transaction = self.connection.unchecked_transaction()?;
            let version = transaction.query_row("PRAGMA user_version", [], |row| row.get(0))?;
            if version < schema::known() {
                schema::migrate(&transaction, version)?;
            }
            Ok(transaction)
        };
        let transaction = migrate().map_err(|source| self.unusable(source))?;
        let state = self.load()?;
        transaction.commit().map_err(|source| self.unusable(source))?;
        Ok(state)
    }

    /// From here on the file is the one that vgpud works with.
    fn use_log(&self) -> rusqlite::Result<()> {
        self.connection.pragma_update(None, "journal_mode", "WAL")?;
        // No files beside the state folder, which is all that the sandbox leaves.
        self.connection.pragma_update(None, "temp_store", "MEMORY")?;
        self.connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, false)?;
        Ok(())
    }

    /// Where it lies.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    pub(super) const fn connection(&self) -> &Connection {
        &self.connection
    }

    /// Runs `work` in one transaction. The first failure is the last write.
    pub(super) fn write<T>(
        &mut self,
        work: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<T>,
    ) -> Result<T, Error> {
        if self.health == Health::WriteFailed {
            return Err(Error::Stopped { path: self.path.clone() });
        }
        let run = || {
            let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let result = work(&transaction)?;
            transaction.commit()?;
            Ok(result)
        };
        run().map_err(|source| {
            self.health = Health::WriteFailed;
            Error::Write { path: self.path.clone(), source }
        })
    }

    pub(super) fn unreadable(&self, source: rusqlite::Error) -> Error {
        Error::Read { path: self.path.clone(), source }
    }

    pub(super) fn nonsense(&self, table: &'static str, found: String) -> Error {
        Error::Row { path: self.path.clone(), table, found }
    }

    fn damaged(&self, found: impl Into<String>) -> Error {
        Error::Damaged { path: self.path.clone(), found: found.into() }
    }

    /// What an error of SQLite on opening says about the file.
    fn unusable(&self, source: rusqlite::Error) -> Error {
        match source.sqlite_error_code() {
            Some(rusqlite::ErrorCode::DatabaseCorrupt | rusqlite::ErrorCode::NotADatabase) => {
                self.damaged(source.to_string())
            }
            _ => Error::Open { path: self.path.clone(), source },
        }
    }
}

/// Connects to write. What is refused after all is left as it is, so its log is not worked into the
/// file when this connection ends.
fn connect(path: &Path) -> rusqlite::Result<Connection> {
    let flags =
        OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_NOFOLLOW;
    let connection = Connection::open_with_flags(path, flags)?;
    // SQLite is content with less than it was asked for.
    if connection.is_readonly("main")? {
        return Err(rusqlite::Error::SqliteFailure(ffi::Error::new(ffi::SQLITE_READONLY), None));
    }
    connection.busy_timeout(BUSY)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    Ok(connection)
}

fn judge_log(path: &Path) -> Result<(), Error> {
    let log = wal::path(path);
    let found = wal::fault(path).map_err(|source| Error::Log { path: log.clone(), source })?;
    let damaged = |found| Error::Damaged { path: path.to_owned(), found };
    Err(match found {
        None => return Ok(()),
        Some(Fault::Damaged { frame, frames }) => damaged(format!(
            "frame {frame} of {frames} in {} is broken, and later ones were acknowledged",
            log.display()
        )),
        Some(Fault::Header) => damaged(format!("the header of {} is broken", log.display())),
        Some(Fault::Stray) => Error::Stray { path: path.to_owned(), log },
    })
}
