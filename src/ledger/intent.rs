//! Effects on record: what was to be done, and what came of it.

use super::{Error, Ledger};
use crate::engine::{Effect, UnixMillis};
use rusqlite::{Transaction, params};
use vgpud_config::Shown;

/// Number of an intent in the ledger.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IntentId(pub i64);

/// An effect that is recorded and may run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Intent {
    pub id: IntentId,
    pub effect: Effect,
}

/// What came of an effect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    Done,
    Failed(String),
    /// It passed its deadline; what it comes to later is a note.
    GivenUp(String),
    /// The daemon stopped while it ran, or before it began.
    Interrupted,
}

impl Outcome {
    const fn word(&self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Failed(_) => "failed",
            Self::GivenUp(_) => "given-up",
            Self::Interrupted => "interrupted",
        }
    }

    fn evidence(&self) -> Option<&str> {
        match self {
            Self::Failed(why) | Self::GivenUp(why) => Some(why),
            Self::Done | Self::Interrupted => None,
        }
    }
}

pub(super) fn record(
    transaction: &Transaction<'_>,
    effect: &Effect,
    at: UnixMillis,
) -> rusqlite::Result<Intent> {
    let detail = super::row::json(effect)?;
    let slice = effect.slice().map(|id| super::row::signed(id.number()));
    let gpu = effect.gpu().map(|gpu| gpu.to_string());
    transaction.execute(
        "INSERT INTO intents (effect, slice, gpu, detail, asked_ms) VALUES (?1, ?2, ?3, ?4, ?5)",
        params![effect.word(), slice, gpu, detail, super::row::signed(at.0)],
    )?;
    Ok(Intent { id: IntentId(transaction.last_insert_rowid()), effect: effect.clone() })
}

pub(super) fn close(
    transaction: &Transaction<'_>,
    id: IntentId,
    outcome: &Outcome,
    at: UnixMillis,
) -> rusqlite::Result<()> {
    transaction.execute(
        "UPDATE intents SET outcome = ?2, evidence = ?3, ended_ms = ?4 WHERE id = ?1 AND outcome IS NULL",
        params![id.0, outcome.word(), outcome.evidence(), super::row::signed(at.0)],
    )?;
    Ok(())
}

impl Ledger {
    /// Effects without an outcome, in the order in which they were recorded.
    ///
    /// # Errors
    /// Where the ledger cannot be read.
    pub fn open_intents(&self) -> Result<Vec<Intent>, Error> {
        let read = || {
            let sql = "SELECT id, detail FROM intents WHERE outcome IS NULL ORDER BY id";
            let mut query = self.connection().prepare(sql)?;
            let rows = query.query_map([], |row| Ok((row.get(0)?, row.get::<_, String>(1)?)))?;
            rows.collect::<rusqlite::Result<Vec<(i64, String)>>>()
        };
        let rows = read().map_err(|source| self.unreadable(source))?;
        rows.into_iter()
            .map(|(id, detail)| {
                let effect = serde_json::from_str(&detail)
                    .map_err(|_| self.nonsense("intents", format!("id {id}: {}", Shown(&detail))))?;
                Ok(Intent { id: IntentId(id), effect })
            })
            .collect()
    }
}
