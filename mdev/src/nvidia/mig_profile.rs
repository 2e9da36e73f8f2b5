//! Names of MIG profiles, and which size they are.

use super::{Geometry, vgpu_type::number};
use crate::Memory;
use std::{fmt, str::FromStr};
use vgpud_config::{
    Quoted,
    catalogue::{MigAttribute, MigClass},
};

/// A profile of GPU instances by its name, such as `1g.10gb+me` or `1g.24gb-me`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MigProfile {
    pub size: MigSize,
    pub attribute: Option<MigAttribute>,
}

/// The size that a name tells. Names of one size differ between cards, and between a profile and the vGPU
/// types on it (`1g.23gb` and `GB200-1-24C`): compare [`class`](Self::class)es.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MigSize {
    /// Compute slices.
    pub slices: u8,
    /// Rounded, and some of it is the driver's.
    pub memory: Memory,
}

/// A text that is no such name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{} is not the name of a MIG profile; such names are as 1g.10gb, 1g.10gb+me or 1g.24gb-me", Quoted(.0))]
pub struct MigProfileError(String);

impl MigSize {
    /// Which size it is on a card of this geometry; `beside` holds the sizes of all profiles of the card,
    /// or of all vGPU types on its instances, this one among them or not.
    ///
    /// A single slice comes with one share of memory or with two, and only the names beside it tell which.
    /// That needs types which have their instance alone, as all known ones on cards of seven slices do.
    #[must_use]
    pub fn class(self, geometry: &Geometry, beside: impl IntoIterator<Item = Self>) -> Option<MigClass> {
        let offered = |class: &MigClass| {
            class.slices() == self.slices && geometry.profiles.iter().any(|profile| profile.class == *class)
        };
        let mut classes = MigClass::ALL.into_iter().filter(offered);
        let (class, larger) = (classes.next()?, classes.next());
        let alike = beside.into_iter().filter(|size| size.slices == self.slices);
        let least = alike.map(|size| size.memory).min().unwrap_or(self.memory);
        // Rounding makes of twice the memory 1.9 to 2 times the number: 18 and 35 on an H200.
        let double = self.memory.bytes() / 3 > least.bytes() / 2;
        Some(larger.filter(|_| double).unwrap_or(class))
    }
}

impl FromStr for MigProfile {
    type Err = MigProfileError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        read(text).ok_or_else(|| MigProfileError(text.to_owned()))
    }
}

fn read(text: &str) -> Option<MigProfile> {
    let (slices, rest) = text.split_once("g.")?;
    let (gigabytes, attribute) = rest.split_once("gb")?;
    if !matches!(slices.as_bytes(), [b'1'..=b'9']) {
        return None;
    }
    let attribute = match attribute {
        "" => None,
        attribute => Some(MigAttribute::ALL.into_iter().find(|known| known.of_profile() == attribute)?),
    };
    let bytes = number(gigabytes)?.checked_mul(1 << 30).filter(|bytes| *bytes > 0)?;
    let size = MigSize { slices: slices.parse().ok()?, memory: Memory::from_bytes(bytes) };
    Some(MigProfile { size, attribute })
}

impl fmt::Display for MigProfile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let end = self.attribute.map_or("", MigAttribute::of_profile);
        write!(f, "{}g.{}gb{end}", self.size.slices, self.size.memory.bytes() >> 30)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use vgpud_config::catalogue::Catalogue;

    #[test]
    fn names() {
        let read = |text: &str| text.parse::<MigProfile>().unwrap();
        let cases = [
            ("1g.5gb", 1, 5, None),
            ("1g.10gb+me", 1, 10, Some(MigAttribute::Me)),
            ("1g.24gb-me", 1, 24, Some(MigAttribute::NoMe)),
            ("2g.48gb+me.all", 2, 48, Some(MigAttribute::MeAll)),
            ("4g.96gb+gfx", 4, 96, Some(MigAttribute::Gfx)),
        ];
        for (text, slices, gigabytes, attribute) in cases {
            let size = MigSize { slices, memory: Memory::from_bytes(gigabytes << 30) };
            assert_eq!(read(text), MigProfile { size, attribute });
        }
        for bad in [
            "",
            "1g",
            "1g.5",
            "g.5gb",
            "0g.5gb",
            "10g.5gb",
            "1g.0gb",
            "1g.05gb",
            "1c.1g.5gb",
            "1g.5gb+",
            "1g.5gb+x",
            "1g.5gb+ME",
            "1g.5gb ",
            "+1g.5gb",
            "1g.99999999999999gb",
        ] {
            assert_eq!(
                bad.parse::<MigProfile>().unwrap_err().to_string(),
                format!(
                    "{bad:?} is not the name of a MIG profile; such names are as 1g.10gb, 1g.10gb+me or 1g.24gb-me"
                )
            );
        }
    }

    /// Every profile of the catalogue, by what the names of its card tell alone.
    #[test]
    fn names_tell_the_size_beside_one_another() {
        let catalogue = Catalogue::load().unwrap();
        let mut count = 0;
        for (id, card) in catalogue.cards() {
            for known in catalogue.mig_profiles(id) {
                let geometry = catalogue.geometry(card.mig_slices.as_ref().unwrap().value).unwrap();
                let size = |name: &str| name.parse::<MigProfile>().unwrap().size;
                let beside = catalogue.mig_profiles(id).map(|other| size(&other.name));
                let profile = known.name.parse::<MigProfile>().unwrap();
                assert_eq!(profile.size.class(geometry, beside), Some(known.class), "{id} {}", known.name);
                assert_eq!(profile.attribute, known.attribute, "{id} {}", known.name);
                count += 1;
            }
        }
        assert!(count > 90, "{count}");
    }

    #[test]
    fn a_size_that_the_geometry_lacks_has_no_class() {
        let catalogue = Catalogue::load().unwrap();
        let class = |text: &str, slices: u8| {
            let size = text.parse::<MigProfile>().unwrap().size;
            size.class(catalogue.geometry(slices).unwrap(), [])
        };
        assert_eq!(class("3g.40gb", 7), Some(MigClass::Three));
        assert_eq!(class("3g.40gb", 4), None);
        assert_eq!(class("5g.40gb", 7), None);
        assert_eq!(class("1g.10gb", 7), Some(MigClass::One), "alone");
    }

    proptest! {
        #[test]
        fn names_read_back(slices in 1_u8..=9, gigabytes in 1_u64..1 << 33, attribute in prop::option::of(0..4_usize)) {
            let size = MigSize { slices, memory: Memory::from_bytes(gigabytes << 30) };
            let profile = MigProfile { size, attribute: attribute.map(|at| MigAttribute::ALL[at]) };
            prop_assert_eq!(profile.to_string().parse(), Ok(profile));
        }

        #[test]
        fn no_text_breaks_the_reader(text in "([0-9]{0,21}|g|\\.|gb|\\+|-|me|\\.all|gfx|.){0,9}") {
            if let Ok(profile) = text.parse::<MigProfile>() {
                prop_assert_eq!(profile.to_string(), text);
            }
        }
    }
}
