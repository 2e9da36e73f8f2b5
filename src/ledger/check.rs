//! Whether a ledger says one thing and not two.

use super::{Error, Ledger, row, schema};
use crate::engine::invariants;

/// What was found in a ledger.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// The file's schema.
    pub schema: u32,
    /// The schema that this program writes; an older file is brought to it when vgpud starts.
    pub known: u32,
    pub cuts: u64,
    pub slices: u64,
    pub leases: u64,
    /// Leases that have not ended.
    pub open_leases: u64,
    pub intents: u64,
    /// Effects without an outcome: under way, or interrupted.
    pub open_intents: u64,
    pub audit: u64,
    /// In sentences; empty where the ledger is sound.
    pub problems: Vec<String>,
}

/// Rows that point at what is not there. Each query gives sentences.
const REFERENCES: [&str; 4] = [
    "SELECT 's' || l.slice || ' is leased to ' || l.owner || ' (lease ' || l.generation || '), and the slice is not'
     FROM leases l LEFT JOIN slices s ON s.id = l.slice AND s.generation = l.generation
     WHERE l.ended_ms IS NULL AND (s.id IS NULL OR s.phase NOT IN ('leased', 'releasing'))",
    "SELECT 's' || s.id || ' is ' || s.phase || ', and there is no lease ' || s.generation || ' of it'
     FROM slices s LEFT JOIN leases l ON s.id = l.slice AND s.generation = l.generation AND l.ended_ms IS NULL
     WHERE s.phase IN ('leased', 'releasing') AND l.slice IS NULL",
    "SELECT 's' || slice || ' has ' || count(*) || ' leases at once'
     FROM leases WHERE ended_ms IS NULL GROUP BY slice HAVING count(*) > 1",
    "SELECT 'Effect ' || i.id || ' (' || i.effect || ') is open, and its slice s' || i.slice || ' is gone'
     FROM intents i LEFT JOIN slices s ON s.id = i.slice
     WHERE i.outcome IS NULL AND i.slice IS NOT NULL AND i.effect <> 'unpublish' AND s.id IS NULL",
];

impl Ledger {
    /// Checks what is stored; the file itself was checked when it was opened.
    ///
    /// # Errors
    /// Where it cannot be read, or a row makes no sense.
    pub fn check(&self) -> Result<Verdict, Error> {
        // One view of the file, whatever vgpud writes meanwhile.
        let _view = self.connection().unchecked_transaction().map_err(|source| self.unreadable(source))?;
        let count = |from: &str| {
            let sql = format!("SELECT count(*) FROM {from}");
            let number = self.connection().query_row(&sql, [], |line| line.get(0));
            number.map(row::unsigned).map_err(|source| self.unreadable(source))
        };
        let schema = self.connection().query_row("PRAGMA user_version", [], |line| line.get(0));
        let mut verdict = Verdict {
            schema: schema.map_err(|source| self.unreadable(source))?,
            known: schema::known(),
            cuts: count("cuts")?,
            slices: count("slices")?,
            leases: count("leases")?,
            open_leases: count("leases WHERE ended_ms IS NULL")?,
            intents: count("intents")?,
            open_intents: count("intents WHERE outcome IS NULL")?,
            audit: count("audit")?,
            problems: invariants::of_state(&self.stored_state()?),
        };
        for sql in REFERENCES {
            verdict.problems.extend(self.rows(sql, |line| line.get::<_, String>(0))?);
        }
        Ok(verdict)
    }
}
