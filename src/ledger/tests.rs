//! The ledger against files as they should not be, and its round trip.

mod damage;
mod power_loss;
mod releases;
mod sample;

use super::*;
use crate::engine::{
    Actor, BootMillis, Claim, Event, GpuQuarantine, GpuQuarantineCause, GpuShown, Holder, LeasedSlice,
    Moment, Note, NoteKind, Origin, PlannedSlice, SliceId, State, Transition, UnixMillis, step,
};
use rusqlite::Connection;
use std::path::Path;
use tempfile::TempDir;
use vgpud_config::{ComputeShare, Memory};
use vgpud_mdev::{InstanceName, MdevUuid, MechanismKind, VfIndex};

const AT: UnixMillis = UnixMillis(1_700_000_000_000);

fn now() -> Moment {
    Moment { wall: AT, boot: BootMillis(7) }
}
const S1: SliceId = SliceId::new(1);

fn plan(names: &[InstanceName]) -> Event {
    let slice = |name: &InstanceName| PlannedSlice {
        gpu: "0000:41:00.0".parse().unwrap(),
        mechanism: MechanismKind::Sriov,
        profile: "vf-8".parse().unwrap(),
        name: *name,
        memory: Some(Memory::from_bytes(16 << 20)),
        compute: Some(ComputeShare::one_of(8)),
        capacity: 8,
        origin: Origin::Ours,
    };
    Event::Plan { slices: names.iter().map(slice).collect(), claim: None, at: now() }
}

/// Applies an event to state and ledger, as the daemon does.
fn apply(ledger: &mut Ledger, state: &mut State, event: Event) -> Vec<Intent> {
    let transition = step(state, event).unwrap();
    let change = Change { before: state, transition: &transition, outcome: None, scrub: None, at: AT };
    let (intents, _) = ledger.commit(&change).unwrap();
    *state = transition.state;
    intents
}

pub(super) fn filled(folder: &Path) -> State {
    let (mut ledger, mut state) = Ledger::open(folder).unwrap();
    let names = [InstanceName::Vf(VfIndex(0)), InstanceName::Mdev(MdevUuid(uuid::Uuid::from_u128(5)))];
    apply(&mut ledger, &mut state, plan(&names));
    for id in [1, 2].map(SliceId::new) {
        let intents = apply(&mut ledger, &mut state, Event::Begin { slice: id });
        ledger.close_intent(intents[0].id, &Outcome::Done, AT).unwrap();
    }
    for id in [1, 2].map(SliceId::new) {
        apply(&mut ledger, &mut state, Event::Created { slice: id, at: now() });
    }
    let (claim, holder) = (Claim::new("pod-a".parse().unwrap()), Some(Holder { pid: 7, started: 99 }));
    apply(&mut ledger, &mut state, Event::Lease { slice: S1, claim, holder, at: now() });
    let destroy = Event::Destroy { slice: SliceId::new(2), leased: LeasedSlice::Refuse };
    apply(&mut ledger, &mut state, destroy);
    state
}

pub(super) fn path(folder: &TempDir) -> std::path::PathBuf {
    folder.path().join(open::FILE)
}

#[test]
fn what_was_committed_is_what_is_loaded() {
    let folder = TempDir::new().unwrap();
    let state = filled(folder.path());
    let (ledger, loaded) = Ledger::open(folder.path()).unwrap();
    assert_eq!(loaded, state);
    let kinds: Vec<_> = ledger.audit(0, 100).unwrap().into_iter().map(|entry| entry.kind).collect();
    assert_eq!(kinds[0], "slice-planned");
    assert_eq!(kinds[kinds.len() - 2..], ["lease-started", "slice-destroying"]);
    let later = ledger.audit(3, 2).unwrap();
    assert_eq!(later.iter().map(|entry| entry.sequence).collect::<Vec<_>>(), [4, 5]);
}

#[test]
fn an_effect_without_outcome_is_found_after_a_crash() {
    let folder = TempDir::new().unwrap();
    filled(folder.path());
    let (mut ledger, _) = Ledger::open(folder.path()).unwrap();
    let words = |ledger: &Ledger| {
        let open = ledger.open_intents().unwrap();
        open.into_iter().map(|intent| (intent.id, intent.effect.word())).collect::<Vec<_>>()
    };
    assert_eq!(words(&ledger).iter().map(|(_, word)| *word).collect::<Vec<_>>(), ["hand-over", "destroy"]);
    let first = words(&ledger)[0].0;
    ledger.close_intent(first, &Outcome::Interrupted, AT).unwrap();
    assert_eq!(words(&ledger).len(), 1);
}

#[test]
fn the_history_of_leases_is_kept() {
    let folder = TempDir::new().unwrap();
    let mut state = filled(folder.path());
    let (mut ledger, _) = Ledger::open(folder.path()).unwrap();
    apply(&mut ledger, &mut state, Event::HandOverFailed { slice: S1, why: "x".into() });
    apply(&mut ledger, &mut state, Event::Withdrawn { slice: S1 });
    let row = ledger.connection().query_row(
        "SELECT owner, holder_pid, ended_ms, ended_by FROM leases WHERE slice = 1",
        [],
        |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)),
    );
    let expected = ("pod-a".to_owned(), 7_i64, Some(1_700_000_000_000_i64), Some("scrubbing".to_owned()));
    assert_eq!(row.unwrap(), expected);
}

#[test]
fn a_damaged_file_is_refused_and_left_alone() {
    let folder = TempDir::new().unwrap();
    filled(folder.path());
    // All in one file, then every page but the first is overwritten.
    Connection::open(path(&folder)).unwrap().pragma_update(None, "journal_mode", "DELETE").unwrap();
    let mut bytes = std::fs::read(path(&folder)).unwrap();
    bytes[4096..].fill(0x5a);
    std::fs::write(path(&folder), &bytes).unwrap();
    let error = Ledger::open(folder.path()).unwrap_err();
    assert!(matches!(error, Error::Damaged { .. }), "{error:?}");
    let text = error.to_string();
    assert!(
        text.contains("ledger.db") && text.contains(".recover") && text.contains("vgpuctl ledger backup"),
        "{text}"
    );
    assert_eq!(std::fs::read(path(&folder)).unwrap(), bytes);
}

#[test]
fn what_is_no_database_or_empty_is_never_started_over() {
    for content in
        ["", "not a database, but long enough to be looked at as if it were one".repeat(20).as_str()]
    {
        let folder = TempDir::new().unwrap();
        std::fs::write(path(&folder), content).unwrap();
        let error = Ledger::open(folder.path()).unwrap_err();
        assert!(matches!(error, Error::Damaged { .. }), "{error:?}");
        assert_eq!(std::fs::read_to_string(path(&folder)).unwrap(), content);
    }
}

#[test]
fn a_foreign_database_is_refused() {
    let folder = TempDir::new().unwrap();
    Connection::open(path(&folder)).unwrap().execute_batch("CREATE TABLE songs (title TEXT)").unwrap();
    let error = Ledger::open(folder.path()).unwrap_err();
    assert!(matches!(error, Error::Foreign { .. }), "{error:?}");
}

#[test]
fn a_newer_schema_is_refused() {
    let folder = TempDir::new().unwrap();
    filled(folder.path());
    let newer = schema::known() + 1;
    Connection::open(path(&folder)).unwrap().pragma_update(None, "user_version", newer).unwrap();
    let error = Ledger::open(folder.path()).unwrap_err();
    assert!(matches!(error, Error::Newer { found, known, .. } if found == newer && known == newer - 1));
}

#[test]
fn a_row_that_makes_no_sense_is_refused() {
    let folder = TempDir::new().unwrap();
    filled(folder.path());
    Connection::open(path(&folder)).unwrap().execute("UPDATE slices SET detail = '{}'", []).unwrap();
    let error = Ledger::open(folder.path()).unwrap_err();
    assert!(matches!(error, Error::Row { table: "slices", .. }), "{error:?}");
}

#[test]
fn a_folder_that_is_a_file_is_said() {
    let folder = TempDir::new().unwrap();
    let blocked = folder.path().join("state");
    std::fs::write(&blocked, "").unwrap();
    let error = Ledger::open(&blocked).unwrap_err();
    assert!(matches!(error, Error::Folder { .. }), "{error:?}");
}

#[test]
fn nothing_is_written_after_a_failure() {
    let folder = TempDir::new().unwrap();
    filled(folder.path());
    let (mut ledger, state) = Ledger::open(folder.path()).unwrap();
    let transition = Transition {
        state: state.clone(),
        effects: vec![],
        notes: vec![Note::daemon(NoteKind::DaemonStarted, "started")],
    };
    let change = Change { before: &state, transition: &transition, outcome: None, scrub: None, at: AT };
    ledger.connection().pragma_update(None, "query_only", "ON").unwrap();
    assert!(matches!(ledger.commit(&change), Err(Error::Write { .. })));
    ledger.connection().pragma_update(None, "query_only", "OFF").unwrap();
    assert!(matches!(ledger.commit(&change), Err(Error::Stopped { .. })));
}

#[test]
fn each_migration_leads_to_the_schema_of_a_new_file() {
    let schema_of = |connection: &Connection| {
        let mut query = connection.prepare("SELECT sql FROM sqlite_schema ORDER BY name").unwrap();
        let rows = query.query_map([], |row| row.get::<_, Option<String>>(0)).unwrap();
        rows.map(Result::unwrap).collect::<Vec<_>>()
    };
    let migrate = |connection: &Connection, version| {
        let transaction = connection.unchecked_transaction().unwrap();
        schema::migrate(&transaction, version).unwrap();
        transaction.commit().unwrap();
    };
    let fresh = Connection::open_in_memory().unwrap();
    migrate(&fresh, 0);
    for version in 0..schema::known() {
        let old = Connection::open_in_memory().unwrap();
        for step in &schema::STEPS[..usize::try_from(version).unwrap()] {
            old.execute_batch(step).unwrap();
        }
        migrate(&old, version);
        assert_eq!(schema_of(&old), schema_of(&fresh), "from version {version}");
    }
}

#[test]
fn a_quarantined_gpu_is_kept_until_it_is_cleared() {
    let folder = TempDir::new().unwrap();
    let gpu = "0000:41:00.0".parse().unwrap();
    let by = Actor::User("User alice (1000)".to_owned());
    let why = GpuQuarantine {
        cause: GpuQuarantineCause::Operator,
        evidence: "fan broken".to_owned(),
        since: AT,
        by: by.clone(),
    };
    let (mut ledger, mut state) = Ledger::open(folder.path()).unwrap();
    apply(&mut ledger, &mut state, Event::QuarantineGpu { gpu, why: why.clone() });
    let row = ledger.export().unwrap().tables["quarantined_gpus"][0].clone();
    assert_eq!(
        (&row["cause"], &row["detail"]["by"]["user"]),
        (&"operator".into(), &"User alice (1000)".into())
    );
    drop(ledger);
    let (mut ledger, mut state) = Ledger::open(folder.path()).unwrap();
    assert_eq!(state.quarantined_gpus.get(&gpu), Some(&why));
    apply(&mut ledger, &mut state, Event::ClearGpu { gpu, shown: GpuShown::There, by });
    drop(ledger);
    assert!(Ledger::open(folder.path()).unwrap().1.quarantined_gpus.is_empty());
}

#[test]
fn a_ledger_that_knows_no_quarantined_gpus_is_checked_as_it_is() {
    let folder = TempDir::new().unwrap();
    filled(folder.path());
    let former =
        "DROP TABLE quarantined_gpus; ALTER TABLE slices DROP COLUMN data_of; PRAGMA user_version = 2";
    Connection::open(path(&folder)).unwrap().execute_batch(former).unwrap();
    let ledger = Ledger::open_to_read(&path(&folder)).unwrap();
    assert_eq!(ledger.check().unwrap().problems, Vec::<String>::new());
    assert!(!ledger.export().unwrap().tables.contains_key("quarantined_gpus"));
    drop(ledger);
    assert!(Ledger::open(folder.path()).unwrap().1.quarantined_gpus.is_empty());
}

#[test]
fn the_boot_is_remembered() {
    let folder = TempDir::new().unwrap();
    let (mut ledger, _) = Ledger::open(folder.path()).unwrap();
    assert_eq!(ledger.boot_id().unwrap(), None);
    ledger.set_boot_id("b-1").unwrap();
    drop(ledger);
    assert_eq!(Ledger::open(folder.path()).unwrap().0.boot_id().unwrap().as_deref(), Some("b-1"));
}
