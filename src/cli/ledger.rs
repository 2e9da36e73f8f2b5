//! `vgpuctl ledger check|export|backup`: vgpud's record read from its file, without vgpud.

use super::{
    document::{LedgerBackup, LedgerCheck, LedgerExport},
    error::Error,
    exit::Exit,
    session::Session,
};
use crate::ledger::{self, Ledger};
use clap::{Args, Subcommand};
use std::path::{Path, PathBuf};

/// Check, export or back up what vgpud has on record
///
/// Reads the file in `state_dir` of the settings and changes nothing; vgpud may be running or not, and
/// the file system may be read-only: what is still in ledger.db-wal is read with it.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  vgpuctl ledger backup /var/backups/vgpud-ledger.db")]
pub struct LedgerArgs {
    #[command(subcommand)]
    command: LedgerCommand,
}

#[derive(Debug, Subcommand)]
enum LedgerCommand {
    /// Check the file, its schema, and whether its rows agree; exits with 1 where they do not
    #[command(after_help = "Example:\n  vgpuctl ledger check")]
    Check,
    /// Print the whole content as JSON
    #[command(after_help = "Example:\n  vgpuctl ledger export > ledger.json")]
    Export,
    /// Copy it into a new file, as it is at one instant
    ///
    /// The copy is checked. To restore one: stop vgpud, move ledger.db, ledger.db-wal and
    /// ledger.db-shm in `state_dir` away, put the copy there as ledger.db, start vgpud. A copy that lies
    /// beside the ledger.db-wal of another ledger is refused.
    #[command(after_help = "Example:\n  vgpuctl ledger backup /var/backups/vgpud-ledger.db")]
    Backup {
        /// File that does not exist yet
        file: PathBuf,
    },
}

/// Does it.
///
/// # Errors
/// Where there is no ledger, it cannot be used, or the copy cannot be made.
pub fn execute(session: &Session, args: &LedgerArgs) -> Result<Exit, Error> {
    let folder = session.host().path(&session.settings()?.daemon.state_dir);
    let path = folder.join(ledger::FILE);
    let ledger = Ledger::open_to_read(&path)?;
    match &args.command {
        LedgerCommand::Check => check(session, &path, &ledger),
        LedgerCommand::Export => {
            session.print(&LedgerExport::new(&path, ledger.export()?))?;
            Ok(Exit::Success)
        }
        LedgerCommand::Backup { file } => {
            let bytes = ledger.back_up(file)?;
            session.print(&LedgerBackup::new(&path, file, bytes))?;
            Ok(Exit::Success)
        }
    }
}

fn check(session: &Session, path: &Path, ledger: &Ledger) -> Result<Exit, Error> {
    let check = LedgerCheck::new(path, ledger.check()?);
    session.print(&check)?;
    Ok(if check.is_sound() { Exit::Success } else { Exit::Negative })
}
