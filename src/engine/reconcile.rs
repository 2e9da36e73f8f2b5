//! The ledger's state against what the host shows after a start: pure.
//!
//! Nothing about a device is believed over a restart of the host: its leases are closed and wanted
//! slices are created again. Within one boot, a slice is adopted where its instance is there as
//! recorded, its interrupted effect is run again, and what contradicts is quarantined. Instances
//! that no slice names are left alone and reported.

use super::{Event, Fate, Origin, Phase, ReleaseCause, SliceId, State};
use std::collections::{BTreeMap, BTreeSet};
use vgpud_config::PciAddress;
use vgpud_mdev::{Division, Instance, InstanceName, mechanism};

/// What the host shows now.
#[derive(Clone, Debug, Default)]
pub struct HostView {
    pub restart: Restart,
    /// GPUs that are there, each with all its instances.
    pub gpus: BTreeMap<PciAddress, Vec<Instance>>,
    /// GPUs that are there and cannot be read: within one boot they are as they were.
    pub unreadable: BTreeSet<PciAddress>,
    /// GPUs that have VFs. Those that are on no VFIO driver are no instances, and still somebody's.
    pub divided: BTreeSet<PciAddress>,
    /// Leased slices whose holder has ended.
    pub ended_holders: BTreeSet<SliceId>,
}

/// Whether the host was started again since the ledger was last written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Restart {
    #[default]
    SameBoot,
    Restarted,
}

/// What has to happen, in this order, and what is none of vgpud's business.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Findings {
    pub events: Vec<Event>,
    pub foreign: Vec<(PciAddress, InstanceName)>,
}

/// Compares the two.
#[must_use]
pub fn compare(state: &State, host: &HostView) -> Findings {
    let mut findings = Findings::default();
    let unread = |gpu: &PciAddress| host.restart == Restart::SameBoot && host.unreadable.contains(gpu);
    let absent = state.cuts.keys().filter(|gpu| !host.gpus.contains_key(gpu) && !unread(gpu));
    let absent: BTreeSet<PciAddress> = absent.copied().collect();
    findings.events.extend(absent.iter().map(|gpu| Event::GpuVanished { gpu: *gpu }));
    // What a vanished GPU does not end by itself comes to its end by its effect.
    let at_work = state.slices.values().filter(|slice| {
        absent.contains(&slice.gpu)
            && match slice.phase {
                Phase::Destroying => true,
                Phase::Creating => slice.tie.is_some() || slice.fate == Fate::Destroy,
                _ => false,
            }
    });
    findings.events.extend(at_work.map(|slice| Event::Resume { slice: slice.id }));

    for slice in state.slices.values().filter(|slice| !absent.contains(&slice.gpu)) {
        let instances = host.gpus.get(&slice.gpu).map_or(&[][..], Vec::as_slice);
        let id = slice.id;
        if matches!(slice.phase, Phase::Quarantined { .. }) {
            continue;
        }
        if host.restart == Restart::Restarted {
            // What is there was made by somebody else since the restart.
            let is_found = !instances.is_empty() || host.divided.contains(&slice.gpu);
            let origin = if is_found { Origin::Found } else { Origin::Ours };
            findings.events.push(Event::Rebooted { slice: id, origin });
            continue;
        }
        let missing = || if unread(&slice.gpu) { None } else { missing(slice, instances) };
        match &slice.phase {
            Phase::Ready => findings.events.extend(missing()),
            Phase::Leased { lease } if lease.handover.is_some() => {
                let went = mechanism(slice.mechanism).goes_with_its_vm()
                    && !instances.iter().any(|instance| instance.name == slice.name);
                if let Some(contradiction) = if went { None } else { missing() } {
                    findings.events.push(contradiction);
                } else if went && !unread(&slice.gpu) || host.ended_holders.contains(&id) {
                    // Its node's number is the next device's: no file may name it any longer.
                    let (generation, cause) = (Some(slice.generation), ReleaseCause::HolderEnded);
                    findings.events.push(Event::Release { slice: id, generation, cause });
                }
            }
            Phase::Planned
            | Phase::Creating
            | Phase::Leased { .. }
            | Phase::Releasing { .. }
            | Phase::Scrubbing
            | Phase::Destroying => findings.events.push(Event::Resume { slice: id }),
            Phase::Quarantined { .. } => {}
        }
    }

    let unused = state.cuts.keys().filter(|gpu| unread(gpu) && state.slices_of(**gpu).next().is_none());
    findings.events.extend(unused.map(|gpu| Event::ResumeRetire { gpu: *gpu }));
    for (gpu, instances) in &host.gpus {
        match state.cuts.get(gpu) {
            Some(_) if state.slices_of(*gpu).next().is_none() => {
                findings.events.push(match host.restart {
                    Restart::SameBoot => Event::ResumeRetire { gpu: *gpu },
                    Restart::Restarted => Event::Forget { gpu: *gpu },
                });
            }
            Some(cut) if cut.origin == Origin::Ours && host.restart == Restart::SameBoot => {
                // What is spare of a division that vgpud made is its own.
                let all_ours = |name| {
                    matches!(name, InstanceName::Vf(_))
                        && mechanism(cut.mechanism).division() == Division::Uniform
                };
                let strangers = instances.iter().filter(|seen| !all_ours(seen.name));
                findings.foreign.extend(foreign(state, *gpu, strangers));
            }
            _ => findings.foreign.extend(foreign(state, *gpu, instances.iter())),
        }
    }
    findings
}

fn missing(slice: &super::Slice, instances: &[Instance]) -> Option<Event> {
    let why = match instances.iter().find(|instance| instance.name == slice.name) {
        None => format!("its instance is no longer there on GPU {}", slice.gpu),
        Some(seen) if !seen.may_be(&slice.profile) => {
            format!("its instance is a {} now, and {} in the ledger", seen.profile, slice.profile)
        }
        Some(_) => return None,
    };
    Some(Event::Contradiction { slice: slice.id, why })
}

fn foreign<'a>(
    state: &State,
    gpu: PciAddress,
    instances: impl Iterator<Item = &'a Instance>,
) -> Vec<(PciAddress, InstanceName)> {
    instances.map(|seen| (gpu, seen.name)).filter(|(gpu, name)| !state.uses(*gpu, *name)).collect()
}

#[cfg(test)]
mod tests;
