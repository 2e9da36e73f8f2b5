//! Check, export and backup, beside a vgpud that has the ledger open.

use super::{
    tests::{filled, path},
    *,
};
use rusqlite::Connection;
use std::path::Path;
use tempfile::TempDir;

fn spoil(folder: &TempDir, sql: &str) {
    Connection::open(path(folder)).unwrap().execute_batch(sql).unwrap();
}

fn read(folder: &TempDir) -> Ledger {
    Ledger::open_to_read(&path(folder)).unwrap()
}

#[test]
fn a_sound_ledger_passes_with_its_counts_while_vgpud_has_it() {
    let folder = TempDir::new().unwrap();
    filled(folder.path());
    let (_vgpud, _) = Ledger::open(folder.path()).unwrap();
    let verdict = read(&folder).check().unwrap();
    assert_eq!(verdict.problems, Vec::<String>::new());
    assert_eq!((verdict.schema, verdict.known), (schema::known(), schema::known()));
    assert_eq!((verdict.cuts, verdict.slices, verdict.leases, verdict.open_leases), (1, 2, 1, 1));
    assert_eq!((verdict.intents, verdict.open_intents), (4, 2));
    assert!(verdict.audit > 5);
}

#[test]
fn rows_that_point_nowhere_are_told_one_by_one() {
    for (sql, told) in [
        ("UPDATE leases SET generation = 7", "there is no lease 1 of it"),
        ("UPDATE leases SET generation = 7", "s1 is leased to pod-a (lease 7), and the slice is not"),
        (
            "INSERT INTO leases (slice, generation, gpu, owner, since_ms) VALUES (1, 9, 'g', 'b', 1)",
            "2 leases at once",
        ),
        ("DELETE FROM slices WHERE id = 2", "(destroy) is open, and its slice s2 is gone"),
        ("DELETE FROM cuts", "recorded as not cut"),
        ("UPDATE meta SET value = '1' WHERE key = 'last_id'", "s2 is filed under a wrong or a future id"),
    ] {
        let folder = TempDir::new().unwrap();
        filled(folder.path());
        spoil(&folder, sql);
        let problems = read(&folder).check().unwrap().problems;
        assert!(problems.iter().any(|problem| problem.contains(told)), "{sql}: {problems:?}");
    }
}

#[test]
fn what_cannot_be_read_is_refused_as_at_vgpuds_start_and_left_alone() {
    let folder = TempDir::new().unwrap();
    assert!(matches!(Ledger::open_to_read(&path(&folder)), Err(Error::Missing { .. })));
    assert!(!path(&folder).try_exists().unwrap(), "reading makes no ledger");
    filled(folder.path());
    spoil(&folder, "UPDATE slices SET detail = '{}'");
    assert!(matches!(read(&folder).check(), Err(Error::Row { table: "slices", .. })));
    spoil(&folder, "PRAGMA user_version = 99");
    assert!(matches!(Ledger::open_to_read(&path(&folder)), Err(Error::Newer { found: 99, .. })));
    spoil(&folder, "PRAGMA journal_mode = DELETE");
    let mut bytes = std::fs::read(path(&folder)).unwrap();
    bytes[4096..].fill(0x5a);
    bytes[60..64].copy_from_slice(&schema::known().to_be_bytes());
    std::fs::write(path(&folder), &bytes).unwrap();
    let error = Ledger::open_to_read(&path(&folder)).unwrap_err();
    assert!(matches!(error, Error::Damaged { .. }), "{error:?}");
    assert!(error.to_string().contains("vgpuctl ledger backup"), "{error}");
    assert_eq!(std::fs::read(path(&folder)).unwrap(), bytes);
}

#[test]
fn the_export_has_every_row_and_what_is_in_it() {
    let folder = TempDir::new().unwrap();
    filled(folder.path());
    // A row that vgpud refuses is shown all the same.
    spoil(&folder, "UPDATE slices SET fate = 'odd' WHERE id = 2");
    let content = read(&folder).export().unwrap();
    let counts: Vec<_> = content.tables.iter().map(|(table, rows)| (*table, rows.len())).collect();
    let [("audit", events), rest @ ..] = &counts[..] else { panic!("{counts:?}") };
    assert!(*events > 5);
    let expected = [
        ("cuts", 1),
        ("intents", 4),
        ("leases", 1),
        ("meta", 1),
        ("quarantined_gpus", 0),
        ("scrubs", 0),
        ("slices", 2),
    ];
    assert_eq!(rest, expected);
    let slices = &content.tables["slices"];
    assert_eq!(slices[0]["instance"], serde_json::json!({ "vf": 0 }));
    assert_eq!(slices[0]["detail"]["lease"]["owner"], "pod-a");
    assert_eq!((&slices[1]["fate"], &slices[1]["tie"]), (&"odd".into(), &serde_json::Value::Null));
}

#[test]
fn a_backup_is_the_ledger_of_one_instant_in_one_file() {
    let folder = TempDir::new().unwrap();
    let state = filled(folder.path());
    let (mut vgpud, _) = Ledger::open(folder.path()).unwrap();
    let elsewhere = TempDir::new().unwrap();
    let copy = path(&elsewhere);
    let bytes = read(&folder).back_up(&copy).unwrap();
    vgpud.set_boot_id("later").unwrap();
    assert_eq!(std::fs::metadata(&copy).unwrap().len(), bytes);
    assert_eq!(std::fs::read_dir(elsewhere.path()).unwrap().count(), 1, "nothing lies beside it");
    let (restored, loaded) = Ledger::open(elsewhere.path()).unwrap();
    assert_eq!((loaded, restored.boot_id().unwrap()), (state, None));
}

#[test]
fn a_backup_overwrites_nothing_and_leaves_nothing_behind() {
    let folder = TempDir::new().unwrap();
    filled(folder.path());
    let ledger = read(&folder);
    let target = folder.path().join("copy.db");
    std::fs::write(&target, "precious").unwrap();
    assert!(matches!(ledger.back_up(&target), Err(BackupError::Exists { .. })));
    let link = folder.path().join("link.db");
    std::os::unix::fs::symlink(folder.path().join("victim"), &link).unwrap();
    assert!(matches!(ledger.back_up(&link), Err(BackupError::Exists { .. })));
    assert_eq!(std::fs::read_to_string(&target).unwrap(), "precious");
    let nowhere = folder.path().join("none/copy.db");
    assert!(matches!(ledger.back_up(&nowhere), Err(BackupError::File { .. })));
    assert!(matches!(ledger.back_up(Path::new("/dev/full/x")), Err(BackupError::File { .. })));
    spoil(&folder, "UPDATE slices SET detail = '{}'");
    let target = folder.path().join("second.db");
    assert!(matches!(ledger.back_up(&target), Err(BackupError::Verify { .. })));
    assert!(!target.try_exists().unwrap());
}
