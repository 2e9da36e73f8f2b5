//! Why an event cannot be applied.

use super::{Generation, SliceId, quota::OverQuota};
use vgpud_config::{Owner, PciAddress, ProfileName};
use vgpud_mdev::MechanismKind;

/// The state forbids it; nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Rejected {
    #[error("There is no slice {0}; `vgpuctl slices` lists those of this host")]
    NoSuchSlice(SliceId),
    #[error("Slice {slice} is leased to {owner}; release it first")]
    Leased { slice: SliceId, owner: Owner },
    #[error(
        "Slice {slice} is ready for {owner} alone: it was reset, and nothing shows that it holds none of {owner}'s data; lease it to {owner}, or end it with `vgpuctl destroy {slice}`"
    )]
    Reserved { slice: SliceId, owner: Owner },
    #[error("Slice {slice} is leased to nobody (it is {phase})")]
    NotLeased { slice: SliceId, phase: &'static str },
    #[error("Slice {slice} is at lease {current}, not at {asked}: that lease has ended")]
    OtherLease { slice: SliceId, asked: Generation, current: Generation },
    #[error("Slice {slice} is {phase} just now; try again when it is ready")]
    Busy { slice: SliceId, phase: &'static str },
    #[error(
        "Slice {slice} is quarantined ({evidence}); `vgpuctl quarantine clear {slice}` makes it clean for use again, `vgpuctl destroy {slice}` ends it"
    )]
    Quarantined { slice: SliceId, evidence: String },
    #[error("Slice {slice} is not quarantined (it is {phase})")]
    NotQuarantined { slice: SliceId, phase: &'static str },
    #[error(
        "Slice {slice} stays quarantined: its GPU {gpu} is not there; bring it back first, or end the slice with `vgpuctl destroy {slice}`"
    )]
    GpuAbsent { slice: SliceId, gpu: PciAddress },
    #[error(
        "Slice {slice} stays quarantined: its instance is a {shown} now, and not {profile}; `vgpuctl destroy {slice}` ends it"
    )]
    OtherInstance { slice: SliceId, shown: ProfileName, profile: ProfileName },
    #[error("GPU {gpu} is quarantined ({evidence}); `vgpuctl quarantine clear {gpu}` lets it be used again")]
    GpuQuarantined { gpu: PciAddress, evidence: String },
    #[error("GPU {0} is just being partitioned anew; try again in a moment")]
    BeingPartitioned(PciAddress),
    #[error("GPU {gpu} cannot be partitioned anew: {slice} is on it; it has to go first")]
    NotEmpty { gpu: PciAddress, slice: SliceId },
    #[error("GPU {0} is not quarantined; `vgpuctl quarantine list` shows what is")]
    GpuNotQuarantined(PciAddress),
    #[error("GPU {0} stays quarantined: it is not there; bring it back first")]
    QuarantinedGpuAbsent(PciAddress),
    #[error(
        "GPU {gpu} stays quarantined: the kernel does not answer, vgpud still waits to {waiting_for}; `dmesg` may say why, and a restart of the host ends it"
    )]
    GpuStuck { gpu: PciAddress, waiting_for: String },
    #[error("GPU {gpu} is cut by {used} already and cannot be cut by {asked} too")]
    OtherMechanism { gpu: PciAddress, used: MechanismKind, asked: MechanismKind },
    #[error("GPU {gpu} holds {capacity} of {profile} and all are taken")]
    Full { gpu: PciAddress, profile: ProfileName, capacity: u32 },
    #[error("An instance of that name belongs to another slice of GPU {0} already")]
    NameTaken(PciAddress),
    #[error(transparent)]
    Quota(#[from] OverQuota),
    #[error("The lease of {0} has no limit of time; it lasts until it is released")]
    NoEnd(SliceId),
    #[error("The lease of {0} lasts longer already; give more time, or end it with `vgpuctl release {0}`")]
    EndsLater(SliceId),
    /// An effect's outcome that the slice does not wait for.
    #[error("Slice {slice} is {phase} and waits for no such outcome")]
    Unexpected { slice: SliceId, phase: &'static str },
    #[error("GPU {0} is not being put back")]
    NotRetiring(PciAddress),
}
