//! Opening the file, and the rule that nothing is written after a failure.

use super::{Error, schema};
use crate::engine::State;
use rusqlite::{Connection, OpenFlags, Transaction, TransactionBehavior};
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
const BUSY: Duration = Duration::from_secs(5);

/// Name of the file in the state folder.
pub const FILE: &str = "ledger.db";

impl Ledger {
    /// Opens the ledger of a state folder, makes a new one where there is none, and returns the
    /// state that it holds.
    ///
    /// # Errors
    /// Where the folder cannot be used, or the file is damaged, foreign or newer: then it is left
    /// as it is.
    pub fn open(folder: &Path) -> Result<(Self, State), Error> {
        let path = folder.join(FILE);
        let no_folder = |source| Error::Folder { path: folder.to_owned(), source };
        fs::create_dir_all(folder).map_err(no_folder)?;
        if !path.try_exists().map_err(no_folder)? {
            make_new(&path, folder)?;
        }
        let connection = connect(&path).map_err(|source| Error::Open { path: path.clone(), source })?;
        let mut ledger = Self { connection, path, health: Health::Sound };
        ledger.check_before_use()?;
        ledger.prepare().map_err(|source| ledger.unusable(source))?;
        let state = ledger.load()?;
        Ok((ledger, state))
    }

    /// Opens a ledger for reading, beside a vgpud that works with it or without one.
    ///
    /// # Errors
    /// Where there is none, or it is damaged, foreign or newer.
    pub fn open_to_read(path: &Path) -> Result<Self, Error> {
        let open = |source| Error::Open { path: path.to_owned(), source };
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
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY
            | OpenFlags::SQLITE_OPEN_NO_MUTEX
            | OpenFlags::SQLITE_OPEN_NOFOLLOW;
        let connection = Connection::open_with_flags(path, flags).map_err(open)?;
        connection.busy_timeout(BUSY).map_err(open)?;
        let ledger = Self { connection, path: path.to_owned(), health: Health::Sound };
        ledger.check_before_use()?;
        Ok(ledger)
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
        if found > schema::known() {
            return Err(Error::Newer { path: self.path.clone(), found, known: schema::known() });
        }
        let check = self.connection.query_row("PRAGMA quick_check(1)", [], |row| row.get::<_, String>(0));
        match check.map_err(|source| self.unusable(source))?.as_str() {
            "ok" => Ok(()),
            found => Err(self.damaged(found)),
        }
    }

    fn prepare(&mut self) -> rusqlite::Result<()> {
        let connection = &mut self.connection;
        connection.busy_timeout(BUSY)?;
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.pragma_update(None, "synchronous", "FULL")?;
        let version = connection.query_row("PRAGMA user_version", [], |row| row.get(0))?;
        if version < schema::known() {
            schema::migrate(connection, version)?;
        }
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

fn connect(path: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
        | OpenFlags::SQLITE_OPEN_CREATE
        | OpenFlags::SQLITE_OPEN_NO_MUTEX
        | OpenFlags::SQLITE_OPEN_NOFOLLOW;
    Connection::open_with_flags(path, flags)
}

/// Makes a ledger under another name first: a crash in the middle must not leave a file that would
/// have to be taken for a damaged one.
fn make_new(path: &Path, folder: &Path) -> Result<(), Error> {
    let draft = path.with_extension("db.new");
    let no_folder = |source| Error::Folder { path: folder.to_owned(), source };
    match fs::remove_file(&draft) {
        Ok(()) => {}
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => return Err(no_folder(error)),
    }
    let fill = || {
        let mut connection = connect(&draft)?;
        connection.pragma_update(None, "synchronous", "FULL")?;
        schema::migrate(&mut connection, 0)?;
        connection.close().map_err(|(_, error)| error)
    };
    fill().map_err(|source| Error::Write { path: draft.clone(), source })?;
    let rename = || {
        fs::rename(&draft, path)?;
        fs::File::open(folder)?.sync_all()
    };
    rename().map_err(no_folder)
}
