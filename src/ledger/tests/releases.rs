//! Ledgers of every released schema.
//!
//! When a schema step is added, the schema before it is released: its ledger has to be here. To make
//! it, run `cargo test -p vgpud write_the_fixture_of_this_schema -- --ignored` before the step is added,
//! and add a line to [`FIXTURES`].

use super::{
    super::*,
    sample::{Sample, in_one_file},
};
use rusqlite::Connection;
use std::{collections::BTreeSet, path::Path};
use tempfile::TempDir;

/// From schema 1 on, as their vgpud wrote them, with rows in every table.
const FIXTURES: &[&str] = &[
    include_str!("../fixtures/version_1.sql"),
    include_str!("../fixtures/version_2.sql"),
    include_str!("../fixtures/version_3.sql"),
];

/// Tables with rows of facts that opening may change or add.
const META: &str = "meta";

fn each() -> impl Iterator<Item = (usize, TempDir)> {
    FIXTURES.iter().enumerate().map(|(index, dump)| {
        let folder = TempDir::new().unwrap();
        Connection::open(folder.path().join(FILE)).unwrap().execute_batch(dump).unwrap();
        (index + 1, folder)
    })
}

fn schema_of(connection: &Connection) -> BTreeSet<String> {
    let mut query = connection.prepare("SELECT sql FROM sqlite_schema WHERE sql IS NOT NULL").unwrap();
    let rows = query.query_map([], |row| row.get::<_, String>(0)).unwrap();
    rows.map(|sql| sql.unwrap().replace(['\n', ' '], "")).filter(|sql| !sql.contains("sqlite_")).collect()
}

#[test]
fn there_is_a_ledger_of_every_schema_that_was_released() {
    let known = schema::STEPS.len();
    assert!(
        FIXTURES.len() + 1 >= known,
        "schema {known} is here, and src/ledger/fixtures has no ledger of schema {}: see src/ledger/tests/releases.rs",
        known - 1
    );
    for (version, folder) in each() {
        let file = Connection::open(folder.path().join(FILE)).unwrap();
        let stamped: u32 = file.query_row("PRAGMA user_version", [], |row| row.get(0)).unwrap();
        assert_eq!(usize::try_from(stamped).unwrap(), version);
        let steps = Connection::open_in_memory().unwrap();
        for step in &schema::STEPS[..version] {
            steps.execute_batch(step).unwrap();
        }
        assert_eq!(schema_of(&file), schema_of(&steps), "a step was changed after its release");
        for (table, rows) in &content(folder.path()).tables {
            assert!(!rows.is_empty(), "schema {version}: {table} is empty");
        }
    }
}

fn content(folder: &Path) -> Content {
    Ledger::open_to_read(&folder.join(FILE)).unwrap().export().unwrap()
}

#[test]
fn a_ledger_of_every_schema_is_brought_to_this_one_with_all_that_it_says() {
    for (version, folder) in each() {
        let before = content(folder.path());
        let (ledger, state) = Ledger::open(folder.path()).unwrap();
        let verdict = ledger.check().unwrap();
        assert_eq!((verdict.schema, verdict.problems), (schema::known(), vec![]), "from {version}");
        let after = ledger.export().unwrap();
        for (table, rows) in before.tables.iter().filter(|(table, _)| **table != META) {
            let now = &after.tables[table];
            assert_eq!(now.len(), rows.len(), "from {version}: {table}");
            for (was, is) in rows.iter().zip(now) {
                // A step may fill in what was not known.
                let kept = was.iter().filter(|(_, value)| !value.is_null());
                for (column, value) in kept {
                    assert_eq!(is.get(column), Some(value), "from {version}: {column} of {table}");
                }
            }
        }
        // Not only the rows: what vgpud makes of them.
        let rows = |table: &str| before.tables[table].iter();
        assert_eq!(state.slices.len(), rows("slices").count());
        for (slice, row) in state.slices.values().zip(rows("slices")) {
            assert_eq!(
                (row["id"].as_u64(), row["phase"].as_str()),
                (Some(slice.id.number()), Some(slice.phase.word()))
            );
            assert_eq!(row["generation"].as_u64(), Some(slice.generation.0));
            let owner = slice.phase.lease().map(|lease| lease.owner.to_string());
            assert_eq!(row["detail"]["lease"]["owner"].as_str(), owner.as_deref());
        }
        let owners = |leases: Vec<&str>| leases.into_iter().map(str::to_owned).collect::<BTreeSet<_>>();
        let history = ledger.history(&HistoryFilter::default(), 1_000).unwrap();
        assert_eq!(history.len(), rows("leases").count());
        assert_eq!(
            owners(history.iter().map(|lease| lease.owner.as_str()).collect()),
            owners(rows("leases").map(|row| row["owner"].as_str().unwrap()).collect())
        );
        let told: Vec<_> = ledger.audit(0, 1_000).unwrap().into_iter().map(|entry| entry.message).collect();
        let had: Vec<_> = rows("audit").map(|row| row["message"].as_str().unwrap().to_owned()).collect();
        assert_eq!(told, had);
        let open = rows("intents").filter(|row| row["outcome"].is_null()).count();
        assert_eq!(ledger.open_intents().unwrap().len(), open);
        drop(ledger);
        // Once is enough.
        let again = Ledger::open(folder.path()).unwrap();
        assert_eq!((again.1, again.0.export().unwrap()), (state, after));
    }
}

#[test]
fn a_migration_that_is_killed_leaves_the_old_ledger_whole() {
    for (version, folder) in each().filter(|(version, _)| *version < schema::STEPS.len()) {
        let path = folder.path().join(FILE);
        let before = content(folder.path());
        let dying = Connection::open(&path).unwrap();
        // So little memory for pages that the half of it is on the disk when it dies.
        dying.pragma_update(None, "cache_size", 1).unwrap();
        let transaction = dying.unchecked_transaction().unwrap();
        schema::migrate(&transaction, u32::try_from(version).unwrap()).unwrap();
        let copy = TempDir::new().unwrap();
        for entry in std::fs::read_dir(folder.path()).unwrap().map(Result::unwrap) {
            std::fs::copy(entry.path(), copy.path().join(entry.file_name())).unwrap();
        }
        drop(transaction);
        assert!(wal::beside(&copy.path().join(FILE), "-journal").try_exists().unwrap(), "it was under way");
        let (ledger, _) = Ledger::open(copy.path()).unwrap();
        assert_eq!(ledger.check().unwrap().problems, Vec::<String>::new());
        assert_eq!(ledger.export().unwrap().tables["audit"], before.tables["audit"]);
    }
}

#[test]
fn a_ledger_that_makes_no_sense_is_not_migrated() {
    for (version, folder) in each() {
        let path = folder.path().join(FILE);
        Connection::open(&path).unwrap().execute("UPDATE slices SET detail = '{}'", []).unwrap();
        let bytes = std::fs::read(&path).unwrap();
        let error = Ledger::open(folder.path()).unwrap_err();
        assert!(matches!(error, Error::Row { table: "slices", .. }), "from {version}: {error:?}");
        assert!(std::fs::read(&path).unwrap() == bytes, "from {version}: {error}");
    }
}

#[test]
#[ignore = "writes src/ledger/fixtures/version_N.sql of the schema that is known now"]
fn write_the_fixture_of_this_schema() {
    let folder = TempDir::new().unwrap();
    Sample::new(folder.path()).fill(2);
    in_one_file(folder.path());
    let file = Connection::open(folder.path().join(FILE)).unwrap();
    let texts = |sql: &str| -> Vec<String> {
        let mut query = file.prepare(sql).unwrap();
        query.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect()
    };
    let known = schema::known();
    let mut dump = format!("-- The content of a ledger of schema {known}, as its vgpud wrote it.\n");
    for sql in texts(
        "SELECT sql FROM sqlite_schema WHERE sql IS NOT NULL AND name NOT LIKE 'sqlite_%' ORDER BY rowid",
    ) {
        dump += &format!("{sql};\n");
    }
    for table in texts(
        "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%' ORDER BY rowid",
    ) {
        let columns = texts(&format!("SELECT 'quote(' || name || ')' FROM pragma_table_info('{table}')"));
        for row in texts(&format!("SELECT {} FROM {table}", columns.join(" || ', ' || "))) {
            dump += &format!("INSERT INTO {table} VALUES ({row});\n");
        }
    }
    dump += &format!("PRAGMA application_id = {};\nPRAGMA user_version = {known};\n", schema::APPLICATION_ID);
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/ledger/fixtures");
    std::fs::write(folder.join(format!("version_{known}.sql")), dump).unwrap();
}
