//! What would change a GPU into what a layout wants of it: pure.
//!
//! A slice that somebody has, that is kept for somebody, or that work is done on stays as it is, and
//! counts for the layout where it is what that wants. All others can go. What is wanted beside those that
//! stay gets its profile by [`place`], on the GPU as it would be without any slice that can go (or where only
//! the device knows what fits then, the smallest that satisfies): so that a second look at what came of it
//! finds the same. Then slices of these profiles stay, the other free ones
//! go first, and what is missing is created.
//!
//! A slice that stands in the way blocks its GPU as a whole: nothing is done there by halves.

use super::{
    Fate, Phase, Slice, SliceId, State,
    placement::{Emptying, GpuView, Request, Want, place},
};
use std::collections::BTreeMap;
use vgpud_config::{ComputeShare, GpuChoice, Memory, PciAddress, PlacementStrategy, ProfileName};
use vgpud_mdev::{Division, Gpu, Holds, HostStep, Leaves, Profile, Taken, host_steps, mechanism};

mod partition;
#[cfg(test)]
mod tests;

pub use partition::{Asked, Hives, PartitionStep};

/// One GPU with its slices, as a plan is made for it.
#[derive(Clone, Debug)]
pub struct Site<'a> {
    pub view: GpuView,
    pub emptying: Emptying,
    /// In order of id, each with what it takes of the GPU.
    pub slices: Vec<(&'a Slice, Taken)>,
}

/// What a layout wants of one GPU: so many of each.
pub type Goal = Vec<(Want, u32)>;

/// What is to be done for a layout, in order of the GPUs' addresses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LayoutPlan {
    pub gpus: Vec<GpuPlan>,
    /// Between the removals on their GPUs and the creations.
    pub partitions: Vec<PartitionStep>,
    /// What the host's operator has to do first.
    pub operator: Vec<OperatorStep>,
    /// Entries of the layout that mean no GPU of this host.
    pub unmatched: Vec<GpuChoice>,
}

/// A step that concerns the whole host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OperatorStep {
    pub step: HostStep,
    /// On its GPUs; they have to go before.
    pub slices: Vec<SliceId>,
}

/// What is to be done on one GPU: removals first. Nothing where it is blocked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GpuPlan {
    pub gpu: PciAddress,
    /// Slices that the layout wants and that are there, or come without further ado.
    pub keep: Vec<SliceId>,
    pub remove: Vec<SliceId>,
    pub create: Vec<(ProfileName, u32)>,
    /// What stands in the way, with the way out.
    pub blocked: Option<String>,
    /// Only the device can tell whether all that is created fits, and only as it comes to that.
    pub is_unsure: bool,
}

impl GpuPlan {
    /// Nothing can be done there.
    #[must_use]
    pub fn blocked(gpu: PciAddress, why: String) -> Self {
        let (keep, remove, create) = (Vec::new(), Vec::new(), Vec::new());
        Self { gpu, keep, remove, create, blocked: Some(why), is_unsure: false }
    }

    /// Whether there is something to do, and nothing in the way.
    #[must_use]
    pub fn has_steps(&self) -> bool {
        !self.remove.is_empty() || !self.create.is_empty()
    }

    /// The same without any slice that stays: each is ended and created again.
    fn start_anew(&mut self, state: &State) {
        let kept = std::mem::take(&mut self.keep);
        for profile in kept.iter().filter_map(|id| state.slices.get(id)).map(|slice| &slice.profile) {
            match self.create.iter_mut().find(|(name, _)| name == profile) {
                Some((_, count)) => *count += 1,
                None => self.create.push((profile.clone(), 1)),
            }
        }
        self.remove.extend(kept);
        self.remove.sort_unstable();
    }
}

/// What a slice is to a layout that does not want it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Removal {
    /// Nobody has it: it can be destroyed.
    Free,
    /// It goes by itself.
    UnderWay,
    /// It is leased, kept for its last owner, quarantined, or work is done on it.
    No,
}

impl Removal {
    /// The only rule by which a layout takes a slice away.
    #[must_use]
    pub fn of(slice: &Slice) -> Self {
        match (&slice.phase, &slice.fate) {
            (Phase::Destroying, Fate::Keep | Fate::Destroy) => Self::UnderWay,
            (Phase::Creating | Phase::Scrubbing, Fate::Destroy) => Self::UnderWay,
            (Phase::Ready, Fate::Keep) if slice.tie.is_none() && slice.data_of.is_none() => Self::Free,
            _ => Self::No,
        }
    }
}

/// Plans one GPU.
#[must_use]
pub fn plan(site: &Site<'_>, goal: &[(Want, u32)]) -> GpuPlan {
    let gpu = site.view.address();
    let (staying, going): (Vec<_>, Vec<_>) =
        site.slices.iter().partition(|(slice, _)| Removal::of(slice) == Removal::No);
    let wanted: u32 = goal.iter().fold(0, |sum, (_, count)| sum.saturating_add(*count));
    if wanted == 0 && site.slices.is_empty() {
        return GpuPlan { blocked: None, ..GpuPlan::blocked(gpu, String::new()) };
    }
    if let Err(why) = &site.view.mechanism {
        return GpuPlan::blocked(gpu, why.clone());
    }
    let mut missing = by_size(goal);
    let unwanted: Vec<&Slice> = staying
        .iter()
        .map(|(slice, _)| *slice)
        .filter(|slice| !absorb(&mut missing, slice, &site.view.gpu))
        .collect();
    if !unwanted.is_empty() {
        let reasons: Vec<String> = unwanted.iter().map(|slice| obstacle(slice)).collect();
        return GpuPlan::blocked(gpu, format!("The layout does not want what stays: {}", reasons.join("; ")));
    }
    let taken: Vec<Taken> = staying.iter().map(|(_, taken)| taken.clone()).collect();
    let gone = going.iter().filter(|(_, taken)| taken.exists).count();
    let base = foreseen(site, &taken, gone);
    let profiles = match &base {
        Some(base) => resolve(base, &missing),
        None => guess(&site.view, &missing),
    };
    let profiles = match profiles {
        Ok(profiles) => profiles,
        Err(why) => return GpuPlan::blocked(gpu, why),
    };
    let mut plan = GpuPlan { blocked: None, ..GpuPlan::blocked(gpu, String::new()) };
    plan.keep.extend(staying.iter().map(|(slice, _)| slice.id));
    let mut to_create = profiles;
    for (slice, _) in going {
        let same = to_create.iter().position(|profile| *profile == slice.profile);
        match same.filter(|_| Removal::of(slice) == Removal::Free) {
            Some(index) => {
                to_create.remove(index);
                plan.keep.push(slice.id);
            }
            None => plan.remove.push(slice.id),
        }
    }
    plan.keep.sort_unstable();
    // The largest first: a small one could take the place that only a large one fits.
    let size = |name: &ProfileName| {
        let known = site.view.when_empty.iter().chain(&site.view.profiles).find(|known| known.name == *name);
        known.map(|known| (known.memory.map(Memory::bytes), known.compute.map(ComputeShare::hundredths)))
    };
    to_create.sort_by_key(|name| std::cmp::Reverse(size(name)));
    if base.is_none() && !to_create.is_empty() {
        let alike = to_create.iter().all(|profile| *profile == to_create[0]);
        if plan.remove.is_empty() && alike {
            // What fits of one kind beside what is there, the device says.
            let named: Vec<Want> = to_create.iter().cloned().map(Want::Profile).collect();
            if let Err(why) = resolve(&site.view, &named) {
                return GpuPlan::blocked(gpu, why);
            }
        } else {
            plan.is_unsure = true;
        }
    }
    for profile in to_create {
        match plan.create.iter_mut().find(|(name, _)| *name == profile) {
            Some((_, count)) => *count += 1,
            None => plan.create.push((profile, 1)),
        }
    }
    plan
}

/// One want for each slice: profiles by name first, then the largest, so that a small one does not take
/// the place that only a large one fits.
fn by_size(goal: &[(Want, u32)]) -> Vec<Want> {
    let each = goal.iter().flat_map(|(want, count)| (0..*count).map(move |_| want.clone()));
    let mut wants: Vec<Want> = each.collect();
    wants.sort_by_key(|want| std::cmp::Reverse(asked(want)));
    wants
}

fn asked(want: &Want) -> (bool, u64, u16) {
    match want {
        Want::Profile(_) => (true, 0, 0),
        Want::Size { memory, compute } => {
            let share = compute.map_or(0, |compute| compute.request.share.hundredths());
            (false, memory.map_or(0, Memory::bytes), share)
        }
    }
}

/// Takes the first want that the slice satisfies off the list. Whether there was one.
fn absorb(missing: &mut Vec<Want>, slice: &Slice, gpu: &Gpu) -> bool {
    if matches!(slice.phase, Phase::Quarantined { .. }) {
        return false;
    }
    let profile = Profile {
        name: slice.profile.clone(),
        memory: slice.memory,
        compute: slice.compute,
        holds: slice
            .compute
            .map_or(Holds::NOT_AVAILABLE, |_| mechanism(slice.mechanism).holds(gpu, &slice.profile)),
        capacity: 1,
        available: 0,
    };
    let found = missing.iter().position(|want| want.accepts(&profile));
    found.map(|index| missing.remove(index)).is_some()
}

/// Why a slice is not taken away.
fn obstacle(slice: &Slice) -> String {
    let Slice { id, profile, .. } = slice;
    match &slice.phase {
        Phase::Leased { lease } | Phase::Releasing { lease } => {
            format!("{id} ({profile}) is leased to {}; it can go when it is released", lease.owner)
        }
        Phase::Quarantined { .. } => {
            format!(
                "{id} ({profile}) is quarantined; `vgpuctl quarantine clear {id}` or `vgpuctl destroy {id}`"
            )
        }
        Phase::Ready => match &slice.data_of {
            Some(owner) => format!("{id} ({profile}) is kept for {owner}; `vgpuctl destroy {id}` ends it"),
            None => format!("{id} ({profile}) is being created with others; try again in a moment"),
        },
        Phase::Planned | Phase::Creating | Phase::Scrubbing | Phase::Destroying => {
            format!("{id} ({profile}) is {} just now; try again in a moment", slice.phase)
        }
    }
}

/// The GPU without any slice that can go; none where its instances are each made by themselves, so that
/// only the device can tell what fits.
fn foreseen(site: &Site<'_>, staying: &[Taken], gone: usize) -> Option<GpuView> {
    let kind = site.view.mechanism.as_ref().ok()?;
    if mechanism(*kind).division() == Division::Counted {
        return None;
    }
    let retired = staying.is_empty() && gone > 0 && site.emptying == Emptying::BySlices;
    let leaves = if retired { Leaves::Nothing } else { Leaves::Division };
    let gpu = mechanism(*kind).without(&site.view.gpu, gone, leaves)?;
    Some(GpuView::new(gpu, site.view.mechanism.clone(), staying.to_vec(), site.emptying))
}

/// The profile of each, in the order that they were asked in.
fn resolve(base: &GpuView, wants: &[Want]) -> Result<Vec<ProfileName>, String> {
    let mut view = base.clone();
    let mut profiles = Vec::new();
    for want in wants {
        let request = Request { want: want.clone(), gpu: Some(view.address()), numa: None, count: 1 };
        let placed = place(&request, std::slice::from_ref(&view), PlacementStrategy::default()).map_err(
            |refusal| {
                let beside = if profiles.is_empty() { "" } else { ", beside what the layout wants too" };
                format!("{refusal}{beside}")
            },
        )?;
        let [choice] = &placed.choices[..] else { return Err(format!("No place is known for {want}")) };
        let profile = choice.profile.name.clone();
        let mut taken = view.taken.clone();
        taken.push(Taken { profile: profile.clone(), exists: false });
        // Its division is the one that has begun.
        view = GpuView::new(view.gpu, view.mechanism, taken, Emptying::Never);
        profiles.push(profile);
    }
    Ok(profiles)
}

/// The same where what the GPU would have room for is not known: the smallest that satisfies.
fn guess(view: &GpuView, wants: &[Want]) -> Result<Vec<ProfileName>, String> {
    let known = || view.when_empty.iter().chain(&view.profiles);
    // Among those of one size the first, as a request takes it.
    let size = |profile: &&Profile| {
        let memory = profile.memory.map_or(u64::MAX, Memory::bytes);
        (memory, profile.compute.map_or(u16::MAX, ComputeShare::hundredths))
    };
    let smallest = |want: &Want| {
        let profile = known().filter(|profile| want.accepts(profile)).min_by_key(size);
        profile.map(|profile| profile.name.clone()).ok_or_else(|| {
            let names: Vec<String> = view.when_empty.iter().map(|profile| profile.name.to_string()).collect();
            format!(
                "GPU {} offers nothing that satisfies {want}; there are {}",
                view.address(),
                names.join(", ")
            )
        })
    };
    wants.iter().map(smallest).collect()
}

/// The steps that the host's operator has to take before GPUs can offer what is wanted of them.
#[must_use]
pub fn for_the_operator(
    state: &State,
    gpus: &[&Gpu],
    goals: &BTreeMap<PciAddress, Goal>,
) -> Vec<OperatorStep> {
    let wanted = goals.iter().filter_map(|(gpu, goal)| match &goal[..] {
        [(Want::Profile(profile), _)] => Some((*gpu, profile.clone())),
        _ => None,
    });
    let steps = host_steps(gpus, &wanted.collect());
    let with_slices = steps.into_iter().map(|step| {
        let slices = step.gpus.iter().flat_map(|gpu| state.slices_of(*gpu)).map(|slice| slice.id);
        OperatorStep { slices: slices.collect(), step }
    });
    with_slices.collect()
}
