//! How slices were made clean: evidence on record, for the lease that it came after.

use super::{Error, Ledger, row};
use crate::engine::{Generation, SliceId, UnixMillis};
use rusqlite::{Transaction, params};
use vgpud_vmm::scrub::Evidence;

/// One attempt to make a slice clean.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scrub {
    pub slice: SliceId,
    /// The lease that it came after; 0 before the first.
    pub generation: Generation,
    pub work: ScrubWork,
    pub result: ScrubResult,
    /// Why it did not come to a clean slice, in a sentence.
    pub why: Option<String>,
    /// What was done and seen; none where the memory was not looked at.
    pub evidence: Option<Evidence>,
}

/// The effect that it was part of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ScrubWork {
    /// An instance is made clean when it is made.
    Create,
    Reset,
}

/// What it came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ScrubResult {
    /// The slice may be used: by its evidence, or by the kernel's word where the settings trust it.
    Clean,
    /// The slice may be used by its last owner alone.
    Kept,
    /// The instance is destroyed and made again.
    Remade,
    Failed,
    /// It passed its deadline.
    GivenUp,
}

/// A [`Scrub`] and when it ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PastScrub {
    pub scrub: Scrub,
    pub at: UnixMillis,
}

impl ScrubWork {
    const ALL: [Self; 2] = [Self::Create, Self::Reset];

    /// One stable word.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Reset => "reset",
        }
    }
}

impl ScrubResult {
    const ALL: [Self; 5] = [Self::Clean, Self::Kept, Self::Remade, Self::Failed, Self::GivenUp];

    /// One stable word.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Clean => "clean",
            Self::Kept => "kept",
            Self::Remade => "remade",
            Self::Failed => "failed",
            Self::GivenUp => "given-up",
        }
    }
}

pub(super) fn record(transaction: &Transaction<'_>, scrub: &Scrub, at: UnixMillis) -> rusqlite::Result<()> {
    let evidence = scrub.evidence.as_ref().map(row::json).transpose()?;
    transaction.execute(
        "INSERT INTO scrubs (slice, generation, work, result, why, evidence, ended_ms) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        params![
            row::signed(scrub.slice.number()),
            row::signed(scrub.generation.0),
            scrub.work.word(),
            scrub.result.word(),
            scrub.why,
            evidence,
            row::signed(at.0)
        ],
    )?;
    Ok(())
}

/// A row as SQLite returns it, not yet understood.
struct RawScrub {
    id: i64,
    work: String,
    result: String,
    why: Option<String>,
    evidence: Option<String>,
    ended_ms: i64,
}

impl RawScrub {
    fn understand(self, slice: SliceId, generation: Generation) -> Option<PastScrub> {
        let evidence = match self.evidence {
            Some(text) => Some(serde_json::from_str(&text).ok()?),
            None => None,
        };
        let scrub = Scrub {
            slice,
            generation,
            work: ScrubWork::ALL.into_iter().find(|work| work.word() == self.work)?,
            result: ScrubResult::ALL.into_iter().find(|result| result.word() == self.result)?,
            why: self.why,
            evidence,
        };
        Some(PastScrub { scrub, at: row::millis(self.ended_ms)? })
    }
}

impl Ledger {
    /// How a slice was made clean after one of its leases, in order; a lease 0 asks for what was
    /// done before the first.
    ///
    /// # Errors
    /// Where the ledger cannot be read, or a row makes no sense.
    pub fn scrubs(&self, slice: SliceId, generation: Generation) -> Result<Vec<PastScrub>, Error> {
        let read = || {
            let sql = "SELECT id, work, result, why, evidence, ended_ms FROM scrubs \
                       WHERE slice = ?1 AND generation = ?2 ORDER BY id";
            let mut query = self.connection().prepare_cached(sql)?;
            let key = params![row::signed(slice.number()), row::signed(generation.0)];
            let rows = query.query_map(key, |line| {
                Ok(RawScrub {
                    id: line.get(0)?,
                    work: line.get(1)?,
                    result: line.get(2)?,
                    why: line.get(3)?,
                    evidence: line.get(4)?,
                    ended_ms: line.get(5)?,
                })
            })?;
            rows.collect::<rusqlite::Result<Vec<_>>>()
        };
        let rows = read().map_err(|source| self.unreadable(source))?;
        rows.into_iter()
            .map(|raw| {
                let id = raw.id;
                raw.understand(slice, generation).ok_or_else(|| self.nonsense("scrubs", format!("id {id}")))
            })
            .collect()
    }
}
