//! The whole content as values, for other programs.

use super::{Error, Ledger};
use rusqlite::{Row, types::ValueRef};
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// All rows of all tables, and the schema that they are of.
#[derive(Clone, Debug, PartialEq)]
pub struct Content {
    pub schema: u32,
    pub tables: BTreeMap<&'static str, Vec<Map<String, Value>>>,
}

/// Each table with its order, and the first schema that has it.
const TABLES: [(&str, &str, u32); 8] = [
    ("meta", "key", 1),
    ("cuts", "gpu", 1),
    ("slices", "id", 1),
    ("quarantined_gpus", "gpu", 3),
    ("leases", "slice, generation", 1),
    ("scrubs", "id", 2),
    ("intents", "id", 1),
    ("audit", "sequence", 1),
];

/// Columns that hold JSON.
const NESTED: [&str; 5] = ["detail", "instance", "fate", "tie", "evidence"];

impl Ledger {
    /// Everything that is stored, as one view of the file.
    ///
    /// # Errors
    /// Where it cannot be read.
    pub fn export(&self) -> Result<Content, Error> {
        let _view = self.connection().unchecked_transaction().map_err(|source| self.unreadable(source))?;
        let schema = self.connection().query_row("PRAGMA user_version", [], |line| line.get(0));
        let schema = schema.map_err(|source| self.unreadable(source))?;
        let table = |(table, order, _): (&'static str, &str, u32)| {
            let rows = self.rows(&format!("SELECT * FROM {table} ORDER BY {order}"), object)?;
            Ok((table, rows))
        };
        let there = TABLES.into_iter().filter(|(.., since)| *since <= schema);
        Ok(Content { schema, tables: there.map(table).collect::<Result<_, Error>>()? })
    }
}

fn object(row: &Row<'_>) -> rusqlite::Result<Map<String, Value>> {
    let names: Vec<String> = row.as_ref().column_names().map(str::to_owned).collect();
    let mut object = Map::new();
    for (index, name) in names.into_iter().enumerate() {
        let value = match row.get_ref(index)? {
            ValueRef::Null => Value::Null,
            ValueRef::Integer(number) => number.into(),
            ValueRef::Real(number) => number.into(),
            ValueRef::Text(text) | ValueRef::Blob(text) => {
                let text = String::from_utf8_lossy(text).into_owned();
                // A text that is no JSON is shown as it is: nothing may be left out.
                let nested = NESTED.contains(&name.as_str()).then(|| serde_json::from_str(&text).ok());
                nested.flatten().unwrap_or(Value::String(text))
            }
        };
        object.insert(name, value);
    }
    Ok(object)
}
