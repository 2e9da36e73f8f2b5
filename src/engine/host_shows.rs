//! What follows from what the host shows.

use super::{
    Effect, Fate, Note, NoteKind, Origin, Phase, QuarantineCause, Rejected, Retiring, Shown, SliceId,
    Transition,
};
use vgpud_config::PciAddress;

impl Transition {
    pub(super) fn gpu_vanished(&mut self, gpu: PciAddress) {
        let why = format!("GPU {gpu} is no longer there");
        let ids: Vec<SliceId> = self.state.slices_of(gpu).map(|slice| slice.id).collect();
        self.notes.push(Note::gpu(NoteKind::GpuVanished, gpu, why.clone()));
        for id in ids {
            // A slice that another one of its request took along is gone by now.
            let Some(slice) = self.state.slices.get(&id) else { continue };
            let done = match &slice.phase {
                Phase::Quarantined { .. } | Phase::Destroying => Ok(()),
                // Its effect fails by itself, and the request ends as one.
                Phase::Creating if slice.tie.is_some() || slice.fate == Fate::Destroy => Ok(()),
                Phase::Planned => {
                    let given_up = self.abandon(id, &why);
                    self.gone(id, format!("{id} was given up: {why}"));
                    given_up
                }
                _ => self.quarantine(id, QuarantineCause::GpuVanished, &why),
            };
            debug_assert_eq!(done, Ok(()), "slices of a vanished GPU can always be put aside");
        }
        // Its division went with it.
        let unused = self.state.slices_of(gpu).next().is_none();
        match self.state.cuts.get_mut(&gpu) {
            Some(_) if unused => {
                self.state.cuts.remove(&gpu);
            }
            Some(cut) => cut.retiring = Retiring::Idle,
            None => {}
        }
    }

    pub(super) fn contradiction(&mut self, id: SliceId, why: &str) -> Result<(), Rejected> {
        match self.get(id)?.phase {
            Phase::Quarantined { .. } => Ok(()),
            _ => self.quarantine(id, QuarantineCause::Contradiction, why),
        }
    }

    /// Never straight to ready: the device is made clean first, whoever vouches for it.
    pub(super) fn clear(&mut self, id: SliceId, shown: Shown) -> Result<(), Rejected> {
        let slice = self.get(id)?;
        if !matches!(slice.phase, Phase::Quarantined { .. }) {
            return Err(Rejected::NotQuarantined { slice: id, phase: slice.phase.word() });
        }
        let gpu = slice.gpu;
        self.state.usable(gpu)?;
        let slice = self.get(id)?;
        let (phase, message) = match shown {
            Shown::GpuAbsent => return Err(Rejected::GpuAbsent { slice: id, gpu }),
            Shown::Other(shown) => {
                let profile = slice.profile.clone();
                return Err(Rejected::OtherInstance { slice: id, shown, profile });
            }
            Shown::There => (Phase::Scrubbing, "made clean"),
            Shown::Gone | Shown::Undivided => (Phase::Creating, "created again"),
        };
        if shown == Shown::Undivided
            && let Some(cut) = self.state.cuts.get_mut(&gpu)
        {
            // What is divided anew is put back with its last slice.
            cut.origin = Origin::Ours;
        }
        let message = format!("{id} leaves its quarantine by an operator's word and is being {message}");
        self.enter(id, phase, NoteKind::QuarantineCleared, message)?;
        self.run_pending(id)
    }

    pub(super) fn rebooted(&mut self, id: SliceId, origin: Origin) -> Result<(), Rejected> {
        let slice = self.get(id)?;
        let (gpu, phase, fate) = (slice.gpu, slice.phase.clone(), slice.fate.clone());
        if let Some(cut) = self.state.cuts.get_mut(&gpu) {
            cut.origin = origin;
            cut.retiring = Retiring::Idle;
        }
        if let Some(lease) = phase.lease() {
            let slice = self.get(id)?;
            let message = format!("The lease of {id} to {} ended with the host's restart", lease.owner);
            let note = Note::slice(NoteKind::LeaseEnded, slice, message);
            self.notes.push(note);
            self.effects.push(Effect::Unpublish { slice: id });
        }
        match (phase, fate) {
            (Phase::Quarantined { .. }, _) => Ok(()),
            (Phase::Destroying, Fate::Destroy) => self.run_pending(id),
            (_, Fate::Destroy) => {
                self.abandon(id, "it was given up before the host restarted")?;
                self.start_destroying(id)
            }
            (_, fate) => {
                let slice = self.get(id)?;
                if let Fate::Recreate { name } = fate {
                    slice.name = name;
                    slice.fate = Fate::Keep;
                }
                if self.state.usable(gpu).is_err() {
                    // Its lease, if it had one, has ended above.
                    self.get(id)?.phase = Phase::Creating;
                    return self.wait_for_gpu(id, gpu, "the host's restart");
                }
                let message = format!("{id} is being created again after the host's restart");
                self.enter(id, Phase::Creating, NoteKind::SliceCreating, message)?;
                self.run_pending(id)
            }
        }
    }
}
