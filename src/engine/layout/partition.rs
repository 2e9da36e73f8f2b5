//! Modes that a layout asks of the inside of GPUs, which several of them may have in common.
//!
//! A change concerns a hive as a whole: every slice of it ends first, on all its GPUs or on none, and what
//! is wanted is created again. Where one of its GPUs is in use, all that ask for a change are blocked.

use super::{GpuPlan, Removal, State, obstacle};
use crate::engine::Partition;
use std::collections::{BTreeMap, BTreeSet};
use vgpud_config::{PartitionModes, PciAddress};
use vgpud_mdev::{Gpu, InstanceName, MechanismKind, mechanism};

/// GPUs that are divided anew, when their slices are gone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionStep {
    pub partition: Partition,
    /// How they are now, as far as that is known, in order of address.
    pub now: Vec<(PciAddress, PartitionModes)>,
}

/// One GPU as it is asked about.
#[derive(Clone, Debug)]
pub struct Asked<'a> {
    pub gpu: &'a Gpu,
    /// Why nothing can cut it, where that is so.
    pub mechanism: Result<MechanismKind, String>,
    pub modes: PartitionModes,
}

/// What the modes of a layout come to, before its slices are planned.
#[derive(Clone, Debug, Default)]
pub struct Hives {
    steps: Vec<PartitionStep>,
    /// GPUs with the modes that they will have.
    changed: BTreeMap<PciAddress, Gpu>,
    /// Why GPUs cannot have what is asked.
    refused: BTreeMap<PciAddress, String>,
}

impl Hives {
    /// Puts together what is asked of the GPUs of each hive.
    #[must_use]
    pub fn plan(gpus: &[&Gpu], asked: &[Asked<'_>]) -> Self {
        let mut hives = Self::default();
        let mut together: BTreeMap<(MechanismKind, Vec<PciAddress>), Vec<&Asked<'_>>> = BTreeMap::new();
        for one in asked.iter().filter(|one| !one.modes.is_empty()) {
            match &one.mechanism {
                Ok(kind) => {
                    let hive = mechanism(*kind).partitioned_with(gpus, one.gpu.address);
                    together.entry((*kind, hive)).or_default().push(one);
                }
                Err(why) => {
                    hives.refused.insert(one.gpu.address, why.clone());
                }
            }
        }
        for ((kind, hive), asked) in together {
            match one_hive(kind, &hive, gpus, &asked) {
                Ok(None) => {}
                Ok(Some((step, changed))) => {
                    hives.steps.push(step);
                    hives.changed.extend(changed);
                }
                Err(why) => hives.refused.extend(asked.iter().map(|one| (one.gpu.address, why.clone()))),
            }
        }
        hives
    }

    /// The GPU as it will be when its slices are created.
    #[must_use]
    pub fn foreseen<'a>(&'a self, gpu: &'a Gpu) -> &'a Gpu {
        self.changed.get(&gpu.address).unwrap_or(gpu)
    }

    /// Why a GPU cannot have the modes that are asked of it.
    #[must_use]
    pub fn refused(&self, gpu: PciAddress) -> Option<&String> {
        self.refused.get(&gpu)
    }

    /// The steps that nothing stands in the way of; the plans of their GPUs are made to go with them, and
    /// the others are blocked. `instances` are those that each GPU shows.
    #[must_use]
    pub fn settle(
        self,
        plans: &mut [GpuPlan],
        state: &State,
        instances: &BTreeMap<PciAddress, Vec<InstanceName>>,
    ) -> Vec<PartitionStep> {
        let mut steps = Vec::new();
        for step in self.steps {
            let Partition { gpus, asked, modes, .. } = &step.partition;
            let reasons: Vec<String> =
                gpus.iter().filter_map(|gpu| in_the_way(*gpu, asked, plans, state, instances)).collect();
            let concerned = plans.iter_mut().filter(|plan| gpus.contains(&plan.gpu));
            if reasons.is_empty() {
                concerned.for_each(|plan| plan.start_anew(state));
                steps.push(step);
                continue;
            }
            for plan in concerned.filter(|plan| asked.contains(&plan.gpu)) {
                let listed = gpus.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
                let why = match &plan.blocked {
                    Some(own) => own.clone(),
                    None => format!(
                        "Setting GPU {} to {modes} changes all of {listed}, and nothing may be in use there: {}",
                        plan.gpu,
                        reasons.join("; ")
                    ),
                };
                *plan = GpuPlan::blocked(plan.gpu, why);
            }
        }
        steps
    }
}

type Step = (PartitionStep, Vec<(PciAddress, Gpu)>);

/// The step of one hive; none where all is as it is asked.
fn one_hive(
    kind: MechanismKind,
    hive: &[PciAddress],
    gpus: &[&Gpu],
    asked: &[&Asked<'_>],
) -> Result<Option<Step>, String> {
    let mut modes = PartitionModes::default();
    for one in asked {
        modes = modes.and(one.modes).ok_or_else(|| {
            let each = asked.iter().map(|one| format!("{} {}", one.gpu.address, one.modes));
            format!(
                "The layout asks GPUs that have their modes in common for different ones: {}; ask all of them for the same",
                each.collect::<Vec<_>>().join(", ")
            )
        })?;
    }
    let mut changed = Vec::new();
    for one in asked {
        changed.push((one.gpu.address, mechanism(kind).with_modes(one.gpu, modes)?));
    }
    if changed.iter().zip(asked).all(|((_, changed), one)| changed == one.gpu) {
        return Ok(None);
    }
    let all: BTreeSet<PciAddress> =
        hive.iter().copied().chain(asked.iter().map(|one| one.gpu.address)).collect();
    let of = |gpu: &&&Gpu| all.contains(&gpu.address);
    let shown = |gpu: &&Gpu| gpu.partitioning.as_ref().map(|now| now.modes()).unwrap_or_default();
    let now = gpus.iter().filter(of).map(|gpu| (gpu.address, shown(gpu))).collect();
    let asked = asked.iter().map(|one| one.gpu.address).collect();
    let partition = Partition { mechanism: kind, modes, asked, gpus: all };
    Ok(Some((PartitionStep { partition, now }, changed)))
}

/// Why a GPU of a hive does not become empty.
fn in_the_way(
    gpu: PciAddress,
    asked: &BTreeSet<PciAddress>,
    plans: &[GpuPlan],
    state: &State,
    instances: &BTreeMap<PciAddress, Vec<InstanceName>>,
) -> Option<String> {
    if let Err(rejected) = state.usable(gpu) {
        return Some(rejected.to_string());
    }
    let plan = plans.iter().find(|plan| plan.gpu == gpu);
    let blocked = plan.and_then(|plan| plan.blocked.as_ref());
    if let Some(why) = blocked.filter(|_| asked.contains(&gpu)) {
        return Some(format!("GPU {gpu} is blocked: {why}"));
    }
    let slices: Vec<_> = state.slices_of(gpu).collect();
    if let Some(slice) = slices.iter().find(|slice| Removal::of(slice) == Removal::No) {
        return Some(format!("on GPU {gpu}, {}", obstacle(slice)));
    }
    if let Some(slice) = slices.first() {
        let way_out = match (plan, blocked) {
            (None, _) => Some("the layout does not mean that GPU".to_owned()),
            (Some(_), Some(why)) => Some(format!("that GPU is blocked: {why}")),
            (Some(_), None) => None,
        };
        if let Some(why) = way_out {
            let id = slice.id;
            return Some(format!("on GPU {gpu} is {id}, and {why}; `vgpuctl destroy {id}` ends it"));
        }
    }
    let others = instances.get(&gpu).into_iter().flatten();
    let mut others = others.filter(|name| !slices.iter().any(|slice| slice.name == **name));
    others.next().map(|name| format!("{name} of GPU {gpu} is in use by somebody else; let go of it"))
}
