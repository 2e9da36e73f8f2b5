//! What fits into a card beside what is there, by its geometry: pure.

use super::{InstanceUse, Mig, MigInstance, MigKind, geometry, kind_of};
use crate::{
    ComputeShare, Gpu, PciId, Profile, ProfileName, Taken, cards,
    nvidia::{
        Blocked, Geometry, GpuInstance, Layout, LayoutError,
        profiles::{holds, rank},
        vgpu::understood,
    },
};
use std::collections::BTreeMap;

/// A card with its GPU instances, into which more vGPUs are to come.
#[derive(Clone, Debug)]
pub(in crate::nvidia) struct Room {
    layout: Layout<'static>,
    /// GPU instances that can take a vGPU as they are.
    free: Vec<MigKind>,
}

impl Room {
    /// What vgpud made and nobody uses is as good as not there: it goes when its place is needed.
    ///
    /// # Errors
    /// Where the instances cannot be together.
    pub(super) fn new(geometry: &'static Geometry, instances: &[MigInstance]) -> Result<Self, LayoutError> {
        let stay = || instances.iter().filter(|instance| !instance.is_left());
        let places: Vec<GpuInstance> = stay().map(|instance| instance.place).collect();
        let free = stay().filter(|instance| instance.is_free());
        let free = free.map(|instance| instance.place.kind()).collect();
        Ok(Self { layout: Layout::new(geometry, &places)?, free })
    }

    /// Gives one instance away: one that is there, or another where it spoils least.
    ///
    /// # Errors
    /// Says what is in the way.
    pub(super) fn take(&mut self, kind: MigKind) -> Result<(), Blocked> {
        if let Some(at) = self.free.iter().position(|free| *free == kind) {
            self.free.swap_remove(at);
            return Ok(());
        }
        let MigKind { class, attribute } = kind;
        let start = self.best_start(kind)?;
        // It was free a moment ago.
        let _ = self.layout.add(GpuInstance { class, attribute, start });
        Ok(())
    }

    /// As [`Layout::best_start`].
    pub(super) fn best_start(&self, kind: MigKind) -> Result<u8, Blocked> {
        self.layout.best_start(kind.class, kind.attribute)
    }

    /// How many more of a kind fit, if nothing else comes.
    fn fit(&self, kind: MigKind) -> usize {
        let free = self.free.iter().filter(|free| **free == kind).count();
        let placeable = self.layout.placeable();
        let more = placeable
            .iter()
            .find(|place| place.profile.class == kind.class && place.profile.attribute == kind.attribute);
        free + more.map_or(0, |place| usize::from(place.more))
    }
}

/// The types that the catalogue knows of a card's GPU instances, with the kind that each lives in.
fn known_types(card: PciId) -> impl Iterator<Item = (&'static ProfileName, MigKind)> {
    let names = cards::catalogue().vgpus(card).filter(|known| known.class.is_some());
    names.filter_map(move |known| Some((&known.name, kind_of(card, &known.name)?)))
}

/// Kinds that a card is known to offer.
fn known_kinds(card: PciId) -> Vec<MigKind> {
    let profiles = cards::catalogue().mig_profiles(card);
    profiles.map(|known| MigKind { class: known.class, attribute: known.attribute }).collect()
}

/// What a card with MIG offers beside `taken`. Its VFs are on, or will be for the first vGPU.
pub(in crate::nvidia) fn profiles(gpu: &Gpu, mig: &Mig, taken: &[Taken]) -> Vec<Profile> {
    let Some(offer) = Offer::of(gpu, mig) else { return Vec::new() };
    offer.profiles(taken)
}

/// The same of an empty card.
pub(in crate::nvidia) fn when_empty(gpu: &Gpu) -> Vec<Profile> {
    let Some(geometry) = geometry(gpu.id) else { return Vec::new() };
    let Ok(room) = Room::new(geometry, &[]) else { return Vec::new() };
    let kinds = known_kinds(gpu.id).into_iter().map(|kind| (kind, usize::MAX)).collect();
    Offer { gpu, geometry, room, used: Vec::new(), kinds }.profiles(&[])
}

struct Offer<'a> {
    gpu: &'a Gpu,
    geometry: &'static Geometry,
    room: Room,
    /// Kinds of the GPU instances that back vGPUs.
    used: Vec<MigKind>,
    /// Kinds that the card offers, and how many more vGPUs of them its driver would take.
    kinds: Vec<(MigKind, usize)>,
}

impl<'a> Offer<'a> {
    fn of(gpu: &'a Gpu, mig: &Mig) -> Option<Self> {
        let geometry = geometry(gpu.id)?;
        let seen = mig.seen.as_ref().ok()?;
        // GPU instances end when VFs are turned on.
        let there = if gpu.has_vfs() { &seen.instances[..] } else { &[] };
        let room = Room::new(geometry, there).ok()?;
        let used = there.iter().filter(|instance| matches!(instance.used_by, InstanceUse::Vgpu(_)));
        let used = used.map(|instance| instance.place.kind()).collect();
        let most = |kind: MigKind, driver: u8| {
            // The driver counts what vgpud would end before.
            let spare = there.iter().any(MigInstance::is_left);
            match gpu.has_vfs() && !spare {
                true => usize::from(driver) + room.free.iter().filter(|free| **free == kind).count(),
                false => usize::MAX,
            }
        };
        let kinds = match seen.offered.is_empty() {
            true => known_kinds(gpu.id).into_iter().map(|kind| (kind, usize::MAX)).collect(),
            false => seen.offered.iter().map(|offer| (offer.kind, most(offer.kind, offer.free))).collect(),
        };
        Some(Self { gpu, geometry, room, used, kinds })
    }

    fn vfs(&self) -> usize {
        self.gpu.sriov.as_ref().map_or(0, |sriov| sriov.total.into())
    }

    fn profiles(mut self, taken: &[Taken]) -> Vec<Profile> {
        // A slice that is there has its GPU instance, or had it and gets it back.
        let mut used = self.used.clone();
        let mut coming: BTreeMap<MigKind, usize> = BTreeMap::new();
        for slice in taken {
            let Some(kind) = kind_of(self.gpu.id, &slice.profile) else { continue };
            let backed = used.iter().position(|used| slice.exists && *used == kind);
            match backed {
                Some(at) => drop(used.swap_remove(at)),
                None => {
                    // Where it finds no room its own creation says so.
                    let _ = self.room.take(kind);
                    *coming.entry(kind).or_default() += 1;
                }
            }
        }
        let vfs = self.vfs();
        let existing = taken.iter().filter(|slice| slice.exists).count();
        let taken_vfs = existing.max(self.used.len()) + taken.len() - existing;
        let free_vfs = vfs.saturating_sub(taken_vfs);
        let slices = self.geometry.slices;
        let types = known_types(self.gpu.id).filter_map(|(name, kind)| {
            let alike = taken.iter().filter(|slice| slice.profile == *name).count();
            let (_, driver) = self.kinds.iter().find(|(offered, _)| *offered == kind)?;
            let coming = coming.get(&kind).copied().unwrap_or(0);
            let available = self.room.fit(kind).min(driver.saturating_sub(coming)).min(free_vfs);
            let most = self.geometry.profile(kind.class, kind.attribute).map_or(0, |known| known.max);
            let number = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
            Some(Profile {
                name: name.clone(),
                memory: understood(name).map(|vgpu| vgpu.framebuffer),
                compute: Some(ComputeShare::parts_of(kind.class.slices(), slices)),
                holds: holds(name),
                capacity: number(usize::from(most).min(vfs).max(alike + available)),
                available: number(available),
            })
        });
        let mut profiles: Vec<_> = types.collect();
        profiles.sort_by_key(|profile| (profile.memory, profile.compute, rank(&profile.name)));
        profiles
    }
}
