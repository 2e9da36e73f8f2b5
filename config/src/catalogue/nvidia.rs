//! NVIDIA's vGPU types, MIG profiles and the geometry of MIG.

use crate::{Memory, PciId, ProfileName};
use serde::{Deserialize, Serialize};
use std::fmt;

/// What a vGPU type is licensed for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
pub enum VgpuSeries {
    /// Virtual workstation.
    Q,
    /// Virtual desktop.
    B,
    /// Virtual applications.
    A,
    /// Compute.
    C,
}

impl VgpuSeries {
    pub const ALL: [Self; 4] = [Self::Q, Self::B, Self::A, Self::C];

    #[must_use]
    pub const fn letter(self) -> char {
        match self {
            Self::Q => 'Q',
            Self::B => 'B',
            Self::A => 'A',
            Self::C => 'C',
        }
    }
}

/// Size of a GPU instance of MIG, whatever the memory of the card. Names of profiles and of vGPU types
/// that stand for one size differ in their gigabytes: they are compared by this.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum MigClass {
    #[serde(rename = "1g")]
    One,
    /// One compute slice with twice the memory.
    #[serde(rename = "1g.double")]
    OneDouble,
    #[serde(rename = "2g")]
    Two,
    #[serde(rename = "3g")]
    Three,
    #[serde(rename = "4g")]
    Four,
    #[serde(rename = "7g")]
    Seven,
}

impl MigClass {
    /// From the smallest.
    pub const ALL: [Self; 6] = [Self::One, Self::OneDouble, Self::Two, Self::Three, Self::Four, Self::Seven];

    /// Its compute slices.
    #[must_use]
    pub const fn slices(self) -> u8 {
        match self {
            Self::One | Self::OneDouble => 1,
            Self::Two => 2,
            Self::Three => 3,
            Self::Four => 4,
            Self::Seven => 7,
        }
    }
}

impl fmt::Display for MigClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let double = if matches!(self, Self::OneDouble) { " with double memory" } else { "" };
        write!(f, "{}g{double}", self.slices())
    }
}

/// What a GPU instance has beside its slices, where it is not the usual share.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MigAttribute {
    /// The media engines that only one instance of the card can have.
    Me,
    /// No media engines.
    NoMe,
    /// All media engines.
    MeAll,
    /// Graphics, which the vGPU types of workstation, desktop and applications need.
    Gfx,
}

impl MigAttribute {
    pub const ALL: [Self; 4] = [Self::Me, Self::NoMe, Self::MeAll, Self::Gfx];

    /// As the name of a MIG profile ends.
    #[must_use]
    pub const fn of_profile(self) -> &'static str {
        match self {
            Self::Me => "+me",
            Self::NoMe => "-me",
            Self::MeAll => "+me.all",
            Self::Gfx => "+gfx",
        }
    }

    /// As the name of a vGPU type ends.
    #[must_use]
    pub const fn of_vgpu(self) -> &'static str {
        match self {
            Self::Me => "ME",
            Self::NoMe => "NOME",
            Self::MeAll => "MEALL",
            Self::Gfx => "GFX",
        }
    }
}

/// A vGPU type that is known by its name.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KnownVgpu {
    /// Short, such as `A40-8Q`.
    pub name: ProfileName,
    /// None: a type for games.
    pub series: Option<VgpuSeries>,
    pub framebuffer: Memory,
    /// Most at once on a card that has no other, where somebody says it.
    pub max: Option<u32>,
    /// Of the GPU instance that it lives in; none: it shares the whole card by time.
    pub class: Option<MigClass>,
    pub attribute: Option<MigAttribute>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Vgpus {
    pub(super) cards: Vec<PciId>,
    pub(super) source: String,
    pub(super) types: Vec<KnownVgpu>,
}

/// A MIG profile that is known by its name.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KnownMigProfile {
    /// Such as `1g.24gb-me`. Its `+` makes it no [`ProfileName`].
    pub name: String,
    pub class: MigClass,
    pub attribute: Option<MigAttribute>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct MigProfiles {
    pub(super) cards: Vec<PciId>,
    pub(super) source: String,
    pub(super) profiles: Vec<KnownMigProfile>,
}

/// How the cards of some number of compute slices are divided. A card offers no more of the profiles
/// than it says, and some cards fewer.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Geometry {
    /// Compute slices of the card.
    pub slices: u8,
    /// Memory slices of the card; placements are counted in these.
    pub memory_slices: u8,
    pub source: String,
    pub profiles: Vec<GeometryProfile>,
}

/// One size of GPU instance.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GeometryProfile {
    pub class: MigClass,
    pub attribute: Option<MigAttribute>,
    /// As `nvidia-smi mig -cgi` takes it.
    pub id: u32,
    /// Most at once.
    pub max: u8,
    /// Memory slices of one.
    pub memory_slices: u8,
    /// Where one can begin, in memory slices, in rising order.
    pub starts: Vec<u8>,
}

impl Geometry {
    /// The profile of a class, with an attribute or without.
    #[must_use]
    pub fn profile(&self, class: MigClass, attribute: Option<MigAttribute>) -> Option<&GeometryProfile> {
        self.profiles.iter().find(|profile| profile.class == class && profile.attribute == attribute)
    }

    /// The profile that `nvidia-smi` calls by this id.
    #[must_use]
    pub fn profile_by_id(&self, id: u32) -> Option<&GeometryProfile> {
        self.profiles.iter().find(|profile| profile.id == id)
    }
}
