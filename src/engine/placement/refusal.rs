//! Why a request found no place.

use super::{Consideration, GpuView, Request, Want, eligible, size};
use std::collections::BTreeSet;
use vgpud_config::{AffinityStrength, ComputeKind, PciAddress, ProfileName};
use vgpud_mdev::{Division, Profile, mechanism};

/// A request that found no place, with the verdict on every GPU.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{shortage}")]
pub struct Refusal {
    pub shortage: Shortage,
    pub considered: Vec<Consideration>,
}

/// What is short. All but `NotNow` stay so whatever is released.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Shortage {
    #[error("There is no GPU {0}; `vgpuctl gpus` lists those of this host")]
    NoSuchGpu(PciAddress),
    #[error("{why}")]
    Unusable { gpu: PciAddress, why: String },
    #[error("No GPU of this host can be cut; `vgpuctl gpus` says why for each")]
    NothingToCut,
    #[error("{which} on NUMA node {node}, which is required; {there}")]
    NotOnNode { which: String, node: u32, there: String },
    #[error("No GPU offers the profile {profile}; there are {offered}")]
    NoSuchProfile { profile: ProfileName, offered: String },
    #[error("Asked {asked}; {fits}")]
    TooLarge { asked: String, fits: String },
    #[error("Asked {asked}; {place} enforces that: {offered}; without `enforced` that would do")]
    NotEnforced { asked: String, place: String, offered: String },
    #[error("Asked {count} slices of {asked}; at most {capacity} fit, with nothing else there")]
    TooMany { count: u32, asked: String, capacity: u64 },
    #[error("Asked {count} of {asked}; {available} can be created now, more when slices are destroyed")]
    NotNow { count: u32, asked: String, available: u32 },
}

/// The largest profile of a GPU, in the terms of what was asked: `16MiB (vf-8)`, or with a share
/// of compute `16MiB and 25% of compute (vf-4)`.
fn largest(gpu: &GpuView, want: &Want) -> Option<String> {
    let known = gpu.when_empty.iter().filter(|profile| profile.memory.is_some());
    known
        .max_by_key(|profile| size(profile))
        .or_else(|| gpu.when_empty.iter().max_by_key(|profile| size(profile)))
        .map(|profile| in_words(profile, want))
}

fn in_words(profile: &Profile, want: &Want) -> String {
    let asks_for_compute = want.compute().is_some();
    let asks_for_memory = matches!(want, Want::Size { memory: Some(_), .. });
    let size = match (profile.memory, profile.compute) {
        (Some(memory), Some(compute)) if asks_for_compute => format!("{memory} and {compute} of compute"),
        (Some(memory), None) if asks_for_compute => format!("{memory} with no share of compute"),
        (Some(memory), _) => memory.to_string(),
        (None, Some(compute)) if asks_for_memory => {
            format!("{compute} of compute, with memory that its driver tells when it is cut")
        }
        (None, Some(compute)) => format!("{compute} of compute"),
        (None, None) => return format!("{}, whose size the device does not say", profile.name),
    };
    format!("{size} ({})", profile.name)
}

/// What is asked for, with the node that it must be on.
fn in_full(request: &Request) -> String {
    match request.numa.filter(|numa| numa.strength == AffinityStrength::Require) {
        Some(numa) => format!("{} on NUMA node {}", request.want, numa.node),
        None => request.want.to_string(),
    }
}

impl Refusal {
    pub(super) fn explain(
        request: &Request,
        gpus: &[GpuView],
        placed: u32,
        considered: Vec<Consideration>,
    ) -> Self {
        Self { shortage: Shortage::of(request, gpus, placed), considered }
    }
}

impl Shortage {
    fn of(request: &Request, gpus: &[GpuView], placed: u32) -> Self {
        if let Some(asked) = request.gpu {
            match gpus.iter().find(|gpu| gpu.address() == asked).map(|gpu| &gpu.mechanism) {
                None => return Self::NoSuchGpu(asked),
                Some(Err(why)) => return Self::Unusable { gpu: asked, why: why.clone() },
                Some(Ok(_)) => {}
            }
        }
        let eligible: Vec<_> = gpus.iter().filter(|gpu| eligible(request, gpu)).collect();
        if eligible.is_empty() {
            return Self::nothing_eligible(request, gpus);
        }
        let accepted = |gpu: &&GpuView| {
            // Some tell what their instances have only while there are any.
            let known = gpu.when_empty.iter().chain(&gpu.profiles);
            let fitting = known.filter(|profile| request.want.accepts(profile));
            let capacity = fitting.map(|profile| u64::from(profile.capacity)).max();
            // Such a GPU says only what it has room for now.
            let counted =
                gpu.mechanism.as_ref().is_ok_and(|kind| mechanism(*kind).division() == Division::Counted);
            let unknown = counted && !gpu.taken.is_empty();
            capacity.map(|capacity| if unknown { u64::from(u32::MAX) } else { capacity })
        };
        let capacities: Vec<u64> = eligible.iter().filter_map(accepted).collect();
        if capacities.is_empty() {
            return Self::never(request, gpus, &eligible);
        }
        let (count, asked) = (request.count, in_full(request));
        let capacity = capacities.iter().sum();
        if u64::from(count) > capacity {
            return Self::TooMany { count, asked, capacity };
        }
        Self::NotNow { count, asked, available: placed }
    }

    /// Where no GPU comes into question, whatever it offers.
    fn nothing_eligible(request: &Request, gpus: &[GpuView]) -> Self {
        let which = match request.gpu {
            Some(gpu) => format!("GPU {gpu} is not"),
            None => "No GPU that can be cut is".to_owned(),
        };
        Self::elsewhere(request, gpus, which, |_| true).unwrap_or(Self::NothingToCut)
    }

    /// Where others would come into question if they were on the node that is required.
    fn elsewhere(
        request: &Request,
        gpus: &[GpuView],
        which: String,
        would_do: impl Fn(&GpuView) -> bool,
    ) -> Option<Self> {
        let numa = request.numa.filter(|numa| numa.strength == AffinityStrength::Require)?;
        let anywhere = Request { numa: None, ..request.clone() };
        let others: Vec<_> = gpus
            .iter()
            .filter(|gpu| eligible(&anywhere, gpu) && !eligible(request, gpu) && would_do(gpu))
            .collect();
        if others.is_empty() {
            return None;
        }
        let nodes: BTreeSet<_> = others.iter().filter_map(|gpu| gpu.gpu.numa_node).collect();
        let nodes: Vec<_> = nodes.iter().map(u32::to_string).collect();
        let there = match (nodes.is_empty(), request.gpu) {
            (true, None) => "this host names no node of them".to_owned(),
            (true, Some(_)) => "this host names no node of it".to_owned(),
            (false, None) => format!("they are on {}", nodes.join(", ")),
            (false, Some(_)) => format!("it is on {}", nodes.join(", ")),
        };
        Some(Self::NotOnNode { which, node: numa.node, there })
    }

    fn never(request: &Request, gpus: &[GpuView], eligible: &[&GpuView]) -> Self {
        match &request.want {
            Want::Profile(profile) => {
                let offers = |gpu: &GpuView| {
                    gpu.profiles.iter().chain(&gpu.when_empty).any(|offered| offered.name == *profile)
                };
                let which = format!("No GPU with the profile {profile} is");
                if let Some(elsewhere) = Self::elsewhere(request, gpus, which, offers) {
                    return elsewhere;
                }
                let mut names: Vec<_> = eligible
                    .iter()
                    .flat_map(|gpu| {
                        gpu.profiles.iter().chain(&gpu.when_empty).map(|profile| profile.name.to_string())
                    })
                    .collect();
                names.sort();
                names.dedup();
                let offered = if names.is_empty() { "none now".to_owned() } else { names.join(", ") };
                Self::NoSuchProfile { profile: profile.clone(), offered }
            }
            Want::Size { .. } => Lack::shortage(request, eligible),
        }
    }
}

/// What a GPU lacks that can never give a size.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Lack {
    /// It does not enforce the share of a profile that has the size: `vf-4, whose cap is best effort`.
    Enforcement(String),
    /// Its largest profile.
    Size(String),
    /// It has no profile at all.
    Profiles,
}

impl Lack {
    pub(super) fn of(gpu: &GpuView, want: &Want) -> Self {
        if let Some(compute) = want.compute() {
            let unkept = gpu.when_empty.iter().filter(|profile| want.has_size(profile));
            if let Some(profile) = unkept.min_by_key(|profile| size(profile)) {
                let bound = match compute.request.kind {
                    ComputeKind::Cap => "cap",
                    ComputeKind::Guarantee => "floor",
                };
                return Self::Enforcement(format!(
                    "{}, whose {bound} is {}",
                    profile.name,
                    compute.hold(profile)
                ));
            }
        }
        largest(gpu, want).map_or(Self::Profiles, Self::Size)
    }

    /// As the reason why the GPU is not chosen.
    pub(super) fn told(&self, want: &Want) -> String {
        match self {
            Self::Enforcement(profile) => format!("it does not enforce the share: it has {profile}"),
            Self::Size(largest) => format!("no profile satisfies {want}; the largest is {largest}"),
            Self::Profiles => "it offers no profile now".to_owned(),
        }
    }

    fn of_gpu(&self, gpu: PciAddress) -> String {
        match self {
            Self::Enforcement(has) => format!("{gpu} has {has}"),
            Self::Size(largest) => format!("the largest on {gpu} is {largest}"),
            Self::Profiles => format!("{gpu} offers no profile now"),
        }
    }

    /// Of all GPUs: where some have the size and do not enforce it, those are told.
    fn shortage(request: &Request, gpus: &[&GpuView]) -> Shortage {
        let lacks: Vec<_> = gpus.iter().map(|gpu| (gpu.address(), Self::of(gpu, &request.want))).collect();
        let told = |lacks: &[&(PciAddress, Self)]| {
            lacks.iter().map(|(gpu, lack)| lack.of_gpu(*gpu)).collect::<Vec<_>>().join(", ")
        };
        let unenforced: Vec<_> =
            lacks.iter().filter(|(_, lack)| matches!(lack, Self::Enforcement(_))).collect();
        let asked = in_full(request);
        if unenforced.is_empty() {
            return Shortage::TooLarge { asked, fits: told(&lacks.iter().collect::<Vec<_>>()) };
        }
        let place = request.gpu.map_or_else(|| "no GPU here".to_owned(), |gpu| format!("nothing on {gpu}"));
        Shortage::NotEnforced { asked, place, offered: told(&unenforced) }
    }
}
