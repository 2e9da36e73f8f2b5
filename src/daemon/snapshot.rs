//! What the API shows: a copy of the core's knowledge, replaced as a whole after each change.

use super::executor::GpuSeen;
use crate::engine::{
    Origin, Phase, Retiring, Slice, SliceId, State, UnixMillis,
    layout::Site,
    placement::{Emptying, GpuView},
};
use std::{collections::BTreeMap, sync::Arc};
use vgpud_config::{PciAddress, Settings};
use vgpud_mdev::{Holds, Instance, MechanismKind, Profile, Taken, mechanism, mechanisms, uncuttable};

/// Everything that is known at one moment.
#[derive(Clone, Debug)]
pub struct Snapshot {
    pub state: State,
    pub gpus: BTreeMap<PciAddress, GpuSeen>,
    /// What each slice waits for, and since when.
    pub waiting: BTreeMap<SliceId, Waiting>,
    /// GPUs whose worker is stuck in the kernel, and what it waits for.
    pub stuck: BTreeMap<PciAddress, Waiting>,
    /// Number of the last audit entry.
    pub last_sequence: u64,
    pub settings: Arc<Settings>,
    pub started: UnixMillis,
}

/// An effect that has not come to its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waiting {
    pub what: String,
    pub since: UnixMillis,
}

impl Snapshot {
    /// The instance of a slice as the kernel showed it last.
    #[must_use]
    pub fn instance(&self, slice: &Slice) -> Option<&Instance> {
        let seen = self.gpus.get(&slice.gpu)?;
        seen.instances.iter().find(|instance| instance.name == slice.name)
    }

    /// How a slice's share of compute holds, as its GPU is set now; none where the GPU is gone.
    #[must_use]
    pub fn holds(&self, slice: &Slice) -> Option<Holds> {
        let seen = self.gpus.get(&slice.gpu)?;
        let of_profile = |_| mechanism(slice.mechanism).holds(&seen.gpu, &slice.profile);
        Some(slice.compute.map_or(Holds::NOT_AVAILABLE, of_profile))
    }

    /// The mechanism that cuts a GPU, or why none can.
    ///
    /// # Errors
    /// The reason, with the way out.
    pub fn mechanism(&self, seen: &GpuSeen) -> Result<MechanismKind, String> {
        if let Some(why) = self.out_of_use(seen.gpu.address) {
            return Err(why);
        }
        self.way_to_cut(seen)
    }

    /// Why a quarantined GPU is not used, with the way out.
    #[must_use]
    pub fn out_of_use(&self, gpu: PciAddress) -> Option<String> {
        self.state.usable(gpu).err().map(|rejected| rejected.to_string())
    }

    /// The same as [`mechanism`](Self::mechanism), whether the GPU is quarantined or not.
    fn way_to_cut(&self, seen: &GpuSeen) -> Result<MechanismKind, String> {
        let address = seen.gpu.address;
        if let Some(waiting) = self.stuck.get(&address) {
            return Err(format!(
                "The kernel does not answer about GPU {address}: vgpud still waits to {}",
                waiting.what
            ));
        }
        if let Some(cut) = self.state.cuts.get(&address) {
            if cut.retiring == Retiring::Running && self.state.slices_of(address).next().is_none() {
                return Err(format!("GPU {address} is just being put back as it was; try again in a moment"));
            }
            if self.state.slices_of(address).next().is_some() {
                // Its driver may have gone since.
                return match mechanism(cut.mechanism).unusable(&seen.gpu) {
                    None => Ok(cut.mechanism),
                    Some(why) => Err(format!("GPU {address} cannot be cut any further: {why}")),
                };
            }
        }
        match self.settings.gpu.get(&address).and_then(|gpu| gpu.mechanism) {
            Some(kind) => match mechanism(kind).unusable(&seen.gpu) {
                None => Ok(kind),
                Some(why) => {
                    Err(format!("GPU {address} cannot be cut by {kind}, as the settings ask: {why}"))
                }
            },
            None => mechanisms(&seen.gpu)
                .first()
                .map(|first| first.kind())
                .ok_or_else(|| uncuttable(&seen.gpu).unwrap_or_default()),
        }
    }

    /// Whether a GPU without slices is being put back as it was, or partitioned anew, and the kernel is not
    /// stuck in it.
    #[must_use]
    pub fn being_put_back(&self) -> bool {
        !self.state.partitioning.is_empty()
            || self.state.cuts.iter().any(|(gpu, cut)| {
                cut.retiring == Retiring::Running
                    && self.state.slices_of(*gpu).next().is_none()
                    && !self.stuck.contains_key(gpu)
            })
    }

    /// All GPUs as placement sees them.
    #[must_use]
    pub fn views(&self) -> Vec<GpuView> {
        self.gpus.values().map(|seen| self.view(seen)).collect()
    }

    #[must_use]
    pub fn view(&self, seen: &GpuSeen) -> GpuView {
        let taken = self.state.slices_of(seen.gpu.address).map(|slice| taken(slice, seen));
        GpuView::new(seen.gpu.clone(), self.mechanism(seen), taken.collect(), self.emptying(seen))
    }

    fn emptying(&self, seen: &GpuSeen) -> Emptying {
        let ours = self.state.cuts.get(&seen.gpu.address).is_some_and(|cut| cut.origin == Origin::Ours);
        if ours { Emptying::BySlices } else { Emptying::Never }
    }

    /// A GPU as a layout's plan is made for it.
    #[must_use]
    pub fn site(&self, seen: &GpuSeen) -> Site<'_> {
        let slices = self.state.slices_of(seen.gpu.address).map(|slice| (slice, taken(slice, seen)));
        Site { view: self.view(seen), emptying: self.emptying(seen), slices: slices.collect() }
    }

    /// What a GPU offers, to be shown: of a quarantined one nothing is available.
    #[must_use]
    pub fn offers(&self, seen: &GpuSeen) -> Option<(MechanismKind, Vec<Profile>)> {
        if self.out_of_use(seen.gpu.address).is_none() {
            let view = self.view(seen);
            return view.mechanism.ok().map(|kind| (kind, view.profiles));
        }
        let kind = self.way_to_cut(seen).ok()?;
        let mut profiles = mechanism(kind).profiles(&seen.gpu, &[]);
        for profile in &mut profiles {
            profile.available = 0;
        }
        Some((kind, profiles))
    }

    /// Who divided a GPU that vgpud has no slice on yet.
    #[must_use]
    pub fn origin(seen: &GpuSeen, kind: MechanismKind) -> Origin {
        if mechanism(kind).is_divided(&seen.gpu) { Origin::Found } else { Origin::Ours }
    }
}

/// What a slice takes of its GPU.
fn taken(slice: &Slice, seen: &GpuSeen) -> Taken {
    Taken {
        profile: slice.profile.clone(),
        // One that goes with its VM may be gone before its slice is made anew, and nobody else gets its room.
        exists: !matches!(slice.phase, Phase::Planned | Phase::Creating)
            && !mechanism(slice.mechanism).goes_with_its_vm()
            || seen.instances.iter().any(|instance| instance.name == slice.name),
    }
}
