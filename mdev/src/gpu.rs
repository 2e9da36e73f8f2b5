//! What the kernel says of one physical GPU.

use crate::{
    AmdPartitioning, Memory, PciAddress, PciId, ProfileName, XeProvisioning,
    nvidia::{Mig, NvidiaVgpu},
};
use serde::Serialize;
use std::fmt;

/// Name of a kernel driver as sysfs spells it (`vfio-pci`).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct DriverName(pub String);

impl fmt::Display for DriverName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// An IOMMU group as it is now: numbers change over a reboot, so none is ever stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct IommuGroup {
    pub number: u32,
    /// Names of every device in the group (PCI addresses or mdev UUIDs), this one included.
    pub members: Vec<String>,
}

/// The SR-IOV files of a PF (kernel: Documentation/ABI/testing/sysfs-bus-pci).
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SriovCapability {
    /// VFs that the device and its driver allow.
    pub total: u16,
    /// VFs that exist now.
    pub enabled: u16,
    /// Those of the enabled that are on a driver, and so no spares.
    pub bound: u16,
    /// Size of one VF's largest memory BAR, read from the PF's IOV resources and its SR-IOV capability;
    /// none where the firmware assigned none, or the reader is not root.
    pub vf_aperture: Option<Memory>,
}

/// One entry of `mdev_supported_types` (kernel: Documentation/driver-api/vfio-mediated-device.rst).
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct MdevType {
    pub id: ProfileName,
    pub name: Option<String>,
    pub description: Option<String>,
    /// Instances that can be created now.
    pub available: u32,
    /// Instances that exist.
    pub existing: u32,
    /// Device memory that the description states.
    pub memory: Option<Memory>,
    /// Instances that an empty parent holds, where the description states it.
    pub most: Option<u32>,
}

/// One physical GPU. Virtual functions are not GPUs; they belong to their PF.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Gpu {
    pub address: PciAddress,
    pub id: PciId,
    pub subsystem: Option<PciId>,
    /// PCI class, 24 bits, such as 0x030000.
    pub class: u32,
    /// Vendor and device as the PCI ID database (hwdata) names them.
    pub vendor_name: Option<String>,
    pub device_name: Option<String>,
    /// None where the machine has no NUMA information (the kernel writes -1).
    pub numa_node: Option<u32>,
    pub driver: Option<DriverName>,
    pub iommu_group: Option<IommuGroup>,
    /// Reset methods in the order that the kernel tries them (`flr`, `bus`, …).
    pub reset_methods: Vec<String>,
    pub sriov: Option<SriovCapability>,
    pub mdev_types: Vec<MdevType>,
    /// None where its driver is not Intel's xe, or shows no shares of VFs.
    pub xe: Option<XeProvisioning>,
    /// None where its driver shows no partitions: only AMD's gim does.
    pub partitioning: Option<AmdPartitioning>,
    /// None where it is not on NVIDIA's driver, or has neither VFs to share nor mediated devices.
    pub nvidia: Option<NvidiaVgpu>,
    /// None where it has no MIG.
    pub mig: Option<Mig>,
}

impl Gpu {
    /// A GPU of which nothing more is known: no driver, no group, nothing that it offers.
    #[must_use]
    pub const fn new(address: PciAddress, id: PciId, class: u32) -> Self {
        Self {
            address,
            id,
            subsystem: None,
            class,
            vendor_name: None,
            device_name: None,
            numa_node: None,
            driver: None,
            iommu_group: None,
            reset_methods: Vec::new(),
            sriov: None,
            mdev_types: Vec::new(),
            xe: None,
            partitioning: None,
            nvidia: None,
            mig: None,
        }
    }

    /// Why its SR-IOV capability gives no VFs to share, as the end of a sentence; none where it does.
    pub(crate) fn without_vfs(&self) -> Option<String> {
        let why = match self.sriov.as_ref().map(|sriov| sriov.total) {
            None => "it has no SR-IOV capability",
            Some(0) => "its SR-IOV capability allows no VFs, which the GPU's driver or firmware decides",
            Some(1) => "its SR-IOV capability allows one VF, which is no share",
            Some(_) => return None,
        };
        Some(why.to_owned())
    }

    /// Whether VFs of it exist now.
    #[must_use]
    pub fn has_vfs(&self) -> bool {
        self.sriov.as_ref().is_some_and(|sriov| sriov.enabled > 0)
    }

    pub(crate) fn is_on(&self, driver: &str) -> bool {
        self.driver.as_ref().is_some_and(|on| on.0 == driver)
    }
}
