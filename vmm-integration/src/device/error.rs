//! What can go wrong with an open device.

use std::{io, path::PathBuf};

/// A failure on the way to a device or at one, by the device's name in sysfs.
#[derive(Debug, thiserror::Error)]
pub enum DeviceError {
    #[error("{} is in use; end the VM that has it open", node.display())]
    InUse { node: PathBuf },
    #[error("Cannot open {}; vgpud runs as root, with the VFIO modules loaded", node.display())]
    Open {
        node: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("{} is no folder of a device in sysfs", sysfs.display())]
    NoName { sysfs: PathBuf },
    #[error("This kernel's VFIO has no IOMMU of type 1, version 2 (API {api}); load vfio_iommu_type1")]
    NoType1 { api: i32 },
    #[error("The IOMMU group of {device} is not viable; bind everything in it to vfio-pci, or unbind it")]
    NotViable { device: String },
    #[error("{device} is no PCI device to VFIO, and vgpud checks no other; keep it out of use")]
    NotPci { device: String },
    #[error("The kernel refused to {what} of {device}; its log says more (`dmesg`)")]
    Refused {
        device: String,
        /// Completes "to …".
        what: &'static str,
        #[source]
        source: io::Error,
    },
    #[error("{device} does not answer: its config space reads as ones; it needs a power cycle of the host")]
    Silent { device: String },
    #[error("{device} has {size:#x} bytes in region {region} and was asked for those from {offset:#x} on")]
    Beyond { device: String, region: u32, size: u64, offset: u64 },
}

impl DeviceError {
    /// The kernel's errno, where it gave one.
    #[must_use]
    pub fn errno(&self) -> Option<i32> {
        match self {
            Self::Open { source, .. } | Self::Refused { source, .. } => source.raw_os_error(),
            Self::InUse { .. }
            | Self::NoName { .. }
            | Self::NoType1 { .. }
            | Self::NotViable { .. }
            | Self::NotPci { .. }
            | Self::Silent { .. }
            | Self::Beyond { .. } => None,
        }
    }
}
