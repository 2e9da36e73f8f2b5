//! What the audit trail gets to know.

use super::{Slice, SliceId};
use std::fmt;
use vgpud_config::{Owner, PciAddress};

/// One line of the audit trail, without number and time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    pub kind: NoteKind,
    pub slice: Option<SliceId>,
    pub gpu: Option<PciAddress>,
    pub owner: Option<Owner>,
    /// A sentence for people.
    pub message: String,
}

macro_rules! kinds {
    ($($variant:ident = $word:literal,)*) => {
        /// What happened, as one stable word.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum NoteKind { $($variant,)* }

        impl NoteKind {
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            #[must_use]
            pub const fn word(self) -> &'static str {
                match self { $(Self::$variant => $word,)* }
            }
        }
    };
}
kinds! {
    SlicePlanned = "slice-planned",
    SliceCreating = "slice-creating",
    SliceReady = "slice-ready",
    CreateFailed = "create-failed",
    LeaseStarted = "lease-started",
    HandedOver = "handed-over",
    HandOverFailed = "hand-over-failed",
    LeaseExtended = "lease-extended",
    LeaseOverdue = "lease-overdue",
    LeaseReleasing = "lease-releasing",
    ReleaseRefused = "release-refused",
    LeaseEnded = "lease-ended",
    SliceScrubbed = "slice-scrubbed",
    SliceKept = "slice-kept",
    NotClean = "not-clean",
    SliceDestroying = "slice-destroying",
    SliceGone = "slice-gone",
    SliceQuarantined = "slice-quarantined",
    QuarantineCleared = "quarantine-cleared",
    GpuQuarantined = "gpu-quarantined",
    GpuCleared = "gpu-cleared",
    LateResult = "late-result",
    GpuRetired = "gpu-retired",
    RetireFailed = "retire-failed",
    GpuPartitioned = "gpu-partitioned",
    PartitionFailed = "partition-failed",
    GpuVanished = "gpu-vanished",
    GpuReturned = "gpu-returned",
    HostRestarted = "host-restarted",
    ForeignInstance = "foreign-instance",
    OrphanFile = "orphan-file",
    DaemonStarted = "daemon-started",
    DaemonStopped = "daemon-stopped",
    AccessDenied = "access-denied",
}

impl fmt::Display for NoteKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

impl Note {
    /// About a slice, with the owner of its lease if it has one.
    #[must_use]
    pub fn slice(kind: NoteKind, slice: &Slice, message: impl Into<String>) -> Self {
        Self {
            kind,
            slice: Some(slice.id),
            gpu: Some(slice.gpu),
            owner: slice.phase.lease().map(|lease| lease.owner.clone()),
            message: message.into(),
        }
    }

    /// About a GPU.
    #[must_use]
    pub fn gpu(kind: NoteKind, gpu: PciAddress, message: impl Into<String>) -> Self {
        Self { kind, slice: None, gpu: Some(gpu), owner: None, message: message.into() }
    }

    /// About the daemon.
    #[must_use]
    pub fn daemon(kind: NoteKind, message: impl Into<String>) -> Self {
        Self { kind, slice: None, gpu: None, owner: None, message: message.into() }
    }
}
