//! What the daemon's core does with the engine, without threads, clocks and files.

use super::super::*;
use super::{
    CrashPoint, End, Operation, Presence, WhichLease,
    books::Books,
    host::{self, Came, Host},
};
use crate::engine::{
    invariants,
    reconcile::{self, HostView, Restart},
};
use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::Duration,
};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Subject {
    Slice(SliceId),
    Gpu(PciAddress),
}

type Job = (u64, Effect);

/// The effects of one GPU; the first one runs.
#[derive(Debug, Default)]
struct Lane {
    queue: VecDeque<Job>,
    stuck: bool,
}

#[derive(Debug)]
pub struct Drive {
    state: State,
    books: Books,
    host: Host,
    lanes: BTreeMap<PciAddress, Lane>,
    current: BTreeMap<Subject, Job>,
    ended_holders: BTreeSet<(SliceId, Generation)>,
    resumed: BTreeSet<SliceId>,
    jobs: u64,
    names: u128,
}

fn subject(effect: &Effect) -> Option<Subject> {
    match effect {
        Effect::Retire { gpu, .. } => Some(Subject::Gpu(*gpu)),
        Effect::Partition(_) => effect.gpu().map(Subject::Gpu),
        Effect::Unpublish { .. } => None,
        _ => effect.slice().map(Subject::Slice),
    }
}

/// The first tenant has a quota, and the leases of the second one have a limit of time.
fn claim(tenant: u8) -> Claim {
    let mut claim = Claim::new(format!("tenant-{tenant}").parse().unwrap());
    match tenant {
        0 => claim.allowance.quota.slices = Some(2),
        1 => claim.terms.time = Some(Duration::from_secs(1)),
        _ => {}
    }
    claim
}

impl Drive {
    pub fn new() -> Self {
        Self {
            state: State::default(),
            books: Books::default(),
            host: Host::new(),
            lanes: BTreeMap::new(),
            current: BTreeMap::new(),
            ended_holders: BTreeSet::new(),
            resumed: BTreeSet::new(),
            jobs: 0,
            names: 100,
        }
    }

    /// One of the slices, or one that is gone or never was.
    fn pick(&self, number: u8) -> SliceId {
        let number = usize::from(number) % (self.state.slices.len() + 1);
        self.state.slices.keys().nth(number).copied().unwrap_or(SliceId::new(self.state.last_id.max(1)))
    }

    fn lane(&mut self, gpu: PciAddress) -> &mut Lane {
        self.lanes.entry(gpu).or_default()
    }

    /// The daemon takes no command for a GPU that the kernel is stuck in.
    fn is_stuck(&self, gpu: PciAddress) -> bool {
        self.lanes.get(&gpu).is_some_and(|lane| lane.stuck)
    }

    fn is_obstructed(&self, slice: SliceId) -> bool {
        self.state.slices.get(&slice).is_some_and(|slice| self.is_stuck(slice.gpu))
    }

    pub fn operate(&mut self, operation: Operation) -> Result<(), String> {
        match operation {
            Operation::Create { gpu, names, owner } => self.create(gpu, &names, owner)?,
            Operation::Lease { slice, owner, holder } => {
                let slice = self.pick(slice);
                if !self.is_obstructed(slice) {
                    let holder = (holder == Presence::Yes).then_some(Holder { pid: 7, started: 1 });
                    self.apply(&Event::Lease { slice, claim: claim(owner), holder, at: AT })?;
                }
            }
            Operation::Release { slice, lease } => {
                let slice = self.pick(slice);
                if !self.is_obstructed(slice) {
                    let current = self.books.get(slice).map_or(0, |account| account.generation);
                    let generation = match lease {
                        WhichLease::Any => None,
                        WhichLease::Current => Some(Generation(current)),
                        WhichLease::Former => Some(Generation(current.wrapping_sub(1))),
                    };
                    self.apply(&Event::Release { slice, generation, cause: ReleaseCause::Asked })?;
                }
            }
            Operation::TimeIsUp { slice } => self.time_is_up(slice)?,
            Operation::Extend { slice, by } => {
                let until = AT.boot.after(Duration::from_millis(by.into()));
                let message = "lasts longer".to_owned();
                self.apply(&Event::Extend { slice: self.pick(slice), until, message })?;
            }
            Operation::Destroy { slice, leased } => {
                let slice = self.pick(slice);
                if !self.is_obstructed(slice) {
                    self.apply(&Event::Destroy { slice, leased })?;
                }
            }
            Operation::Clear { slice } => {
                let slice = self.pick(slice);
                if !self.is_obstructed(slice) {
                    let shown = self.shown(slice);
                    self.resumed.insert(slice);
                    self.apply(&Event::Clear { slice, shown })?;
                }
            }
            Operation::Quarantine { slice } => {
                let slice = self.pick(slice);
                if !self.is_obstructed(slice) {
                    let (reason, by) = ("odd".to_owned(), Actor::User("somebody".to_owned()));
                    self.apply(&Event::Quarantine { slice, reason, by })?;
                }
            }
            Operation::QuarantineGpu { gpu } => {
                self.quarantine_gpu(host::address(gpu), GpuQuarantineCause::Operator)?;
            }
            Operation::ClearGpu { gpu } => self.clear_gpu(host::address(gpu)).map(|_| ())?,
            Operation::Open { slice } => self.host.open(self.pick(slice))?,
            Operation::Close { vm } => {
                let contents = self.host.gpus.values_mut().flat_map(|gpu| gpu.instances.values_mut());
                if let Some(content) = contents.filter(|content| content.open_by.is_some()).nth(vm.into()) {
                    content.open_by = None;
                }
            }
            Operation::HolderEnds { slice } => self.holder_ends(slice)?,
            Operation::Work { gpu, end } => self.work(host::address(gpu), end)?,
            Operation::Overdue { gpu } => self.overdue(host::address(gpu))?,
            Operation::Crash { running } => self.crash(running)?,
            Operation::Reboot => {
                self.forget();
                self.host.reboot();
                self.start(Restart::Restarted)?;
            }
            Operation::Vanish { gpu } => {
                let gpu = host::address(gpu);
                if self.host.gpu(gpu).there {
                    self.host.vanish(gpu);
                    self.apply(&Event::GpuVanished { gpu })?;
                }
            }
            Operation::Return { gpu } => {
                let gpu = host::address(gpu);
                if !self.host.gpu(gpu).there {
                    self.host.gpu(gpu).there = true;
                    self.apply(&Event::GpuReturned { gpu })?;
                }
            }
            Operation::Tamper { instance } => {
                let all = self.host.gpus.iter().flat_map(|(gpu, found)| {
                    let idle = found.instances.iter().filter(|(_, content)| content.open_by.is_none());
                    idle.map(|(name, _)| (*gpu, *name))
                });
                if let Some((gpu, name)) = all.collect::<Vec<_>>().get(usize::from(instance)) {
                    self.host.gpu(*gpu).instances.remove(name);
                }
            }
            Operation::Look => self.look()?,
        }
        self.check()
    }

    fn apply(&mut self, event: &Event) -> Result<bool, String> {
        let before = self.state.clone();
        let next = match step(&before, event.clone()) {
            Ok(next) => next,
            Err(_) => {
                let at_work = |id| self.current.contains_key(&Subject::Slice(id));
                return self.books.refused(event, at_work).map(|()| false);
            }
        };
        let may_leave = invariants::MayLeave::by(event);
        if let Some(broken) = invariants::after_step(&before, &next.state, may_leave).first() {
            return Err(broken.clone());
        }
        for (id, slice) in &next.state.slices {
            if let Some(lease) = slice.phase.lease() {
                self.host.owners.insert((*id, slice.generation), lease.owner.clone());
            }
        }
        self.books.accepted(event, &next.state, &self.host)?;
        self.state = next.state;
        self.drop_quarantined(&before);
        for effect in next.effects {
            self.dispatch(effect)?;
        }
        Ok(true)
    }

    fn quarantine_gpu(&mut self, gpu: PciAddress, cause: GpuQuarantineCause) -> Result<(), String> {
        let why = GpuQuarantine { cause, evidence: "odd".to_owned(), since: AT.wall, by: Actor::Vgpud };
        self.apply(&Event::QuarantineGpu { gpu, why }).map(|_| ())
    }

    fn clear_gpu(&mut self, gpu: PciAddress) -> Result<bool, String> {
        let shown = match self.is_stuck(gpu) {
            true => GpuShown::Stuck("reset it".to_owned()),
            false if self.host.gpu(gpu).there => GpuShown::There,
            false => GpuShown::Absent,
        };
        self.apply(&Event::ClearGpu { gpu, shown, by: Actor::User("somebody".to_owned()) })
    }

    fn dispatch(&mut self, effect: Effect) -> Result<(), String> {
        let (Some(subject), Some(gpu)) = (subject(&effect), effect.gpu()) else {
            return self.host.run(&effect).map(|_| ());
        };
        if self.current.get(&subject).is_some_and(|(_, running)| *running == effect) {
            return Ok(());
        }
        self.jobs += 1;
        let job = (self.jobs, effect);
        self.current.insert(subject, job.clone());
        self.lane(gpu).queue.push_back(job);
        Ok(())
    }

    /// As the core does: what waits for a slice that is quarantined now is not begun any more.
    fn drop_quarantined(&mut self, before: &State) {
        let quarantined = |state: &State, id: &SliceId| {
            state.slices.get(id).is_some_and(|slice| matches!(slice.phase, Phase::Quarantined { .. }))
        };
        let now = &self.state;
        let fresh = now.slices.keys().filter(|id| quarantined(now, id) && !quarantined(before, id));
        for id in fresh.copied().collect::<Vec<_>>() {
            let Some((job, effect)) = self.current.remove(&Subject::Slice(id)) else { continue };
            let Some(gpu) = effect.gpu() else { continue };
            let mut place = 0;
            self.lane(gpu).queue.retain(|(queued, _)| {
                place += 1;
                place == 1 || *queued != job
            });
        }
    }

    fn create(&mut self, gpu: u8, names: &[u8], owner: Option<u8>) -> Result<(), String> {
        let gpu = host::address(gpu);
        if self.is_stuck(gpu) || !self.host.gpu(gpu).there {
            return Ok(());
        }
        let mechanism = host::mechanism(gpu);
        let origin = if self.host.gpu(gpu).found { Origin::Found } else { Origin::Ours };
        let plan = names.iter().map(|number| PlannedSlice {
            mechanism,
            name: match vgpud_mdev::mechanism(mechanism).division() {
                vgpud_mdev::Division::Uniform => InstanceName::Vf(VfIndex((*number).into())),
                vgpud_mdev::Division::Counted => {
                    InstanceName::Mdev(MdevUuid(Uuid::from_u128((*number).into())))
                }
            },
            capacity: host::CAPACITY,
            origin,
            ..planned(1, 0)
        });
        let slices: Vec<_> = plan.map(|plan| PlannedSlice { gpu, ..plan }).collect();
        let first = self.state.last_id + 1;
        if self.apply(&Event::Plan { slices, claim: owner.map(claim), at: AT })? {
            for number in first..=self.state.last_id {
                self.apply(&Event::Begin { slice: SliceId::new(number) })?;
            }
        }
        Ok(())
    }

    /// As the core reads it from what the kernel showed last.
    fn shown(&self, slice: SliceId) -> Shown {
        let Some(slice) = self.state.slices.get(&slice) else { return Shown::GpuAbsent };
        match self.host.gpus.get(&slice.gpu) {
            Some(gpu) if gpu.there => match gpu.instances.contains_key(&slice.name) {
                true => Shown::There,
                false if gpu.instances.is_empty() && !gpu.found => Shown::Undivided,
                false => Shown::Gone,
            },
            _ => Shown::GpuAbsent,
        }
    }

    fn holder_ends(&mut self, slice: u8) -> Result<(), String> {
        let id = self.pick(slice);
        let Some(slice) = self.state.slices.get(&id) else { return Ok(()) };
        if slice.phase.lease().is_some_and(|lease| lease.holder.is_some()) {
            self.ended_holders.insert((id, slice.generation));
        }
        self.release_ended()
    }

    fn time_is_up(&mut self, slice: u8) -> Result<(), String> {
        let Some(slice) = self.state.slices.get(&self.pick(slice)) else { return Ok(()) };
        let limited = slice.phase.lease().is_some_and(|lease| lease.until.is_some());
        if limited && slice.at_rest() && slice.tie.is_none() {
            let (generation, cause) = (Some(slice.generation), ReleaseCause::TimeIsUp);
            self.apply(&Event::Release { slice: slice.id, generation, cause })?;
        }
        Ok(())
    }

    fn release_ended(&mut self) -> Result<(), String> {
        for (slice, generation) in self.ended_holders.clone() {
            let Some(found) = self.state.slices.get(&slice) else { continue };
            if found.generation == generation && found.phase.lease().is_some() && found.at_rest() {
                let cause = ReleaseCause::HolderEnded;
                self.apply(&Event::Release { slice, generation: Some(generation), cause })?;
            }
        }
        Ok(())
    }

    fn work(&mut self, gpu: PciAddress, end: End) -> Result<(), String> {
        let Some((job, effect)) = self.lane(gpu).queue.pop_front() else { return Ok(()) };
        self.lane(gpu).stuck = false;
        let mut came = Came::Failed;
        if end != End::FailsBefore {
            came = match &effect {
                Effect::Reset { target } if end == End::LeavesData => self.host.reset_in_vain(target)?,
                effect => self.host.run(effect)?,
            };
            if end == End::FailsAfter && came != Came::Held {
                came = Came::Failed;
            }
        }
        let Some(subject) = subject(&effect) else { return Ok(()) };
        if self.current.get(&subject).is_none_or(|(waited, _)| *waited != job) {
            if let Some(slice) = effect.slice().filter(|id| self.state.slices.contains_key(id)) {
                self.apply(&Event::LateResult { slice, result: format!("{came:?}") })?;
            }
            return Ok(());
        }
        let waits = matches!(effect, Effect::Withdraw { .. } | Effect::Reset { .. } | Effect::Destroy { .. });
        if came == Came::Held && waits && end != End::OutOfPatience {
            self.lane(gpu).queue.push_back((job, effect));
            return Ok(());
        }
        self.current.remove(&subject);
        let event = self.outcome(&effect, came);
        self.apply(&event)?;
        self.release_ended()
    }

    fn outcome(&mut self, effect: &Effect, came: Came) -> Event {
        let why = format!("{came:?}");
        match (effect, came) {
            (Effect::Create { target, .. }, Came::Done) => Event::Created { slice: target.slice, at: AT },
            (Effect::Create { target, .. }, _) => {
                Event::CreateFailed { slice: target.slice, why, ran: Ran::Begun }
            }
            (Effect::HandOver { target, .. }, Came::Done) => {
                Event::HandedOver { slice: target.slice, handover: handover() }
            }
            (Effect::HandOver { target, .. }, _) => Event::HandOverFailed { slice: target.slice, why },
            (Effect::Withdraw { target, .. }, Came::Done) => Event::Withdrawn { slice: target.slice },
            (Effect::Withdraw { target, .. }, Came::Held) => Event::StillHeld { slice: target.slice, why },
            (Effect::Withdraw { target, .. }, _) => Event::WithdrawFailed { slice: target.slice, why },
            (Effect::Reset { target }, Came::Done) => Event::Scrubbed { slice: target.slice, evidence: None },
            (Effect::Reset { target }, Came::Kept) => Event::Kept { slice: target.slice, why },
            (Effect::Reset { target }, Came::NoReset) => {
                self.names += 1;
                let fresh = InstanceName::Mdev(MdevUuid(Uuid::from_u128(self.names)));
                Event::NoReset { slice: target.slice, fresh, why: None }
            }
            (Effect::Reset { target }, Came::Failed) => Event::ResetFailed { slice: target.slice, why },
            (Effect::Reset { target }, _) => Event::ScrubFailed { slice: target.slice, why },
            (Effect::Destroy { target }, Came::Done) => Event::Destroyed { slice: target.slice },
            (Effect::Destroy { target }, _) => Event::DestroyFailed { slice: target.slice, why },
            (Effect::Retire { gpu, .. }, Came::Done) => Event::Retired { gpu: *gpu },
            (Effect::Retire { gpu, .. }, _) => Event::RetireFailed { gpu: *gpu, why },
            (Effect::Partition(partition), Came::Done) => Event::Partitioned(partition.clone()),
            (Effect::Partition(partition), _) => Event::PartitionFailed { partition: partition.clone(), why },
            (Effect::Unpublish { slice }, _) => Event::LateResult { slice: *slice, result: why },
        }
    }

    fn overdue(&mut self, gpu: PciAddress) -> Result<(), String> {
        let lane = self.lane(gpu);
        let Some((job, effect)) = lane.queue.front().cloned().filter(|_| !lane.stuck) else { return Ok(()) };
        lane.stuck = true;
        let mut place = 0;
        let mut creations = Vec::new();
        lane.queue.retain(|queued| {
            place += 1;
            let taken = place > 1 && matches!(queued.1, Effect::Create { .. });
            if taken {
                creations.push(queued.clone());
            }
            !taken
        });
        self.quarantine_gpu(gpu, GpuQuarantineCause::NoAnswer)?;
        let Some(subject) = subject(&effect) else { return Ok(()) };
        if self.current.get(&subject).is_some_and(|(waited, _)| *waited == job) {
            self.current.remove(&subject);
            self.apply(&match subject {
                Subject::Slice(slice) => Event::Overdue { slice, waiting_for: effect.to_string() },
                Subject::Gpu(gpu) => Event::RetireFailed { gpu, why: "overdue".to_owned() },
            })?;
        }
        for (_, creation) in creations {
            let Some(slice) = creation.slice() else { continue };
            self.current.remove(&Subject::Slice(slice));
            let ran = if self.resumed.contains(&slice) { Ran::Begun } else { Ran::Never };
            self.apply(&Event::CreateFailed { slice, why: "stuck".to_owned(), ran })?;
        }
        Ok(())
    }

    fn forget(&mut self) {
        self.lanes.clear();
        self.current.clear();
    }

    fn crash(&mut self, running: CrashPoint) -> Result<(), String> {
        if running == CrashPoint::AfterEffects {
            let fronts: Vec<_> = self.lanes.values().filter_map(|lane| lane.queue.front()).cloned().collect();
            for (_, effect) in fronts {
                self.host.run(&effect)?;
            }
        }
        self.forget();
        self.start(Restart::SameBoot)
    }

    fn start(&mut self, restart: Restart) -> Result<(), String> {
        let leased =
            |id: &SliceId| self.state.slices.get(id).is_some_and(|slice| slice.phase.lease().is_some());
        let orphans: Vec<_> = self.host.published.keys().copied().filter(|id| !leased(id)).collect();
        for slice in orphans {
            self.dispatch(Effect::Unpublish { slice })?;
        }
        let ended = self.state.slices.values().filter(|slice| {
            slice.phase.lease().is_some() && self.ended_holders.contains(&(slice.id, slice.generation))
        });
        let ended_holders = ended.map(|slice| slice.id).collect();
        let view = HostView { restart, gpus: self.host.view(), ended_holders, ..HostView::default() };
        self.resumed.clear();
        for event in reconcile::compare(&self.state, &view).events {
            if let Event::Resume { slice } = &event {
                self.resumed.insert(*slice);
            }
            self.apply(&event)?;
        }
        Ok(())
    }

    fn look(&mut self) -> Result<(), String> {
        let mut gpus = self.host.view();
        gpus.retain(|gpu, _| self.lanes.get(gpu).is_none_or(|lane| lane.queue.is_empty()));
        let view = HostView { gpus, ..HostView::default() };
        for event in reconcile::compare(&self.state, &view).events {
            let Event::Contradiction { slice, .. } = &event else { continue };
            if self.state.slices.get(slice).is_some_and(|slice| view.gpus.contains_key(&slice.gpu)) {
                self.apply(&event)?;
            }
        }
        Ok(())
    }

    /// What must be so whenever the daemon waits.
    fn check(&self) -> Result<(), String> {
        for slice in self.state.slices.values() {
            if !slice.at_rest() && !self.current.contains_key(&Subject::Slice(slice.id)) {
                return Err(format!("{} is {} and nothing is done for it", slice.id, slice.phase));
            }
        }
        for published in self.host.published.keys() {
            if self.books.get(*published).is_none_or(|account| account.lease.is_none()) {
                return Err(format!("{published} has a CDI file and no owner"));
            }
        }
        Ok(())
    }

    fn drain(&mut self) -> Result<(), String> {
        for _ in 0..1_000 {
            let busy = self.lanes.iter().find(|(_, lane)| !lane.queue.is_empty()).map(|(gpu, _)| *gpu);
            let Some(gpu) = busy else { return Ok(()) };
            self.work(gpu, End::AsItGoes)?;
            self.check()?;
        }
        Err(format!("work without end: {:?}", self.lanes))
    }

    /// When the faults are over, every slice can be destroyed and the host is as it was.
    pub fn bring_to_an_end(&mut self) -> Result<(), String> {
        for number in 0..host::GPUS {
            self.operate(Operation::Return { gpu: number })?;
        }
        let contents = self.host.gpus.values_mut().flat_map(|gpu| gpu.instances.values_mut());
        contents.for_each(|content| content.open_by = None);
        self.drain()?;
        // Nothing above has let a GPU out of its quarantine; an operator does.
        for gpu in self.state.quarantined_gpus.keys().copied().collect::<Vec<_>>() {
            if !self.clear_gpu(gpu)? {
                return Err(format!("{gpu} cannot be cleared"));
            }
        }
        // Twice: a leased slice whose instance somebody took away is quarantined first.
        for _ in 0..2 {
            for slice in self.state.slices.keys().copied().collect::<Vec<_>>() {
                self.apply(&Event::Destroy { slice, leased: LeasedSlice::Release })?;
                self.drain()?;
            }
        }
        // A GPU that could not be put back is put back at the next start.
        self.crash(CrashPoint::BeforeEffects)?;
        self.drain()?;
        if !self.state.slices.is_empty() || !self.state.cuts.is_empty() {
            return Err(format!("left in the ledger: {:?}", self.state));
        }
        if !self.host.published.is_empty() {
            return Err(format!("CDI files left: {:?}", self.host.published));
        }
        match self.host.gpus.values().find(|gpu| !gpu.instances.is_empty()) {
            Some(left) => Err(format!("instances left: {left:?}")),
            None => Ok(()),
        }
    }
}
