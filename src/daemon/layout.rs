//! Layouts of the settings: what is to be done for one, and doing it.
//!
//! The plan is [`layout`](crate::engine::layout)'s, on what is known of the host now. It is carried out by
//! the commands that `destroy` and `create` give the core, GPU by GPU and removals first: there is no other
//! way to the devices, and what a crash interrupts is found by the next plan. GPUs that are divided anew inside
//! go together: the removals on all of them, then the change, then the creations.

mod apply;
mod wire;

pub use apply::apply;
pub use wire::{plan as to_wire, same_steps};

use super::{executor::GpuSeen, snapshot::Snapshot};
use crate::engine::{
    Phase, Retiring,
    layout::{Asked, Goal, GpuPlan, Hives, LayoutPlan, for_the_operator, plan},
    placement::{ComputeWant, Want},
};
use std::collections::BTreeMap;
use vgpud_config::{
    GpuChoice, LayoutEntry, LayoutName, LayoutSettings, LayoutWant, NameError, PciAddress, Settings,
};
use vgpud_mdev::Gpu;

/// A layout that cannot be planned or applied.
#[derive(Debug, thiserror::Error)]
pub enum LayoutError {
    #[error(transparent)]
    Name(#[from] NameError),
    #[error(
        "There is no layout in the settings; write one as [layout.NAME], or import one: `vgpuctl layout import`"
    )]
    None,
    #[error("There is no layout {name} in the settings; there are {known}")]
    NoSuch { name: LayoutName, known: String },
    #[error("The settings have several layouts; name one of {known}")]
    Several { known: String },
    #[error(
        "What would be done for the layout {0} is not what was shown, since something has changed meanwhile; look at \
         it again and apply it then"
    )]
    Changed(LayoutName),
}

/// A plan with the name of its layout.
#[derive(Clone, Debug)]
pub struct Planned {
    pub name: LayoutName,
    pub plan: LayoutPlan,
}

/// The layout of this name, or the only one.
fn choose<'a>(
    settings: &'a Settings,
    name: Option<&str>,
) -> Result<(&'a LayoutName, &'a LayoutSettings), LayoutError> {
    let layouts = &settings.layouts;
    let known = || layouts.keys().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let Some(name) = name else {
        let mut all = layouts.iter();
        return match (all.next(), all.next()) {
            (Some(only), None) => Ok(only),
            (None, _) => Err(LayoutError::None),
            (Some(_), Some(_)) => Err(LayoutError::Several { known: known() }),
        };
    };
    let name: LayoutName = name.parse()?;
    match layouts.get_key_value(&name) {
        Some(found) => Ok(found),
        None if layouts.is_empty() => Err(LayoutError::None),
        None => Err(LayoutError::NoSuch { name, known: known() }),
    }
}

/// What is to be done for a layout now; without a name, for the only one.
///
/// # Errors
/// Where there is no such layout.
pub fn planned(now: &Snapshot, name: Option<&str>) -> Result<Planned, LayoutError> {
    let settings = &now.settings;
    let (name, layout) = choose(settings, name)?;
    let gpus: Vec<_> = now.gpus.values().map(|seen| &seen.gpu).collect();
    let hives = hives(now, layout, &gpus);
    let mut plans = Vec::new();
    let mut goals: BTreeMap<PciAddress, Goal> = BTreeMap::new();
    for seen in now.gpus.values() {
        let gpu = seen.gpu.address;
        let Some(entry) = layout.entry(gpu, seen.gpu.id) else { continue };
        match goal(settings, entry) {
            Ok(goal) => {
                let foreseen = hives.foreseen(&seen.gpu).clone();
                let foreseen = GpuSeen { gpu: foreseen, instances: seen.instances.clone() };
                plans.push(match hives.refused(gpu) {
                    Some(why) => GpuPlan::blocked(gpu, why.clone()),
                    None => plan(&now.site(&foreseen), &goal),
                });
                goals.insert(gpu, goal);
            }
            Err(why) => plans.push(GpuPlan::blocked(gpu, why)),
        }
    }
    let instances = now
        .gpus
        .iter()
        .map(|(gpu, seen)| (*gpu, seen.instances.iter().map(|instance| instance.name).collect()));
    let partitions = hives.settle(&mut plans, &now.state, &instances.collect());
    let operator = for_the_operator(&now.state, &gpus, &goals);
    let meant = |choice: &GpuChoice| match choice {
        GpuChoice::Address(address) => now.gpus.contains_key(address),
        GpuChoice::Id(id) => gpus.iter().any(|gpu| gpu.id == *id),
        GpuChoice::All => !gpus.is_empty(),
    };
    let unmatched = layout.entries.keys().copied().filter(|choice| !meant(choice)).collect();
    Ok(Planned { name: name.clone(), plan: LayoutPlan { gpus: plans, partitions, operator, unmatched } })
}

/// What the layout asks of the inside of GPUs.
fn hives(now: &Snapshot, layout: &LayoutSettings, gpus: &[&Gpu]) -> Hives {
    let asked = now.gpus.values().filter_map(|seen| {
        let modes = layout.entry(seen.gpu.address, seen.gpu.id)?.modes();
        Some(Asked { gpu: &seen.gpu, mechanism: now.mechanism(seen), modes })
    });
    Hives::plan(gpus, &asked.collect::<Vec<_>>())
}

/// What an entry wants, in the words of placement.
fn goal(settings: &Settings, entry: &LayoutEntry) -> Result<Goal, String> {
    entry.slices.iter().map(|slices| Ok((want(settings, &slices.want)?, slices.count))).collect()
}

fn want(settings: &Settings, want: &LayoutWant) -> Result<Want, String> {
    match want {
        LayoutWant::Profile(profile) => Ok(Want::Profile(profile.clone())),
        LayoutWant::Size { memory, compute } => {
            let compute = compute.map(|request| ComputeWant { request, enforced: false });
            Ok(Want::Size { memory: *memory, compute })
        }
        LayoutWant::Class(class) => match settings.classes.get(class) {
            Some(found) => Ok(found.into()),
            None => Err(format!("There is no [class.{class}] in the settings")),
        },
    }
}

/// Whether work is under way on a GPU that the layout means, by which its plan would soon be another one.
pub fn is_unsettled(now: &Snapshot, name: Option<&str>) -> bool {
    let Ok((_, layout)) = choose(&now.settings, name) else { return false };
    let moving = |gpu: PciAddress| {
        let retiring = now.state.cuts.get(&gpu).is_some_and(|cut| cut.retiring == Retiring::Running);
        let at_work = |phase: &Phase| {
            matches!(phase, Phase::Planned | Phase::Creating | Phase::Scrubbing | Phase::Destroying)
        };
        let busy = retiring || now.state.partitioning.contains(&gpu);
        busy || now.state.slices_of(gpu).any(|slice| at_work(&slice.phase) || slice.tie.is_some())
    };
    now.gpus
        .values()
        .filter(|seen| !now.stuck.contains_key(&seen.gpu.address))
        .any(|seen| layout.entry(seen.gpu.address, seen.gpu.id).is_some() && moving(seen.gpu.address))
}
