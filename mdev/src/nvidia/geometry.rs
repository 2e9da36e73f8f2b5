//! Where instances of MIG fit on a card.
//!
//! An instance takes a run of memory slices that begins where its profile may begin, and runs do not
//! overlap. Nothing moves afterwards, so a small instance in the wrong place costs a large one:
//! [`Layout::best_start`] takes the place after which the largest profiles still fit, as often as can be.
//!
//! Beside that a profile has a most, and one instance of the card can have the extra media engines. Which
//! profiles a card offers of those in its geometry, the card says.

use super::{Geometry, GeometryProfile, MigAttribute, MigClass};
use serde::Serialize;
use std::fmt;

/// A GPU instance that exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct GpuInstance {
    pub class: MigClass,
    pub attribute: Option<MigAttribute>,
    /// Its first memory slice.
    pub start: u8,
}

/// The instances of one card.
#[derive(Clone, Debug)]
pub struct Layout<'a> {
    geometry: &'a Geometry,
    placed: Vec<(GpuInstance, &'a GeometryProfile)>,
}

/// A profile, and where another instance of it can begin now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placeable<'a> {
    pub profile: &'a GeometryProfile,
    /// In rising order; the one that [`Layout::best_start`] takes among them.
    pub starts: Vec<u8>,
    /// How many more of it fit, if nothing else is placed.
    pub more: u8,
}

/// Instances that cannot be together: the device says something that its geometry does not know.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LayoutError {
    #[error("A card of {slices} slices has no instance {instance}")]
    Unknown { instance: GpuInstance, slices: u8 },
    #[error("The instances {first} and {second} overlap")]
    Overlap { first: GpuInstance, second: GpuInstance },
}

/// Why no instance of a profile can be placed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Blocked {
    #[error("A card of {slices} slices has no instances of {profile}")]
    NoSuchProfile { profile: ProfileText, slices: u8 },
    #[error("The card has {max} of {profile} already, which is the most")]
    Most { profile: ProfileText, max: u8 },
    #[error(
        "Only one instance can have the extra media engines, and {holder} has them; {profile} wants them too"
    )]
    Media { profile: ProfileText, holder: GpuInstance },
    #[error("There is no room for {profile}: {}", in_the_way(at))]
    Taken {
        profile: ProfileText,
        /// For each place where it could begin, the first instance that is in the way.
        at: Vec<(u8, GpuInstance)>,
    },
}

/// A profile in a sentence: `1g+me`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProfileText {
    class: MigClass,
    attribute: Option<MigAttribute>,
}

fn in_the_way(at: &[(u8, GpuInstance)]) -> String {
    let ways: Vec<_> = at.iter().map(|(start, other)| format!("at {start} is {other}")).collect();
    ways.join(", ")
}

impl<'a> Layout<'a> {
    /// A card with these instances.
    ///
    /// # Errors
    /// Where they cannot be together on a card of this geometry.
    pub fn new(geometry: &'a Geometry, instances: &[GpuInstance]) -> Result<Self, LayoutError> {
        let mut layout = Self { geometry, placed: Vec::new() };
        for instance in instances {
            layout.add(*instance)?;
        }
        Ok(layout)
    }

    /// The same with one more instance.
    ///
    /// # Errors
    /// As [`new`](Self::new); the layout is as it was then.
    pub fn add(&mut self, instance: GpuInstance) -> Result<(), LayoutError> {
        let profile = self.geometry.profile(instance.class, instance.attribute);
        let Some(profile) = profile.filter(|profile| profile.starts.contains(&instance.start)) else {
            return Err(LayoutError::Unknown { instance, slices: self.geometry.slices });
        };
        if let Some(first) = self.blocking(profile, instance.start) {
            return Err(LayoutError::Overlap { first, second: instance });
        }
        self.placed.push((instance, profile));
        Ok(())
    }

    /// What can be placed now: every profile of which at least one instance fits.
    #[must_use]
    pub fn placeable(&self) -> Vec<Placeable<'a>> {
        let profiles = self.geometry.profiles.iter();
        let placeable = profiles.filter_map(|profile| {
            let starts = self.starts(profile.class, profile.attribute).ok()?;
            Some(Placeable { profile, starts, more: self.more(profile) })
        });
        placeable.collect()
    }

    /// Where another instance can begin, in rising order; never empty.
    ///
    /// # Errors
    /// Says what is in the way.
    pub fn starts(&self, class: MigClass, attribute: Option<MigAttribute>) -> Result<Vec<u8>, Blocked> {
        let text = ProfileText { class, attribute };
        let Some(profile) = self.geometry.profile(class, attribute) else {
            return Err(Blocked::NoSuchProfile { profile: text, slices: self.geometry.slices });
        };
        if self.count(profile) >= usize::from(profile.max) {
            return Err(Blocked::Most { profile: text, max: profile.max });
        }
        if let Some(holder) = self.media().filter(|_| takes_media(attribute)) {
            return Err(Blocked::Media { profile: text, holder });
        }
        let mut at = Vec::new();
        let mut free = Vec::new();
        for start in &profile.starts {
            match self.blocking(profile, *start) {
                Some(other) => at.push((*start, other)),
                None => free.push(*start),
            }
        }
        if free.is_empty() { Err(Blocked::Taken { profile: text, at }) } else { Ok(free) }
    }

    /// Where the next instance should begin: after it the largest size fits as often as can be, then the
    /// next smaller, and so on; among equals at the highest place, where small ones are least in the way.
    ///
    /// # Errors
    /// As [`starts`](Self::starts).
    pub fn best_start(&self, class: MigClass, attribute: Option<MigAttribute>) -> Result<u8, Blocked> {
        let starts = self.starts(class, attribute)?;
        // What still fits afterwards, from the largest class.
        let left = |start: u8| {
            let mut then = self.clone();
            then.add(GpuInstance { class, attribute, start }).ok()?;
            let mut more = MigClass::ALL.map(|class| then.more_of(class));
            more.reverse();
            Some(more)
        };
        let best = starts.into_iter().max_by_key(|start| (left(*start), *start));
        // There is one: `starts` is not empty.
        best.ok_or(Blocked::Taken { profile: ProfileText { class, attribute }, at: Vec::new() })
    }

    fn more_of(&self, class: MigClass) -> u8 {
        self.geometry.profile(class, None).map_or(0, |profile| self.more(profile))
    }

    /// How many more of a profile fit, if nothing else is placed. All are equally long, so taking the
    /// lowest place each time is the most.
    fn more(&self, profile: &'a GeometryProfile) -> u8 {
        let (class, attribute) = (profile.class, profile.attribute);
        let mut then = self.clone();
        let mut more = 0;
        while let Ok(starts) = then.starts(class, attribute) {
            let lowest = starts.first().copied();
            match lowest.map(|start| then.add(GpuInstance { class, attribute, start })) {
                Some(Ok(())) => more += 1,
                _ => break,
            }
        }
        more
    }

    fn count(&self, profile: &GeometryProfile) -> usize {
        self.placed.iter().filter(|(_, placed)| placed.id == profile.id).count()
    }

    /// The instance that has the extra media engines. Each card has one optical flow engine that goes with
    /// them (NVIDIA Multi-Instance GPU User Guide, Supported MIG Profiles).
    fn media(&self) -> Option<GpuInstance> {
        self.placed.iter().map(|(instance, _)| *instance).find(|instance| takes_media(instance.attribute))
    }

    /// The first instance on the slices that one would take.
    fn blocking(&self, profile: &GeometryProfile, start: u8) -> Option<GpuInstance> {
        let end = start.saturating_add(profile.memory_slices);
        let overlaps = |(instance, placed): &&(GpuInstance, &GeometryProfile)| {
            instance.start < end && start < instance.start.saturating_add(placed.memory_slices)
        };
        let others = self.placed.iter().filter(overlaps).map(|(instance, _)| *instance);
        others.min_by_key(|instance| instance.start)
    }
}

fn takes_media(attribute: Option<MigAttribute>) -> bool {
    matches!(attribute, Some(MigAttribute::Me | MigAttribute::MeAll))
}

impl fmt::Display for ProfileText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.class, self.attribute.map_or("", MigAttribute::of_profile))
    }
}

impl fmt::Display for GpuInstance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { class, attribute, start } = *self;
        write!(f, "{} at {start}", ProfileText { class, attribute })
    }
}

#[cfg(test)]
mod tests;
