//! One step of the state machine, and the part of it that people ask for.

use super::{
    Actor, Claim, Cut, Effect, Event, Fate, Generation, Holder, Lease, LeasedSlice, Moment, Note, NoteKind,
    Phase, PlannedSlice, Quarantine, QuarantineCause, Rejected, ReleaseCause, RequestId, Retiring, Slice,
    SliceId, State, Target, Terms, Tie, invariants, quota,
};
use std::collections::BTreeMap;
use vgpud_config::{Owner, PciAddress};
use vgpud_mdev::mechanism;

/// What an event leads to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Transition {
    pub state: State,
    /// To be run in this order, once they are journalled.
    pub effects: Vec<Effect>,
    pub notes: Vec<Note>,
}

/// Applies one event. Pure: the same state and event always give the same transition.
///
/// # Errors
/// [`Rejected`] where the state forbids the event; then nothing has changed.
pub fn step(state: &State, event: Event) -> Result<Transition, Rejected> {
    let may_leave = invariants::MayLeave::by(&event);
    let mut next = Transition { state: state.clone(), ..Transition::default() };
    next.apply(event)?;
    if cfg!(debug_assertions) {
        let broken = invariants::after_step(state, &next.state, may_leave);
        assert!(broken.is_empty(), "invariants broken: {broken:?}");
    }
    Ok(next)
}

impl Transition {
    fn apply(&mut self, event: Event) -> Result<(), Rejected> {
        match event {
            Event::Plan { slices, claim, at } => self.plan(slices, claim.as_ref(), at),
            Event::Begin { slice } => self.begin(slice),
            Event::Lease { slice, claim, holder, at } => self.lease(slice, &claim, holder, at),
            Event::Extend { slice, until, message } => self.extend(slice, until, &message),
            Event::Release { slice, generation, cause } => self.release(slice, generation, cause),
            Event::Destroy { slice, leased } => self.destroy(slice, leased),
            Event::Clear { slice, shown } => self.clear(slice, shown),
            Event::Quarantine { slice, reason, by } => self.set_aside(slice, &reason, by),
            Event::QuarantineGpu { gpu, why } => self.quarantine_gpu(gpu, why),
            Event::ClearGpu { gpu, shown, by } => self.clear_gpu(gpu, shown, &by),
            Event::Created { slice, at } => self.created(slice, at),
            Event::CreateFailed { slice, why, ran } => self.create_failed(slice, &why, ran),
            Event::HandedOver { slice, handover } => self.handed_over(slice, handover),
            Event::HandOverFailed { slice, why } => self.hand_over_failed(slice, &why),
            Event::Withdrawn { slice } => self.withdrawn(slice),
            Event::StillHeld { slice, why } => self.still_held(slice, &why),
            Event::WithdrawFailed { slice, why } => self.withdraw_failed(slice, &why),
            Event::Scrubbed { slice, evidence } => self.scrubbed(slice, evidence.as_deref()),
            Event::Kept { slice, why } => self.kept(slice, &why),
            Event::NoReset { slice, fresh, why } => self.no_reset(slice, fresh, why.as_deref()),
            Event::ScrubFailed { slice, why } => self.scrub_failed(slice, QuarantineCause::ScrubFailed, &why),
            Event::ResetFailed { slice, why } => self.scrub_failed(slice, QuarantineCause::ResetFailed, &why),
            Event::Destroyed { slice } => self.destroyed(slice),
            Event::DestroyFailed { slice, why } => self.destroy_failed(slice, &why),
            Event::Retired { gpu } => self.retired(gpu),
            Event::RetireFailed { gpu, why } => self.retire_failed(gpu, &why),
            Event::Partition(partition) => self.partition(partition),
            Event::Partitioned(partition) => {
                self.partitioned(&partition);
                Ok(())
            }
            Event::PartitionFailed { partition, why } => {
                self.partition_failed(&partition, &why);
                Ok(())
            }
            Event::Overdue { slice, waiting_for } => self.overdue(slice, &waiting_for),
            Event::LateResult { slice, result } => self.late_result(slice, &result),
            Event::GpuVanished { gpu } => {
                self.gpu_vanished(gpu);
                Ok(())
            }
            Event::GpuReturned { gpu } => {
                self.notes.push(Note::gpu(NoteKind::GpuReturned, gpu, format!("GPU {gpu} is there again")));
                Ok(())
            }
            Event::Contradiction { slice, why } => self.contradiction(slice, &why),
            Event::Rebooted { slice, origin } => self.rebooted(slice, origin),
            Event::Resume { slice } => self.resume(slice),
            Event::ResumeRetire { gpu } => self.resume_retire(gpu),
            Event::Forget { gpu } => {
                if self.state.slices_of(gpu).next().is_none() {
                    self.state.cuts.remove(&gpu);
                }
                Ok(())
            }
        }
    }

    pub(super) fn get(&mut self, id: SliceId) -> Result<&mut Slice, Rejected> {
        self.state.slices.get_mut(&id).ok_or(Rejected::NoSuchSlice(id))
    }

    /// Moves a slice on, with a note.
    pub(super) fn enter(
        &mut self,
        id: SliceId,
        phase: Phase,
        kind: NoteKind,
        message: String,
    ) -> Result<(), Rejected> {
        let slice = self.get(id)?;
        let owner = slice.phase.lease().map(|lease| lease.owner.clone());
        // What is made, or out of vgpud's hands, may hold anybody's data.
        if matches!(phase, Phase::Creating | Phase::Quarantined { .. }) {
            slice.data_of = None;
        }
        slice.phase = phase;
        let mut note = Note::slice(kind, slice, message);
        note.owner = note.owner.or(owner);
        self.notes.push(note);
        Ok(())
    }

    /// The effect that the slice's present phase waits for.
    pub(super) fn pending(slice: &Slice) -> Option<Effect> {
        let target = Target::of(slice);
        match &slice.phase {
            Phase::Creating => Some(Effect::Create { target, profile: slice.profile.clone() }),
            Phase::Leased { lease } if lease.handover.is_none() => {
                Some(Effect::HandOver { target, generation: slice.generation, consumer: lease.consumer })
            }
            Phase::Releasing { lease } => Some(Effect::Withdraw { target, consumer: lease.consumer }),
            Phase::Scrubbing => Some(Effect::Reset { target }),
            Phase::Destroying => Some(Effect::Destroy { target }),
            Phase::Planned | Phase::Ready | Phase::Leased { .. } | Phase::Quarantined { .. } => None,
        }
    }

    pub(super) fn run_pending(&mut self, id: SliceId) -> Result<(), Rejected> {
        let effect = Self::pending(self.get(id)?);
        self.effects.extend(effect);
        Ok(())
    }

    pub(super) fn quarantine(
        &mut self,
        id: SliceId,
        cause: QuarantineCause,
        evidence: &str,
    ) -> Result<(), Rejected> {
        self.quarantine_by(id, cause, evidence, Actor::Vgpud)
    }

    pub(super) fn quarantine_by(
        &mut self,
        id: SliceId,
        cause: QuarantineCause,
        evidence: &str,
        by: Actor,
    ) -> Result<(), Rejected> {
        let slice = self.get(id)?;
        let leased = slice.phase.lease().is_some();
        slice.fate = Fate::Keep;
        let message = match &by {
            Actor::Vgpud => format!("{id} is kept out of use: {evidence}"),
            Actor::User(user) => format!("{id} is kept out of use by {user}: {evidence}"),
        };
        let why = Quarantine { cause, evidence: evidence.to_owned(), by };
        self.enter(id, Phase::Quarantined { why }, NoteKind::SliceQuarantined, message)?;
        if leased {
            self.effects.push(Effect::Unpublish { slice: id });
        }
        self.abandon(id, evidence)
    }

    pub(super) fn start_destroying(&mut self, id: SliceId) -> Result<(), Rejected> {
        let slice = self.get(id)?;
        if !matches!(slice.fate, Fate::Recreate { .. }) {
            slice.fate = Fate::Destroy;
        }
        self.enter(id, Phase::Destroying, NoteKind::SliceDestroying, format!("{id} is being destroyed"))?;
        self.run_pending(id)
    }

    /// The slice is no more; with the last one of a GPU, the GPU is put back as it was.
    pub(super) fn gone(&mut self, id: SliceId, message: String) {
        let Some(slice) = self.state.slices.remove(&id) else { return };
        self.notes.push(Note::slice(NoteKind::SliceGone, &slice, message));
        self.retire_if_empty(slice.gpu);
    }

    pub(super) fn retire_if_empty(&mut self, gpu: PciAddress) {
        if self.state.slices_of(gpu).next().is_some() {
            return;
        }
        let Some(cut) = self.state.cuts.get_mut(&gpu) else { return };
        if cut.origin == super::Origin::Ours && mechanism(cut.mechanism).leaves_traces() {
            cut.retiring = Retiring::Running;
            self.effects.push(Effect::Retire { gpu, mechanism: cut.mechanism });
        } else {
            self.state.cuts.remove(&gpu);
        }
    }

    /// Takes apart what was made so far of the request that `failed` belongs to, and unties it.
    pub(super) fn abandon(&mut self, failed: SliceId, why: &str) -> Result<(), Rejected> {
        let Some(tie) = self.get(failed)?.tie.take() else { return Ok(()) };
        self.take_apart(tie.request, &format!("with {failed}: {why}"))
    }

    /// Takes apart what was made so far of a request; `because` follows on "was given up".
    pub(super) fn take_apart(&mut self, request: RequestId, because: &str) -> Result<(), Rejected> {
        let members: Vec<SliceId> = self
            .state
            .slices
            .values()
            .filter(|slice| slice.tie.as_ref().is_some_and(|other| other.request == request))
            .map(|slice| slice.id)
            .collect();
        for id in members {
            let slice = self.get(id)?;
            slice.tie = None;
            match &slice.phase {
                Phase::Planned => {
                    self.gone(id, format!("{id} was given up {because}"));
                }
                Phase::Ready => self.start_destroying(id)?,
                Phase::Leased { lease } => {
                    let handing_over = lease.handover.is_none();
                    slice.fate = Fate::Destroy;
                    if !handing_over {
                        self.start_releasing(id, ReleaseCause::Asked, "its request was given up")?;
                    }
                }
                Phase::Creating | Phase::Releasing { .. } | Phase::Scrubbing => slice.fate = Fate::Destroy,
                Phase::Destroying | Phase::Quarantined { .. } => {}
            }
        }
        Ok(())
    }

    pub(super) fn start_releasing(
        &mut self,
        id: SliceId,
        cause: ReleaseCause,
        why: &str,
    ) -> Result<(), Rejected> {
        let slice = self.get(id)?;
        let Phase::Leased { lease } = &slice.phase else {
            return Err(Rejected::NotLeased { slice: id, phase: slice.phase.word() });
        };
        let again = cause == ReleaseCause::TimeIsUp && lease.overdue.is_some();
        let lease = Lease { ending: Some(cause), ..lease.clone() };
        if again {
            // Told already.
            slice.phase = Phase::Releasing { lease };
            return self.run_pending(id);
        }
        let message = format!("{id} is being taken back from {}: {why}", lease.owner);
        self.enter(id, Phase::Releasing { lease }, NoteKind::LeaseReleasing, message)?;
        self.run_pending(id)
    }

    fn plan(
        &mut self,
        planned: Vec<PlannedSlice>,
        claim: Option<&Claim>,
        at: Moment,
    ) -> Result<(), Rejected> {
        if let Some(claim) = claim {
            let sizes: Vec<_> = planned.iter().map(|plan| plan.memory).collect();
            quota::check(&self.state, &claim.owner, &claim.allowance, &sizes)?;
        }
        let owner = claim.map(|claim| claim.owner.clone());
        let terms = claim.map(|claim| claim.terms).unwrap_or_default();
        let request = RequestId(self.state.last_id.saturating_add(1));
        for plan in planned {
            self.reserve(&plan)?;
            self.state.last_id = self.state.last_id.saturating_add(1);
            let id = SliceId::new(self.state.last_id);
            let slice = Slice {
                id,
                gpu: plan.gpu,
                mechanism: plan.mechanism,
                profile: plan.profile,
                name: plan.name,
                memory: plan.memory,
                compute: plan.compute,
                phase: Phase::Planned,
                fate: Fate::Keep,
                tie: Some(Tie { request, owner: owner.clone(), terms }),
                generation: Generation::default(),
                data_of: None,
                created: at.wall,
            };
            let message = format!("{id} is planned: {} on {}", slice.profile, slice.gpu);
            self.notes.push(Note::slice(NoteKind::SlicePlanned, &slice, message));
            self.state.slices.insert(id, slice);
        }
        Ok(())
    }

    /// Makes room for one slice in the record of its GPU.
    fn reserve(&mut self, plan: &PlannedSlice) -> Result<(), Rejected> {
        let gpu = plan.gpu;
        self.state.usable(gpu)?;
        if self.state.uses(gpu, plan.name) {
            return Err(Rejected::NameTaken(gpu));
        }
        let on_gpu = self.state.slices_of(gpu).count();
        let alike = self.state.slices_of(gpu).filter(|slice| slice.profile == plan.profile).count();
        let cut = self.state.cuts.entry(gpu).or_insert_with(|| Cut {
            mechanism: plan.mechanism,
            origin: plan.origin,
            retiring: Retiring::Idle,
            capacity: BTreeMap::new(),
        });
        if cut.mechanism != plan.mechanism {
            if on_gpu > 0 {
                return Err(Rejected::OtherMechanism { gpu, used: cut.mechanism, asked: plan.mechanism });
            }
            cut.mechanism = plan.mechanism;
            cut.origin = plan.origin;
        }
        if u32::try_from(alike).is_ok_and(|alike| alike >= plan.capacity) {
            let profile = plan.profile.clone();
            return Err(Rejected::Full { gpu, profile, capacity: plan.capacity });
        }
        cut.capacity.insert(plan.profile.clone(), plan.capacity);
        Ok(())
    }

    pub(super) fn begin(&mut self, id: SliceId) -> Result<(), Rejected> {
        let slice = self.get(id)?;
        if slice.phase != Phase::Planned {
            return Err(Rejected::Unexpected { slice: id, phase: slice.phase.word() });
        }
        let message = format!("{id} is being created: {} on {}", slice.profile, slice.gpu);
        self.enter(id, Phase::Creating, NoteKind::SliceCreating, message)?;
        self.run_pending(id)
    }

    fn lease(
        &mut self,
        id: SliceId,
        claim: &Claim,
        holder: Option<Holder>,
        at: Moment,
    ) -> Result<(), Rejected> {
        let slice = self.get(id)?;
        if let Some(reserved) = slice.reserved_for().filter(|reserved| **reserved != claim.owner) {
            return Err(Rejected::Reserved { slice: id, owner: reserved.clone() });
        }
        let slice = self.state.free(id)?;
        let (gpu, memory) = (slice.gpu, slice.memory);
        self.state.usable(gpu)?;
        quota::check(&self.state, &claim.owner, &claim.allowance, &[memory])?;
        self.start_lease(id, claim.owner.clone(), claim.terms, holder, at)
    }

    pub(super) fn start_lease(
        &mut self,
        id: SliceId,
        owner: Owner,
        terms: Terms,
        holder: Option<Holder>,
        at: Moment,
    ) -> Result<(), Rejected> {
        let slice = self.get(id)?;
        slice.generation = slice.generation.next();
        slice.data_of = Some(owner.clone());
        let time =
            terms.time.map_or_else(String::new, |time| format!(" for {}", humantime::format_duration(time)));
        let message = format!("{id} is leased to {owner}{time} (lease {})", slice.generation);
        let lease = Lease {
            owner,
            since: at.wall,
            holder,
            handover: None,
            consumer: terms.consumer,
            until: terms.time.map(|time| at.boot.after(time)),
            ending: None,
            overdue: None,
        };
        self.enter(id, Phase::Leased { lease }, NoteKind::LeaseStarted, message)?;
        self.run_pending(id)
    }

    fn release(
        &mut self,
        id: SliceId,
        generation: Option<Generation>,
        cause: ReleaseCause,
    ) -> Result<(), Rejected> {
        let slice = self.get(id)?;
        let current = slice.generation;
        if let Some(asked) = generation.filter(|asked| *asked != current) {
            return Err(Rejected::OtherLease { slice: id, asked, current });
        }
        match &slice.phase {
            Phase::Leased { .. } if slice.tie.is_some() => {
                Err(Rejected::Busy { slice: id, phase: "being created with others" })
            }
            Phase::Leased { lease } if lease.handover.is_some() => self.start_releasing(
                id,
                cause,
                match cause {
                    ReleaseCause::Asked => "its release was asked for",
                    ReleaseCause::HolderEnded => "its holder has ended",
                    ReleaseCause::TimeIsUp => "its time is up",
                },
            ),
            Phase::Leased { .. } => Err(Rejected::Busy { slice: id, phase: "being handed over" }),
            // Asked again for what is under way already.
            Phase::Releasing { .. } | Phase::Scrubbing => Ok(()),
            Phase::Quarantined { why } => {
                Err(Rejected::Quarantined { slice: id, evidence: why.evidence.clone() })
            }
            Phase::Planned | Phase::Creating | Phase::Ready | Phase::Destroying => {
                Err(Rejected::NotLeased { slice: id, phase: slice.phase.word() })
            }
        }
    }

    fn destroy(&mut self, id: SliceId, leased: LeasedSlice) -> Result<(), Rejected> {
        let slice = self.get(id)?;
        match (&slice.phase, leased) {
            (Phase::Leased { lease } | Phase::Releasing { lease }, LeasedSlice::Refuse) => {
                Err(Rejected::Leased { slice: id, owner: lease.owner.clone() })
            }
            (Phase::Leased { lease }, LeasedSlice::Release) if lease.handover.is_none() => {
                Err(Rejected::Busy { slice: id, phase: "being handed over" })
            }
            (Phase::Ready | Phase::Leased { .. }, _) if slice.tie.is_some() => {
                Err(Rejected::Busy { slice: id, phase: "being created with others" })
            }
            (Phase::Leased { .. }, LeasedSlice::Release) => {
                slice.fate = Fate::Destroy;
                self.start_releasing(id, ReleaseCause::Asked, "it is to be destroyed")
            }
            (Phase::Releasing { .. }, LeasedSlice::Release)
            | (Phase::Creating | Phase::Scrubbing | Phase::Destroying, _) => {
                slice.fate = Fate::Destroy;
                Ok(())
            }
            (Phase::Planned, _) => {
                let why = "its destruction was asked for";
                self.abandon(id, why)?;
                self.gone(id, format!("{id} was given up: {why}"));
                Ok(())
            }
            (Phase::Ready | Phase::Quarantined { .. }, _) => self.start_destroying(id),
        }
    }
}
