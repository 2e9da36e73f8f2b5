//! Cards by PCI id.

use crate::{Memory, PciId};
use serde::Deserialize;

/// Something that somebody says of a card.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fact<T> {
    pub value: T,
    /// Key of [`Catalogue::source`](super::Catalogue::source).
    pub source: String,
    /// No source says it of this very card: whoever can ask the device does.
    #[serde(default)]
    pub assumed: bool,
}

/// A card: one or more physical functions that are alike.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Card {
    pub ids: Vec<PciId>,
    pub name: String,
    /// Where ids, name and ways to cut it are from.
    pub source: String,
    /// The drivers' interfaces by which it is cut; none: it cannot be.
    pub cut_by: Vec<Interface>,
    /// Id of its virtual functions, where it is known.
    pub vf: Option<Fact<PciId>>,
    /// As its maker names it; some of it is the driver's.
    pub memory: Option<Fact<Memory>>,
    /// Most virtual functions. The device says itself what it offers (`sriov_totalvfs`).
    pub vfs: Option<Fact<u16>>,
    /// The counts of virtual functions that its driver takes, where it does not take all.
    pub vf_counts: Option<Fact<Vec<u16>>>,
    /// Compute slices of MIG, where the card has it.
    pub mig_slices: Option<Fact<u8>>,
    #[serde(default)]
    pub hazards: Vec<Fact<Hazard>>,
}

impl Card {
    /// Whether a hazard is known of it.
    #[must_use]
    pub fn has(&self, hazard: Hazard) -> bool {
        self.hazards.iter().any(|known| known.value == hazard)
    }
}

/// A driver's way to cut a card.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Interface {
    /// NVIDIA vGPU on virtual functions, which NVIDIA's `sriov-manage` makes.
    NvidiaSriov,
    /// NVIDIA vGPU as mediated devices of the physical function.
    NvidiaMdev,
    /// AMD's GIM, which makes the virtual functions when it is loaded.
    AmdGim,
    /// xe of the kernel.
    IntelXe,
    /// Intel's i915 out of the kernel's tree, for data centre cards.
    IntelI915Backports,
    /// A port of Intel's i915 with SR-IOV, for integrated GPUs.
    IntelI915SriovDkms,
}

/// What a card does not survive, or keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Hazard {
    /// A reset of the bus leaves the card dead until the host is switched off.
    NoBusReset,
    /// Any reset of the physical function through VFIO leaves the card dead until the host restarts.
    NoPfReset,
    /// Memory of a virtual function is not cleared after its VM has ended uncleanly.
    KeepsMemory,
}
