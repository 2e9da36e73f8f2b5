//! A ledger with slices in every phase, rows in every table, and as much history as a test wants.

use super::super::*;
use crate::engine::{
    Actor, BootMillis, Claim, Event, Generation, GpuQuarantine, GpuQuarantineCause, Handover, Holder,
    LeasedSlice, Moment, Origin, PlannedSlice, ReleaseCause, SliceId, State, UnixMillis, step,
};
use rusqlite::Connection;
use std::path::{Path, PathBuf};
use tempfile::TempDir;
use vgpud_config::{ComputeShare, Memory};
use vgpud_mdev::{InstanceName, MechanismKind, VfIndex};
use vgpud_vmm::scrub::{Evidence, ResetEvidence, Step, VendorClear, Verdict};

/// All that a ledger says.
#[derive(Clone, Debug, PartialEq)]
pub struct Told {
    pub state: State,
    pub content: Content,
    pub open_intents: Vec<Intent>,
}

impl Told {
    pub fn by(ledger: &Ledger, state: State) -> Self {
        Self { state, content: ledger.export().unwrap(), open_intents: ledger.open_intents().unwrap() }
    }
}

/// The files of a ledger, to be put down somewhere else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Files {
    pub ledger: Vec<u8>,
    pub wal: Option<Vec<u8>>,
}

impl Files {
    pub fn of(folder: &Path) -> Self {
        let path = folder.join(FILE);
        Self { wal: std::fs::read(wal::path(&path)).ok(), ledger: std::fs::read(path).unwrap() }
    }

    /// In a folder of its own, as after a crash of the host: without the index in memory.
    pub fn put(&self) -> TempDir {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join(FILE);
        std::fs::write(&path, &self.ledger).unwrap();
        if let Some(wal) = &self.wal {
            std::fs::write(wal::path(&path), wal).unwrap();
        }
        folder
    }
}

/// What became of a ledger that was tampered with.
pub enum Opened {
    As(Box<Told>),
    Refused(Error),
}

/// Opens it as vgpud does. Where it is refused, nothing of it may have changed.
pub fn open(files: &Files) -> Opened {
    let folder = files.put();
    match Ledger::open(folder.path()) {
        Ok((ledger, state)) => Opened::As(Box::new(Told::by(&ledger, state))),
        Err(error) => {
            let left = Files::of(folder.path());
            assert!(left.ledger == files.ledger, "{error}");
            // Looking may leave an empty log.
            let kept = |wal: &Option<Vec<u8>>| wal.clone().unwrap_or_default();
            assert!(kept(&left.wal) == kept(&files.wal), "{error}");
            Opened::Refused(error)
        }
    }
}

/// A ledger that is being written, and the time that it goes by.
pub struct Sample {
    pub ledger: Ledger,
    pub state: State,
    now: u64,
}

impl Sample {
    pub fn new(folder: &Path) -> Self {
        let (mut ledger, state) = Ledger::open(folder).unwrap();
        ledger.set_boot_id("b-1").unwrap();
        Self { ledger, state, now: 1_700_000_000_000 }
    }

    /// Goes on with one that is open.
    pub fn of(ledger: Ledger, state: State) -> Self {
        Self { ledger, state, now: 1_800_000_000_000 }
    }

    pub fn on(&mut self, event: Event) {
        self.step(event, None, |_| Outcome::Done);
    }

    /// One commit; it closes what is open for its slice.
    fn step(&mut self, event: Event, scrub: Option<&Scrub>, outcome: impl Fn(&Intent) -> Outcome) {
        self.now += 1_000;
        let at = UnixMillis(self.now);
        let slice = match &event {
            Event::Created { slice, .. }
            | Event::HandedOver { slice, .. }
            | Event::Withdrawn { slice }
            | Event::Scrubbed { slice, .. }
            | Event::ScrubFailed { slice, .. } => Some(*slice),
            _ => None,
        };
        let mut open = self.ledger.open_intents().unwrap().into_iter();
        let ended = open.rfind(|intent| slice.is_some() && intent.effect.slice() == slice);
        let outcome = ended.map(|intent| (intent.id, outcome(&intent)));
        let transition = step(&self.state, event).unwrap();
        let change = Change { before: &self.state, transition: &transition, outcome, scrub, at };
        self.ledger.commit(&change).unwrap();
        self.state = transition.state;
    }

    fn scrub(&self, slice: SliceId, result: ScrubResult, verdict: Verdict) -> Scrub {
        let evidence = Evidence {
            verdict,
            reset: ResetEvidence::Done { methods: "flr".to_owned() },
            vendor_clear: VendorClear::NotOffered,
            steps: vec![Step::Reset, Step::ReadBack { bytes: 16 << 20 }],
            bytes_checked: 16 << 20,
            bytes_found: 0,
            read_back_us: 5,
            duration_us: 9,
        };
        let generation = self.state.slices[&slice].generation;
        let why = (result == ScrubResult::Failed).then(|| "16 bytes of the last owner".to_owned());
        Scrub { slice, generation, work: ScrubWork::Reset, result, why, evidence: Some(evidence) }
    }

    fn at(&self) -> Moment {
        Moment { wall: UnixMillis(self.now), boot: BootMillis(1_000) }
    }

    pub fn lease(&mut self, slice: SliceId, owner: &str) {
        let at = self.at();
        let holder = Some(Holder { pid: 7, started: 99 });
        self.on(Event::Lease { slice, claim: Claim::new(owner.parse().unwrap()), holder, at });
    }

    fn hand_over(&mut self, slice: SliceId) {
        let address = Some("0000:41:00.1".parse().unwrap());
        let cdi_device = format!("vgpud.io/slice={slice}");
        let handover = Handover { node: "/dev/vfio/7".into(), cdi_device, address };
        self.on(Event::HandedOver { slice, handover });
    }

    fn release(&mut self, slice: SliceId) {
        let generation = Some(Generation(self.state.slices[&slice].generation.0));
        self.on(Event::Release { slice, generation, cause: ReleaseCause::Asked });
    }

    /// Leased, handed over, taken back and made clean: five commits.
    pub fn life(&mut self, slice: SliceId, owner: &str) {
        self.lease(slice, owner);
        self.hand_over(slice);
        self.release(slice);
        self.on(Event::Withdrawn { slice });
        let clean = self.scrub(slice, ScrubResult::Clean, Verdict::Clean);
        self.step(Event::Scrubbed { slice, evidence: None }, Some(&clean), |_| Outcome::Done);
    }

    /// The rest of a life that broke off.
    pub fn finish(&mut self, slice: SliceId) {
        let phase = |sample: &Self| sample.state.slices[&slice].phase.clone();
        if phase(self).word() == "leased" {
            if !self.state.slices[&slice].at_rest() {
                self.hand_over(slice);
            }
            self.release(slice);
        }
        if phase(self).word() == "releasing" {
            self.on(Event::Withdrawn { slice });
        }
        let generation = self.state.slices[&slice].generation.0;
        if phase(self).word() == "scrubbing" {
            self.on(Event::Scrubbed { slice, evidence: None });
        }
        self.ledger.set_boot_id(&generation.to_string()).unwrap();
    }

    /// A slice in every phase, a GPU out of use, and `lives` of the one that is ready. Nothing is worked into the file.
    pub fn fill(&mut self, lives: usize) {
        let checkpoints = self.ledger.connection().pragma_update(None, "wal_autocheckpoint", 0);
        checkpoints.unwrap();
        let slice = |(gpu, name): (&str, InstanceName)| PlannedSlice {
            gpu: gpu.parse().unwrap(),
            mechanism: match name {
                InstanceName::Vf(_) => MechanismKind::Sriov,
                InstanceName::Mdev(_) => MechanismKind::Mdev,
                InstanceName::Whole => MechanismKind::Passthrough,
            },
            profile: "size-8".parse().unwrap(),
            name,
            memory: Some(Memory::from_bytes(16 << 20)),
            compute: Some(ComputeShare::one_of(8)),
            capacity: 8,
            origin: Origin::Ours,
        };
        let vfs = (0..7).map(|index| ("0000:41:00.0", InstanceName::Vf(VfIndex(index))));
        let mdev = InstanceName::Mdev(vgpud_mdev::MdevUuid(uuid::Uuid::from_u128(5)));
        let names = vfs.chain([("0000:42:00.0", mdev)]);
        for name in names {
            // Planned alone: slices of one request are not kept when one of them is not made.
            let at = self.at();
            self.on(Event::Plan { slices: vec![slice(name)], claim: None, at });
        }
        let [planned, creating, ready, leased, releasing, scrubbing, quarantined, destroying] =
            [1, 2, 3, 4, 5, 6, 7, 8].map(SliceId::new);
        assert!(self.state.slices.contains_key(&planned), "it stays as it is");
        self.on(Event::Begin { slice: creating });
        for slice in [ready, leased, releasing, scrubbing, quarantined, destroying] {
            self.on(Event::Begin { slice });
            let at = self.at();
            self.on(Event::Created { slice, at });
        }
        for number in 0..lives {
            self.life(ready, &format!("pod-{number}"));
        }
        for slice in [leased, releasing, scrubbing, quarantined] {
            self.lease(slice, &format!("tenant-of-{slice}"));
            self.hand_over(slice);
        }
        for slice in [releasing, scrubbing, quarantined] {
            self.release(slice);
        }
        for slice in [scrubbing, quarantined] {
            self.on(Event::Withdrawn { slice });
        }
        let dirty = self.scrub(quarantined, ScrubResult::Failed, Verdict::Dirty { bar: 0, first_offset: 16 });
        let why = "16 bytes of the last owner".to_owned();
        let failed = |_: &Intent| Outcome::Failed("not clean".to_owned());
        self.step(Event::ScrubFailed { slice: quarantined, why }, Some(&dirty), failed);
        self.on(Event::Destroy { slice: destroying, leased: LeasedSlice::Refuse });
        let why = GpuQuarantine {
            cause: GpuQuarantineCause::ResetsFailed,
            evidence: "two slices of it could not be reset".to_owned(),
            since: UnixMillis(self.now),
            by: Actor::Vgpud,
        };
        self.on(Event::QuarantineGpu { gpu: "0000:43:00.0".parse().unwrap(), why });
    }

    pub fn told(&self) -> Told {
        Told::by(&self.ledger, self.state.clone())
    }
}

/// Works the log into the file, so that it has all.
pub fn in_one_file(folder: &Path) {
    let path: PathBuf = folder.join(FILE);
    Connection::open(path).unwrap().pragma_update(None, "journal_mode", "DELETE").unwrap();
}
