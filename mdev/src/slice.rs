//! Created instances: virtual functions and mediated devices.

use crate::{DriverName, IommuGroup, MechanismKind, PciAddress};
use serde::{Deserialize, Serialize};
use std::{fmt, path::PathBuf, str::FromStr};

/// Index of a VF below its PF, from 0, as in the PF's `virtfnN` link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct VfIndex(pub u16);

/// Name of a mediated device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct MdevUuid(pub uuid::Uuid);

impl fmt::Display for MdevUuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.as_hyphenated().fmt(f)
    }
}

impl FromStr for MdevUuid {
    type Err = uuid::Error;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(Self)
    }
}

/// Which instance of a GPU: chosen *before* it is created, so that an interrupted creation can be
/// found again and finished or undone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum InstanceName {
    Vf(VfIndex),
    Mdev(MdevUuid),
}

impl InstanceName {
    /// The mechanism that makes instances of such names.
    #[must_use]
    pub const fn mechanism(self) -> MechanismKind {
        match self {
            Self::Vf(_) => MechanismKind::Sriov,
            Self::Mdev(_) => MechanismKind::Mdev,
        }
    }
}

impl fmt::Display for InstanceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Vf(VfIndex(index)) => write!(f, "VF {index}"),
            Self::Mdev(uuid) => write!(f, "mediated device {uuid}"),
        }
    }
}

/// The VFIO nodes through which one device can be opened now.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct VfioNodes {
    /// `/dev/vfio/<group>`.
    pub group: Option<PathBuf>,
    /// `/dev/vfio/devices/vfioN`, only where that node and `/dev/iommu` really exist.
    pub cdev: Option<PathBuf>,
}

/// One instance as the kernel shows it now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Instance {
    pub gpu: PciAddress,
    pub name: InstanceName,
    /// Its folder in sysfs (`/sys/bus/pci/devices/<VF>` or `/sys/bus/mdev/devices/<UUID>`), what
    /// QEMU calls `sysfsdev`.
    pub sysfs: PathBuf,
    /// A VF's own PCI address; none for a mediated device.
    pub address: Option<PciAddress>,
    /// The mdev type, or the VF count for a VF (`vf-8`): read back, never remembered.
    pub profile: crate::ProfileName,
    pub driver: Option<DriverName>,
    pub iommu_group: Option<IommuGroup>,
    pub nodes: VfioNodes,
}
