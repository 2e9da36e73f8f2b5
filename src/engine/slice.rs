//! One slice and where it stands.

use super::{Actor, BootMillis, Generation, ReleaseCause, RequestId, SliceId, Terms, UnixMillis};
use serde::{Deserialize, Serialize};
use std::{fmt, path::PathBuf};
use vgpud_config::{ComputeShare, Consumer, Memory, Owner, PciAddress, ProfileName};
use vgpud_mdev::{InstanceName, MechanismKind};

/// One slice, from its plan until it is gone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slice {
    pub id: SliceId,
    pub gpu: PciAddress,
    pub mechanism: MechanismKind,
    pub profile: ProfileName,
    /// Chosen before the instance exists, so that an interrupted creation can be found again.
    pub name: InstanceName,
    pub memory: Option<Memory>,
    pub compute: Option<ComputeShare>,
    pub phase: Phase,
    pub fate: Fate,
    /// The request that it is created with, until all slices of that request are ready.
    pub tie: Option<Tie>,
    pub generation: Generation,
    /// Whose data it may hold: from the start of a lease until the slice was shown to be clean. It is
    /// leased to nobody else before that.
    pub data_of: Option<Owner>,
    pub created: UnixMillis,
}

/// Where a slice stands. The table of transitions is in the [module's documentation](super).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", tag = "phase")]
pub enum Phase {
    Planned,
    Creating,
    Ready,
    Leased { lease: Lease },
    Releasing { lease: Lease },
    Scrubbing,
    Destroying,
    Quarantined { why: Quarantine },
}

/// One owner holding one slice.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    pub owner: Owner,
    pub since: UnixMillis,
    /// The process whose end ends the lease.
    pub holder: Option<Holder>,
    /// None until the handover was confirmed.
    pub handover: Option<Handover>,
    /// Who may open its node.
    #[serde(default)]
    pub consumer: Consumer,
    /// When its time is up; none where it has no limit.
    #[serde(default)]
    pub until: Option<BootMillis>,
    /// Why it was last to end.
    #[serde(default)]
    pub ending: Option<ReleaseCause>,
    /// Its time is up and it has not ended: who holds the device, in a sentence.
    #[serde(default)]
    pub overdue: Option<String>,
}

/// A process, told from a later one of the same number by when it started.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    pub pid: u32,
    /// Clock ticks after boot, field 22 of `/proc/PID/stat` (proc_pid_stat(5)).
    pub started: u64,
}

/// What the owner was given.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Handover {
    /// VFIO node.
    pub node: PathBuf,
    /// Fully qualified CDI name.
    pub cdi_device: String,
    /// The PCI address of a VF; none where a former vgpud handed it over.
    #[serde(default)]
    pub address: Option<PciAddress>,
}

/// What becomes of a slice when its present work is done.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", tag = "fate")]
pub enum Fate {
    #[default]
    Keep,
    Destroy,
    /// Created again under this name once it is destroyed: how an instance without a reset is
    /// made clean.
    Recreate {
        name: InstanceName,
    },
}

/// Slices of one request are bound together until all of them are ready.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tie {
    pub request: RequestId,
    /// Leases each slice to this owner as soon as all are ready.
    pub owner: Option<Owner>,
    /// And on these terms.
    #[serde(default)]
    pub terms: Terms,
}

/// Why a slice is kept out of use.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quarantine {
    pub cause: QuarantineCause,
    /// What was seen, in a sentence.
    pub evidence: String,
    #[serde(default)]
    pub by: Actor,
}

/// What went wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum QuarantineCause {
    CreateFailed,
    TakeBackFailed,
    ScrubFailed,
    /// The device could not be reset, or was dead afterwards.
    ResetFailed,
    DestroyFailed,
    /// The kernel did not answer before the deadline.
    Overdue,
    GpuVanished,
    /// The host shows something else than the ledger.
    Contradiction,
    /// Somebody holds the device without a lease.
    HeldWithoutLease,
    /// Its instance is gone, and none is made on a quarantined GPU.
    GpuQuarantined,
    /// An operator said so.
    Operator,
}

impl QuarantineCause {
    /// One stable word.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::CreateFailed => "create-failed",
            Self::TakeBackFailed => "take-back-failed",
            Self::ScrubFailed => "scrub-failed",
            Self::ResetFailed => "reset-failed",
            Self::DestroyFailed => "destroy-failed",
            Self::Overdue => "overdue",
            Self::GpuVanished => "gpu-vanished",
            Self::Contradiction => "contradiction",
            Self::HeldWithoutLease => "held-without-lease",
            Self::GpuQuarantined => "gpu-quarantined",
            Self::Operator => "operator",
        }
    }
}

impl Phase {
    /// The lease, while there is one.
    #[must_use]
    pub const fn lease(&self) -> Option<&Lease> {
        match self {
            Self::Leased { lease } | Self::Releasing { lease } => Some(lease),
            Self::Planned
            | Self::Creating
            | Self::Ready
            | Self::Scrubbing
            | Self::Destroying
            | Self::Quarantined { .. } => None,
        }
    }

    /// One stable word.
    #[must_use]
    pub const fn word(&self) -> &'static str {
        match self {
            Self::Planned => "planned",
            Self::Creating => "creating",
            Self::Ready => "ready",
            Self::Leased { .. } => "leased",
            Self::Releasing { .. } => "releasing",
            Self::Scrubbing => "scrubbing",
            Self::Destroying => "destroying",
            Self::Quarantined { .. } => "quarantined",
        }
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

impl Slice {
    /// The only owner that may have it, where it is ready for one alone.
    #[must_use]
    pub fn reserved_for(&self) -> Option<&Owner> {
        self.data_of.as_ref().filter(|_| self.phase == Phase::Ready)
    }

    /// Whether it stands still: ready, handed over, or quarantined.
    #[must_use]
    pub const fn at_rest(&self) -> bool {
        match &self.phase {
            Phase::Ready | Phase::Quarantined { .. } => true,
            Phase::Leased { lease } => lease.handover.is_some(),
            Phase::Planned
            | Phase::Creating
            | Phase::Releasing { .. }
            | Phase::Scrubbing
            | Phase::Destroying => false,
        }
    }
}
