//! How gim has cut an Instinct GPU inside: its compute dies and its memory.
//!
//! Read only. A change concerns the whole XGMI hive and is refused while a VF is active, and the write
//! succeeds whatever came of it (gim_monitor.c): that is a plan for the host and not for one GPU.

use crate::{Host, PciAddress, attribute};
use serde::Serialize;
use std::fmt;

/// What gim shows of a GPU's partitions. What it says in words that are not known here is left out.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct AmdPartitioning {
    /// Index of the profile in force, of those in `accelerator_partition_profile_config`.
    pub accelerator_profile: Option<u32>,
    pub memory: Option<MemoryMode>,
    pub spatial: Option<SpatialMode>,
}

/// Into how many NUMA domains memory is cut: `NPS4` is four.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct MemoryMode(pub u8);

/// Into how many partitions the compute dies are cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum SpatialMode {
    /// One.
    Spx,
    /// Two.
    Dpx,
    /// Four.
    Qpx,
    /// Eight.
    Cpx,
}

impl SpatialMode {
    pub(super) const fn partitions(self) -> u16 {
        match self {
            Self::Spx => 1,
            Self::Dpx => 2,
            Self::Qpx => 4,
            Self::Cpx => 8,
        }
    }
}

impl fmt::Display for MemoryMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NPS{}", self.0)
    }
}

impl fmt::Display for SpatialMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Spx => "SPX",
            Self::Dpx => "DPX",
            Self::Qpx => "QPX",
            Self::Cpx => "CPX",
        })
    }
}

/// `memory_partition_mode: NPS4`, or the word alone.
fn memory(text: &str) -> Option<MemoryMode> {
    text.split_whitespace().find_map(|word| word.strip_prefix("NPS")?.parse().ok()).map(MemoryMode)
}

fn spatial(text: &str) -> Option<SpatialMode> {
    text.split_whitespace().find_map(|word| match word {
        "SPX" => Some(SpatialMode::Spx),
        "DPX" => Some(SpatialMode::Dpx),
        "QPX" => Some(SpatialMode::Qpx),
        "CPX" => Some(SpatialMode::Cpx),
        _ => None,
    })
}

/// A table with a heading, whose first column is the index; or the index alone.
fn accelerator_profile(text: &str) -> Option<u32> {
    text.lines().find_map(|line| line.split_whitespace().next()?.parse().ok())
}

/// None where the driver shows no partitions, as on GPUs of other families.
pub(crate) fn read(host: &Host, gpu: PciAddress) -> Option<AmdPartitioning> {
    // Beside the VFs it is a side note: what cannot be read does not hide the GPU.
    let text = |name: &str| match attribute::read(&host.pci_device(gpu).join(name)) {
        Ok(text) => text,
        Err(error) => {
            tracing::warn!(%gpu, "partitions left out: {error}");
            None
        }
    };
    let found = AmdPartitioning {
        accelerator_profile: text("accelerator_partition_profile").as_deref().and_then(accelerator_profile),
        memory: text("memory_partition_mode").as_deref().and_then(memory),
        spatial: text("spatial_partition_mode").as_deref().and_then(spatial),
    };
    Some(found).filter(|found| *found != AmdPartitioning::default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_gim_shows_is_read_as_a_table_or_as_a_word() {
        let table = "profile_index       profile_type        num_of_partitions   \n3                   CPX                 8";
        assert_eq!(accelerator_profile(table), Some(3));
        assert_eq!(accelerator_profile("2\n"), Some(2));
        assert_eq!(memory("memory_partition_mode: NPS4\nnuma_count: 4\n"), Some(MemoryMode(4)));
        assert_eq!(memory("NPS1"), Some(MemoryMode(1)));
        for (text, mode) in [
            ("SPX", SpatialMode::Spx),
            ("DPX", SpatialMode::Dpx),
            ("QPX", SpatialMode::Qpx),
            ("CPX\n", SpatialMode::Cpx),
        ] {
            assert_eq!(spatial(text), Some(mode));
            assert_eq!(mode.to_string(), text.trim());
        }
        for strange in ["", "unknown", "NPS", "NPS-1", "NPS999", "profile_index"] {
            assert_eq!((accelerator_profile(strange), memory(strange), spatial(strange)), (None, None, None));
        }
    }
}
