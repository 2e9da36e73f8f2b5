//! What a GPU offers in vGPUs that are mediated devices, from what its driver showed: pure.
//!
//! Unlike the vendor-specific VFIO framework, the mdev bus keeps listing every type of a card, with a count: of
//! a PF how many more fit, of a VF none or one. What VFs say together is more than fits, so that the rest
//! follows from the card's memory, which its largest type has whole.

use super::profile_of;
use crate::{
    ComputeShare, Holds, MdevType, Memory, PciAddress, Profile, ProfileName, Taken,
    nvidia::{
        VfParent,
        profiles::{framebuffer, holds, is_mig_backed, rank},
    },
};
use std::collections::BTreeMap;

/// What the parents say of one type.
#[derive(Default)]
struct Offer {
    memory: Option<Memory>,
    most: Option<u32>,
    /// Of all parents.
    available: u32,
    existing: u32,
}

/// Of the GPU itself by its own types, or of its VFs.
pub(super) fn profiles(own: &[MdevType], vfs: &[VfParent], taken: &[Taken]) -> Vec<Profile> {
    let mut offers: BTreeMap<ProfileName, Offer> = BTreeMap::new();
    for mdev in own.iter().chain(vfs.iter().flat_map(|vf| &vf.types)) {
        let Some(name) = profile_of(mdev) else { continue };
        let offer = offers.entry(name).or_default();
        offer.memory = offer.memory.or(mdev.memory);
        offer.most = offer.most.or(mdev.most);
        offer.available += mdev.available;
        offer.existing += mdev.existing;
    }
    let on_vfs = (!vfs.is_empty()).then(|| u32::try_from(vfs.len()).unwrap_or(u32::MAX));
    let card = Card::of(&offers, on_vfs, taken);
    let mut profiles: Vec<_> = offers.iter().map(|(name, offer)| card.profile(name, offer)).collect();
    profiles.sort_by_key(|profile| (profile.memory, rank(&profile.name)));
    profiles
}

struct Card<'a> {
    /// How many vGPUs its VFs hold; none: they are the PF's.
    places: Option<u32>,
    /// What its time-sliced vGPUs share.
    memory: Option<Memory>,
    /// What exists, whoever has it.
    existing: u32,
    /// Sizes that its driver offers differ although a vGPU exists, or are GPU instances: it alone knows.
    by_driver: bool,
    coming: Vec<&'a ProfileName>,
}

impl<'a> Card<'a> {
    fn of(offers: &BTreeMap<ProfileName, Offer>, places: Option<u32>, taken: &'a [Taken]) -> Self {
        let shared = offers.keys().filter(|name| !is_mig_backed(name));
        let existing = offers.values().map(|offer| offer.existing).sum();
        let fitting = || offers.iter().filter(|(_, offer)| offer.available > 0).map(|(name, _)| name);
        let mut sizes: Vec<_> = fitting().map(framebuffer).collect();
        sizes.dedup();
        Self {
            places,
            memory: shared.filter_map(framebuffer).max(),
            existing,
            by_driver: fitting().any(is_mig_backed)
                || (existing > 0 && sizes.iter().any(|size| *size != sizes[0])),
            coming: taken.iter().filter(|taken| !taken.exists).map(|taken| &taken.profile).collect(),
        }
    }

    fn profile(&self, name: &ProfileName, offer: &Offer) -> Profile {
        let available = self.available(name, offer);
        let places = self.places.unwrap_or(u32::MAX);
        let most = offer.most.or_else(|| self.in_all(name)).unwrap_or(0).min(places);
        // As in `nvidia-vfio`: that of the fixed share scheduler, where sizes are equal.
        let share = u16::try_from(most).ok().filter(|most| *most > 0 && !self.by_driver);
        let compute = share.map(ComputeShare::one_of);
        Profile {
            name: name.clone(),
            memory: offer.memory.or_else(|| framebuffer(name)),
            compute,
            holds: compute.map_or(Holds::NOT_AVAILABLE, |_| holds(name)),
            capacity: most.max(offer.existing + available),
            available,
        }
    }

    /// So many of a time-sliced type share the card's memory when nothing else does.
    fn in_all(&self, name: &ProfileName) -> Option<u32> {
        if is_mig_backed(name) {
            return None;
        }
        let (all, one) = (self.memory?.bytes(), framebuffer(name)?.bytes());
        u32::try_from(all.checked_div(one)?).ok()
    }

    fn available(&self, name: &ProfileName, offer: &Offer) -> u32 {
        let coming = u32::try_from(self.coming.len()).unwrap_or(u32::MAX);
        if offer.available == 0 {
            return 0;
        }
        // The driver's word is good for one.
        let at_least = 1_u32.saturating_sub(coming);
        if self.by_driver {
            return at_least;
        }
        let size = framebuffer(name);
        if self.coming.iter().any(|other| framebuffer(other) != size) {
            return 0;
        }
        let fit = match self.places {
            None => offer.available,
            // Each spare VF says one, and all of them together more than the memory holds.
            Some(_) => {
                let left = self.in_all(name).unwrap_or(0).saturating_sub(self.existing).max(1);
                let most = offer.most.map_or(left, |most| most.saturating_sub(self.existing).max(1));
                offer.available.min(left).min(most)
            }
        };
        fit.saturating_sub(coming)
    }
}

/// What the driver offers in place of what does not fit.
pub(super) fn short(offered: &[(PciAddress, MdevType)]) -> String {
    let mut existing: BTreeMap<ProfileName, u32> = BTreeMap::new();
    let mut fitting: BTreeMap<ProfileName, u32> = BTreeMap::new();
    for (_, mdev) in offered {
        let Some(name) = profile_of(mdev) else { continue };
        if mdev.existing > 0 {
            *existing.entry(name.clone()).or_default() += mdev.existing;
        }
        if mdev.available > 0 {
            *fitting.entry(name).or_default() += mdev.available;
        }
    }
    let holds: Vec<_> = existing.iter().map(|(name, count)| format!("{count} of {name}")).collect();
    let holds = if holds.is_empty() { "no vGPU".to_owned() } else { holds.join(", ") };
    let fits: Vec<_> = fitting.keys().map(ToString::to_string).collect();
    let fits = if fits.is_empty() { "no more vGPU".to_owned() } else { fits.join(", ") };
    format!("it holds {holds}, and its driver offers {fits} now")
}
