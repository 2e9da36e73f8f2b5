//! How AMD's accelerators are divided.

use crate::PciId;
use serde::{Deserialize, Serialize};
use std::fmt;

/// Parts of a card's compute.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
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
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum MemoryMode {
    Nps1,
    Nps2,
    Nps4,
    Nps8,
}

/// How a card is to be divided inside; what is none is left as it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartitionModes {
    pub accelerator: Option<AcceleratorMode>,
    pub memory: Option<MemoryMode>,
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
    pub const ALL: [Self; 4] = [Self::Spx, Self::Dpx, Self::Qpx, Self::Cpx];

    /// AMD's word for it.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Spx => "SPX",
            Self::Dpx => "DPX",
            Self::Qpx => "QPX",
            Self::Cpx => "CPX",
        }
    }

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
    pub const ALL: [Self; 4] = [Self::Nps1, Self::Nps2, Self::Nps4, Self::Nps8];

    /// AMD's word for it.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Nps1 => "NPS1",
            Self::Nps2 => "NPS2",
            Self::Nps4 => "NPS4",
            Self::Nps8 => "NPS8",
        }
    }

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

impl PartitionModes {
    /// Whether nothing is asked.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.accelerator.is_none() && self.memory.is_none()
    }

    /// What both ask; none where they ask for different modes.
    #[must_use]
    pub fn and(self, other: Self) -> Option<Self> {
        fn one<T: PartialEq>(left: Option<T>, right: Option<T>) -> Option<Option<T>> {
            match (left, right) {
                (Some(left), Some(right)) if left != right => None,
                (left, right) => Some(left.or(right)),
            }
        }
        let accelerator = one(self.accelerator, other.accelerator)?;
        Some(Self { accelerator, memory: one(self.memory, other.memory)? })
    }
}

impl fmt::Display for AcceleratorMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

impl fmt::Display for MemoryMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

impl fmt::Display for PartitionModes {
    /// `NPS4 and CPX`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.memory, self.accelerator) {
            (Some(memory), Some(accelerator)) => write!(f, "{memory} and {accelerator}"),
            (Some(memory), None) => memory.fmt(f),
            (None, Some(accelerator)) => accelerator.fmt(f),
            (None, None) => f.write_str("no modes"),
        }
    }
}
