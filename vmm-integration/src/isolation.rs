//! Whether an IOMMU group isolates a slice (kernel: Documentation/driver-api/vfio.rst).

use crate::Error;
use std::{fmt, io, path::PathBuf};
use vgpud_mdev::{DriverName, Host, Instance};

/// Another member of a group, with a driver that keeps the group from VFIO.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stranger {
    /// A PCI address, or an mdev's UUID.
    pub device: String,
    pub driver: DriverName,
}

impl fmt::Display for Stranger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.device, self.driver)
    }
}

/// Why a group does not isolate a slice.
#[derive(Debug, thiserror::Error)]
pub enum IsolationError {
    #[error("{device} has no IOMMU group, as this host's IOMMU is off; {hint}")]
    NoIommu { device: String, hint: &'static str },
    #[error(
        "{device} has no IOMMU group although the host has an IOMMU; bind the device to its VFIO driver, or move the card to a slot behind the IOMMU"
    )]
    NoGroup { device: String },
    #[error("{device} is in VFIO's no-IOMMU mode, which isolates nothing; {hint}")]
    NoIommuMode { device: String, hint: &'static str },
    #[error(
        "IOMMU group {group} of {device} also holds {}; unbind them or bind them to vfio-pci, or move the card to another slot",
        list(strangers)
    )]
    Strangers { device: String, group: u32, strangers: Vec<Stranger> },
    #[error(
        "{device} is the physical function of a GPU with virtual functions and controls every slice of it; hand over one of its slices"
    )]
    PhysicalFunction { device: String },
    #[error("Cannot read {}", path.display())]
    Read {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

fn list(strangers: &[Stranger]) -> String {
    strangers.iter().map(Stranger::to_string).collect::<Vec<_>>().join(", ")
}

/// Checks that the slice has an IOMMU group and that nothing else in it is in use: every other
/// member is unbound, a bridge, or on a VFIO driver.
///
/// # Errors
/// Names the strangers and their drivers, or says that there is no IOMMU and how to turn it on.
pub fn check_group(_host: &Host, _instance: &Instance) -> Result<(), Error> {
    todo!()
}
