//! `[layout.NAME]`: what the GPUs of a host are to be cut into.

use super::value;
use crate::{
    AcceleratorMode, ClassName, ComputeRequest, Memory, MemoryMode, PartitionModes, PciAddress, PciId,
    ProfileName, Quoted,
};
use serde::Deserialize;
use std::{collections::BTreeMap, fmt, str::FromStr};

/// `[layout.training]`: what each GPU is to be cut into. A GPU that no entry means is left as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct LayoutSettings {
    pub entries: BTreeMap<GpuChoice, LayoutEntry>,
}

/// Which GPUs an entry means; the narrower one counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
#[serde(try_from = "String")]
pub enum GpuChoice {
    Address(PciAddress),
    Id(PciId),
    All,
}

/// `[layout.training.all]`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LayoutEntry {
    /// Empty: nothing is cut from these GPUs.
    pub slices: Vec<LayoutSlices>,
    /// How AMD's driver is to divide their compute dies; none: as it is.
    #[serde(default, deserialize_with = "value::some")]
    pub accelerator_mode: Option<AcceleratorMode>,
    /// How it is to divide their memory; none: as it is.
    #[serde(default, deserialize_with = "value::some")]
    pub memory_mode: Option<MemoryMode>,
}

/// Slices that are all alike.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Written")]
pub struct LayoutSlices {
    pub want: LayoutWant,
    /// On each GPU, at least 1.
    pub count: u32,
}

/// What one slice is to be; each bound of a size means "at least".
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LayoutWant {
    Profile(ProfileName),
    Class(ClassName),
    /// At least one of the two is there.
    Size {
        memory: Option<Memory>,
        compute: Option<ComputeRequest>,
    },
}

/// The element of the list as it stands in the file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    #[serde(default, deserialize_with = "value::some")]
    profile: Option<ProfileName>,
    #[serde(default, deserialize_with = "value::some")]
    class: Option<ClassName>,
    #[serde(default, deserialize_with = "value::some")]
    memory: Option<Memory>,
    #[serde(default, deserialize_with = "value::some")]
    compute: Option<ComputeRequest>,
    #[serde(deserialize_with = "count")]
    count: u32,
}

fn count<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
    match u32::deserialize(deserializer)? {
        count @ 1..=LayoutSlices::MOST => Ok(count),
        count => Err(serde::de::Error::custom(format!(
            "a count of {count} cannot be; write 1 to {}, or leave these slices out",
            LayoutSlices::MOST
        ))),
    }
}

impl TryFrom<Written> for LayoutSlices {
    type Error = &'static str;

    fn try_from(written: Written) -> Result<Self, Self::Error> {
        let want = match written {
            Written { profile: Some(profile), class: None, memory: None, compute: None, .. } => {
                LayoutWant::Profile(profile)
            }
            Written { profile: None, class: Some(class), memory: None, compute: None, .. } => {
                LayoutWant::Class(class)
            }
            Written { profile: None, class: None, memory: None, compute: None, .. } => {
                return Err("these slices have no size; write profile, class, memory or compute");
            }
            Written { profile: None, class: None, memory, compute, .. } => {
                LayoutWant::Size { memory, compute }
            }
            _ => return Err("slices have one size; write a profile, a class, or memory and compute"),
        };
        Ok(Self { want, count: written.count })
    }
}

impl LayoutSlices {
    /// More of one kind than any GPU can hold.
    pub const MOST: u32 = 4096;
}

impl LayoutEntry {
    #[must_use]
    pub const fn modes(&self) -> PartitionModes {
        PartitionModes { accelerator: self.accelerator_mode, memory: self.memory_mode }
    }
}

impl LayoutSettings {
    /// The entry that counts for a GPU: by its address before one by its id, and that before `all`.
    #[must_use]
    pub fn entry(&self, address: PciAddress, id: PciId) -> Option<&LayoutEntry> {
        [GpuChoice::Address(address), GpuChoice::Id(id), GpuChoice::All]
            .iter()
            .find_map(|choice| self.entries.get(choice))
    }

    /// The classes that it asks for.
    pub fn classes(&self) -> impl Iterator<Item = &ClassName> {
        self.entries.values().flat_map(|entry| &entry.slices).filter_map(|slices| match &slices.want {
            LayoutWant::Class(class) => Some(class),
            LayoutWant::Profile(_) | LayoutWant::Size { .. } => None,
        })
    }
}

/// A text that means no GPUs.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{} is not a choice of GPUs; write an address such as 0000:41:00.0, a PCI id such as 1002:74a1, or all",
    Quoted(.0)
)]
pub struct GpuChoiceError(String);

impl FromStr for GpuChoice {
    type Err = GpuChoiceError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "all" {
            return Ok(Self::All);
        }
        let address = || text.parse().ok().map(Self::Address);
        let id = || text.parse().ok().map(Self::Id);
        address().or_else(id).ok_or_else(|| GpuChoiceError(text.to_owned()))
    }
}

impl TryFrom<String> for GpuChoice {
    type Error = GpuChoiceError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl fmt::Display for GpuChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => address.fmt(f),
            Self::Id(id) => id.fmt(f),
            Self::All => f.write_str("all"),
        }
    }
}

impl fmt::Display for LayoutWant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Profile(profile) => profile.fmt(f),
            Self::Class(class) => write!(f, "class {class}"),
            Self::Size { memory: Some(memory), compute: Some(compute) } => {
                write!(f, "{memory} and {compute} of compute")
            }
            Self::Size { memory: Some(memory), compute: None } => memory.fmt(f),
            Self::Size { memory: None, compute: Some(compute) } => write!(f, "{compute} of compute"),
            Self::Size { memory: None, compute: None } => f.write_str("any size"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(text: &str) -> Result<LayoutSettings, String> {
        toml::from_str(text).map_err(|error| error.message().to_owned())
    }

    #[test]
    fn the_narrowest_entry_counts() {
        let layout = read(
            r#"
            [all]
            slices = [{ profile = "vf-4", count = 4 }]
            ["1002:74a1"]
            slices = [{ memory = "10GiB", compute = "25%+", count = 2 }, { class = "small", count = 1 }]
            ["41:00.0"]
            slices = []
            accelerator_mode = "CPX"
            memory_mode = "NPS4"
            "#,
        )
        .unwrap();
        let entry = |address: &str, id: &str| {
            let entry = layout.entry(address.parse().unwrap(), id.parse().unwrap()).unwrap();
            let slices: Vec<_> = entry.slices.iter().map(|s| format!("{} x {}", s.count, s.want)).collect();
            slices.join(", ")
        };
        assert_eq!(entry("0000:41:00.0", "1002:74a1"), "");
        assert_eq!(entry("0000:42:00.0", "1002:74a1"), "2 x 10GiB and 25%+ of compute, 1 x class small");
        assert_eq!(entry("0000:43:00.0", "1234:0001"), "4 x vf-4");
        let classes: Vec<_> = layout.classes().map(ToString::to_string).collect();
        assert_eq!(classes, ["small"]);
        let modes = |choice: &str| layout.entries[&choice.parse().unwrap()].modes();
        assert_eq!(modes("0000:41:00.0").to_string(), "NPS4 and CPX");
        assert!(modes("all").is_empty());
    }

    #[test]
    fn what_cannot_be_is_refused_with_the_way_out() {
        let slices = |text: &str| read(&format!("[all]\nslices = [{text}]")).unwrap_err();
        for (text, wanted) in [
            ("{ count = 1 }", "write profile, class, memory or compute"),
            (r#"{ profile = "a", memory = "1GiB", count = 1 }"#, "write a profile, a class, or memory"),
            (r#"{ profile = "a", class = "b", count = 1 }"#, "slices have one size"),
            (r#"{ profile = "a", count = 0 }"#, "a count of 0 cannot be; write 1 to 4096"),
            (r#"{ profile = "a", count = 5000 }"#, "a count of 5000 cannot be"),
            (r#"{ profile = "a b", count = 1 }"#, "cannot be the name of a profile"),
            (r#"{ profile = "a" }"#, "missing field `count`"),
            (r#"{ profil = "a", count = 1 }"#, "unknown field `profil`"),
        ] {
            let told = slices(text);
            assert!(told.contains(wanted), "{text}: {told}");
        }
        let told = read("[gpu0]\nslices = []").unwrap_err();
        assert!(told.contains("\"gpu0\" is not a choice of GPUs; write an address"), "{told}");
        assert!(read("[all]").unwrap_err().contains("missing field `slices`"));
        let mode = |text: &str| read(&format!("[all]\nslices = []\n{text}")).unwrap_err();
        let told = mode("accelerator_mode = \"CPY\"");
        assert!(told.contains("unknown variant `CPY`, expected one of `SPX`, `DPX`, `QPX`, `CPX`"), "{told}");
        let told = mode("memory_mode = \"NPS3\"");
        assert!(
            told.contains("unknown variant `NPS3`, expected one of `NPS1`, `NPS2`, `NPS4`, `NPS8`"),
            "{told}"
        );
    }

    proptest! {
        #[test]
        fn choices_read_back(text in "all|[0-9a-f]{4}:[0-9a-f]{4}|[0-9a-f]{4}:[0-9a-f]{2}:[01][0-9a-f][.][0-7]") {
            prop_assert_eq!(text.parse::<GpuChoice>().unwrap().to_string(), text);
        }

        #[test]
        fn no_text_breaks_the_reader(text in "([0-9a-f:.]|.){0,16}") {
            let _ = text.parse::<GpuChoice>();
        }
    }
}
