//! The rules that a file of the catalogue keeps.

use super::{Card, File, Geometry, MigAttribute, MigClass, Written};
use crate::PciId;
use std::collections::BTreeSet;

/// What is wrong with a file, if anything is.
pub(super) fn file(file: &File, written: &Written) -> Result<(), String> {
    for key in sources(written) {
        if !written.sources.contains_key(key) {
            return Err(format!("there is no source {key}"));
        }
    }
    written.card.iter().try_for_each(|card| check_card(file.vendor, card))?;
    written.geometry.iter().try_for_each(geometry)?;
    let slices: BTreeSet<_> = written.geometry.iter().map(|geometry| geometry.slices).collect();
    if slices.len() < written.geometry.len() {
        return Err("two geometries are for one number of slices".to_owned());
    }
    let mut names = BTreeSet::new();
    for group in &written.vgpu {
        for card in &group.cards {
            listed(written, *card)?;
            for known in &group.types {
                let name = known.name.as_ref();
                once(&mut names, *card, name)?;
                if let Some(class) = known.class {
                    divisible(written, *card, name, class, known.attribute)?;
                } else if known.attribute.is_some() {
                    return Err(format!("{name} has an attribute of MIG and no class"));
                }
            }
        }
    }
    for group in &written.mig_profiles {
        for card in &group.cards {
            for known in &group.profiles {
                once(&mut names, *card, &known.name)?;
                divisible(written, *card, &known.name, known.class, known.attribute)?;
            }
        }
    }
    let mut ways = BTreeSet::new();
    for group in &written.partitions {
        for card in &group.cards {
            listed(written, *card)?;
            for way in &group.ways {
                if !ways.insert((*card, way.vfs, way.memory, way.accelerator)) {
                    return Err(format!("a way to divide {card} is there twice: {way:?}"));
                }
            }
        }
    }
    let mut provisioned = BTreeSet::new();
    for card in written.provisioning.iter().flat_map(|provisioning| &provisioning.cards) {
        listed(written, *card)?;
        if !provisioned.insert(card) {
            return Err(format!("{card} is provisioned twice"));
        }
    }
    Ok(())
}

/// The keys of all sources that a file names.
pub(super) fn sources(written: &Written) -> Vec<&str> {
    let mut keys: Vec<&str> = Vec::new();
    for card in &written.card {
        keys.push(&card.source);
        keys.extend(card.vf.iter().map(|fact| &*fact.source));
        keys.extend(card.memory.iter().map(|fact| &*fact.source));
        keys.extend(card.vfs.iter().map(|fact| &*fact.source));
        keys.extend(card.vf_counts.iter().map(|fact| &*fact.source));
        keys.extend(card.mig_slices.iter().map(|fact| &*fact.source));
        keys.extend(card.hazards.iter().map(|fact| &*fact.source));
    }
    keys.extend(written.vgpu.iter().map(|group| &*group.source));
    keys.extend(written.mig_profiles.iter().map(|group| &*group.source));
    keys.extend(written.geometry.iter().map(|geometry| &*geometry.source));
    keys.extend(written.partitions.iter().map(|group| &*group.source));
    keys.extend(written.provisioning.iter().map(|provisioning| &*provisioning.source));
    keys
}

fn once<'a>(names: &mut BTreeSet<(PciId, &'a str)>, card: PciId, name: &'a str) -> Result<(), String> {
    if names.insert((card, name)) { Ok(()) } else { Err(format!("{name} of {card} is there twice")) }
}

fn check_card(vendor: u16, card: &Card) -> Result<(), String> {
    let name = &card.name;
    if card.ids.is_empty() {
        return Err(format!("{name} has no id"));
    }
    let vf = card.vf.as_ref().map(|vf| vf.value);
    if let Some(id) = card.ids.iter().copied().chain(vf).find(|id| id.vendor != vendor) {
        return Err(format!("{name} has the id {id}, which is another vendor's"));
    }
    let most = card.vfs.as_ref().map_or(u16::MAX, |vfs| vfs.value);
    let counts = card.vf_counts.as_ref().map_or(&[][..], |counts| &counts.value);
    if counts.iter().any(|count| *count > most) || !counts.is_sorted() {
        return Err(format!("{name} takes {counts:?} VFs, and has at most {most}"));
    }
    Ok(())
}

fn geometry(geometry: &Geometry) -> Result<(), String> {
    let mut ids = BTreeSet::new();
    let mut kinds = BTreeSet::new();
    for profile in &geometry.profiles {
        let (id, class) = (profile.id, profile.class);
        if !ids.insert(id) || !kinds.insert((class, profile.attribute)) {
            return Err(format!("profile {id} ({class}) is there twice"));
        }
        let room = geometry.memory_slices.checked_sub(profile.memory_slices);
        let fits = |start: &u8| room.is_some_and(|room| *start <= room);
        if profile.memory_slices == 0
            || !profile.starts.iter().all(fits)
            || !profile.starts.is_sorted()
            || profile.starts.is_empty()
            || usize::from(profile.max) > profile.starts.len()
            || class.slices() > geometry.slices
        {
            return Err(format!("profile {id} ({class}) does not fit into {} slices", geometry.slices));
        }
    }
    Ok(())
}

fn listed(written: &Written, card: PciId) -> Result<&Card, String> {
    let card_of = written.card.iter().find(|known| known.ids.contains(&card));
    card_of.ok_or_else(|| format!("there is no card {card}"))
}

/// A size must be one that the card can be divided into, where its geometry is known.
fn divisible(
    written: &Written,
    card: PciId,
    name: &str,
    class: MigClass,
    attribute: Option<MigAttribute>,
) -> Result<(), String> {
    let Some(slices) = &listed(written, card)?.mig_slices else {
        return Err(format!("{name} is of a MIG instance, and {card} has no slices"));
    };
    match written.geometry.iter().find(|geometry| geometry.slices == slices.value) {
        Some(geometry) if geometry.profile(class, attribute).is_none() => {
            Err(format!("{name} is {class}, and {card} cannot be divided so"))
        }
        _ => Ok(()),
    }
}
