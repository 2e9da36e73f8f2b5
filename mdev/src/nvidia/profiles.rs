//! What a GPU offers in vGPUs, from what its driver showed: pure.
//!
//! The driver says which types fit once more, and not how many. The rest follows from sizes: by default
//! all time-sliced vGPUs of a card have one framebuffer size, that of the first, and share the card's
//! memory (NVIDIA Virtual GPU Software User Guide, "Equal-size mode"). A card that lists another size
//! beside one that exists is in mixed-size mode; what fits there after one more is not foreseen, and
//! neither is it for vGPUs in GPU instances of a card whose geometry is not known. Where it is, see
//! [`room`](super::mig::room).
//!
//! Among types of one size the first is taken by a request that names no profile: compute, then
//! workstation, types for games, desktop, and applications, each of which can less than the one before.
//!
//! A time-sliced vGPU's share is that of the fixed share scheduler, one of as many as the card holds of its
//! type ("Changing Scheduling Behavior for Time-Sliced vGPUs" there). The other schedulers give it no less
//! while all are busy, and what is idle beside it. Which one a card has no file says, only NVIDIA's tools.
//!
//! While VFs are off the driver says nothing, and the catalogue tells which types a card is known to have.

use super::{Mig, MigMode, NvidiaVgpu, VgpuSeries, VgpuVf, mig::room, vgpu::understood};
use crate::{ComputeShare, Gpu, Holds, Memory, PciId, Profile, ProfileName, Taken, cards};
use std::collections::{BTreeMap, BTreeSet};

/// The time-sliced types that the catalogue knows of a card.
pub(super) fn known_types(card: PciId) -> impl Iterator<Item = &'static ProfileName> {
    cards::catalogue().vgpus(card).filter(|known| known.class.is_none()).map(|known| &known.name)
}

pub(super) fn profiles(gpu: &Gpu, taken: &[Taken]) -> Vec<Profile> {
    if let Some(mig) = gpu.mig.as_ref().filter(|mig| mig.is_on(gpu)) {
        return room::profiles(gpu, mig, taken);
    }
    match &gpu.nvidia {
        Some(NvidiaVgpu::Off { .. }) => Card::empty(gpu, known_types(gpu.id).cloned().collect()).offer(taken),
        Some(NvidiaVgpu::On { vfs }) => Card::of(gpu, vfs).offer(taken),
        Some(NvidiaVgpu::Mediated { .. } | NvidiaVgpu::NoVgpus) | None => Vec::new(),
    }
}

/// What it would offer without any vGPU, as far as that is known.
pub(super) fn when_empty(gpu: &Gpu) -> Vec<Profile> {
    match gpu.mig.as_ref().and_then(Mig::when_empty) {
        Some(MigMode::On) => return room::when_empty(gpu),
        Some(MigMode::Off) => return Card::empty(gpu, known_types(gpu.id).cloned().collect()).offer(&[]),
        None => {}
    }
    let Some(NvidiaVgpu::On { vfs }) = &gpu.nvidia else { return profiles(gpu, &[]) };
    if vfs.iter().all(|vf| vf.current.is_none()) {
        return profiles(gpu, &[]);
    }
    let mut types = listed(vfs);
    if !types.iter().any(is_mig_backed) {
        types.extend(known_types(gpu.id).cloned());
    }
    Card::empty(gpu, types).offer(&[])
}

pub(super) fn framebuffer(name: &ProfileName) -> Option<Memory> {
    Some(understood(name)?.framebuffer)
}

/// How the share of a vGPU of this type holds, where it has one.
pub(super) fn holds(name: &ProfileName) -> Holds {
    match understood(name) {
        // A GPU instance has its slices of the GPU for itself (NVIDIA Multi-Instance GPU User Guide).
        Some(vgpu) if vgpu.mig.is_some() => Holds::ENFORCED,
        Some(_) => Holds::BEST_EFFORT,
        None => Holds::NOT_AVAILABLE,
    }
}

pub(super) fn is_mig_backed(name: &ProfileName) -> bool {
    understood(name).is_some_and(|vgpu| vgpu.mig.is_some())
}

pub(super) fn rank(name: &ProfileName) -> u8 {
    match understood(name).map(|vgpu| vgpu.series) {
        Some(Some(VgpuSeries::C)) => 0,
        Some(Some(VgpuSeries::Q)) => 1,
        Some(None) | None => 2,
        Some(Some(VgpuSeries::B)) => 3,
        Some(Some(VgpuSeries::A)) => 4,
    }
}

fn listed(vfs: &[VgpuVf]) -> BTreeSet<ProfileName> {
    vfs.iter().flat_map(|vf| &vf.creatable).map(|vgpu| vgpu.name.clone()).collect()
}

/// Time-sliced vGPUs are counted by their size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sharing {
    /// No vGPU exists, and the first will set the size.
    Open,
    /// All have the size of those that can be created.
    EqualSize,
    /// The driver alone knows what fits.
    ByDriver,
}

struct Card {
    /// VFs, whether they are on or not.
    vfs: usize,
    /// VFs that are vGPUs.
    used: usize,
    /// What fits once more.
    creatable: BTreeSet<ProfileName>,
    sharing: Sharing,
    /// What all vGPUs share, where that is known.
    framebuffer: Option<Memory>,
}

impl Card {
    fn new(gpu: &Gpu, vfs: usize, used: usize, creatable: BTreeSet<ProfileName>) -> Self {
        let sizes: BTreeSet<_> = creatable.iter().filter_map(framebuffer).collect();
        let by_driver = creatable.iter().any(is_mig_backed) || (used > 0 && sizes.len() > 1);
        let sharing = match (by_driver, used) {
            (true, _) => Sharing::ByDriver,
            (false, 0) => Sharing::Open,
            (false, _) => Sharing::EqualSize,
        };
        let known =
            cards::catalogue().card(gpu.id).and_then(|card| card.memory.as_ref()).map(|memory| memory.value);
        // The largest type is the whole card, as long as it can be seen.
        let largest = sizes.last().copied().filter(|_| used == 0);
        Self { vfs, used, creatable, sharing, framebuffer: known.max(largest) }
    }

    fn empty(gpu: &Gpu, creatable: BTreeSet<ProfileName>) -> Self {
        let total = gpu.sriov.as_ref().map_or(0, |sriov| sriov.total);
        Self::new(gpu, total.into(), 0, creatable)
    }

    fn of(gpu: &Gpu, vfs: &[VgpuVf]) -> Self {
        let used = vfs.iter().filter(|vf| vf.current.is_some()).count();
        Self::new(gpu, vfs.len(), used, listed(vfs))
    }

    fn offer(&self, taken: &[Taken]) -> Vec<Profile> {
        let coming: Vec<_> = taken.iter().filter(|taken| !taken.exists).map(|taken| &taken.profile).collect();
        let existing = taken.len() - coming.len();
        let free = self.vfs.saturating_sub(self.used.max(existing)).saturating_sub(coming.len());
        let mut counts: BTreeMap<&ProfileName, usize> = BTreeMap::new();
        for name in &self.creatable {
            counts.insert(name, self.fit(name, &coming).min(free));
        }
        // What no longer fits stays known by the slices that there are.
        for name in taken.iter().map(|taken| &taken.profile) {
            counts.entry(name).or_default();
        }
        let number = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        let profile = |(name, available): (&ProfileName, usize)| {
            let alike = taken.iter().filter(|taken| taken.profile == *name).count();
            let capacity = self.in_all(name).map_or(0, |most| most.min(self.vfs)).max(alike + available);
            let compute = self.share(name);
            Profile {
                name: name.clone(),
                memory: framebuffer(name),
                compute,
                holds: compute.map_or(Holds::NOT_AVAILABLE, |_| holds(name)),
                capacity: number(capacity),
                available: number(available),
            }
        };
        let mut profiles: Vec<_> = counts.into_iter().map(profile).collect();
        profiles.sort_by_key(|profile| (profile.memory, rank(&profile.name)));
        profiles
    }

    /// So many of a time-sliced type share the card's memory when nothing else does.
    fn in_all(&self, name: &ProfileName) -> Option<usize> {
        if is_mig_backed(name) {
            return None;
        }
        let (all, one) = (self.framebuffer?.bytes(), framebuffer(name)?.bytes());
        usize::try_from(all.checked_div(one)?).ok()
    }

    /// None where sizes are mixed, or the card's memory is not known.
    fn share(&self, name: &ProfileName) -> Option<ComputeShare> {
        if self.sharing == Sharing::ByDriver {
            return None;
        }
        let most = self.in_all(name)?.min(self.vfs);
        u16::try_from(most).ok().filter(|most| *most > 0).map(ComputeShare::one_of)
    }

    /// So many more of a type that can be created fit, when `coming` are made.
    fn fit(&self, name: &ProfileName, coming: &[&ProfileName]) -> usize {
        // The driver's word is good for one.
        let at_least = 1_usize.saturating_sub(coming.len());
        if self.sharing == Sharing::ByDriver {
            return at_least;
        }
        let size = framebuffer(name);
        if coming.iter().any(|other| framebuffer(other) != size) {
            return 0;
        }
        let in_all = self.in_all(name).unwrap_or(0);
        in_all.saturating_sub(self.used).saturating_sub(coming.len()).max(at_least)
    }
}
