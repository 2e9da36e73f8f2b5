//! How AMD's accelerators are divided.

use crate::PciId;
use serde::Deserialize;

/// Parts of a card's compute.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum AcceleratorMode {
    /// One part.
    Spx,
    /// Two.
    Dpx,
    /// Four.
    Qpx,
    /// One for each compute die: eight on an MI300X.
    Cpx,
}

/// Parts of a card's memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum MemoryMode {
    Nps1,
    Nps2,
    Nps4,
    Nps8,
}

/// One way to divide a card that its driver takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Partition {
    pub vfs: u16,
    pub memory: MemoryMode,
    pub accelerator: AcceleratorMode,
    /// What the driver chooses for this count of VFs and this memory mode.
    #[serde(default)]
    pub default: bool,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Partitions {
    pub(super) cards: Vec<PciId>,
    pub(super) source: String,
    pub(super) ways: Vec<Partition>,
}

impl AcceleratorMode {
    /// On a card with that many compute dies.
    #[must_use]
    pub const fn parts(self, dies: u16) -> u16 {
        match self {
            Self::Spx => 1,
            Self::Dpx => 2,
            Self::Qpx => 4,
            Self::Cpx => dies,
        }
    }
}

impl MemoryMode {
    #[must_use]
    pub const fn parts(self) -> u16 {
        match self {
            Self::Nps1 => 1,
            Self::Nps2 => 2,
            Self::Nps4 => 4,
            Self::Nps8 => 8,
        }
    }
}
