//! What vgpud must not forget, in an SQLite file: slices, leases, the intents of effects, and the
//! audit trail.
//!
//! # Promises
//!
//! - **Intent before act.** [`Ledger::commit`] writes a change of state, the intents of the effects
//!   that it leads to, the outcome of the effect that caused it, and the audit notes in one
//!   transaction (WAL, `synchronous=FULL`). Only then may an effect run.
//! - **Never empty over something.** A file that is damaged, foreign, or of a newer schema is
//!   refused with its path, what was found, and the way out; it and its log are left as they are. So is
//!   a folder whose ledger is gone: the marker `ledger.made` beside it shows that there was one. Where
//!   the whole folder is gone, nothing tells a lost ledger from a first start.
//! - **Nothing acknowledged is dropped in silence.** SQLite passes over a damaged log; vgpud does not,
//!   see the module `wal`.
//! - **Fail stop.** After a failed write nothing more is written: the state in memory is no longer
//!   known to be the one on disk. Start the daemon again when the cause is mended.
//!
//! # Tables
//!
//! | table | one row is | kept |
//! | --- | --- | --- |
//! | `meta` | a fact about the file: the boot that wrote it last, the last slice id | always |
//! | `cuts` | a GPU that slices are cut from | while it is cut |
//! | `slices` | a slice | until it is gone |
//! | `quarantined_gpus` | a whole GPU that is kept out of use | until it is cleared |
//! | `leases` | a lease, with its end | always |
//! | `scrubs` | how a slice was made clean after a lease, with the evidence | always |
//! | `intents` | an effect: what, since when, and its outcome | always |
//! | `audit` | something that happened | always |

mod audit;
mod backup;
mod change;
mod check;
mod error;
mod export;
#[cfg(feature = "fuzzing")]
pub(crate) mod fuzzing;
mod history;
mod intent;
mod new_file;
mod open;
mod read_only;
mod row;
mod schema;
mod scrub;
mod wal;

pub use audit::AuditEntry;
pub use backup::BackupError;
pub use change::Change;
pub use check::Verdict;
pub use error::Error;
pub use export::Content;
pub use history::{Ended, EndedHow, HistoryFilter, HistoryPosition, PastLease};
pub use intent::{Intent, IntentId, Outcome};
pub use open::{FILE, Ledger};
pub use scrub::{PastScrub, Scrub, ScrubResult, ScrubWork};

#[cfg(test)]
mod planted_tests;
#[cfg(test)]
mod read_tests;
#[cfg(test)]
mod tests;
