//! Everything the engine knows.

use super::{GpuQuarantine, Phase, Rejected, Slice, SliceId};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use vgpud_config::{PciAddress, ProfileName};
use vgpud_mdev::{InstanceName, MechanismKind};

/// Slices with their leases, and the GPUs that they are cut from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State {
    pub slices: BTreeMap<SliceId, Slice>,
    pub cuts: BTreeMap<PciAddress, Cut>,
    /// Whole GPUs kept out of use, cut or not, there or not.
    pub quarantined_gpus: BTreeMap<PciAddress, GpuQuarantine>,
    /// GPUs whose inside is being divided anew. It is in no ledger: the work ends with the process that began it.
    pub partitioning: BTreeSet<PciAddress>,
    /// The highest number that was ever given to a slice.
    pub last_id: u64,
}

/// A GPU that slices are cut from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cut {
    pub mechanism: MechanismKind,
    pub origin: Origin,
    pub retiring: Retiring,
    /// Instances of each profile used that the GPU can hold.
    pub capacity: BTreeMap<ProfileName, u32>,
}

/// Who divided the GPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Origin {
    /// vgpud; it puts the GPU back as it was when the last slice is gone.
    Ours,
    /// Somebody else, before vgpud came; vgpud uses what is free and never takes it apart.
    Found,
}

/// Whether the GPU is being put back as it was.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Retiring {
    #[default]
    Idle,
    Running,
}

impl State {
    /// The slices of one GPU, in order of id.
    pub fn slices_of(&self, gpu: PciAddress) -> impl Iterator<Item = &Slice> {
        self.slices.values().filter(move |slice| slice.gpu == gpu)
    }

    /// A slice that nobody has and nothing is done to.
    ///
    /// # Errors
    /// [`Rejected`] with what it is instead.
    pub fn free(&self, id: SliceId) -> Result<&Slice, Rejected> {
        let slice = self.slices.get(&id).ok_or(Rejected::NoSuchSlice(id))?;
        match &slice.phase {
            Phase::Ready if slice.tie.is_none() => Ok(slice),
            Phase::Leased { lease } | Phase::Releasing { lease } => {
                Err(Rejected::Leased { slice: id, owner: lease.owner.clone() })
            }
            Phase::Quarantined { why } => {
                Err(Rejected::Quarantined { slice: id, evidence: why.evidence.clone() })
            }
            Phase::Ready => Err(Rejected::Busy { slice: id, phase: "being created with others" }),
            Phase::Planned | Phase::Creating | Phase::Scrubbing | Phase::Destroying => {
                Err(Rejected::Busy { slice: id, phase: slice.phase.word() })
            }
        }
    }

    /// Whether an instance of this name belongs to a slice, or will.
    #[must_use]
    pub fn uses(&self, gpu: PciAddress, name: InstanceName) -> bool {
        self.slices_of(gpu).any(|slice| slice.name == name || slice.next_name() == Some(name))
    }
}

impl Slice {
    /// The name that it takes when it is created again.
    #[must_use]
    pub const fn next_name(&self) -> Option<InstanceName> {
        match &self.fate {
            super::Fate::Recreate { name } => Some(*name),
            super::Fate::Keep | super::Fate::Destroy => None,
        }
    }
}
