//! Which GPU and profile a request gets: pure.
//!
//! On each GPU the smallest profile that satisfies the request is a candidate, and a [`Chooser`] says what it
//! costs ([`Cost`] is the one that vgpud uses); the least cost wins, then the order of addresses. All
//! slices of a request fit, or none is placed. Every GPU gets a [`Consideration`], chosen or not.

use std::borrow::Cow;
use vgpud_config::{
    AffinityStrength, ComputeShare, Memory, NumaAffinity, PciAddress, PlacementStrategy, ProfileName,
};
use vgpud_mdev::{Gpu, MechanismKind, Profile, Taken};

mod cost;
mod refusal;
mod verdict;
mod want;
pub use cost::{Candidate, Chooser, Cost, Worth};
pub use refusal::{Refusal, Shortage};
pub use verdict::{Consideration, Verdict};
pub use want::{ComputeWant, Want};

/// What a user asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    pub want: Want,
    /// Only this GPU, or any.
    pub gpu: Option<PciAddress>,
    /// On which NUMA node, or any.
    pub numa: Option<NumaAffinity>,
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
    pub fn take(&mut self, profile: &ProfileName) {
        self.taken.push(Taken { profile: profile.clone(), exists: false });
        self.count();
    }

    fn count(&mut self) {
        self.profiles = self.beside(&self.taken);
    }

    /// What can be created beside `taken`.
    fn beside(&self, taken: &[Taken]) -> Vec<Profile> {
        self.mechanism
            .as_ref()
            .map_or_else(|_| Vec::new(), |kind| vgpud_mdev::mechanism(*kind).profiles(&self.gpu, taken))
    }
}

/// One slice's place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Choice {
    pub gpu: PciAddress,
    pub mechanism: MechanismKind,
    pub profile: Profile,
}

/// Places for all slices of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placement {
    pub choices: Vec<Choice>,
    pub considered: Vec<Consideration>,
}

/// Smaller is better; a size that is not known counts as the whole GPU.
fn size(profile: &Profile) -> (u64, u16) {
    let memory = profile.memory.map_or(u64::MAX, Memory::bytes);
    (memory, profile.compute.map_or(u16::MAX, ComputeShare::hundredths))
}

/// Finds places for all slices of the request.
///
/// # Errors
/// [`Refusal`] says what is short, what would fit, and whether it can ever be had.
pub fn place(request: &Request, gpus: &[GpuView], strategy: PlacementStrategy) -> Result<Placement, Refusal> {
    let search = Search::run(request, gpus, &strategy);
    let considered = verdict::consider(request, gpus, &search);
    if search.is_complete() {
        let choices = search.rounds.into_iter().map(|round| round.choice).collect();
        return Ok(Placement { choices, considered });
    }
    let placed = u32::try_from(search.rounds.len()).unwrap_or(u32::MAX);
    Err(Refusal::explain(request, gpus, placed, considered))
}

/// The places that a chooser finds for a request, in the order in which it found them; none where not all
/// slices fit.
pub fn choose<C: Chooser>(request: &Request, gpus: &[GpuView], chooser: &C) -> Option<Vec<Choice>> {
    let search = Search::run(request, gpus, chooser);
    search.is_complete().then(|| search.rounds.into_iter().map(|round| round.choice).collect())
}

/// What is compared between GPUs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Rank<C> {
    /// Whether it is elsewhere than on the NUMA node that is preferred.
    elsewhere: bool,
    cost: C,
}

/// The best candidate of one GPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Best<C> {
    rank: Rank<C>,
    /// Index of its profile.
    which: usize,
}

/// One slice's place, and what it was preferred to.
struct Round<C> {
    choice: Choice,
    rank: Rank<C>,
    /// The best candidate of another GPU then.
    next: Option<(PciAddress, Rank<C>)>,
}

/// How the places for one request were found.
struct Search<C> {
    wanted: usize,
    rounds: Vec<Round<C>>,
    /// In order of address, with the best candidate that each has after all rounds.
    best: Vec<(PciAddress, Option<Best<C>>)>,
}

impl<C: Ord + Copy> Search<C> {
    fn run<H: Chooser<Cost = C>>(request: &Request, gpus: &[GpuView], chooser: &H) -> Self {
        let mut left: Vec<Cow<'_, GpuView>> = gpus.iter().map(Cow::Borrowed).collect();
        left.sort_by_key(|gpu| gpu.address());
        let best = left.iter().map(|gpu| (gpu.address(), best_on(request, gpu, chooser))).collect();
        let wanted = usize::try_from(request.count).unwrap_or(usize::MAX);
        let mut search = Self { wanted, rounds: Vec::new(), best };
        while !search.is_complete() {
            let Some((index, Best { rank, which })) = search.least(None) else { break };
            let next = search.least(Some(index)).map(|(other, best)| (left[other].address(), best.rank));
            let gpu = left[index].to_mut();
            let Ok(mechanism) = gpu.mechanism.clone() else { break };
            let profile = gpu.profiles[which].clone();
            gpu.take(&profile.name);
            search.best[index].1 = best_on(request, gpu, chooser);
            let choice = Choice { gpu: gpu.address(), mechanism, profile };
            search.rounds.push(Round { choice, rank, next });
        }
        search
    }

    fn is_complete(&self) -> bool {
        self.rounds.len() == self.wanted
    }

    /// The best candidate of all GPUs but one.
    fn least(&self, without: Option<usize>) -> Option<(usize, Best<C>)> {
        let candidates = self.best.iter().enumerate().filter(|(index, _)| Some(*index) != without);
        candidates
            .filter_map(|(index, (_, best))| best.map(|best| (index, best)))
            .min_by_key(|(index, best)| (best.rank, *index))
    }
}

/// The best candidate of one GPU: of its smallest profiles that satisfy, the one of the least cost.
fn best_on<H: Chooser>(request: &Request, gpu: &GpuView, chooser: &H) -> Option<Best<H::Cost>> {
    if !eligible(request, gpu) {
        return None;
    }
    let fitting = gpu.profiles.iter().enumerate();
    let fitting = fitting.filter(|(_, profile)| profile.available > 0 && request.want.accepts(profile));
    let smallest = fitting.clone().map(|(_, profile)| size(profile)).min()?;
    let elsewhere = request.numa.is_some_and(|numa| gpu.gpu.numa_node != Some(numa.node));
    let mut taken = gpu.taken.clone();
    fitting
        .filter(|(_, profile)| size(profile) == smallest)
        .map(|(which, profile)| {
            taken.push(Taken { profile: profile.name.clone(), exists: false });
            let left = gpu.beside(&taken);
            taken.pop();
            let cost = chooser.cost(&Candidate { gpu, profile, left: &left });
            Best { rank: Rank { elsewhere, cost }, which }
        })
        .min_by_key(|best| (best.rank.cost, best.which))
}

fn eligible(request: &Request, gpu: &GpuView) -> bool {
    let required = request.numa.filter(|numa| numa.strength == AffinityStrength::Require);
    gpu.mechanism.is_ok()
        && request.gpu.is_none_or(|wanted| wanted == gpu.address())
        && required.is_none_or(|numa| gpu.gpu.numa_node == Some(numa.node))
}

#[cfg(test)]
mod tests;
