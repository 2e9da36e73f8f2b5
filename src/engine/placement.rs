//! Which GPU and profile a request gets: pure.
//!
//! The smallest profile that satisfies the request wins; among equals, a GPU that is cut already,
//! so that as few as possible are broken up; then the order of addresses. All slices of a request
//! fit, or none is placed. Every GPU gets a [`Consideration`], chosen or not.

use super::{Phase, State};
use std::fmt;
use vgpud_config::{ComputeShare, Memory, PciAddress, ProfileName};
use vgpud_mdev::{MechanismKind, Profile};

mod refusal;
pub use refusal::{Refusal, Shortage};

/// What a user asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    pub want: Want,
    /// Only this GPU, or any.
    pub gpu: Option<PciAddress>,
    pub count: u32,
}

/// A profile by name, or a size; each bound means "at least".
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Want {
    Profile(ProfileName),
    Size { memory: Option<Memory>, compute: Option<ComputeShare> },
}

/// One GPU as placement sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GpuView {
    pub address: PciAddress,
    /// The mechanism in use, or why nothing can be cut.
    pub mechanism: Result<MechanismKind, String>,
    /// With what is really available, see [`remaining`].
    pub profiles: Vec<Profile>,
    /// What it would offer if nothing were cut from it, as far as that is known.
    pub when_empty: Vec<Profile>,
    /// Slices that it is cut into already.
    pub slices: u32,
}

/// One slice's place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Choice {
    pub gpu: PciAddress,
    pub mechanism: MechanismKind,
    pub profile: Profile,
}

/// The verdict on one GPU.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Consideration {
    pub gpu: PciAddress,
    pub verdict: Verdict,
    pub reason: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Chosen,
    NotChosen,
}

/// Places for all slices of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placement {
    pub choices: Vec<Choice>,
    pub considered: Vec<Consideration>,
}

impl fmt::Display for Want {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Profile(name) => write!(f, "{name}"),
            Self::Size { memory: Some(memory), compute: Some(compute) } => {
                write!(f, "{memory} and {compute} of compute")
            }
            Self::Size { memory: Some(memory), .. } => write!(f, "{memory}"),
            Self::Size { compute: Some(compute), .. } => write!(f, "{compute} of compute"),
            Self::Size { .. } => f.write_str("any size"),
        }
    }
}

impl Want {
    #[must_use]
    pub fn accepts(&self, profile: &Profile) -> bool {
        match self {
            Self::Profile(name) => profile.name == *name,
            Self::Size { memory, compute } => {
                memory.is_none_or(|least| profile.memory.is_some_and(|has| has >= least))
                    && compute.is_none_or(|least| profile.compute.is_some_and(|has| has >= least))
            }
        }
    }
}

/// Smaller is better; a size that is not known counts as the whole GPU.
fn size(profile: &Profile) -> (u64, u16, &ProfileName) {
    let memory = profile.memory.map_or(u64::MAX, Memory::bytes);
    (memory, profile.compute.map_or(u16::MAX, ComputeShare::hundredths), &profile.name)
}

/// What is left of `profiles` when the slices of the ledger are counted too. The kernel knows
/// nothing of planned slices, nor that a spare VF belongs to nobody. `foreign` is the number of
/// instances that are in use and belong to no slice.
#[must_use]
pub fn remaining(
    state: &State,
    gpu: PciAddress,
    mechanism: MechanismKind,
    mut profiles: Vec<Profile>,
    foreign: u32,
) -> Vec<Profile> {
    let count = |wanted: &dyn Fn(&super::Slice) -> bool| {
        u32::try_from(state.slices_of(gpu).filter(|slice| wanted(slice)).count()).unwrap_or(u32::MAX)
    };
    let cut = count(&|_| true) > 0;
    for profile in &mut profiles {
        let alike = count(&|slice| slice.profile == profile.name);
        match mechanism {
            // All VFs of a GPU are of one profile.
            MechanismKind::Sriov if cut && alike == 0 => profile.available = 0,
            MechanismKind::Sriov => {
                let free = profile.capacity.saturating_sub(alike).saturating_sub(foreign);
                profile.available = if cut { free } else { free.min(profile.available) };
            }
            MechanismKind::Mdev => {
                let coming = count(&|slice| {
                    slice.profile == profile.name && matches!(slice.phase, Phase::Planned | Phase::Creating)
                });
                profile.available = profile.available.saturating_sub(coming);
            }
        }
    }
    profiles
}

/// Finds places for all slices of the request.
///
/// # Errors
/// [`Refusal`] says what is short, what would fit, and whether it can ever be had.
pub fn place(request: &Request, gpus: &[GpuView]) -> Result<Placement, Refusal> {
    let mut left: Vec<GpuView> = gpus.to_vec();
    left.sort_by_key(|gpu| gpu.address);
    let mut choices: Vec<Choice> = Vec::new();
    while choices.len() < usize::try_from(request.count).unwrap_or(usize::MAX) {
        let candidates = left.iter().enumerate().filter(|(_, gpu)| eligible(request, gpu));
        let best = candidates
            .flat_map(|(index, gpu)| {
                let fitting = gpu
                    .profiles
                    .iter()
                    .enumerate()
                    .filter(|(_, profile)| profile.available > 0 && request.want.accepts(profile));
                fitting.map(move |(which, profile)| {
                    ((size(profile).0, size(profile).1, gpu.slices == 0, gpu.address), (index, which))
                })
            })
            .min()
            .map(|(_, place)| place);
        let Some((index, which)) = best else { break };
        let gpu = &mut left[index];
        let Ok(mechanism) = gpu.mechanism.clone() else { break };
        choices.push(Choice { gpu: gpu.address, mechanism, profile: gpu.profiles[which].clone() });
        gpu.slices += 1;
        for (other, profile) in gpu.profiles.iter_mut().enumerate() {
            if other == which {
                profile.available -= 1;
            } else if mechanism == MechanismKind::Sriov {
                profile.available = 0;
            }
        }
    }
    let complete = choices.len() == usize::try_from(request.count).unwrap_or(usize::MAX);
    let considered = consider(request, gpus, if complete { &choices } else { &[] });
    if complete {
        return Ok(Placement { choices, considered });
    }
    let placed = u32::try_from(choices.len()).unwrap_or(u32::MAX);
    Err(Refusal::explain(request, gpus, placed, considered))
}

fn eligible(request: &Request, gpu: &GpuView) -> bool {
    gpu.mechanism.is_ok() && request.gpu.is_none_or(|wanted| wanted == gpu.address)
}

fn consider(request: &Request, gpus: &[GpuView], choices: &[Choice]) -> Vec<Consideration> {
    gpus.iter()
        .map(|gpu| {
            let here: Vec<_> = choices.iter().filter(|choice| choice.gpu == gpu.address).collect();
            let reason = match here.first() {
                Some(choice) => {
                    format!("{} of {}, the smallest that satisfies", here.len(), choice.profile.name)
                }
                None => why_not(request, gpu, choices),
            };
            let verdict = if here.is_empty() { Verdict::NotChosen } else { Verdict::Chosen };
            Consideration { gpu: gpu.address, verdict, reason }
        })
        .collect()
}

fn why_not(request: &Request, gpu: &GpuView, choices: &[Choice]) -> String {
    if let Err(why) = &gpu.mechanism {
        return why.clone();
    }
    if let Some(asked) = request.gpu.filter(|asked| *asked != gpu.address) {
        return format!("{asked} was asked for");
    }
    let accepted: Vec<_> = gpu.profiles.iter().filter(|profile| request.want.accepts(profile)).collect();
    let Some(smallest) = accepted.iter().min_by_key(|profile| size(profile)) else {
        let present: Vec<_> = gpu.profiles.iter().map(|profile| profile.name.to_string()).collect();
        return match refusal::largest(gpu, &request.want) {
            Some(_) if gpu.when_empty.iter().any(|profile| request.want.accepts(profile)) => {
                format!(
                    "it is cut into {} now, and can be cut otherwise when it is empty",
                    present.join(", ")
                )
            }
            Some(largest) => format!("no profile satisfies {}; the largest is {largest}", request.want),
            None => "it offers no profile now".to_owned(),
        };
    };
    let available: u32 = accepted.iter().map(|profile| profile.available).max().unwrap_or(0);
    if available == 0 {
        return format!("no room is left for {}", smallest.name);
    }
    if choices.is_empty() {
        return format!("has room for {available}, which is not enough");
    }
    "another GPU fits better".to_owned()
}

#[cfg(test)]
mod tests;
