//! What can happen.

use super::{
    Actor, BootMillis, Claim, Generation, GpuQuarantine, GpuShown, Handover, Holder, Moment, Origin,
    Partition, SliceId,
};
use serde::{Deserialize, Serialize};
use vgpud_config::{ComputeShare, Memory, PciAddress, ProfileName};
use vgpud_mdev::{InstanceName, MechanismKind};

/// Something that was asked, that an effect came to, or that the host showed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    // Asked
    Plan {
        slices: Vec<PlannedSlice>,
        /// Leases them as soon as all are ready.
        claim: Option<Claim>,
        at: Moment,
    },
    /// The next step of a planned slice.
    Begin {
        slice: SliceId,
    },
    Lease {
        slice: SliceId,
        claim: Claim,
        holder: Option<Holder>,
        at: Moment,
    },
    /// Puts the end of a lease off. `message` says it for people: the engine has no clock.
    Extend {
        slice: SliceId,
        until: BootMillis,
        message: String,
    },
    /// `generation` refuses where the lease is a later one already.
    Release {
        slice: SliceId,
        generation: Option<Generation>,
        cause: ReleaseCause,
    },
    Destroy {
        slice: SliceId,
        leased: LeasedSlice,
    },
    /// An operator's word that a quarantined slice may be used again, and what the host shows of it.
    Clear {
        slice: SliceId,
        shown: Shown,
    },
    /// An operator's word that a slice that nobody leases is not to be used.
    Quarantine {
        slice: SliceId,
        reason: String,
        by: Actor,
    },
    /// The same of a whole GPU, by an operator or by vgpud.
    QuarantineGpu {
        gpu: PciAddress,
        why: GpuQuarantine,
    },
    /// An operator's word that a quarantined GPU may be used again.
    ClearGpu {
        gpu: PciAddress,
        shown: GpuShown,
        by: Actor,
    },

    /// GPUs without slices are to be divided anew inside.
    Partition(Partition),

    // Effects came to an end
    Created {
        slice: SliceId,
        at: Moment,
    },
    CreateFailed {
        slice: SliceId,
        why: String,
        ran: Ran,
    },
    HandedOver {
        slice: SliceId,
        handover: Handover,
    },
    HandOverFailed {
        slice: SliceId,
        why: String,
    },
    Withdrawn {
        slice: SliceId,
    },
    /// The device was still held when the deadline passed.
    StillHeld {
        slice: SliceId,
        why: String,
    },
    WithdrawFailed {
        slice: SliceId,
        why: String,
    },
    /// `evidence`: what was seen of its memory, in a sentence, where it was looked at.
    Scrubbed {
        slice: SliceId,
        evidence: Option<String>,
    },
    /// Reset, and not shown to be clean, as `why` says: what it holds is its last owner's.
    Kept {
        slice: SliceId,
        why: String,
    },
    /// The instance has no reset, or one that does not make it clean, as `why` says; `fresh` names
    /// the one that takes its place.
    NoReset {
        slice: SliceId,
        fresh: InstanceName,
        why: Option<String>,
    },
    ScrubFailed {
        slice: SliceId,
        why: String,
    },
    /// The device could not be reset, or was dead afterwards.
    ResetFailed {
        slice: SliceId,
        why: String,
    },
    Destroyed {
        slice: SliceId,
    },
    DestroyFailed {
        slice: SliceId,
        why: String,
    },
    Retired {
        gpu: PciAddress,
    },
    RetireFailed {
        gpu: PciAddress,
        why: String,
    },
    Partitioned(Partition),
    PartitionFailed {
        partition: Partition,
        why: String,
    },
    /// The effect in progress passed its deadline.
    Overdue {
        slice: SliceId,
        waiting_for: String,
    },
    /// An effect that was given up came back after all.
    LateResult {
        slice: SliceId,
        result: String,
    },

    // The host shows
    GpuVanished {
        gpu: PciAddress,
    },
    GpuReturned {
        gpu: PciAddress,
    },
    Contradiction {
        slice: SliceId,
        why: String,
    },
    /// The host restarted since the ledger was written: nothing holds the slice any more, and its
    /// instance has to be made again. `origin` says who divides the GPU from now on.
    Rebooted {
        slice: SliceId,
        origin: Origin,
    },
    /// The daemon stopped in the middle of the slice's effect: run it again.
    Resume {
        slice: SliceId,
    },
    /// The same for a GPU that nothing is cut from any more.
    ResumeRetire {
        gpu: PciAddress,
    },
    /// A GPU without slices is no longer divided, by a restart of the host.
    Forget {
        gpu: PciAddress,
    },
}

/// One slice that placement chose.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlannedSlice {
    pub gpu: PciAddress,
    pub mechanism: MechanismKind,
    pub profile: ProfileName,
    pub name: InstanceName,
    pub memory: Option<Memory>,
    pub compute: Option<ComputeShare>,
    /// Instances of this profile that the GPU can hold.
    pub capacity: u32,
    /// Who divided the GPU, where vgpud has no slice on it yet.
    pub origin: Origin,
}

/// Why a lease ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ReleaseCause {
    Asked,
    HolderEnded,
    TimeIsUp,
}

/// What to do with a slice that is leased.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeasedSlice {
    Refuse,
    Release,
}

/// What the host shows of a slice's instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Shown {
    /// It is there, as recorded.
    There,
    /// Another one has its name.
    Other(ProfileName),
    Gone,
    /// It is gone, and nothing is cut from its GPU any more.
    Undivided,
    GpuAbsent,
}

/// Whether an effect that failed had begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ran {
    Begun,
    Never,
}
