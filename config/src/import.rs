//! Layouts out of the profile files of NVIDIA's vgpu-device-manager and mig-parted.
//!
//! Formats: NVIDIA/vgpu-device-manager and NVIDIA/mig-parted, api/spec/v1/spec.go, `version: v1`. What a
//! layout of vgpud cannot say is refused, with its line: nothing is left out silently.

mod mig;
mod toml;
mod yaml;

#[cfg(test)]
mod tests;

use crate::{
    GpuChoice, LayoutEntry, LayoutName, LayoutSettings, LayoutSlices, LayoutWant, PciId, ProfileName, Quoted,
    printable,
};
use std::collections::BTreeMap;
use yaml::{Devices, Entry, Kind, Placed};

/// Whose format a file has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ImportFormat {
    VgpuDeviceManager,
    MigParted,
}

impl ImportFormat {
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::VgpuDeviceManager => "vgpu-device-manager",
            Self::MigParted => "mig-parted",
        }
    }
}

/// The layouts of one file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Imported {
    pub format: ImportFormat,
    pub layouts: BTreeMap<LayoutName, LayoutSettings>,
}

/// Why a file, or a part of it, cannot be a layout.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ImportError {
    #[error("{}this is no profile file of vgpu-device-manager or mig-parted: {message}", at(*line))]
    Unread { line: Option<u64>, message: String },
    #[error(
        "{}version {} is not known; this vgpuctl reads version v1", at(Some(*line)), Quoted(version)
    )]
    Version { line: u64, version: String },
    #[error("The file has no `vgpu-configs` and no `mig-configs`, so that there is nothing to import")]
    Nothing,
    #[error("The file has `vgpu-configs` and `mig-configs`; import one of them at a time")]
    Both,
    #[error("There is no configuration {} in the file; there are {known}", Quoted(name))]
    NoSuch { name: String, known: String },
    #[error("{}configuration {}: {why}", at(*line), Quoted(config))]
    Unsaid { line: Option<u64>, config: String, why: String },
}

fn at(line: Option<u64>) -> String {
    line.map(|line| format!("line {line}: ")).unwrap_or_default()
}

/// As much of a list as a message has room for.
fn shown(names: impl IntoIterator<Item = String>) -> String {
    const MOST: usize = 12;
    let names: Vec<String> = names.into_iter().collect();
    let mut text: Vec<String> = names.iter().take(MOST).map(|name| Quoted(name).to_string()).collect();
    if names.len() > MOST {
        text.push(format!("and {} more", names.len() - MOST));
    }
    if text.is_empty() { "none".to_owned() } else { text.join(", ") }
}

/// Reads a profile file: the configurations of these names, or all where none is named.
///
/// # Errors
/// What cannot be read, or not be said as a layout, with line, configuration and the way out.
pub fn import(text: &str, only: &[String]) -> Result<Imported, ImportError> {
    let file = yaml::read(text)?;
    if let Some(name) = only.iter().find(|name| !file.configs.contains_key(*name)) {
        let known = shown(file.configs.into_keys());
        return Err(ImportError::NoSuch { name: name.clone(), known });
    }
    let mut layouts = BTreeMap::new();
    for (name, entries) in &file.configs {
        if !only.is_empty() && !only.contains(name) {
            continue;
        }
        let config = Config { name, line: entries.first().map(|entry| entry.line) };
        let layout =
            name.parse::<LayoutName>().map_err(|error| config.unsaid(config.line, error.to_string()))?;
        layouts.insert(layout, config.layout(entries)?);
    }
    Ok(Imported { format: file.format, layouts })
}

/// One configuration, for what is said of it.
struct Config<'a> {
    name: &'a str,
    line: Option<u64>,
}

impl Config<'_> {
    fn unsaid(&self, line: Option<u64>, why: String) -> ImportError {
        ImportError::Unsaid { line, config: self.name.to_owned(), why }
    }

    fn layout(&self, written: &[Placed<Entry>]) -> Result<LayoutSettings, ImportError> {
        if written.is_empty() {
            return Err(self.unsaid(None, "it has no entry; write one, or leave it out".to_owned()));
        }
        let mut narrower = None;
        for entry in written {
            if entry.value.cards.is_some() {
                narrower = Some(entry.line);
            } else if let Some(before) = narrower {
                let why = format!(
                    "the entry means all GPUs, also those of line {before}, and the last one counts there; here \
                     the narrower one counts: put it before line {before}, or leave that one out"
                );
                return Err(self.unsaid(Some(entry.line), why));
            }
        }
        let mut entries = BTreeMap::new();
        let mut lines: BTreeMap<GpuChoice, u64> = BTreeMap::new();
        for entry in written {
            for (choice, slices) in self.entry(entry)? {
                if let Some(before) = lines.insert(choice, entry.line) {
                    let why = format!(
                        "the entry means {choice}, as the one of line {before} does; put both into one, for a GPU has \
                         one list of slices here"
                    );
                    return Err(self.unsaid(Some(entry.line), why));
                }
                let (accelerator_mode, memory_mode) = (None, None);
                entries.insert(choice, LayoutEntry { slices, accelerator_mode, memory_mode });
            }
        }
        Ok(LayoutSettings { entries })
    }

    /// What one entry wants of the GPUs that it means.
    fn entry(&self, entry: &Placed<Entry>) -> Result<Vec<(GpuChoice, Vec<LayoutSlices>)>, ImportError> {
        let Entry { devices, cards, kind } = &entry.value;
        match devices {
            Devices::All => {}
            Devices::Word(word) => {
                let why = format!("`devices` is {}; write all", Quoted(word));
                return Err(self.unsaid(Some(entry.line), why));
            }
            Devices::Numbers => {
                let why = "`devices` counts the GPUs of a host, which have no numbers here; write `devices: all`, \
                           with a `device-filter` where it means some, and in the settings a table for each \
                           address, as [layout.NAME.\"0000:41:00.0\"]";
                return Err(self.unsaid(Some(entry.line), why.to_owned()));
            }
        }
        let cards = cards.as_ref().map(|cards| self.cards(entry.line, cards)).transpose()?;
        match kind {
            Kind::Vgpus(vgpus) => {
                let slices = vgpus
                    .iter()
                    .map(|(name, count)| {
                        self.slices(
                            *count,
                            name.parse().map_err(|error: crate::NameError| {
                                self.unsaid(Some(count.line), error.to_string())
                            })?,
                        )
                    })
                    .collect::<Result<Vec<_>, _>>()?;
                let slices: Vec<LayoutSlices> = slices.into_iter().flatten().collect();
                let choices = cards.map_or_else(
                    || vec![GpuChoice::All],
                    |cards| cards.into_iter().map(GpuChoice::Id).collect(),
                );
                Ok(choices.into_iter().map(|choice| (choice, slices.clone())).collect())
            }
            Kind::Mig { enabled: false, profiles } if !profiles.is_empty() => {
                let why =
                    "`mig-enabled` is false and `mig-devices` names GPU instances; leave out one of them";
                Err(self.unsaid(Some(entry.line), why.to_owned()))
            }
            Kind::Mig { profiles, .. } if profiles.values().all(|count| count.value == 0) => {
                let choices = cards.map_or_else(
                    || vec![GpuChoice::All],
                    |cards| cards.into_iter().map(GpuChoice::Id).collect(),
                );
                Ok(choices.into_iter().map(|choice| (choice, Vec::new())).collect())
            }
            Kind::Mig { profiles, .. } => {
                let Some(cards) = cards else {
                    let why = "`mig-devices` names GPU instances, and slices here are vGPUs on them, whose names differ \
                               between cards; add the `device-filter` of the card";
                    return Err(self.unsaid(Some(entry.line), why.to_owned()));
                };
                let of_card = |card: PciId| {
                    let each = profiles.iter().map(|(name, count)| {
                        let vgpu = mig::vgpu_on(card, name);
                        self.slices(*count, vgpu.map_err(|why| self.unsaid(Some(count.line), why))?)
                    });
                    let slices = each.collect::<Result<Vec<_>, _>>()?;
                    Ok((GpuChoice::Id(card), slices.into_iter().flatten().collect()))
                };
                cards.into_iter().map(of_card).collect()
            }
        }
    }

    /// None where there are to be none.
    fn slices(&self, count: Placed<u64>, profile: ProfileName) -> Result<Option<LayoutSlices>, ImportError> {
        match u32::try_from(count.value).ok().filter(|count| *count <= LayoutSlices::MOST) {
            Some(0) => Ok(None),
            Some(many) => Ok(Some(LayoutSlices { want: LayoutWant::Profile(profile), count: many })),
            None => {
                let why = format!(
                    "{} of {profile} are more than the {} that can be said",
                    count.value,
                    LayoutSlices::MOST
                );
                Err(self.unsaid(Some(count.line), why))
            }
        }
    }

    /// `0x20B010DE` is device 20b0 of vendor 10de.
    fn cards(&self, line: u64, cards: &[String]) -> Result<Vec<PciId>, ImportError> {
        let card = |text: &String| {
            let digits = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")).unwrap_or_default();
            let plain = digits.len() == 8 && digits.bytes().all(|digit| digit.is_ascii_hexdigit());
            let number = u32::from_str_radix(digits, 16).ok().filter(|_| plain);
            let number = number.ok_or_else(|| {
                let why = format!(
                    "`device-filter` has {}; write the device and the vendor of a card, such as 0x20B010DE",
                    Quoted(text)
                );
                self.unsaid(Some(line), why)
            })?;
            let [device_high, device_low, vendor_high, vendor_low] = number.to_be_bytes();
            let device = u16::from_be_bytes([device_high, device_low]);
            Ok(PciId { vendor: u16::from_be_bytes([vendor_high, vendor_low]), device })
        };
        cards.iter().map(card).collect()
    }
}

/// A library's words in one line of bounded length.
fn bounded(words: &str) -> String {
    const LONGEST: usize = 400;
    let line = printable(&words.trim_end().replace('\n', "; "));
    match line.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line,
    }
}
