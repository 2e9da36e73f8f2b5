//! The history of leases and scrubs, and a ledger of the first release brought to it.

use super::*;
use crate::{
    engine::{
        BootMillis, Claim, Event, Handover, LeasedSlice, Moment, Origin, PlannedSlice, ReleaseCause, State,
        step,
    },
    ledger::{Change, Scrub, ScrubResult, ScrubWork, open, schema},
};
use rusqlite::Connection;
use std::path::Path;
use tempfile::TempDir;
use vgpud_mdev::{MechanismKind, VfIndex};
use vgpud_vmm::scrub::{Evidence, ResetEvidence, Step, VendorClear, Verdict};

const S1: SliceId = SliceId::new(1);

/// A ledger driven by events, one a second.
struct Written {
    ledger: Ledger,
    state: State,
    now: u64,
}

impl Written {
    fn in_folder(folder: &Path) -> Self {
        let (ledger, state) = Ledger::open(folder).unwrap();
        Self { ledger, state, now: 0 }
    }

    fn on(&mut self, event: Event, scrub: Option<&Scrub>) {
        self.now += 1_000;
        let transition = step(&self.state, event).unwrap();
        let at = UnixMillis(self.now);
        let outcome = None;
        let change = Change { before: &self.state, transition: &transition, outcome, scrub, at };
        self.ledger.commit(&change).unwrap();
        self.state = transition.state;
    }

    fn moment(&self) -> Moment {
        Moment { wall: UnixMillis(self.now), boot: BootMillis(0) }
    }

    fn make(&mut self) {
        let slice = PlannedSlice {
            gpu: "0000:41:00.0".parse().unwrap(),
            mechanism: MechanismKind::Sriov,
            profile: "vf-8".parse().unwrap(),
            name: InstanceName::Vf(VfIndex(0)),
            memory: None,
            compute: None,
            capacity: 8,
            origin: Origin::Ours,
        };
        let id = SliceId::new(self.state.last_id + 1);
        self.on(Event::Plan { slices: vec![slice], claim: None, at: self.moment() }, None);
        self.on(Event::Begin { slice: id }, None);
        self.on(Event::Created { slice: id, at: self.moment() }, None);
    }

    fn lease(&mut self, slice: SliceId, owner: &str) {
        let claim = Claim::new(owner.parse().unwrap());
        let at = Moment { wall: UnixMillis(self.now + 1_000), boot: BootMillis(0) };
        self.on(Event::Lease { slice, claim, holder: None, at }, None);
        let address = Some("0000:41:00.1".parse().unwrap());
        let handover = Handover { node: "/dev/vfio/7".into(), cdi_device: "x".to_owned(), address };
        self.on(Event::HandedOver { slice, handover }, None);
    }

    fn take_back(&mut self, slice: SliceId) {
        self.on(Event::Release { slice, generation: None, cause: ReleaseCause::Asked }, None);
        self.on(Event::Withdrawn { slice }, None);
    }

    fn scrub(&self, slice: SliceId, result: ScrubResult, verdict: Verdict) -> Scrub {
        let generation = self.state.slices[&slice].generation;
        let evidence = Evidence {
            verdict,
            reset: ResetEvidence::Done { methods: "flr".to_owned() },
            steps: vec![Step::Reset, Step::ReadBack { bytes: 4096 }],
            bytes_checked: 4096,
            vendor_clear: VendorClear::NotOffered,
            bytes_found: 0,
            read_back_us: 5,
            duration_us: 9,
        };
        let why = (result == ScrubResult::Failed).then(|| "not clean".to_owned());
        Scrub { slice, generation, work: ScrubWork::Reset, result, why, evidence: Some(evidence) }
    }

    fn scrubbed(&mut self, slice: SliceId) {
        let scrub = self.scrub(slice, ScrubResult::Clean, Verdict::Clean);
        self.on(Event::Scrubbed { slice, evidence: None }, Some(&scrub));
    }

    fn owners(&self, filter: &HistoryFilter) -> Vec<String> {
        let leases = self.ledger.history(filter, 100).unwrap();
        leases.into_iter().map(|lease| lease.owner).collect()
    }
}

#[test]
fn each_lease_tells_its_device_its_end_and_the_scrub_after_it() {
    let folder = TempDir::new().unwrap();
    let mut written = Written::in_folder(folder.path());
    written.make();
    written.lease(S1, "pod-a");
    written.take_back(S1);
    written.scrubbed(S1);
    written.on(
        Event::Lease {
            slice: S1,
            claim: Claim::new("pod-b".parse().unwrap()),
            holder: None,
            at: written.moment(),
        },
        None,
    );
    written.on(Event::HandOverFailed { slice: S1, why: "no node".into() }, None);
    written.on(Event::Withdrawn { slice: S1 }, None);
    let dirty = written.scrub(S1, ScrubResult::Failed, Verdict::Dirty { bar: 0, first_offset: 16 });
    written.on(Event::ScrubFailed { slice: S1, why: "not clean".into() }, Some(&dirty));
    let since = written.ledger.quarantined_since(S1).unwrap();
    assert_eq!(since, Some(UnixMillis(written.now)));
    written.on(Event::Destroy { slice: S1, leased: LeasedSlice::Refuse }, None);
    written.on(Event::Destroyed { slice: S1 }, None);
    assert!(written.state.slices.is_empty());

    // As it is after a restart, and though the slice is gone.
    drop(written.ledger);
    let (ledger, _) = Ledger::open(folder.path()).unwrap();
    let leases = ledger.history(&HistoryFilter::default(), 100).unwrap();
    let [second, first] = &leases[..] else { panic!("{leases:?}") };
    assert_eq!((first.owner.as_str(), first.gpu.as_str()), ("pod-a", "0000:41:00.0"));
    assert_eq!(first.instance, Some(InstanceName::Vf(VfIndex(0))));
    assert_eq!(first.address.as_deref(), Some("0000:41:00.1"));
    assert_eq!(first.ended.as_ref().unwrap().how, EndedHow::Released);
    assert!(first.ended.as_ref().unwrap().at > first.position.from);
    let [clean] = &first.scrubs[..] else { panic!("{first:?}") };
    assert_eq!((clean.scrub.result, clean.at > first.position.from), (ScrubResult::Clean, true));
    assert!(clean.scrub.evidence.as_ref().unwrap().is_clean());
    assert_eq!((second.owner.as_str(), &second.address), ("pod-b", &None));
    assert_eq!(second.ended.as_ref().unwrap().how, EndedHow::NotHandedOver);
    assert_eq!(second.scrubs.iter().map(|past| &past.scrub).collect::<Vec<_>>(), [&dirty]);
}

#[test]
fn a_history_is_narrowed_and_comes_page_by_page() {
    let folder = TempDir::new().unwrap();
    let mut written = Written::in_folder(folder.path());
    written.make();
    for owner in ["pod-a", "pod-b", "pod-a"] {
        written.lease(S1, owner);
        written.take_back(S1);
        written.scrubbed(S1);
    }
    let between = UnixMillis(written.now);
    written.lease(S1, "pod-c");
    assert_eq!(written.owners(&HistoryFilter::default()), ["pod-c", "pod-a", "pod-b", "pod-a"]);
    let owner = Some("pod-a".parse().unwrap());
    assert_eq!(written.owners(&HistoryFilter { owner, ..HistoryFilter::default() }).len(), 2);
    let since = Some(between);
    assert_eq!(written.owners(&HistoryFilter { since, ..HistoryFilter::default() }), ["pod-c"]);
    let slice = Some(SliceId::new(2));
    assert!(written.owners(&HistoryFilter { slice, ..HistoryFilter::default() }).is_empty());
    let gpu = Some("0000:42:00.0".parse().unwrap());
    assert!(written.owners(&HistoryFilter { gpu, ..HistoryFilter::default() }).is_empty());

    let (mut filter, mut pages) = (HistoryFilter::default(), Vec::new());
    loop {
        let page = written.ledger.history(&filter, 1).unwrap();
        filter.before = page.last().map(|lease| lease.position);
        match page.into_iter().next() {
            Some(lease) => pages.push(lease.position.generation.0),
            None => break,
        }
    }
    assert_eq!(pages, [4, 3, 2, 1]);
}

#[test]
fn a_scrub_is_written_with_its_outcome_or_not_at_all() {
    let folder = TempDir::new().unwrap();
    let mut written = Written::in_folder(folder.path());
    written.make();
    written.lease(S1, "pod-a");
    written.take_back(S1);
    let transition = step(&written.state, Event::Scrubbed { slice: S1, evidence: None }).unwrap();
    let scrub = written.scrub(S1, ScrubResult::Clean, Verdict::Clean);
    let (outcome, at) = (None, UnixMillis(1));
    let change = Change { before: &written.state, transition: &transition, outcome, scrub: Some(&scrub), at };
    // The state cannot be written, after the scrub was.
    let refuse = "CREATE TRIGGER refuse BEFORE INSERT ON slices BEGIN SELECT RAISE(ABORT, 'no'); END";
    Connection::open(folder.path().join(open::FILE)).unwrap().execute_batch(refuse).unwrap();
    written.ledger.commit(&change).unwrap_err();
    assert_eq!(written.ledger.scrubs(S1, scrub.generation).unwrap(), []);
}

#[test]
fn a_scrub_that_makes_no_sense_is_told() {
    let folder = TempDir::new().unwrap();
    let mut written = Written::in_folder(folder.path());
    written.make();
    written.lease(S1, "pod-a");
    written.take_back(S1);
    written.scrubbed(S1);
    let file = Connection::open(folder.path().join(open::FILE)).unwrap();
    file.execute("UPDATE scrubs SET evidence = '{}'", []).unwrap();
    let error = written.ledger.history(&HistoryFilter::default(), 9).unwrap_err();
    assert!(matches!(error, Error::Row { table: "scrubs", .. }), "{error:?}");
}

/// What a vgpud of schema 1 left: s1 leased and handed over, an earlier lease of it, and a lease of
/// s2, which is gone.
const VERSION_1: &str = include_str!("../fixtures/version_1.sql");

#[test]
fn a_ledger_of_version_1_keeps_its_leases_and_goes_on() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join(open::FILE);
    Connection::open(&path).unwrap().execute_batch(VERSION_1).unwrap();
    assert!(!Ledger::open_to_read(&path).unwrap().export().unwrap().tables.contains_key("scrubs"));
    let as_it_was = Ledger::open_to_read(&path).unwrap().check().unwrap();
    assert_eq!((as_it_was.schema, as_it_was.problems), (1, vec![]));
    let (ledger, state) = Ledger::open(folder.path()).unwrap();
    let verdict = ledger.check().unwrap();
    assert_eq!((verdict.schema, verdict.problems), (schema::known(), vec![]));
    let lease = state.slices[&S1].phase.lease().unwrap();
    assert_eq!(lease.handover.as_ref().unwrap().address, None, "not known then");
    assert_eq!(state.slices[&S1].data_of.as_ref(), Some(&lease.owner));
    let history = ledger.history(&HistoryFilter::default(), 9).unwrap();
    let told: Vec<_> = history
        .iter()
        .map(|lease| (lease.owner.as_str(), lease.instance, lease.ended.as_ref().map(|ended| ended.how)))
        .collect();
    let expected = [
        ("pod-c", Some(InstanceName::Vf(VfIndex(0))), None),
        ("pod-b", None, Some(EndedHow::HostRestarted)),
        ("pod-a", None, Some(EndedHow::Released)),
    ];
    assert_eq!(told, expected);

    let mut written = Written { ledger, state, now: 1_700_000_100_000 };
    written.take_back(S1);
    written.scrubbed(S1);
    let last = written.ledger.history(&HistoryFilter::default(), 1).unwrap().remove(0);
    assert_eq!((last.owner.as_str(), last.scrubs.len()), ("pod-c", 1));
}

#[test]
fn a_lease_that_was_taken_back_says_why() {
    let folder = TempDir::new().unwrap();
    let mut written = Written::in_folder(folder.path());
    written.make();
    for cause in [ReleaseCause::Asked, ReleaseCause::HolderEnded, ReleaseCause::TimeIsUp] {
        written.lease(S1, "pod-a");
        // An end that the device's holder put off does not count.
        written.on(Event::Release { slice: S1, generation: None, cause: ReleaseCause::TimeIsUp }, None);
        written.on(Event::StillHeld { slice: S1, why: "held".into() }, None);
        written.on(Event::Release { slice: S1, generation: None, cause }, None);
        written.on(Event::Withdrawn { slice: S1 }, None);
        written.scrubbed(S1);
    }
    let leases = written.ledger.history(&HistoryFilter::default(), 100).unwrap();
    let words: Vec<_> = leases.iter().map(|lease| lease.ended.as_ref().unwrap().how.word()).collect();
    assert_eq!(words, ["time-is-up", "holder-ended", "released"]);
}
