//! Why a request found no place.

use super::{Consideration, GpuView, Request, Want, eligible, size};
use vgpud_config::{PciAddress, ProfileName};
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
    #[error("No GPU offers the profile {profile}; there are {offered}")]
    NoSuchProfile { profile: ProfileName, offered: String },
    #[error("Asked {asked}; {fits}")]
    TooLarge { asked: String, fits: String },
    #[error("Asked {count} slices of {asked}; at most {capacity} fit, with nothing else there")]
    TooMany { count: u32, asked: String, capacity: u64 },
    #[error("Asked {count} of {asked}; {available} can be created now, more when slices are destroyed")]
    NotNow { count: u32, asked: String, available: u32 },
}

/// The largest profile of a GPU, in the terms of what was asked: `16MiB (vf-8)`, or with a share
/// of compute `16MiB and 25% of compute (vf-4)`.
pub(super) fn largest(gpu: &GpuView, want: &Want) -> Option<String> {
    let known = gpu.when_empty.iter().filter(|profile| profile.memory.is_some());
    known
        .max_by_key(|profile| size(profile))
        .or_else(|| gpu.when_empty.iter().max_by_key(|profile| size(profile)))
        .map(|profile| in_words(profile, want))
}

fn in_words(profile: &Profile, want: &Want) -> String {
    let asks_for_memory = matches!(want, Want::Size { memory: Some(_), .. });
    let asks_for_compute = matches!(want, Want::Size { compute: Some(_), .. });
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
            return Self::NothingToCut;
        }
        let accepted = |gpu: &&GpuView| {
            let fitting = gpu.when_empty.iter().filter(|profile| request.want.accepts(profile));
            let capacity = fitting.map(|profile| u64::from(profile.capacity)).max();
            // Such a GPU says only what it has room for now.
            let counted =
                gpu.mechanism.as_ref().is_ok_and(|kind| mechanism(*kind).division() == Division::Counted);
            let unknown = counted && !gpu.taken.is_empty();
            capacity.map(|capacity| if unknown { u64::from(u32::MAX) } else { capacity })
        };
        let capacities: Vec<u64> = eligible.iter().filter_map(accepted).collect();
        if capacities.is_empty() {
            return Self::never(&request.want, &eligible);
        }
        let (count, asked) = (request.count, request.want.to_string());
        let capacity = capacities.iter().sum();
        if u64::from(count) > capacity {
            return Self::TooMany { count, asked, capacity };
        }
        Self::NotNow { count, asked, available: placed }
    }

    fn never(want: &Want, eligible: &[&GpuView]) -> Self {
        match want {
            Want::Profile(profile) => {
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
            Want::Size { .. } => {
                let fits: Vec<_> = eligible
                    .iter()
                    .map(|gpu| match largest(gpu, want) {
                        Some(largest) => format!("the largest on {} is {largest}", gpu.address()),
                        None => format!("{} offers no profile now", gpu.address()),
                    })
                    .collect();
                Self::TooLarge { asked: want.to_string(), fits: fits.join(", ") }
            }
        }
    }
}
