//! What clients ask for.

use super::{
    Cause, Core, Running,
    limits::moment,
    waiter::{Waiter, Want},
};
use crate::{
    daemon::{
        holder::Watched,
        message::{Create, Mode, Progress, Reply},
        snapshot::Snapshot,
    },
    engine::{
        Claim, Event, Generation, LeasedSlice, Moment, PlannedSlice, Rejected, ReleaseCause, SliceId, State,
        placement::{self, Choice, Placement},
        step,
    },
    failure::Failure,
    ledger,
};
use std::collections::BTreeMap;
use vgpud_config::PciAddress;
use vgpud_mdev::{Division, InstanceName, mechanism};

impl Core {
    /// Why a command about this slice cannot be taken now.
    pub(super) fn obstacle(&self, slice: SliceId) -> Option<Failure> {
        if matches!(self.running, Running::Stopping { .. }) {
            return Some(Failure::stopping());
        }
        if self.verifying.contains(&slice) {
            return Some(Failure::from(&Rejected::Busy { slice, phase: "being checked" }));
        }
        let gpu = self.state.slices.get(&slice)?.gpu;
        let running = self.workers.get(&gpu)?.stuck()?;
        Some(Failure::stuck(&running.intent.effect.to_string()))
    }

    pub(super) fn create(&mut self, create: Create) -> Result<(), ledger::Error> {
        if matches!(self.running, Running::Stopping { .. }) {
            let _ = create.progress.send(Err(Failure::stopping()));
            return Ok(());
        }
        let at = moment();
        let now = self.make_snapshot();
        let claim = create.owner.clone().map(|owner| self.claim(owner, create.terms));
        let planned = match plan(&now, &create, claim.as_ref(), at) {
            Ok(planned) => planned,
            // What is being put back may be just what is asked for; it ends within its deadline.
            Err(Unplanned::Now(_)) if now.being_put_back() => {
                self.deferred.push(create);
                return Ok(());
            }
            Err(Unplanned::Now(failure) | Unplanned::Whatever(failure)) => {
                tracing::error!(reason = failure.reason, "request refused: {}", failure.line());
                let _ = create.progress.send(Err(failure));
                return Ok(());
            }
        };
        let Planned { placement, slices, effects } = planned;
        // The client may have gone already; it is served all the same.
        let _ = create.progress.send(Ok(Progress::Planned { placement, effects }));
        if create.mode == Mode::DryRun {
            return Ok(());
        }
        let first = self.state.last_id + 1;
        let places: Vec<_> = slices.iter().map(|slice| slice.gpu).collect();
        if let Err(rejected) = self.apply(Event::Plan { slices, claim, at }, Cause::default())? {
            let _ = create.progress.send(Err(Failure::from(&rejected)));
            return Ok(());
        }
        let ids: Vec<_> = (first..=self.state.last_id).map(SliceId::new).collect();
        let want = Want::Created { ids: ids.clone(), reported: BTreeMap::new(), progress: create.progress };
        self.waiters.push(Waiter::new(want, ids.iter().copied().zip(places)));
        for slice in ids {
            // Given up already where an earlier slice of the request failed at once.
            if let Err(rejected) = self.apply(Event::Begin { slice }, Cause::default())? {
                tracing::debug!(%slice, %rejected, "not begun");
            }
        }
        Ok(())
    }

    /// Takes up requests that waited for a GPU to be put back.
    pub(super) fn create_deferred(&mut self) -> Result<(), ledger::Error> {
        for create in std::mem::take(&mut self.deferred) {
            self.create(create)?;
        }
        Ok(())
    }

    pub(super) fn lease(
        &mut self,
        slice: SliceId,
        claim: Claim,
        holder: Option<Watched>,
        reply: Reply<SliceId>,
    ) -> Result<(), ledger::Error> {
        if let Some(failure) = self.obstacle(slice) {
            refuse(reply, failure);
            return Ok(());
        }
        let known = holder.as_ref().map(|watched| watched.holder);
        let event = Event::Lease { slice, claim, holder: known, at: moment() };
        if let Err(rejected) = self.apply(event, Cause::default())? {
            refuse(reply, Failure::from(&rejected));
            return Ok(());
        }
        let Some(leased) = self.state.slices.get(&slice) else { return Ok(()) };
        let (generation, gpu) = (leased.generation, leased.gpu);
        if let Some(watched) = holder {
            self.watch(watched, slice, generation);
        }
        self.waiters.push(Waiter::new(Want::Leased { slice, generation, reply }, [(slice, gpu)]));
        Ok(())
    }

    pub(super) fn release(
        &mut self,
        slice: SliceId,
        generation: Option<Generation>,
        reply: Reply<SliceId>,
    ) -> Result<(), ledger::Error> {
        if let Some(failure) = self.obstacle(slice) {
            refuse(reply, failure);
            return Ok(());
        }
        let event = Event::Release { slice, generation, cause: ReleaseCause::Asked };
        if let Err(rejected) = self.apply(event, Cause::default())? {
            refuse(reply, Failure::from(&rejected));
            return Ok(());
        }
        let Some(released) = self.state.slices.get(&slice) else { return Ok(()) };
        let (generation, gpu) = (released.generation, released.gpu);
        self.waiters.push(Waiter::new(Want::Released { slice, generation, reply }, [(slice, gpu)]));
        Ok(())
    }

    pub(super) fn destroy(
        &mut self,
        slice: SliceId,
        leased: LeasedSlice,
        reply: Reply<()>,
    ) -> Result<(), ledger::Error> {
        if let Some(failure) = self.obstacle(slice) {
            refuse(reply, failure);
            return Ok(());
        }
        let Some(gpu) = self.state.slices.get(&slice).map(|found| found.gpu) else {
            refuse(reply, Failure::from(&Rejected::NoSuchSlice(slice)));
            return Ok(());
        };
        if let Err(rejected) = self.apply(Event::Destroy { slice, leased }, Cause::default())? {
            refuse(reply, Failure::from(&rejected));
            return Ok(());
        }
        self.waiters.push(Waiter::new(Want::Destroyed { slice, reply }, [(slice, gpu)]));
        Ok(())
    }

    pub(super) fn watch(&mut self, watched: Watched, slice: SliceId, generation: Generation) {
        match watched.watch(slice, generation, self.sender.clone()) {
            Ok(handle) => {
                self.holders.insert(slice, (generation, handle));
            }
            Err(error) => tracing::error!(%slice, "{}", Failure::from(&error).line()),
        }
    }

    /// The holder of a lease has ended: the lease ends with it. Asked again later where the device
    /// is still held by somebody else.
    pub(super) fn holder_ended(
        &mut self,
        slice: SliceId,
        generation: Generation,
    ) -> Result<(), ledger::Error> {
        self.ended_holders.insert((slice, generation));
        self.release_ended()
    }

    /// Starts the release of leases whose holder has ended, as soon as they are handed over.
    pub(super) fn release_ended(&mut self) -> Result<(), ledger::Error> {
        if matches!(self.running, Running::Stopping { .. }) {
            return Ok(());
        }
        let due = self.ended_holders.iter().copied().filter(|(slice, generation)| {
            self.state.slices.get(slice).is_some_and(|found| {
                found.generation == *generation && found.phase.lease().is_some() && found.at_rest()
            })
        });
        for (slice, generation) in due.collect::<Vec<_>>() {
            self.ended_holders.remove(&(slice, generation));
            let cause = ReleaseCause::HolderEnded;
            let event = Event::Release { slice, generation: Some(generation), cause };
            if let Err(rejected) = self.apply(event, Cause::default())? {
                tracing::warn!(%slice, "the lease of an ended holder is not released: {rejected}");
            }
        }
        Ok(())
    }

    /// Leases that have ended need no watching, and no further try to end them.
    pub(super) fn forget_ended_leases(&mut self) {
        let state = &self.state;
        let current = |slice: &SliceId, generation: Generation| {
            let found = state.slices.get(slice);
            found.is_some_and(|found| found.generation == generation && found.phase.lease().is_some())
        };
        self.holders.retain(|slice, (generation, handle)| {
            let keep = current(slice, *generation);
            if !keep {
                handle.abort();
            }
            keep
        });
        self.ended_holders.retain(|(slice, generation)| current(slice, *generation));
        self.retries.0.retain(|(slice, generation), _| current(slice, *generation));
    }
}

/// Whoever asked may have gone; the log says it in any case.
pub(super) fn refuse<T>(reply: Reply<T>, failure: Failure) {
    tracing::error!(reason = failure.reason, "request refused: {}", failure.line());
    let _ = reply.send(Err(failure));
}

/// A request with its places, names and effects.
struct Planned {
    placement: Placement,
    slices: Vec<PlannedSlice>,
    effects: Vec<String>,
}

/// Why a request is not planned.
enum Unplanned {
    /// By what the GPUs hold now.
    Now(Failure),
    /// By what no GPU can change.
    Whatever(Failure),
}

impl From<Failure> for Unplanned {
    fn from(failure: Failure) -> Self {
        Self::Now(failure)
    }
}

impl From<Rejected> for Unplanned {
    fn from(rejected: Rejected) -> Self {
        let failure = Failure::from(&rejected);
        match rejected {
            Rejected::Quota(_) => Self::Whatever(failure),
            _ => Self::Now(failure),
        }
    }
}

fn plan(now: &Snapshot, create: &Create, claim: Option<&Claim>, at: Moment) -> Result<Planned, Unplanned> {
    let settings = &now.settings.placement;
    let mut request = create.request.clone();
    if request.gpu.is_none() {
        request.numa = request.numa.or(settings.numa_node);
    }
    let placement = placement::place(&request, &now.views(), settings.strategy)
        .map_err(|refusal| Failure::from(&refusal))?;
    let mut slices: Vec<PlannedSlice> = Vec::new();
    for choice in &placement.choices {
        slices.push(name(now, choice, &slices)?);
    }
    let effects = foresee(&now.state, &slices, claim, at)?;
    Ok(Planned { placement, slices, effects })
}

/// Chooses the instance's name, before it exists.
fn name(now: &Snapshot, choice: &Choice, before: &[PlannedSlice]) -> Result<PlannedSlice, Failure> {
    let gpu: PciAddress = choice.gpu;
    let profile = &choice.profile;
    let seen = now.gpus.get(&gpu);
    let of_slices = now.state.slices_of(gpu).flat_map(|slice| [Some(slice.name), slice.next_name()]);
    let of_request = before.iter().filter(|other| other.gpu == gpu).map(|other| other.name);
    let on_host = seen.into_iter().flat_map(|seen| seen.instances.iter().map(|instance| instance.name));
    let used: Vec<InstanceName> = of_slices.flatten().chain(of_request).chain(on_host).collect();
    let name = mechanism(choice.mechanism)
        .next_name(gpu, &profile.name, &used)
        .map_err(|error| Failure::from(&error))?;
    let alike = now.state.slices_of(gpu).filter(|slice| slice.profile == profile.name).count();
    let planned = before.iter().filter(|other| other.gpu == gpu && other.profile == profile.name).count();
    let taken = u32::try_from(alike + planned).unwrap_or(u32::MAX);
    let capacity = match mechanism(choice.mechanism).division() {
        Division::Uniform => profile.capacity,
        // The device's count for now beside what is there: see `Profile::capacity`.
        Division::Counted => profile.capacity.max(taken.saturating_add(1)),
    };
    let origin = seen.map_or(crate::engine::Origin::Ours, |seen| Snapshot::origin(seen, choice.mechanism));
    Ok(PlannedSlice {
        gpu,
        mechanism: choice.mechanism,
        profile: profile.name.clone(),
        name,
        memory: profile.memory,
        compute: profile.compute,
        capacity,
        origin,
    })
}

/// What will be done if all goes well, in order: the state machine's own answer.
fn foresee(
    state: &State,
    slices: &[PlannedSlice],
    claim: Option<&Claim>,
    at: Moment,
) -> Result<Vec<String>, Rejected> {
    let first = state.last_id + 1;
    let plan = Event::Plan { slices: slices.to_vec(), claim: claim.cloned(), at };
    let mut next = step(state, plan)?;
    let ids: Vec<_> = (first..=next.state.last_id).map(SliceId::new).collect();
    let mut effects = Vec::new();
    let begin = ids.iter().map(|slice| Event::Begin { slice: *slice });
    let created = ids.iter().map(|slice| Event::Created { slice: *slice, at });
    for event in begin.chain(created) {
        next = step(&next.state, event)?;
        effects.extend(next.effects.iter().map(ToString::to_string));
    }
    Ok(effects)
}
