//! What follows from the end of an effect.

use super::{
    Effect, Fate, Handover, Moment, Note, NoteKind, Phase, QuarantineCause, Ran, Rejected, ReleaseCause,
    Retiring, SliceId, Transition,
};
use vgpud_config::PciAddress;
use vgpud_mdev::InstanceName;

impl Transition {
    /// Refuses the outcome of an effect that the slice does not wait for.
    fn waits_for(&mut self, id: SliceId, expected: fn(&Phase) -> bool) -> Result<(), Rejected> {
        let phase = &self.get(id)?.phase;
        if expected(phase) {
            return Ok(());
        }
        Err(Rejected::Unexpected { slice: id, phase: phase.word() })
    }

    /// A slice came into being; `at` is when its lease starts, where it is created with one.
    pub(super) fn created(&mut self, id: SliceId, at: Moment) -> Result<(), Rejected> {
        self.waits_for(id, |phase| *phase == Phase::Creating)?;
        let slice = self.get(id)?;
        if slice.fate == Fate::Destroy {
            // Its request, or a caller, gave it up meanwhile.
            self.abandon(id, "one of its slices was destroyed")?;
            return self.start_destroying(id);
        }
        let message = format!("{id} is ready: {} on {}", slice.profile, slice.gpu);
        self.enter(id, Phase::Ready, NoteKind::SliceReady, message)?;
        self.settle(id, Some(at))
    }

    /// Unties the slices of a request when all are ready, or leases them first where that was asked; the
    /// last to become ready says when.
    fn settle(&mut self, id: SliceId, ready: Option<Moment>) -> Result<(), Rejected> {
        let Some(tie) = self.get(id)?.tie.clone() else { return Ok(()) };
        let members: Vec<_> = self
            .state
            .slices
            .values()
            .filter(|slice| slice.tie.as_ref().is_some_and(|other| other.request == tie.request))
            .map(|slice| (slice.id, slice.at_rest(), slice.phase == Phase::Ready))
            .collect();
        if !members.iter().all(|(_, at_rest, _)| *at_rest) {
            return Ok(());
        }
        match (&tie.owner, ready) {
            (Some(owner), Some(at)) => {
                for (member, ..) in members.iter().filter(|(.., ready)| *ready) {
                    self.start_lease(*member, owner.clone(), tie.terms, None, at)?;
                }
            }
            _ => {
                for (member, ..) in members {
                    self.get(member)?.tie = None;
                }
            }
        }
        Ok(())
    }

    pub(super) fn create_failed(&mut self, id: SliceId, why: &str, ran: Ran) -> Result<(), Rejected> {
        self.waits_for(id, |phase| *phase == Phase::Creating)?;
        let slice = self.get(id)?;
        let message = format!("{id} could not be created: {why}");
        let note = Note::slice(NoteKind::CreateFailed, slice, message.clone());
        let wanted = slice.tie.is_none() && slice.fate == Fate::Keep;
        self.notes.push(note);
        if wanted {
            return self.quarantine(id, QuarantineCause::CreateFailed, why);
        }
        self.abandon(id, why)?;
        match ran {
            Ran::Never => {
                self.gone(id, message);
                Ok(())
            }
            Ran::Begun => self.start_destroying(id),
        }
    }

    pub(super) fn handed_over(&mut self, id: SliceId, handover: Handover) -> Result<(), Rejected> {
        self.waits_for(id, |phase| phase.lease().is_some_and(|lease| lease.handover.is_none()))?;
        self.waits_for(id, |phase| matches!(phase, Phase::Leased { .. }))?;
        let slice = self.get(id)?;
        let Some(mut lease) = slice.phase.lease().cloned() else { return Ok(()) };
        let message = format!("{id} is handed over to {} as {}", lease.owner, handover.node.display());
        lease.handover = Some(handover);
        let fate = slice.fate.clone();
        self.enter(id, Phase::Leased { lease }, NoteKind::HandedOver, message)?;
        if fate == Fate::Destroy {
            return self.start_releasing(id, ReleaseCause::Asked, "its request was given up");
        }
        self.settle(id, None)
    }

    pub(super) fn hand_over_failed(&mut self, id: SliceId, why: &str) -> Result<(), Rejected> {
        self.waits_for(id, |phase| matches!(phase, Phase::Leased { lease } if lease.handover.is_none()))?;
        let slice = self.get(id)?;
        let note = Note::slice(NoteKind::HandOverFailed, slice, format!("{id} was not handed over: {why}"));
        if slice.tie.is_some() {
            slice.fate = Fate::Destroy;
        }
        self.notes.push(note);
        self.abandon(id, why)?;
        self.start_releasing(id, ReleaseCause::Asked, "it could not be handed over")
    }

    pub(super) fn withdrawn(&mut self, id: SliceId) -> Result<(), Rejected> {
        self.waits_for(id, |phase| matches!(phase, Phase::Releasing { .. }))?;
        let message = format!("{id} is free; lease {} has ended", self.get(id)?.generation);
        self.enter(id, Phase::Scrubbing, NoteKind::LeaseEnded, message)?;
        self.run_pending(id)
    }

    pub(super) fn still_held(&mut self, id: SliceId, why: &str) -> Result<(), Rejected> {
        self.waits_for(id, |phase| matches!(phase, Phase::Releasing { .. }))?;
        let Some(lease) = self.get(id)?.phase.lease().cloned() else { return Ok(()) };
        if lease.handover.is_none() {
            return self.quarantine(id, QuarantineCause::HeldWithoutLease, why);
        }
        self.stays_leased(id, lease, why)
    }

    pub(super) fn withdraw_failed(&mut self, id: SliceId, why: &str) -> Result<(), Rejected> {
        self.waits_for(id, |phase| matches!(phase, Phase::Releasing { .. }))?;
        self.quarantine(id, QuarantineCause::TakeBackFailed, why)
    }

    pub(super) fn scrubbed(&mut self, id: SliceId, evidence: Option<&str>) -> Result<(), Rejected> {
        self.waits_for(id, |phase| *phase == Phase::Scrubbing)?;
        let slice = self.get(id)?;
        if slice.fate == Fate::Destroy {
            return self.start_destroying(id);
        }
        slice.data_of = None;
        let message = match evidence {
            Some(evidence) => format!("{id} is clean and ready: {evidence}"),
            None => format!("{id} is reset and ready"),
        };
        self.enter(id, Phase::Ready, NoteKind::SliceScrubbed, message)
    }

    pub(super) fn kept(&mut self, id: SliceId, why: &str) -> Result<(), Rejected> {
        self.waits_for(id, |phase| *phase == Phase::Scrubbing)?;
        let slice = self.get(id)?;
        if slice.fate == Fate::Destroy {
            return self.start_destroying(id);
        }
        match &slice.data_of {
            Some(owner) => {
                let message = format!("{id} is ready for {owner} alone: {why}");
                self.enter(id, Phase::Ready, NoteKind::SliceKept, message)
            }
            // It has been in quarantine since, and nobody can say whose data it may hold.
            None => self.quarantine(id, QuarantineCause::ScrubFailed, why),
        }
    }

    pub(super) fn no_reset(
        &mut self,
        id: SliceId,
        fresh: InstanceName,
        why: Option<&str>,
    ) -> Result<(), Rejected> {
        self.waits_for(id, |phase| *phase == Phase::Scrubbing)?;
        let slice = self.get(id)?;
        let (gpu, name) = (slice.gpu, slice.name);
        // A VF is made anew under the name that it has.
        if fresh != name && self.state.uses(gpu, fresh) {
            return Err(Rejected::NameTaken(gpu));
        }
        let slice = self.get(id)?;
        if slice.fate != Fate::Destroy {
            slice.fate = Fate::Recreate { name: fresh };
        }
        if let Some(why) = why {
            let message = format!("{id} is not clean after its reset and has to be made anew: {why}");
            let note = Note::slice(NoteKind::NotClean, slice, message);
            self.notes.push(note);
        }
        self.start_destroying(id)
    }

    pub(super) fn scrub_failed(
        &mut self,
        id: SliceId,
        cause: QuarantineCause,
        why: &str,
    ) -> Result<(), Rejected> {
        self.waits_for(id, |phase| *phase == Phase::Scrubbing)?;
        self.quarantine(id, cause, why)
    }

    pub(super) fn destroyed(&mut self, id: SliceId) -> Result<(), Rejected> {
        self.waits_for(id, |phase| *phase == Phase::Destroying)?;
        let slice = self.get(id)?;
        let Fate::Recreate { name } = slice.fate else {
            self.gone(id, format!("{id} is gone"));
            return Ok(());
        };
        slice.name = name;
        slice.fate = Fate::Keep;
        let gpu = slice.gpu;
        if self.state.usable(gpu).is_err() {
            return self.wait_for_gpu(id, gpu, "its last lease");
        }
        let message = format!("{id} is being created again, to be clean");
        self.enter(id, Phase::Creating, NoteKind::SliceCreating, message)?;
        self.run_pending(id)
    }

    pub(super) fn destroy_failed(&mut self, id: SliceId, why: &str) -> Result<(), Rejected> {
        self.waits_for(id, |phase| *phase == Phase::Destroying)?;
        self.quarantine(id, QuarantineCause::DestroyFailed, why)
    }

    pub(super) fn retired(&mut self, gpu: PciAddress) -> Result<(), Rejected> {
        let in_use = self.state.slices_of(gpu).next().is_some();
        self.end_retiring(gpu)?;
        if !in_use {
            self.state.cuts.remove(&gpu);
        }
        self.notes.push(Note::gpu(NoteKind::GpuRetired, gpu, format!("GPU {gpu} is as vgpud found it")));
        Ok(())
    }

    pub(super) fn retire_failed(&mut self, gpu: PciAddress, why: &str) -> Result<(), Rejected> {
        self.end_retiring(gpu)?;
        let message = format!("GPU {gpu} could not be put back as it was: {why}");
        self.notes.push(Note::gpu(NoteKind::RetireFailed, gpu, message));
        Ok(())
    }

    fn end_retiring(&mut self, gpu: PciAddress) -> Result<(), Rejected> {
        match self.state.cuts.get_mut(&gpu) {
            Some(cut) if cut.retiring == Retiring::Running => {
                cut.retiring = Retiring::Idle;
                Ok(())
            }
            _ => Err(Rejected::NotRetiring(gpu)),
        }
    }

    pub(super) fn overdue(&mut self, id: SliceId, waiting_for: &str) -> Result<(), Rejected> {
        let slice = self.get(id)?;
        if Self::pending(slice).is_none() {
            return Err(Rejected::Unexpected { slice: id, phase: slice.phase.word() });
        }
        self.quarantine(id, QuarantineCause::Overdue, &format!("still waiting for {waiting_for}"))
    }

    pub(super) fn late_result(&mut self, id: SliceId, result: &str) -> Result<(), Rejected> {
        let slice = self.get(id)?;
        let message = format!("An effect of {id} that was given up has come to its end: {result}");
        let leased = slice.phase.lease().is_some();
        let note = Note::slice(NoteKind::LateResult, slice, message);
        self.notes.push(note);
        if !leased {
            // A handover that came late has published a device that nobody may have.
            self.effects.push(Effect::Unpublish { slice: id });
        }
        Ok(())
    }

    pub(super) fn resume(&mut self, id: SliceId) -> Result<(), Rejected> {
        if self.get(id)?.phase == Phase::Planned {
            return self.begin(id);
        }
        self.run_pending(id)
    }

    pub(super) fn resume_retire(&mut self, gpu: PciAddress) -> Result<(), Rejected> {
        let cut = self.state.cuts.get(&gpu).ok_or(Rejected::NotRetiring(gpu))?;
        let effect = Effect::Retire { gpu, mechanism: cut.mechanism };
        match cut.retiring {
            Retiring::Running => self.effects.push(effect),
            Retiring::Idle => self.retire_if_empty(gpu),
        }
        Ok(())
    }
}
