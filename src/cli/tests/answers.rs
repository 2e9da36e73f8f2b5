//! The host that the canned server plays: an SR-IOV GPU, a parent of mediated devices, and a GPU
//! that cannot be cut.

use std::path::Path;
use vgpud::api;

const GIB: u64 = 1 << 30;
/// 2026-11-24T08:00:00Z.
const MORNING: u64 = 1_795_507_200_000;

pub fn gpus() -> Vec<api::Gpu> {
    let group = |number, member: &str| Some(api::IommuGroup { number, members: vec![member.into()] });
    vec![
        api::Gpu {
            address: "0000:41:00.0".into(),
            id: "1002:74a1".into(),
            vendor_name: Some("Advanced Micro Devices, Inc. [AMD/ATI]".into()),
            device_name: Some("Aqua Vanjaram [Instinct MI300X]".into()),
            class: 0x12_00_00,
            numa_node: Some(0),
            driver: Some("simgpu".into()),
            iommu_group: group(14, "0000:41:00.0"),
            reset_methods: vec!["flr".into(), "bus".into()],
            mechanisms: vec!["sriov".into()],
            mechanism: Some("sriov".into()),
            vfs_total: Some(8),
            vfs_enabled: Some(8),
            slices: vec!["s17".into(), "s18".into()],
            unusable: None,
            quarantine: None,
            mig: None,
        },
        api::Gpu {
            address: "0000:81:00.0".into(),
            id: "1234:0001".into(),
            class: 0x03_00_00,
            driver: Some("simgpu_mdev".into()),
            iommu_group: group(20, "0000:81:00.0"),
            mechanisms: vec!["mdev".into()],
            slices: vec!["s19".into()],
            unusable: Some("GPU 0000:81:00.0 is quarantined (the kernel did not come back within 30s from this work: reset s19)".into()),
            quarantine: quarantined_gpus().pop(),
            ..api::Gpu::default()
        },
        api::Gpu {
            address: "0000:c1:00.0".into(),
            id: "8086:56c0".into(),
            vendor_name: Some("Intel Corporation".into()),
            device_name: Some("Data Center GPU Flex 170".into()),
            class: 0x03_80_00,
            numa_node: Some(1),
            unusable: Some("It has no driver; load i915 or xe, which implement SR-IOV for it".into()),
            ..api::Gpu::default()
        },
    ]
}

pub fn profiles() -> Vec<api::Profile> {
    let sriov = |name: &str, count: u32, available, unavailable: Option<&str>| api::Profile {
        gpu: "0000:41:00.0".into(),
        mechanism: "sriov".into(),
        name: name.into(),
        memory_bytes: Some(192 * GIB / u64::from(count)),
        compute_hundredths: Some(10_000 / count),
        capacity: count,
        available,
        unavailable: unavailable.map(Into::into),
        compute_cap: api::Hold::NotAvailable.into(),
        compute_floor: api::Hold::NotAvailable.into(),
    };
    vec![
        sriov("vf-1", 1, 0, Some("0000:41:00.0 is cut into vf-8 now; destroy s17, s18 first")),
        sriov("vf-8", 8, 6, None),
        api::Profile {
            gpu: "0000:81:00.0".into(),
            mechanism: "mdev".into(),
            name: "simgpu_mdev-small".into(),
            memory_bytes: Some(2 * GIB),
            compute_hundredths: None,
            capacity: 4,
            available: 3,
            unavailable: None,
            compute_cap: api::Hold::NotAvailable.into(),
            compute_floor: api::Hold::NotAvailable.into(),
        },
    ]
}

pub fn slices() -> Vec<api::Slice> {
    let vf = |id: &str, function: u32| api::Slice {
        id: id.into(),
        gpu: "0000:41:00.0".into(),
        mechanism: "sriov".into(),
        profile: "vf-8".into(),
        phase: api::Phase::Ready.into(),
        address: Some(format!("0000:41:00.{function}")),
        memory_bytes: Some(24 * GIB),
        compute_hundredths: Some(1250),
        compute_cap: api::Hold::NotAvailable.into(),
        compute_floor: api::Hold::NotAvailable.into(),
        generation: 0,
        created_unix_ms: MORNING,
        sysfs_path: Some(format!("/sys/bus/pci/devices/0000:41:00.{function}")),
        iommu_group: Some(30 + function),
        group_node: Some(format!("/dev/vfio/{}", 30 + function)),
        cdev_node: Some(format!("/dev/vfio/devices/vfio{}", function - 1)),
        ..api::Slice::default()
    };
    vec![
        leased(vf("s17", 1), "team-a/train-3", Some(4711)),
        vf("s18", 2),
        api::Slice {
            id: "s19".into(),
            gpu: "0000:81:00.0".into(),
            mechanism: "mdev".into(),
            profile: "simgpu_mdev-small".into(),
            phase: api::Phase::Quarantined.into(),
            mdev_uuid: Some("6f2b1c8e-30a4-4a0e-9a5e-0d2c86b1a001".into()),
            memory_bytes: Some(2 * GIB),
            waiting_for: Some("reset s19 (mdev 6f2b1c8e-30a4-4a0e-9a5e-0d2c86b1a001 of 0000:81:00.0)".into()),
            waiting_since_unix_ms: Some(MORNING + 3_600_000),
            quarantine_reason: Some("Its reset failed after the lease of team-b/infer-1 ended".into()),
            generation: 3,
            created_unix_ms: MORNING + 60_000,
            ..api::Slice::default()
        },
    ]
}

/// The slice as it is after a lease.
pub fn leased(slice: api::Slice, owner: &str, holder: Option<u32>) -> api::Slice {
    let lease = api::Lease {
        owner: owner.into(),
        since_unix_ms: MORNING + 90_500,
        node: slice.group_node.clone(),
        cdi_device: Some(format!("vgpud.io/slice={}", slice.id)),
        holder: holder.map(|pid| api::Holder { pid }),
        ..api::Lease::default()
    };
    api::Slice {
        phase: api::Phase::Leased.into(),
        generation: slice.generation + 1,
        lease: Some(lease),
        ..slice
    }
}

/// The slice on a host whose root is `root`.
pub fn below(root: &Path, mut slice: api::Slice) -> api::Slice {
    let node = slice.lease.as_mut().and_then(|lease| lease.node.as_mut());
    for path in slice.group_node.iter_mut().chain(&mut slice.cdev_node).chain(node) {
        *path = format!("{}{path}", root.display());
    }
    slice
}

pub fn plan(count: u32) -> api::Plan {
    let slice = api::PlannedSlice {
        gpu: "0000:41:00.0".into(),
        mechanism: "sriov".into(),
        profile: "vf-8".into(),
        memory_bytes: Some(24 * GIB),
        compute_hundredths: Some(1250),
        compute_cap: api::Hold::NotAvailable.into(),
        compute_floor: api::Hold::NotAvailable.into(),
    };
    let verdict = |gpu: &str, chosen, reason: &str| api::Consideration {
        gpu: gpu.into(),
        chosen,
        reason: reason.into(),
    };
    api::Plan {
        slices: vec![slice; count as usize],
        considered: vec![
            verdict(
                "0000:41:00.0",
                true,
                &format!("{count} of vf-8, the smallest that fits; keeps 0000:42:00.0 whole"),
            ),
            verdict("0000:42:00.0", false, "0000:41:00.0 will do, so it stays whole"),
            verdict(
                "0000:81:00.0",
                false,
                "no profile satisfies vf-8; the largest is 2GiB (simgpu_mdev-small)",
            ),
            verdict("0000:c1:00.0", false, "It has no driver"),
        ],
        effects: (0..count)
            .map(|index| format!("bind 0000:41:00.{} to vfio-pci and check its IOMMU group", index + 3))
            .collect(),
    }
}

/// `count` new slices, in the phase given.
pub fn created(count: u32, phase: api::Phase) -> Vec<api::Slice> {
    let pattern = slices().remove(1);
    (0..count)
        .map(|index| api::Slice { id: format!("s{}", 20 + index), phase: phase.into(), ..pattern.clone() })
        .collect()
}

pub fn events() -> Vec<api::Event> {
    let event = |sequence, kind: &str, slice: Option<&str>, owner: Option<&str>, message: &str| api::Event {
        sequence,
        unix_ms: MORNING + sequence * 1000,
        kind: kind.into(),
        slice: slice.map(Into::into),
        gpu: Some("0000:41:00.0".into()),
        owner: owner.map(Into::into),
        message: message.into(),
    };
    vec![
        event(41, "slice-ready", Some("s17"), None, "s17 (vf-8) is ready on 0000:41:00.0"),
        event(42, "lease-begun", Some("s17"), Some("team-a/train-3"), "s17 is leased to team-a/train-3"),
        event(43, "gpu-changed", None, None, "0000:41:00.0 has 8 VFs now"),
    ]
}

/// A slice that passed what was checked, but for its reset.
pub fn checks() -> api::VerifySliceResponse {
    use api::CheckOutcome::{Fail, Pass, Skip};
    let check = |name: &str, outcome: api::CheckOutcome, seen: &str, mend: Option<&str>| api::SliceCheck {
        name: name.into(),
        outcome: outcome.into(),
        seen: seen.into(),
        mend: mend.map(Into::into),
    };
    api::VerifySliceResponse {
        checks: vec![
            check("driver", Pass, "vfio-pci", None),
            check("numa-node", Skip, "the firmware names none", None),
            check("reset", Fail, "The kernel refused to complete the reset", Some("keep it out of use")),
        ],
        unfinished: None,
    }
}

fn scrub(work: &str, result: &str, why: Option<&str>, evidence: Option<api::ScrubEvidence>) -> api::Scrub {
    let why = why.map(Into::into);
    api::Scrub { at_unix_ms: MORNING + 130_000, work: work.into(), result: result.into(), why, evidence }
}

fn evidence(verdict: &str, method: &[&str], bytes_found: u64) -> api::ScrubEvidence {
    api::ScrubEvidence {
        verdict: verdict.into(),
        method: method.iter().map(ToString::to_string).collect(),
        bytes_checked: 16 << 20,
        bytes_found,
        duration_us: 12_345,
    }
}

fn dirty() -> api::Scrub {
    let why = "7 bytes of its memory were not zero after its reset (flr) and overwriting did not clear them";
    let method = ["reset (flr)", "read back", "overwrite", "read back"];
    scrub("reset", "failed", Some(why), Some(evidence("dirty", &method, 7)))
}

/// A lease that lasts, one that left something, one of an mdev, and one that an older vgpud wrote
/// down of a slice that is gone.
pub fn history() -> Vec<api::PastLease> {
    let lease = |slice: &str, generation, owner: &str, minutes: u64| api::PastLease {
        slice: slice.into(),
        generation,
        gpu: "0000:41:00.0".into(),
        owner: owner.into(),
        from_unix_ms: MORNING - minutes * 60_000,
        ..api::PastLease::default()
    };
    let ended = |lease: api::PastLease, how: &str| api::PastLease {
        to_unix_ms: Some(lease.from_unix_ms + 90_000),
        ended: Some(how.into()),
        ..lease
    };
    let vf = |index: u32| (Some(format!("0000:41:00.{}", index + 1)), Some(index));
    let mut last = lease("s17", 1, "team-a/train-3", 1);
    (last.address, last.vf_index) = vf(0);
    last.ends_in_ms = Some(4_800_000);
    let mut failed = ended(lease("s18", 2, "team-b", 2), "released");
    (failed.address, failed.vf_index) = vf(1);
    failed.scrubs = vec![dirty()];
    let mut mdev = ended(lease("s19", 3, "team-b/infer-1", 3), "released");
    mdev.gpu = "0000:81:00.0".into();
    mdev.mdev_uuid = Some("6f2b1c8e-30a4-4a0e-9a5e-0d2c86b1a001".into());
    mdev.scrubs = vec![
        scrub("reset", "remade", None, None),
        scrub("create", "clean", None, Some(evidence("clean", &["read back"], 0))),
    ];
    let mut given_up = ended(lease("s18", 1, "team-c", 4), "not-handed-over");
    given_up.vf_index = Some(1);
    given_up.scrubs = vec![scrub("reset", "clean", None, None)];
    vec![last, failed, mdev, given_up, ended(lease("s2", 1, "team-a", 100), "host-restarted")]
}

pub fn quarantine() -> Vec<api::QuarantinedSlice> {
    let slice = Some(slices().remove(2));
    let (cause, since_unix_ms) = ("scrub-failed".into(), Some(MORNING + 130_000));
    let by = "vgpud".to_owned();
    vec![api::QuarantinedSlice { slice, cause, since_unix_ms, scrub: Some(dirty()), by }]
}

pub fn quarantined_gpus() -> Vec<api::QuarantinedGpu> {
    vec![api::QuarantinedGpu {
        gpu: "0000:81:00.0".into(),
        cause: "no-answer".into(),
        evidence: "the kernel did not come back within 30s from this work: reset s19".into(),
        since_unix_ms: MORNING + 140_000,
        by: "vgpud".into(),
    }]
}

/// What is to be done for the layout `day`; nothing for another.
pub fn layout_plan(layout: &str) -> api::LayoutPlan {
    let slice = |id: &str, profile: &str| api::LayoutSlice { id: id.into(), profile: profile.into() };
    let create = |profile: &str, count| api::LayoutCreation { profile: profile.into(), count };
    let gpu = |address: &str| api::GpuLayout { gpu: address.into(), ..api::GpuLayout::default() };
    if layout != "day" {
        let reached = api::GpuLayout { keep: vec![slice("s18", "vf-8")], ..gpu("0000:41:00.0") };
        return api::LayoutPlan { layout: layout.into(), gpus: vec![reached], ..api::LayoutPlan::default() };
    }
    api::LayoutPlan {
        layout: "day".into(),
        gpus: vec![
            api::GpuLayout {
                blocked: Some(
                    "The layout does not want what stays: s17 (vf-8) is leased to team-a; it can go when it is released"
                        .into(),
                ),
                ..gpu("0000:41:00.0")
            },
            api::GpuLayout {
                keep: vec![slice("s20", "large")],
                remove: vec![slice("s21", "small"), slice("s22", "small"), slice("s23", "medium")],
                create: vec![create("large", 2)],
                unsure: true,
                ..gpu("0000:81:00.0")
            },
            api::GpuLayout {
                remove: vec![slice("s26", "vf-1")],
                create: vec![create("vf-1", 1)],
                ..gpu("0000:a1:00.0")
            },
            api::GpuLayout {
                blocked: Some("No GPU offers the profile vf-8; there are vf-4".into()),
                ..gpu("0000:c1:00.0")
            },
        ],
        partitions: vec![partition_step()],
        operator: vec![operator_step()],
        unmatched: vec!["10de:26b9".into()],
    }
}

fn partition_step() -> api::PartitionStep {
    let gpu = |address: &str, asked| api::PartitionedGpu {
        gpu: address.into(),
        memory_mode: Some("NPS1".into()),
        accelerator_mode: Some("SPX".into()),
        asked,
    };
    api::PartitionStep {
        gpus: vec![gpu("0000:a1:00.0", true), gpu("0000:a2:00.0", false)],
        memory_mode: Some("NPS4".into()),
        accelerator_mode: Some("CPX".into()),
    }
}

fn operator_step() -> api::OperatorStep {
    api::OperatorStep {
        gpus: vec!["0000:c1:00.0".into()],
        what: "AMD's driver gim makes VFs when it is loaded, of all its GPUs at once (0000:c1:00.0): 0000:c1:00.0 gets \
               8 instead of 4. No VM may run on any of them meanwhile."
            .into(),
        slices: vec!["s24".into(), "s25".into()],
        commands: vec![
            "echo 'options gim vf_num=8' > /etc/modprobe.d/gim.conf".into(),
            "rmmod gim".into(),
            "modprobe gim".into(),
        ],
    }
}

/// What came of it.
pub fn layout_applied(layout: &str) -> api::LayoutApplied {
    let plan = layout_plan(layout);
    let result = |gpu: &api::GpuLayout| {
        let (outcome, failure) = match (&gpu.blocked, gpu.create.is_empty()) {
            (Some(_), _) => (api::LayoutOutcome::Blocked, None),
            (None, true) => (api::LayoutOutcome::NothingToDo, None),
            (None, false) if gpu.gpu == "0000:a1:00.0" => (api::LayoutOutcome::Done, None),
            (None, false) => {
                let message = "large could not be created on 0000:81:00.0".into();
                let causes = vec!["0 of large can be created now".into()];
                let failure = api::Failure { reason: "NO_CAPACITY".into(), message, causes };
                (api::LayoutOutcome::Failed, Some(failure))
            }
        };
        api::GpuLayoutResult {
            gpu: gpu.gpu.clone(),
            outcome: outcome.into(),
            removed: gpu.remove.iter().map(|slice| slice.id.clone()).collect(),
            created: if failure.is_some() { created(1, api::Phase::Ready) } else { Vec::new() },
            modes: (outcome == api::LayoutOutcome::Done).then(|| "NPS4 and CPX".into()),
            blocked: gpu.blocked.clone(),
            code: if failure.is_some() { 8 } else { 0 },
            failure,
        }
    };
    api::LayoutApplied { gpus: plan.gpus.iter().map(result).collect(), operator: plan.operator }
}
