//! The daemon's types as the API shows them.

use super::{
    core::{PAGE, boot_now},
    executor::{EffectError, GpuSeen},
    message::OutOfUse,
    snapshot::Snapshot,
};
use crate::{
    api,
    engine::{
        GpuQuarantine, Lease, Phase, Slice, State,
        placement::{Consideration, Placement, Verdict},
        quota,
    },
    failure::Failure,
    ledger::{AuditEntry, PastLease, PastScrub},
};
use std::{collections::BTreeSet, time::Duration};
use vgpud_config::{ComputeShare, Memory, PciAddress};
use vgpud_mdev::{
    Hold, Holds, InstanceName, MechanismKind, Profile, mechanisms,
    nvidia::{InstanceUse, Mig, MigInstance},
};
use vgpud_vmm::{
    device::process::Preflight,
    preflight::{Check, Outcome},
    scrub::{self, Evidence, ResetEvidence},
};

const fn phase(phase: &Phase) -> api::Phase {
    match phase {
        Phase::Planned => api::Phase::Planned,
        Phase::Creating => api::Phase::Creating,
        Phase::Ready => api::Phase::Ready,
        Phase::Leased { .. } => api::Phase::Leased,
        Phase::Releasing { .. } => api::Phase::Releasing,
        Phase::Scrubbing => api::Phase::Scrubbing,
        Phase::Destroying => api::Phase::Destroying,
        Phase::Quarantined { .. } => api::Phase::Quarantined,
    }
}

fn hundredths(share: ComputeShare) -> u32 {
    u32::from(share.hundredths())
}

const fn hold(hold: Hold) -> api::Hold {
    match hold {
        Hold::Enforced => api::Hold::Enforced,
        Hold::BestEffort => api::Hold::BestEffort,
        Hold::NotAvailable => api::Hold::NotAvailable,
    }
}

/// On the wire, as a cap and as a floor.
fn holds(holds: Option<Holds>) -> (i32, i32) {
    let of =
        |bound: fn(Holds) -> Hold| holds.map_or(api::Hold::Unspecified, |known| hold(bound(known))).into();
    (of(|holds| holds.cap), of(|holds| holds.floor))
}

/// What is left of a lease that has a limit of time; below 0 where it is over.
fn ends_in_ms(lease: &Lease) -> Option<i64> {
    let (until, now) = (lease.until?, boot_now());
    let ms = |time: Duration| i64::try_from(time.as_millis()).unwrap_or(i64::MAX);
    Some(if until > now { ms(until.since(now)) } else { -ms(now.since(until)) })
}

/// One slice, with what the kernel showed of its instance last.
#[must_use]
pub fn slice(slice: &Slice, snapshot: &Snapshot) -> api::Slice {
    let instance = snapshot.instance(slice);
    let node = |path: &std::path::PathBuf| path.to_string_lossy().into_owned();
    let lease = slice.phase.lease().map(|lease| api::Lease {
        owner: lease.owner.to_string(),
        since_unix_ms: lease.since.0,
        node: lease.handover.as_ref().map(|given| node(&given.node)),
        cdi_device: lease.handover.as_ref().map(|given| given.cdi_device.clone()),
        holder: lease.holder.map(|holder| api::Holder { pid: holder.pid }),
        ends_in_ms: ends_in_ms(lease),
        overdue: lease.overdue.clone(),
        uid: lease.consumer.uid,
        gid: lease.consumer.gid,
    });
    let (compute_cap, compute_floor) = holds(snapshot.holds(slice));
    api::Slice {
        id: slice.id.to_string(),
        gpu: slice.gpu.to_string(),
        mechanism: slice.mechanism.to_string(),
        profile: slice.profile.to_string(),
        phase: phase(&slice.phase).into(),
        address: instance.and_then(|instance| instance.address).map(|address| address.to_string()),
        mdev_uuid: match slice.name {
            InstanceName::Mdev(uuid) => Some(uuid.to_string()),
            InstanceName::Vf(_) | InstanceName::Whole => None,
        },
        memory_bytes: slice.memory.map(Memory::bytes),
        compute_hundredths: slice.compute.map(hundredths),
        lease,
        quarantine_reason: match &slice.phase {
            Phase::Quarantined { why } => Some(why.evidence.clone()),
            _ => None,
        },
        generation: slice.generation.0,
        created_unix_ms: slice.created.0,
        sysfs_path: instance.map(|instance| node(&instance.sysfs)),
        iommu_group: instance.and_then(|instance| instance.iommu_group.as_ref()).map(|group| group.number),
        group_node: instance.and_then(|instance| instance.nodes.group.as_ref()).map(node),
        cdev_node: instance.and_then(|instance| instance.nodes.cdev.as_ref()).map(node),
        waiting_for: snapshot.waiting.get(&slice.id).map(|waiting| waiting.what.clone()),
        waiting_since_unix_ms: snapshot.waiting.get(&slice.id).map(|waiting| waiting.since.0),
        reserved_for: slice.reserved_for().map(ToString::to_string),
        compute_cap,
        compute_floor,
    }
}

/// What each owner has who is limited: those with a table in the settings, and all others who have
/// something under the default.
#[must_use]
pub fn quotas(now: &Snapshot) -> Vec<api::QuotaUse> {
    let uses = quota::uses(&now.state);
    let settings = &now.settings.quota;
    let owners: BTreeSet<_> = uses.keys().chain(settings.owner.keys()).collect();
    let limited = owners.into_iter().map(|owner| (owner, settings.of(owner).quota));
    let limited = limited.filter(|(_, quota)| !quota.is_none());
    let told = limited.map(|(owner, quota)| api::QuotaUse {
        owner: owner.to_string(),
        slices: uses.get(owner).map_or(0, |found| u32::try_from(found.slices.len()).unwrap_or(u32::MAX)),
        slices_limit: quota.slices,
        memory_bytes: uses.get(owner).map_or(0, |found| found.memory),
        memory_limit_bytes: quota.memory.map(Memory::bytes),
    });
    told.collect()
}

/// One GPU.
#[must_use]
pub fn gpu(seen: &GpuSeen, snapshot: &Snapshot) -> api::Gpu {
    let gpu = &seen.gpu;
    let chosen = snapshot.mechanism(seen);
    api::Gpu {
        address: gpu.address.to_string(),
        id: gpu.id.to_string(),
        vendor_name: gpu.vendor_name.clone(),
        device_name: gpu.device_name.clone(),
        class: gpu.class,
        numa_node: gpu.numa_node,
        driver: gpu.driver.as_ref().map(ToString::to_string),
        iommu_group: gpu
            .iommu_group
            .as_ref()
            .map(|group| api::IommuGroup { number: group.number, members: group.members.clone() }),
        reset_methods: gpu.reset_methods.clone(),
        mechanisms: mechanisms(gpu).iter().map(|mechanism| mechanism.kind().to_string()).collect(),
        vfs_total: gpu.sriov.as_ref().map(|sriov| sriov.total.into()),
        vfs_enabled: gpu.sriov.as_ref().map(|sriov| sriov.enabled.into()),
        slices: snapshot.state.slices_of(gpu.address).map(|slice| slice.id.to_string()).collect(),
        unusable: chosen.as_ref().err().cloned(),
        mechanism: chosen.ok().map(|kind| kind.to_string()),
        quarantine: snapshot
            .state
            .quarantined_gpus
            .get(&gpu.address)
            .map(|why| quarantined_gpu(gpu.address, why)),
        mig: gpu.mig.as_ref().map(mig),
    }
}

fn mig(mig: &Mig) -> api::Mig {
    let seen = mig.seen.as_ref().ok();
    let instance = |instance: &MigInstance| api::MigInstance {
        id: instance.id,
        name: instance.name.clone(),
        start: instance.place.start.into(),
        vf: match instance.used_by {
            InstanceUse::Vgpu(index) => Some(index.0.into()),
            InstanceUse::Compute | InstanceUse::Nothing => None,
        },
        compute: instance.used_by == InstanceUse::Compute,
    };
    api::Mig {
        mode: seen.map(|seen| seen.mode.to_string()),
        pending: seen.map(|seen| seen.pending.to_string()),
        wanted: mig.wanted.map(|mode| mode.to_string()),
        instances: seen.map(|seen| seen.instances.iter().map(instance).collect()).unwrap_or_default(),
        words: mig.to_string(),
    }
}

/// One profile of a GPU.
#[must_use]
pub fn profile(
    seen: &GpuSeen,
    mechanism: MechanismKind,
    profile: &Profile,
    snapshot: &Snapshot,
) -> api::Profile {
    let unavailable = (profile.available == 0).then(|| {
        snapshot.out_of_use(seen.gpu.address).unwrap_or_else(|| {
            format!("all {} are taken, or the GPU is cut otherwise just now", profile.capacity)
        })
    });
    let (compute_cap, compute_floor) = holds(Some(profile.holds));
    api::Profile {
        gpu: seen.gpu.address.to_string(),
        mechanism: mechanism.to_string(),
        name: profile.name.to_string(),
        memory_bytes: profile.memory.map(Memory::bytes),
        compute_hundredths: profile.compute.map(hundredths),
        capacity: profile.capacity,
        available: profile.available,
        unavailable,
        compute_cap,
        compute_floor,
    }
}

fn consideration(considered: &Consideration) -> api::Consideration {
    api::Consideration {
        gpu: considered.gpu.to_string(),
        chosen: considered.verdict == Verdict::Chosen,
        reason: considered.reason.clone(),
    }
}

/// What a request for slices will come to.
#[must_use]
pub fn plan(placement: &Placement, effects: Vec<String>) -> api::Plan {
    let slices = placement.choices.iter().map(|choice| {
        let (compute_cap, compute_floor) = holds(Some(choice.profile.holds));
        api::PlannedSlice {
            gpu: choice.gpu.to_string(),
            mechanism: choice.mechanism.to_string(),
            profile: choice.profile.name.to_string(),
            memory_bytes: choice.profile.memory.map(Memory::bytes),
            compute_hundredths: choice.profile.compute.map(hundredths),
            compute_cap,
            compute_floor,
        }
    });
    let considered = placement.considered.iter().map(consideration).collect();
    api::Plan { slices: slices.collect(), considered, effects }
}

/// One line of the audit trail.
#[must_use]
pub fn event(entry: AuditEntry) -> api::Event {
    api::Event {
        sequence: entry.sequence,
        unix_ms: entry.at.0,
        kind: entry.kind,
        slice: entry.slice.map(|id| id.to_string()),
        gpu: entry.gpu,
        owner: entry.owner,
        message: entry.message,
    }
}

/// A page of the history; a full one has more behind it.
#[must_use]
pub fn history(page: Vec<PastLease>, now: &State) -> api::ListHistoryResponse {
    let is_full = u32::try_from(page.len()).is_ok_and(|length| length >= PAGE);
    let more = page.last().filter(|_| is_full).map(|last| api::HistoryPosition {
        from_unix_ms: last.position.from.0,
        slice: last.position.slice.to_string(),
        generation: last.position.generation.0,
    });
    api::ListHistoryResponse { leases: page.into_iter().map(|lease| past_lease(lease, now)).collect(), more }
}

fn past_lease(lease: PastLease, now: &State) -> api::PastLease {
    let current = now.slices.get(&lease.position.slice);
    let current = current.filter(|slice| slice.generation == lease.position.generation);
    let (vf_index, mdev_uuid) = match lease.instance {
        Some(InstanceName::Vf(index)) => (Some(u32::from(index.0)), None),
        Some(InstanceName::Mdev(uuid)) => (None, Some(uuid.to_string())),
        Some(InstanceName::Whole) => (None, None),
        None => (None, None),
    };
    api::PastLease {
        slice: lease.position.slice.to_string(),
        generation: lease.position.generation.0,
        gpu: lease.gpu,
        owner: lease.owner,
        address: lease.address,
        vf_index,
        mdev_uuid,
        from_unix_ms: lease.position.from.0,
        to_unix_ms: lease.ended.as_ref().map(|ended| ended.at.0),
        ended: lease.ended.map(|ended| ended.how.word().to_owned()),
        scrubs: lease.scrubs.into_iter().map(scrub).collect(),
        ends_in_ms: current.and_then(|slice| ends_in_ms(slice.phase.lease()?)),
    }
}

fn scrub(past: PastScrub) -> api::Scrub {
    let PastScrub { scrub, at } = past;
    api::Scrub {
        at_unix_ms: at.0,
        work: scrub.work.word().to_owned(),
        result: scrub.result.word().to_owned(),
        why: scrub.why,
        evidence: scrub.evidence.map(|evidence| api::ScrubEvidence {
            verdict: match &evidence.verdict {
                scrub::Verdict::Clean => "clean",
                scrub::Verdict::CleanedByOverwrite => "cleaned-by-overwrite",
                scrub::Verdict::Dirty { .. } => "dirty",
                scrub::Verdict::Unchecked { .. } => "unchecked",
            }
            .to_owned(),
            method: method(&evidence),
            bytes_checked: evidence.bytes_checked,
            bytes_found: evidence.bytes_found,
            duration_us: evidence.duration_us,
        }),
    }
}

/// What was done to the device, in order, in words.
fn method(evidence: &Evidence) -> Vec<String> {
    let word = |step: &scrub::Step| match (step, &evidence.reset) {
        (scrub::Step::Reset, ResetEvidence::Done { methods }) if !methods.is_empty() => {
            format!("reset ({methods})")
        }
        (scrub::Step::Reset, _) => "reset".to_owned(),
        (scrub::Step::VendorClear, _) => "vendor's clear".to_owned(),
        (scrub::Step::ReadBack { .. }, _) => "read back".to_owned(),
        (scrub::Step::Wait, _) => "wait".to_owned(),
        (scrub::Step::Overwrite { .. }, _) => "overwrite".to_owned(),
    };
    evidence.steps.iter().map(word).collect()
}

/// A slice out of use; none where it has left its quarantine meanwhile.
#[must_use]
pub fn quarantined(found: OutOfUse, now: &Snapshot) -> Option<api::QuarantinedSlice> {
    let of = now.state.slices.get(&found.slice)?;
    let Phase::Quarantined { why } = &of.phase else { return None };
    Some(api::QuarantinedSlice {
        slice: Some(slice(of, now)),
        cause: why.cause.word().to_owned(),
        since_unix_ms: found.since.map(|since| since.0),
        scrub: found.scrub.map(scrub),
        by: why.by.to_string(),
    })
}

/// A whole GPU out of use.
#[must_use]
pub fn quarantined_gpu(gpu: PciAddress, why: &GpuQuarantine) -> api::QuarantinedGpu {
    api::QuarantinedGpu {
        gpu: gpu.to_string(),
        cause: why.cause.word().to_owned(),
        evidence: why.evidence.clone(),
        since_unix_ms: why.since.0,
        by: why.by.to_string(),
    }
}

/// All of them, in order of address.
#[must_use]
pub fn quarantined_gpus(state: &State) -> Vec<api::QuarantinedGpu> {
    state.quarantined_gpus.iter().map(|(gpu, why)| quarantined_gpu(*gpu, why)).collect()
}

/// The checks of one slice.
#[must_use]
pub fn preflight(preflight: Preflight) -> api::VerifySliceResponse {
    let unfinished = preflight.ended.err().map(|error| Failure::from(&EffectError::from(error)).line());
    api::VerifySliceResponse { checks: preflight.checks.into_iter().map(check).collect(), unfinished }
}

fn check(check: Check) -> api::SliceCheck {
    let (outcome, seen, mend) = match check.outcome {
        Outcome::Pass { seen } => (api::CheckOutcome::Pass, seen, None),
        Outcome::Fail { seen, mend } => (api::CheckOutcome::Fail, seen, Some(mend)),
        Outcome::Skip { reason } => (api::CheckOutcome::Skip, reason, None),
    };
    api::SliceCheck { name: check.name.word().to_owned(), outcome: outcome.into(), seen, mend }
}
