//! Plans and results of layouts as the API shows them.

use super::{super::snapshot::Snapshot, Planned};
use crate::{
    api,
    engine::{
        SliceId,
        layout::{GpuPlan, OperatorStep, PartitionStep},
    },
};
use vgpud_config::{PartitionModes, PciAddress};

/// A plan, with what the slices are that it names.
#[must_use]
pub fn plan(planned: &Planned, now: &Snapshot) -> api::LayoutPlan {
    api::LayoutPlan {
        layout: planned.name.to_string(),
        gpus: planned.plan.gpus.iter().map(|gpu| gpu_plan(gpu, now)).collect(),
        operator: planned.plan.operator.iter().map(operator).collect(),
        partitions: planned.plan.partitions.iter().map(partition).collect(),
        unmatched: planned.plan.unmatched.iter().map(ToString::to_string).collect(),
    }
}

fn gpu_plan(plan: &GpuPlan, now: &Snapshot) -> api::GpuLayout {
    let slices = |ids: &[SliceId]| {
        let slice = |id: &SliceId| api::LayoutSlice {
            id: id.to_string(),
            profile: now.state.slices.get(id).map(|slice| slice.profile.to_string()).unwrap_or_default(),
        };
        ids.iter().map(slice).collect()
    };
    let create = plan.create.iter();
    api::GpuLayout {
        gpu: plan.gpu.to_string(),
        keep: slices(&plan.keep),
        remove: slices(&plan.remove),
        create: create
            .map(|(profile, count)| api::LayoutCreation { profile: profile.to_string(), count: *count })
            .collect(),
        blocked: plan.blocked.clone(),
        unsure: plan.is_unsure,
    }
}

fn partition(step: &PartitionStep) -> api::PartitionStep {
    let words = |modes: PartitionModes| {
        (modes.memory.map(|mode| mode.to_string()), modes.accelerator.map(|mode| mode.to_string()))
    };
    let gpu = |(gpu, now): &(PciAddress, PartitionModes)| {
        let (memory_mode, accelerator_mode) = words(*now);
        let asked = step.partition.asked.contains(gpu);
        api::PartitionedGpu { gpu: gpu.to_string(), memory_mode, accelerator_mode, asked }
    };
    let (memory_mode, accelerator_mode) = words(step.partition.modes);
    api::PartitionStep { gpus: step.now.iter().map(gpu).collect(), memory_mode, accelerator_mode }
}

/// A step of the host's operator.
#[must_use]
pub fn operator(found: &OperatorStep) -> api::OperatorStep {
    api::OperatorStep {
        gpus: found.step.gpus.iter().map(ToString::to_string).collect(),
        what: found.step.what.clone(),
        slices: found.slices.iter().map(ToString::to_string).collect(),
        commands: found.step.commands.clone(),
    }
}

/// Whether both plans do the same, whatever they say of GPUs on which nothing is done.
#[must_use]
pub fn same_steps(one: &api::LayoutPlan, other: &api::LayoutPlan) -> bool {
    let steps = |plan: &api::LayoutPlan| {
        let gpus = plan.gpus.iter().filter(|gpu| !gpu.remove.is_empty() || !gpu.create.is_empty());
        gpus.map(|gpu| (gpu.gpu.clone(), gpu.remove.clone(), gpu.create.clone())).collect::<Vec<_>>()
    };
    one.layout == other.layout && steps(one) == steps(other) && one.partitions == other.partitions
}
