//! The ledger's file: its check, its content, its copy.

use crate::{
    cli::{
        output::{self, Document},
        table::facts,
    },
    ledger::{Content, Verdict},
};
use serde::Serialize;
use serde_json::{Map, Value};
use std::{collections::BTreeMap, path::Path};

#[derive(Debug, Serialize)]
pub struct LedgerCheck {
    ledger: String,
    sound: bool,
    schema: u32,
    /// The schema that this vgpuctl's vgpud writes.
    known_schema: u32,
    problems: Vec<String>,
    rows: Rows,
}

#[derive(Debug, Serialize)]
struct Rows {
    cuts: u64,
    slices: u64,
    leases: u64,
    open_leases: u64,
    intents: u64,
    open_intents: u64,
    audit: u64,
}

impl LedgerCheck {
    pub fn new(path: &Path, verdict: Verdict) -> Self {
        Self {
            ledger: path.display().to_string(),
            sound: verdict.problems.is_empty(),
            schema: verdict.schema,
            known_schema: verdict.known,
            problems: verdict.problems,
            rows: Rows {
                cuts: verdict.cuts,
                slices: verdict.slices,
                leases: verdict.leases,
                open_leases: verdict.open_leases,
                intents: verdict.intents,
                open_intents: verdict.open_intents,
                audit: verdict.audit,
            },
        }
    }

    pub const fn is_sound(&self) -> bool {
        self.sound
    }
}

impl Document for LedgerCheck {
    fn text(&self) -> String {
        let rows = &self.rows;
        let schema = match self.schema == self.known_schema {
            true => self.schema.to_string(),
            false => format!("{}; vgpud brings it to {} when it starts", self.schema, self.known_schema),
        };
        let mut text = facts(&[
            ("ledger", Some(self.ledger.clone())),
            ("verdict", Some(if self.sound { "sound" } else { "NOT SOUND" }.to_owned())),
            ("schema", Some(schema)),
            ("GPUs cut", Some(rows.cuts.to_string())),
            ("slices", Some(rows.slices.to_string())),
            ("leases", Some(format!("{}, {} of them open", rows.leases, rows.open_leases))),
            ("effects", Some(format!("{}, {} of them open", rows.intents, rows.open_intents))),
            ("events", Some(rows.audit.to_string())),
        ]);
        for problem in &self.problems {
            text += &format!("\nproblem: {problem}");
        }
        text
    }
}

#[derive(Debug, Serialize)]
pub struct LedgerExport {
    ledger: String,
    schema: u32,
    tables: BTreeMap<&'static str, Vec<Map<String, Value>>>,
}

impl LedgerExport {
    pub fn new(path: &Path, content: Content) -> Self {
        Self { ledger: path.display().to_string(), schema: content.schema, tables: content.tables }
    }
}

impl Document for LedgerExport {
    /// JSON too: six tables side by side are for programs.
    fn text(&self) -> String {
        output::json(self).unwrap_or_default()
    }
}

#[derive(Debug, Serialize)]
pub struct LedgerBackup {
    ledger: String,
    copy: String,
    bytes: u64,
}

impl LedgerBackup {
    pub fn new(path: &Path, copy: &Path, bytes: u64) -> Self {
        Self { ledger: path.display().to_string(), copy: copy.display().to_string(), bytes }
    }
}

impl Document for LedgerBackup {
    fn text(&self) -> String {
        facts(&[
            ("ledger", Some(self.ledger.clone())),
            ("copy", Some(self.copy.clone())),
            ("bytes", Some(self.bytes.to_string())),
        ])
    }
}
