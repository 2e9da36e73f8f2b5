//! Steps that concern more than one GPU of a host, and that vgpud leaves to its operator.

use crate::{Gpu, MechanismKind, PciAddress, ProfileName, mechanism};
use std::collections::BTreeMap;

/// One such step, in words for a person.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostStep {
    /// All GPUs that it concerns: no slice may be on any of them, and no VM.
    pub gpus: Vec<PciAddress>,
    /// What it is and why it is not vgpud's to do; sentences.
    pub what: String,
    /// What to run as root, in order. Empty: it cannot be done, as `what` says.
    pub commands: Vec<String>,
}

/// The steps without which GPUs cannot offer profiles that somebody wants. `wanted` holds a profile for
/// each GPU that does not offer it now. Pure.
#[must_use]
pub fn host_steps(gpus: &[&Gpu], wanted: &BTreeMap<PciAddress, ProfileName>) -> Vec<HostStep> {
    let mechanisms = MechanismKind::ALL.into_iter().map(mechanism);
    mechanisms.filter_map(|mechanism| mechanism.host_step(gpus, wanted)).collect()
}
