//! The audit trail.

use super::{Error, Ledger, row};
use crate::engine::{Note, SliceId, UnixMillis};
use rusqlite::{Transaction, params};

/// One line of the audit trail. `kind` is a word of [`crate::engine::NoteKind`], or of a later vgpud.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditEntry {
    pub sequence: u64,
    pub at: UnixMillis,
    pub kind: String,
    pub slice: Option<SliceId>,
    pub gpu: Option<String>,
    pub owner: Option<String>,
    pub message: String,
}

pub(super) fn record(
    transaction: &Transaction<'_>,
    note: &Note,
    at: UnixMillis,
) -> rusqlite::Result<AuditEntry> {
    let gpu = note.gpu.map(|gpu| gpu.to_string());
    let owner = note.owner.as_ref().map(ToString::to_string);
    transaction.execute(
        "INSERT INTO audit (unix_ms, kind, slice, gpu, owner, message) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        params![
            row::signed(at.0),
            note.kind.word(),
            note.slice.map(|id| row::signed(id.number())),
            gpu,
            owner,
            note.message
        ],
    )?;
    Ok(AuditEntry {
        sequence: row::unsigned(transaction.last_insert_rowid()),
        at,
        kind: note.kind.word().to_owned(),
        slice: note.slice,
        gpu,
        owner,
        message: note.message.clone(),
    })
}

impl Ledger {
    /// Up to `limit` entries with a sequence number above `after`, in order.
    ///
    /// # Errors
    /// Where the ledger cannot be read.
    pub fn audit(&self, after: u64, limit: u32) -> Result<Vec<AuditEntry>, Error> {
        let read = || {
            let sql = "SELECT sequence, unix_ms, kind, slice, gpu, owner, message \
                       FROM audit WHERE sequence > ?1 ORDER BY sequence LIMIT ?2";
            let mut query = self.connection().prepare_cached(sql)?;
            let rows = query.query_map(params![row::signed(after), limit], |line| {
                let slice = line.get::<_, Option<i64>>(3)?;
                let entry = AuditEntry {
                    sequence: row::unsigned(line.get(0)?),
                    at: UnixMillis(row::unsigned(line.get(1)?)),
                    kind: line.get(2)?,
                    slice: slice.and_then(row::slice_id),
                    gpu: line.get(4)?,
                    owner: line.get(5)?,
                    message: line.get(6)?,
                };
                let is_sound = slice.is_some() == entry.slice.is_some();
                Ok((entry, is_sound))
            })?;
            rows.collect::<rusqlite::Result<Vec<_>>>()
        };
        let entries = read().map_err(|source| self.unreadable(source))?;
        let sound = |(entry, is_sound): (AuditEntry, bool)| match is_sound {
            true => Ok(entry),
            false => Err(self.nonsense("audit", format!("sequence {}", entry.sequence))),
        };
        entries.into_iter().map(sound).collect()
    }
}
