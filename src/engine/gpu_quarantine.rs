//! A whole GPU kept out of use.
//!
//! Nothing new is cut from it, no lease begins on it, and no instance is made again on it, until an
//! operator clears it. Leases that run are left alone, and what is released is scrubbed as ever.

use super::{Note, NoteKind, QuarantineCause, Rejected, RequestId, SliceId, State, Transition, UnixMillis};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeSet, fmt};
use vgpud_config::PciAddress;

/// Why a GPU is kept out of use.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GpuQuarantine {
    pub cause: GpuQuarantineCause,
    /// What was seen, or an operator's reason.
    pub evidence: String,
    pub since: UnixMillis,
    pub by: Actor,
}

/// What went wrong with a GPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum GpuQuarantineCause {
    /// The kernel did not come back from work on it before the deadline.
    NoAnswer,
    /// Two of its slices could not be opened or reset.
    ResetsFailed,
    /// An operator said so.
    Operator,
}

/// On whose word something is kept out of use.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Actor {
    #[default]
    Vgpud,
    /// As the kernel tells who connected, for people: `User alice (1000)`.
    User(String),
}

/// What stands in the way of using a GPU again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GpuShown {
    There,
    Absent,
    /// The kernel has not come back from this work.
    Stuck(String),
}

impl GpuQuarantineCause {
    /// One stable word.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::NoAnswer => "no-answer",
            Self::ResetsFailed => "resets-failed",
            Self::Operator => "operator",
        }
    }
}

impl fmt::Display for Actor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Vgpud => f.write_str("vgpud"),
            Self::User(user) => f.write_str(user),
        }
    }
}

impl State {
    /// Refuses what a GPU is not used for that is quarantined, or that is being partitioned.
    ///
    /// # Errors
    /// [`Rejected::GpuQuarantined`] with the evidence, or [`Rejected::BeingPartitioned`].
    pub fn usable(&self, gpu: PciAddress) -> Result<(), Rejected> {
        match self.quarantined_gpus.get(&gpu) {
            None if self.partitioning.contains(&gpu) => Err(Rejected::BeingPartitioned(gpu)),
            None => Ok(()),
            Some(why) => Err(Rejected::GpuQuarantined { gpu, evidence: why.evidence.clone() }),
        }
    }
}

impl Transition {
    /// Requests that are not complete are given up: their slices would be cut from it and leased.
    pub(super) fn quarantine_gpu(&mut self, gpu: PciAddress, why: GpuQuarantine) -> Result<(), Rejected> {
        if let Some(why) = self.state.quarantined_gpus.get(&gpu) {
            return Err(Rejected::GpuQuarantined { gpu, evidence: why.evidence.clone() });
        }
        let message = format!("GPU {gpu} is kept out of use by {}: {}", why.by, why.evidence);
        self.notes.push(Note::gpu(NoteKind::GpuQuarantined, gpu, message));
        let because = format!("as GPU {gpu} is quarantined: {}", why.evidence);
        self.state.quarantined_gpus.insert(gpu, why);
        let ties = self.state.slices_of(gpu).filter_map(|slice| slice.tie.as_ref());
        let requests: BTreeSet<RequestId> = ties.map(|tie| tie.request).collect();
        for request in requests {
            self.take_apart(request, &because)?;
        }
        Ok(())
    }

    pub(super) fn clear_gpu(&mut self, gpu: PciAddress, shown: GpuShown, by: &Actor) -> Result<(), Rejected> {
        if !self.state.quarantined_gpus.contains_key(&gpu) {
            return Err(Rejected::GpuNotQuarantined(gpu));
        }
        match shown {
            GpuShown::Absent => return Err(Rejected::QuarantinedGpuAbsent(gpu)),
            GpuShown::Stuck(waiting_for) => return Err(Rejected::GpuStuck { gpu, waiting_for }),
            GpuShown::There => {}
        }
        self.state.quarantined_gpus.remove(&gpu);
        let message = format!("GPU {gpu} may be used again, by the word of {by}");
        self.notes.push(Note::gpu(NoteKind::GpuCleared, gpu, message));
        Ok(())
    }

    /// A slice that nobody leases is put aside by an operator.
    pub(super) fn set_aside(&mut self, id: SliceId, reason: &str, by: Actor) -> Result<(), Rejected> {
        self.state.free(id)?;
        self.quarantine_by(id, QuarantineCause::Operator, reason, by)
    }

    /// A slice that has no instance, on a GPU that none is made on: it waits for an operator too.
    pub(super) fn wait_for_gpu(&mut self, id: SliceId, gpu: PciAddress, gone: &str) -> Result<(), Rejected> {
        let evidence = format!(
            "its instance ended with {gone}, and none is made again while GPU {gpu} is quarantined; clear the GPU first"
        );
        self.quarantine(id, QuarantineCause::GpuQuarantined, &evidence)
    }
}
