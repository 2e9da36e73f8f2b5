//! The two formats as they are written. The only reader of YAML.

use super::{ImportError, ImportFormat, bounded};
use serde::Deserialize;
use serde_saphyr::Spanned;
use std::collections::BTreeMap;

/// A value and the line on which it stands.
#[derive(Clone, Copy, Debug)]
pub struct Placed<T> {
    pub value: T,
    pub line: u64,
}

impl<T> From<Spanned<T>> for Placed<T> {
    fn from(spanned: Spanned<T>) -> Self {
        Self { line: spanned.referenced.line(), value: spanned.value }
    }
}

/// A file with its configurations by name.
#[derive(Debug)]
pub struct File {
    pub format: ImportFormat,
    pub configs: BTreeMap<String, Vec<Placed<Entry>>>,
}

/// What is wanted of some GPUs.
#[derive(Debug)]
pub struct Entry {
    pub devices: Devices,
    /// As `0xDDDDVVVV`; none: all.
    pub cards: Option<Vec<String>>,
    pub kind: Kind,
}

/// So many of each, by name.
pub type Counts = BTreeMap<String, Placed<u64>>;

#[derive(Debug)]
pub enum Kind {
    Vgpus(Counts),
    Mig { enabled: bool, profiles: Counts },
}

/// Which GPUs of the host.
#[derive(Debug)]
pub enum Devices {
    All,
    /// Some other word.
    Word(String),
    /// By their numbers, which mean nothing on another host.
    Numbers,
}

#[derive(Deserialize)]
#[serde(
    untagged,
    expecting = "`device-filter` is a card in quotes, such as \"0x20B010DE\", or a list of those"
)]
enum Filter {
    One(String),
    Many(Vec<String>),
}

impl Filter {
    /// NVIDIA's tools take an empty list for all cards.
    fn cards(self) -> Option<Vec<String>> {
        match self {
            Self::One(card) => Some(vec![card]),
            Self::Many(cards) => Some(cards).filter(|cards| !cards.is_empty()),
        }
    }
}

#[derive(Deserialize)]
#[serde(untagged, expecting = "`devices` is all, or a list of numbers")]
enum WrittenDevices {
    Word(String),
    Numbers(#[expect(dead_code, reason = "only that they are numbers is of use")] Vec<u64>),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Written {
    version: Spanned<String>,
    vgpu_configs: Option<BTreeMap<String, Vec<Spanned<VgpuEntry>>>>,
    mig_configs: Option<BTreeMap<String, Vec<Spanned<MigEntry>>>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct VgpuEntry {
    devices: WrittenDevices,
    device_filter: Option<Filter>,
    vgpu_devices: BTreeMap<String, Spanned<u64>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct MigEntry {
    devices: WrittenDevices,
    device_filter: Option<Filter>,
    mig_enabled: bool,
    #[serde(default)]
    mig_devices: BTreeMap<String, Spanned<u64>>,
}

impl From<WrittenDevices> for Devices {
    fn from(written: WrittenDevices) -> Self {
        match written {
            WrittenDevices::Word(word) if word == "all" => Self::All,
            WrittenDevices::Word(word) => Self::Word(word),
            WrittenDevices::Numbers(_) => Self::Numbers,
        }
    }
}

fn placed(counts: BTreeMap<String, Spanned<u64>>) -> Counts {
    counts.into_iter().map(|(name, count)| (name, count.into())).collect()
}

impl From<VgpuEntry> for Entry {
    fn from(written: VgpuEntry) -> Self {
        Self {
            devices: written.devices.into(),
            cards: written.device_filter.and_then(Filter::cards),
            kind: Kind::Vgpus(placed(written.vgpu_devices)),
        }
    }
}

impl From<MigEntry> for Entry {
    fn from(written: MigEntry) -> Self {
        Self {
            devices: written.devices.into(),
            cards: written.device_filter.and_then(Filter::cards),
            kind: Kind::Mig { enabled: written.mig_enabled, profiles: placed(written.mig_devices) },
        }
    }
}

fn entries<T: Into<Entry>>(
    configs: BTreeMap<String, Vec<Spanned<T>>>,
) -> BTreeMap<String, Vec<Placed<Entry>>> {
    let entry = |spanned: Spanned<T>| {
        let Placed { value, line } = spanned.into();
        Placed { value: T::into(value), line }
    };
    configs.into_iter().map(|(name, all)| (name, all.into_iter().map(entry).collect())).collect()
}

/// Reads a file.
///
/// # Errors
/// Where it is no YAML, or none of the two formats.
pub fn read(text: &str) -> Result<File, ImportError> {
    let written: Written = serde_saphyr::from_str(text).map_err(|error| {
        let line = error.location().map(|location| location.line()).filter(|line| *line > 0);
        ImportError::Unread { line, message: bounded(&error.without_snippet().to_string()) }
    })?;
    if written.version.value != "v1" {
        let (line, version) = (written.version.referenced.line(), written.version.value);
        return Err(ImportError::Version { line, version });
    }
    match (written.vgpu_configs, written.mig_configs) {
        (Some(configs), None) => {
            Ok(File { format: ImportFormat::VgpuDeviceManager, configs: entries(configs) })
        }
        (None, Some(configs)) => Ok(File { format: ImportFormat::MigParted, configs: entries(configs) }),
        (None, None) => Err(ImportError::Nothing),
        (Some(_), Some(_)) => Err(ImportError::Both),
    }
}
