//! A ledger in memory with any rows, for the crate in `fuzz/`.

use super::{AuditEntry, Content, Error, HistoryFilter, Ledger, PastLease, row};
use crate::engine::State;
use rusqlite::{params_from_iter, types::Value};
use std::cell::RefCell;

/// A row of any table.
#[derive(Clone, Debug)]
pub struct Row {
    pub table: String,
    pub columns: Vec<(String, Cell)>,
}

/// What a column holds.
#[derive(Clone, Debug)]
pub enum Cell {
    Null,
    Integer(i64),
    Text(String),
}

/// What reading all of it came to.
#[derive(Debug)]
pub struct Reading {
    pub state: Result<State, Error>,
    /// The state after it was written over itself, where there is one.
    pub written_again: Option<Result<State, Error>>,
    pub content: Option<Content>,
    pub history: Vec<PastLease>,
    pub events: Vec<AuditEntry>,
    /// By all readers but that of the state.
    pub refused: Vec<Error>,
}

thread_local! {
    // Making the schema takes longer than all the rest.
    static LEDGER: RefCell<Option<Ledger>> = const { RefCell::new(None) };
}

const TABLES: [&str; 8] =
    ["meta", "cuts", "slices", "leases", "scrubs", "intents", "audit", "quarantined_gpus"];

/// Reads a ledger that holds these rows; none where SQLite takes none of them.
#[must_use]
pub fn ledger(rows: &[Row]) -> Option<Reading> {
    LEDGER.with_borrow_mut(|kept| {
        if kept.is_none() {
            *kept = Ledger::in_memory().ok();
        }
        let ledger = kept.as_mut()?;
        let taken = rows.iter().filter(|row| insert(ledger, row).is_ok()).count();
        let reading = (taken > 0).then(|| read(ledger));
        for table in TABLES {
            ledger.connection().execute(&format!("DELETE FROM {table}"), []).ok()?;
        }
        // After a failure a ledger takes no more writes.
        if reading.as_ref().is_some_and(|reading| matches!(reading.written_again, Some(Err(_)))) {
            *kept = None;
        }
        reading
    })
}

fn insert(ledger: &Ledger, row: &Row) -> rusqlite::Result<()> {
    if !TABLES.contains(&row.table.as_str()) {
        return Err(rusqlite::Error::InvalidQuery);
    }
    let quoted = |name: &str| format!("\"{}\"", name.replace('"', ""));
    let names: Vec<_> = row.columns.iter().map(|(name, _)| quoted(name)).collect();
    let places = vec!["?"; names.len()].join(", ");
    let sql = format!("INSERT INTO {} ({}) VALUES ({places})", row.table, names.join(", "));
    let values = row.columns.iter().map(|(_, cell)| match cell {
        Cell::Null => Value::Null,
        Cell::Integer(number) => Value::Integer(*number),
        Cell::Text(text) => Value::Text(text.clone()),
    });
    ledger.connection().execute(&sql, params_from_iter(values))?;
    Ok(())
}

fn read(ledger: &mut Ledger) -> Reading {
    let mut refused = Vec::new();
    refused.extend(ledger.check().err());
    refused.extend(ledger.open_intents().err());
    let content = ledger.export().map_err(|error| refused.push(error)).ok();
    let history = unless_refused(ledger.history(&HistoryFilter::default(), 100), &mut refused);
    let events = unless_refused(ledger.audit(0, 100), &mut refused);
    let state = ledger.load();
    let written_again = state.as_ref().ok().map(|state| write_again(ledger, state));
    Reading { state, written_again, content, history, events, refused }
}

fn unless_refused<T>(read: Result<Vec<T>, Error>, refused: &mut Vec<Error>) -> Vec<T> {
    read.unwrap_or_else(|error| {
        refused.push(error);
        Vec::new()
    })
}

fn write_again(ledger: &mut Ledger, state: &State) -> Result<State, Error> {
    ledger.write(|transaction| {
        for slice in state.slices.values() {
            row::write_slice(transaction, slice)?;
        }
        for (gpu, cut) in &state.cuts {
            row::write_cut(transaction, *gpu, cut)?;
        }
        for (gpu, why) in &state.quarantined_gpus {
            row::write_quarantined_gpu(transaction, *gpu, why)?;
        }
        Ok(())
    })?;
    ledger.load()
}
