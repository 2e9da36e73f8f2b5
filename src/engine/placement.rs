//! Which GPU and profile a request gets: pure.
//!
//! The smallest profile that satisfies the request wins; among equals, a GPU that is cut already,
//! so that as few as possible are broken up; then the order of addresses. All slices of a request
//! fit, or none is placed. Every GPU gets a [`Consideration`], chosen or not.

use vgpud_config::{ComputeShare, Memory, PciAddress, ProfileName};
use vgpud_mdev::{Gpu, MechanismKind, Profile, Taken};

mod refusal;
mod want;
use refusal::Lack;
pub use refusal::{Refusal, Shortage};
pub use want::{ComputeWant, Want};

/// What a user asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    pub want: Want,
    /// Only this GPU, or any.
    pub gpu: Option<PciAddress>,
    pub count: u32,
}

/// One GPU as placement sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GpuView {
    pub gpu: Gpu,
    /// The mechanism in use, or why nothing can be cut.
    pub mechanism: Result<MechanismKind, String>,
    /// By the slices that it is cut into already.
    pub taken: Vec<Taken>,
    /// What can be created beside those.
    pub profiles: Vec<Profile>,
    /// What it would offer if nothing were cut from it, as far as that is known.
    pub when_empty: Vec<Profile>,
}

/// Whether a GPU's division can become another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Emptying {
    /// When the last slice is gone: vgpud made it.
    BySlices,
    /// Somebody else made it.
    Never,
}

impl GpuView {
    #[must_use]
    pub fn new(
        gpu: Gpu,
        mechanism: Result<MechanismKind, String>,
        taken: Vec<Taken>,
        emptying: Emptying,
    ) -> Self {
        let mut view = Self { gpu, mechanism, taken, profiles: Vec::new(), when_empty: Vec::new() };
        view.count();
        view.when_empty = match (&view.mechanism, emptying) {
            (Ok(kind), Emptying::BySlices) => vgpud_mdev::mechanism(*kind).when_empty(&view.gpu),
            _ => view.profiles.clone(),
        };
        view
    }

    #[must_use]
    pub const fn address(&self) -> PciAddress {
        self.gpu.address
    }

    /// Gives one instance of `profile` away.
    fn take(&mut self, profile: &ProfileName) {
        self.taken.push(Taken { profile: profile.clone(), exists: false });
        self.count();
    }

    fn count(&mut self) {
        if let Ok(kind) = self.mechanism {
            self.profiles = vgpud_mdev::mechanism(kind).profiles(&self.gpu, &self.taken);
        }
    }
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

/// Smaller is better; a size that is not known counts as the whole GPU.
fn size(profile: &Profile) -> (u64, u16, &ProfileName) {
    let memory = profile.memory.map_or(u64::MAX, Memory::bytes);
    (memory, profile.compute.map_or(u16::MAX, ComputeShare::hundredths), &profile.name)
}

/// Finds places for all slices of the request.
///
/// # Errors
/// [`Refusal`] says what is short, what would fit, and whether it can ever be had.
pub fn place(request: &Request, gpus: &[GpuView]) -> Result<Placement, Refusal> {
    let mut left: Vec<GpuView> = gpus.to_vec();
    left.sort_by_key(GpuView::address);
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
                    ((size(profile).0, size(profile).1, gpu.taken.is_empty(), gpu.address()), (index, which))
                })
            })
            .min()
            .map(|(_, place)| place);
        let Some((index, which)) = best else { break };
        let gpu = &mut left[index];
        let Ok(mechanism) = gpu.mechanism.clone() else { break };
        let profile = gpu.profiles[which].clone();
        gpu.take(&profile.name);
        choices.push(Choice { gpu: gpu.address(), mechanism, profile });
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
    gpu.mechanism.is_ok() && request.gpu.is_none_or(|wanted| wanted == gpu.address())
}

fn consider(request: &Request, gpus: &[GpuView], choices: &[Choice]) -> Vec<Consideration> {
    gpus.iter()
        .map(|gpu| {
            let here: Vec<_> = choices.iter().filter(|choice| choice.gpu == gpu.address()).collect();
            let reason = match here.first() {
                Some(choice) => {
                    format!("{} of {}, the smallest that satisfies", here.len(), choice.profile.name)
                }
                None => why_not(request, gpu, choices),
            };
            let verdict = if here.is_empty() { Verdict::NotChosen } else { Verdict::Chosen };
            Consideration { gpu: gpu.address(), verdict, reason }
        })
        .collect()
}

fn why_not(request: &Request, gpu: &GpuView, choices: &[Choice]) -> String {
    if let Err(why) = &gpu.mechanism {
        return why.clone();
    }
    if let Some(asked) = request.gpu.filter(|asked| *asked != gpu.address()) {
        return format!("{asked} was asked for");
    }
    let accepted: Vec<_> = gpu.profiles.iter().filter(|profile| request.want.accepts(profile)).collect();
    let Some(smallest) = accepted.iter().min_by_key(|profile| size(profile)) else {
        let present: Vec<_> = gpu.profiles.iter().map(|profile| profile.name.to_string()).collect();
        if gpu.when_empty.iter().any(|profile| request.want.accepts(profile)) {
            return format!(
                "it is cut into {} now, and can be cut otherwise when it is empty",
                present.join(", ")
            );
        }
        return Lack::of(gpu, &request.want).told(&request.want);
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
