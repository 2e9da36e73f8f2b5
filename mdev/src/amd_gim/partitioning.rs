//! How gim has cut an Instinct GPU inside: its compute dies and its memory; and how it is asked for more.
//!
//! Source: amd/MxGPU-Virtualization, gim_shim/sysfs/gim_monitor.c for the files, libgv for the rules:
//!
//! | rule of gim | so |
//! |---|---|
//! | a write succeeds whatever came of it | it is read back, and what is shown then is told |
//! | a change is the whole XGMI hive's, and no file says who is in it | all GPUs of gim that show partitions count as one hive |
//! | it is refused while a VF of the hive is active, and a memory mode resets the GPUs | it is made while no VF of them is a slice, leased or not, or on a VFIO driver |
//! | with a memory mode comes the compute partitioning that is its default | the memory mode is written first |
//! | which goes with which depends on the number of VFs | `accelerator_partition_profile_config` of the GPU counts, and the catalogue has a word for what it does not list |
//! | NPS8 is taken for NPS4 | what the driver does not list is not asked of it |

use super::DRIVER;
use crate::{Error, Gpu, Host, PciAddress, attribute, cards};
use serde::Serialize;
use std::collections::BTreeSet;
use vgpud_config::{AcceleratorMode, MemoryMode, PartitionModes};

const PROFILE: &str = "accelerator_partition_profile";
const PROFILES: &str = "accelerator_partition_profile_config";
const MEMORY: &str = "memory_partition_mode";
const SPATIAL: &str = "spatial_partition_mode";

/// What gim shows of a GPU's partitions. What it says in words that are not known here is left out.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct AmdPartitioning {
    /// Index of the profile in force.
    pub accelerator_profile: Option<u32>,
    pub memory: Option<MemoryMode>,
    pub accelerator: Option<AcceleratorMode>,
    /// What the GPU can be, with the number of VFs that it has.
    pub profiles: Vec<AcceleratorProfile>,
}

/// One of the profiles that gim lists for a GPU.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct AcceleratorProfile {
    pub index: u32,
    pub accelerator: AcceleratorMode,
    /// The memory modes that it goes with.
    pub memory: Vec<MemoryMode>,
}

impl AmdPartitioning {
    /// As it is, where it is known.
    #[must_use]
    pub const fn modes(&self) -> PartitionModes {
        PartitionModes { accelerator: self.accelerator, memory: self.memory }
    }

    fn has(&self, modes: PartitionModes) -> bool {
        (modes.accelerator.is_none() || modes.accelerator == self.accelerator)
            && (modes.memory.is_none() || modes.memory == self.memory)
    }

    /// The profile that it would be in with these modes; none where none goes with them.
    fn profile_with(&self, modes: PartitionModes) -> Option<&AcceleratorProfile> {
        let memory = modes.memory.or(self.memory);
        let fits =
            |profile: &&AcceleratorProfile| memory.is_none_or(|memory| profile.memory.contains(&memory));
        let asked = |profile: &&AcceleratorProfile| {
            modes.accelerator.is_none_or(|accelerator| accelerator == profile.accelerator)
        };
        self.profiles.iter().filter(fits).find(asked)
    }

    /// `NPS1 and SPX, NPS1 and CPX`.
    fn listed(&self) -> String {
        let pairs = self
            .profiles
            .iter()
            .flat_map(|profile| profile.memory.iter().map(|memory| (*memory, profile.accelerator)));
        let pairs: BTreeSet<(MemoryMode, AcceleratorMode)> = pairs.collect();
        pairs.iter().map(|(memory, mode)| format!("{memory} and {mode}")).collect::<Vec<_>>().join(", ")
    }
}

fn memory_mode(word: &str) -> Option<MemoryMode> {
    MemoryMode::ALL.into_iter().find(|mode| mode.word() == word)
}

fn accelerator_mode(word: &str) -> Option<AcceleratorMode> {
    AcceleratorMode::ALL.into_iter().find(|mode| mode.word() == word)
}

/// `memory_partition_mode: NPS4`, or the word alone.
fn memory(text: &str) -> Option<MemoryMode> {
    text.split_whitespace().find_map(memory_mode)
}

fn accelerator(text: &str) -> Option<AcceleratorMode> {
    text.split_whitespace().find_map(accelerator_mode)
}

/// A table with a heading, whose first column is the index; or the index alone.
fn accelerator_profile(text: &str) -> Option<u32> {
    text.lines().find_map(|line| line.split_whitespace().next()?.parse().ok())
}

/// The second table, under `profiles:`: index, type, number of partitions, memory modes, and more.
fn profiles(text: &str) -> Vec<AcceleratorProfile> {
    let row = |line: &str| {
        let mut words = line.split_whitespace();
        let index = words.next()?.parse().ok()?;
        let accelerator = accelerator_mode(words.next()?)?;
        let memory = words.filter_map(memory_mode).collect();
        Some(AcceleratorProfile { index, accelerator, memory })
    };
    text.lines().skip_while(|line| line.trim() != "profiles:").filter_map(row).collect()
}

/// None where the driver has no files for partitions, as on GPUs of other families.
pub(crate) fn read(host: &Host, gpu: PciAddress) -> Option<AmdPartitioning> {
    let mut has_any = false;
    // Beside the VFs it is a side note: what cannot be read does not hide the GPU. But the GPU stays one that
    // changes with others.
    let mut text = |name: &str| {
        let text = attribute::read(&host.pci_device(gpu).join(name));
        has_any |= !matches!(text, Ok(None));
        text.unwrap_or_else(|error| {
            tracing::warn!(%gpu, "partitions left out: {error}");
            None
        })
    };
    let found = AmdPartitioning {
        accelerator_profile: text(PROFILE).as_deref().and_then(accelerator_profile),
        memory: text(MEMORY).as_deref().and_then(memory),
        accelerator: text(SPATIAL).as_deref().and_then(accelerator),
        profiles: text(PROFILES).as_deref().map(profiles).unwrap_or_default(),
    };
    has_any.then_some(found)
}

/// The GPUs that change together with one of them.
pub(super) fn hive(gpus: &[&Gpu]) -> Vec<PciAddress> {
    let shows = |gpu: &&&Gpu| gpu.is_on(DRIVER) && gpu.partitioning.is_some();
    let hive: BTreeSet<PciAddress> = gpus.iter().filter(shows).map(|gpu| gpu.address).collect();
    hive.into_iter().collect()
}

/// The GPU with these modes, or why it cannot have them, as a sentence.
pub(super) fn with(gpu: &Gpu, modes: PartitionModes) -> Result<Gpu, String> {
    let address = gpu.address;
    let Some(now) = &gpu.partitioning else {
        return Err(format!(
            "GPU {address} cannot be set to {modes}: its driver {DRIVER} shows no partitions of it"
        ));
    };
    if now.has(modes) {
        return Ok(gpu.clone());
    }
    if now.profiles.is_empty() {
        return Err(format!(
            "GPU {address} cannot be set to {modes}: its driver {DRIVER} does not show in {PROFILES} what it can be"
        ));
    }
    let Some(profile) = now.profile_with(modes) else { return Err(impossible(gpu, now, modes)) };
    let partitioning = AmdPartitioning {
        accelerator_profile: Some(profile.index),
        memory: modes.memory.or(now.memory),
        accelerator: Some(profile.accelerator),
        profiles: now.profiles.clone(),
    };
    Ok(Gpu { partitioning: Some(partitioning), ..gpu.clone() })
}

fn impossible(gpu: &Gpu, now: &AmdPartitioning, modes: PartitionModes) -> String {
    let vfs = gpu.sriov.as_ref().map_or(0, |sriov| sriov.enabled);
    let known = cards::catalogue().partitions(gpu.id).filter(|way| {
        modes.accelerator.is_none_or(|asked| asked == way.accelerator)
            && modes.memory.is_none_or(|asked| asked == way.memory)
            && way.vfs != vfs
    });
    let counts: BTreeSet<u16> = known.map(|way| way.vfs).collect();
    let counts: Vec<String> = counts.iter().map(ToString::to_string).collect();
    let elsewhere = if counts.is_empty() {
        String::new()
    } else {
        format!(
            "; such a card can be it with another number of VFs ({}), which {DRIVER} takes when it is loaded",
            counts.join(" or ")
        )
    };
    // Asked for one mode alone, it is the other one as it is that does not go with it.
    let beside = match (modes.memory, modes.accelerator, now.memory) {
        (None, Some(_), Some(memory)) => format!(" and stay {memory}"),
        _ => String::new(),
    };
    format!(
        "GPU {} cannot be set to {modes}{beside} with its {vfs} VFs: its driver {DRIVER} lists {}{elsewhere}",
        gpu.address,
        now.listed()
    )
}

/// Sets the modes, memory first, and reads back. What is so already is not written.
pub(super) fn set(host: &Host, gpu: PciAddress, modes: PartitionModes) -> Result<(), Error> {
    let file = |name: &str| host.pci_device(gpu).join(name);
    let now = || {
        let why = || format!("its driver {DRIVER} shows no partitions of it");
        read(host, gpu).ok_or_else(|| Error::Unusable { gpu, why: why() })
    };
    let mut seen = now()?;
    if let Some(memory) = modes.memory.filter(|memory| seen.memory != Some(*memory)) {
        host.write_attr(&file(MEMORY), memory.word())?;
        seen = now()?;
        if seen.memory != Some(memory) {
            return Err(not_taken(gpu, modes, &seen));
        }
    }
    if let Some(accelerator) = modes.accelerator.filter(|mode| seen.accelerator != Some(*mode)) {
        // By number, which is another one for each number of VFs.
        let profile = seen.profile_with(PartitionModes { accelerator: Some(accelerator), memory: None });
        let Some(profile) = profile else { return Err(not_taken(gpu, modes, &seen)) };
        host.write_attr(&file(PROFILE), &profile.index.to_string())?;
        seen = now()?;
    }
    if seen.has(modes) { Ok(()) } else { Err(not_taken(gpu, modes, &seen)) }
}

fn not_taken(gpu: PciAddress, modes: PartitionModes, seen: &AmdPartitioning) -> Error {
    Error::ReadBack {
        device: format!("GPU {gpu}"),
        wanted: modes.to_string(),
        shown: format!("is {}", seen.modes()),
        way_out: "gim says nothing where it refuses, as it does while a VF of any GPU of the XGMI hive is in use: end \
                  VMs that are not vgpud's, see `dmesg`, and try again",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONFIG: &str = "resource_profiles:
resource_index      resource_type       resource_in_partition
0                   XCC                 8
1                   XCC                 1
profiles:
profile_index       profile_type        num_of_partitions   memory_caps         num_of_resources    resource_index
0                   SPX                 1                   NPS1                1                   [[0 ]]
1                   CPX                 8                   NPS1 NPS4           1                   [[1 ][1 ][1 ][1 ][1 ][1 ][1 ][1 ]]
2                   NEW                 3                   NPS1                1                   [[1 ]]";

    #[test]
    fn what_gim_shows_is_read_as_a_table_or_as_a_word() {
        let table = "profile_index       profile_type        num_of_partitions   \n3                   CPX                 8";
        assert_eq!(accelerator_profile(table), Some(3));
        assert_eq!(accelerator_profile("2\n"), Some(2));
        assert_eq!(memory("memory_partition_mode: NPS4\nnuma_count: 4\n"), Some(MemoryMode::Nps4));
        assert_eq!(memory("NPS1"), Some(MemoryMode::Nps1));
        for mode in AcceleratorMode::ALL {
            assert_eq!(accelerator(&format!("{mode}\n")), Some(mode));
        }
        for strange in ["", "unknown", "NPS", "NPS-1", "NPS999", "profile_index"] {
            assert_eq!(
                (accelerator_profile(strange), memory(strange), accelerator(strange)),
                (None, None, None)
            );
        }
    }

    #[test]
    fn what_a_gpu_can_be_is_read_from_the_second_table() {
        let found = profiles(CONFIG);
        let [spx, cpx] = &found[..] else { panic!("{found:?}") };
        assert_eq!(
            (spx.index, spx.accelerator, &spx.memory[..]),
            (0, AcceleratorMode::Spx, &[MemoryMode::Nps1][..])
        );
        assert_eq!((cpx.index, cpx.accelerator), (1, AcceleratorMode::Cpx));
        assert_eq!(cpx.memory, [MemoryMode::Nps1, MemoryMode::Nps4]);
        for strange in ["", "profiles:", "profiles:\n-1 SPX 1 NPS1", "0 SPX 1 NPS1"] {
            assert!(profiles(strange).is_empty(), "{strange:?}");
        }
    }
}
