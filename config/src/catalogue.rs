//! What is known of GPUs before one is seen: the files in `config/catalogue/`, one a vendor.
//!
//! The catalogue only completes what a device reports of itself, and a card that is not in it works
//! without. Every figure names its source: a vendor's document, a driver, or output that somebody
//! published. What is a guess says so ([`Fact::assumed`]), and what nobody says is left out.

mod amd;
mod card;
mod check;
mod intel;
mod nvidia;
#[cfg(test)]
mod tests;

pub use amd::{AcceleratorMode, MemoryMode, Partition, PartitionModes};
pub use card::{Card, Fact, Hazard, Interface};
pub use intel::Provisioning;
pub use nvidia::{Geometry, GeometryProfile, KnownMigProfile, KnownVgpu, MigAttribute, MigClass, VgpuSeries};

use crate::{PciId, ProfileName};
use amd::Partitions;
use nvidia::{MigProfiles, Vgpus};
use serde::Deserialize;
use std::collections::BTreeMap;

/// A vendor's part of the catalogue.
#[derive(Clone, Copy, Debug)]
struct File {
    name: &'static str,
    /// PCI vendor of all cards in it.
    vendor: u16,
    text: &'static str,
}

const FILES: [File; 3] = [
    File { name: "nvidia.toml", vendor: 0x10de, text: include_str!("../catalogue/nvidia.toml") },
    File { name: "amd.toml", vendor: 0x1002, text: include_str!("../catalogue/amd.toml") },
    File { name: "intel.toml", vendor: 0x8086, text: include_str!("../catalogue/intel.toml") },
];

/// Why the catalogue cannot be used. It is part of the program: this is a mistake in a build.
#[derive(Debug, thiserror::Error)]
pub enum CatalogueError {
    #[error("{file} of the built-in catalogue cannot be read")]
    Toml {
        file: &'static str,
        #[source]
        source: Box<toml::de::Error>,
    },
    #[error("{file} of the built-in catalogue: {what}")]
    Wrong { file: &'static str, what: String },
}

/// All that is known of GPUs.
#[derive(Clone, Debug, Default)]
pub struct Catalogue {
    sources: BTreeMap<String, String>,
    cards: BTreeMap<PciId, Card>,
    vgpus: Vec<Vgpus>,
    mig_profiles: Vec<MigProfiles>,
    geometries: Vec<Geometry>,
    partitions: Vec<Partitions>,
    provisioning: Vec<Provisioning>,
}

/// A file as it is written; a vendor has no more than some of these.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Written {
    sources: BTreeMap<String, String>,
    card: Vec<Card>,
    vgpu: Vec<Vgpus>,
    mig_profiles: Vec<MigProfiles>,
    geometry: Vec<Geometry>,
    partitions: Vec<Partitions>,
    provisioning: Vec<Provisioning>,
}

impl Catalogue {
    /// The catalogue that is part of the program.
    ///
    /// # Errors
    /// Where it breaks its own rules; the tests of this crate see to it that it does not.
    pub fn load() -> Result<Self, CatalogueError> {
        Self::read(&FILES)
    }

    fn read(files: &[File]) -> Result<Self, CatalogueError> {
        let mut catalogue = Self::default();
        for file in files {
            let written: Written = toml::from_str(file.text)
                .map_err(|source| CatalogueError::Toml { file: file.name, source: Box::new(source) })?;
            check::file(file, &written)
                .and_then(|()| catalogue.take(written))
                .map_err(|what| CatalogueError::Wrong { file: file.name, what })?;
        }
        Ok(catalogue)
    }

    fn take(&mut self, written: Written) -> Result<(), String> {
        for (key, source) in written.sources {
            if self.sources.insert(key.clone(), source).is_some() {
                return Err(format!("the source {key} is in another file too"));
            }
        }
        for card in written.card {
            for id in &card.ids {
                if self.cards.insert(*id, card.clone()).is_some() {
                    return Err(format!("there are two cards {id}"));
                }
            }
        }
        self.vgpus.extend(written.vgpu);
        self.mig_profiles.extend(written.mig_profiles);
        self.geometries.extend(written.geometry);
        self.partitions.extend(written.partitions);
        self.provisioning.extend(written.provisioning);
        Ok(())
    }

    /// A card by the PCI id of its physical function.
    #[must_use]
    pub fn card(&self, id: PciId) -> Option<&Card> {
        self.cards.get(&id)
    }

    /// Every card, in order of its id; a card that has several ids comes once for each.
    pub fn cards(&self) -> impl Iterator<Item = (PciId, &Card)> {
        self.cards.iter().map(|(id, card)| (*id, card))
    }

    /// Where a figure is from, by the key that stands beside it.
    #[must_use]
    pub fn source(&self, key: &str) -> Option<&str> {
        self.sources.get(key).map(String::as_str)
    }

    /// The vGPU types of an NVIDIA card, time-sliced and on MIG instances.
    pub fn vgpus(&self, card: PciId) -> impl Iterator<Item = &KnownVgpu> {
        self.vgpus.iter().filter(move |group| group.cards.contains(&card)).flat_map(|group| &group.types)
    }

    /// A vGPU type of an NVIDIA card by its short name, such as `A40-8Q`. Type numbers are no names:
    /// they differ between cards.
    #[must_use]
    pub fn vgpu(&self, card: PciId, name: &ProfileName) -> Option<&KnownVgpu> {
        self.vgpus(card).find(|known| known.name == *name)
    }

    /// The MIG profiles of an NVIDIA card, by the names that it shows.
    pub fn mig_profiles(&self, card: PciId) -> impl Iterator<Item = &KnownMigProfile> {
        let groups = self.mig_profiles.iter().filter(move |group| group.cards.contains(&card));
        groups.flat_map(|group| &group.profiles)
    }

    /// How cards of that many compute slices are divided.
    #[must_use]
    pub fn geometry(&self, slices: u8) -> Option<&Geometry> {
        self.geometries.iter().find(|geometry| geometry.slices == slices)
    }

    /// The ways to divide an AMD card.
    pub fn partitions(&self, card: PciId) -> impl Iterator<Item = &Partition> {
        self.partitions.iter().filter(move |group| group.cards.contains(&card)).flat_map(|group| &group.ways)
    }

    /// What an Intel card has for its virtual functions.
    #[must_use]
    pub fn provisioning(&self, card: PciId) -> Option<&Provisioning> {
        self.provisioning.iter().find(|provisioning| provisioning.cards.contains(&card))
    }
}
