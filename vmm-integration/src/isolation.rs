//! Whether an IOMMU group isolates a slice (kernel: Documentation/driver-api/vfio.rst).

use crate::{
    Error,
    iommu::{self, CpuVendor},
};
use std::{
    fmt, fs, io,
    path::{Path, PathBuf},
};
use vgpud_mdev::{DriverName, Host, Instance, InstanceName};

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
/// member is unbound, a bridge, or on a VFIO driver. The kernel lets VFIO open no other group
/// (`iommu_group_claim_dma_owner`); this says beforehand who is in the way.
///
/// # Errors
/// Names the strangers and their drivers, or says that there is no IOMMU and how to turn it on.
pub fn check_group(host: &Host, instance: &Instance) -> Result<(), Error> {
    let device = match instance.name {
        InstanceName::Mdev(uuid) => uuid.to_string(),
        InstanceName::Vf(_) => instance.address.map_or_else(|| instance.gpu.to_string(), |vf| vf.to_string()),
    };
    let numvfs = instance.sysfs.join("sriov_numvfs");
    if read_if_there(&numvfs)?.is_some_and(|count| count.trim() != "0") {
        return Err(IsolationError::PhysicalFunction { device }.into());
    }
    let group = instance.sysfs.join("iommu_group");
    let Some(number) = link_name(&group)?.and_then(|number| number.parse().ok()) else {
        return Err(no_group(host, device).into());
    };
    // VFIO makes up a group for a mediated device, whose isolation is its parent driver's. For a
    // PCI function such a group means that nothing isolates it.
    if matches!(instance.name, InstanceName::Vf(_)) && iommu::made_up(&group) {
        let hint = CpuVendor::of(host).iommu_mend();
        return Err(IsolationError::NoIommuMode { device, hint }.into());
    }
    let mut strangers = Vec::new();
    for member in iommu::entries(&group.join("devices")).map_err(unreadable)? {
        let name = member.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if name == device {
            continue;
        }
        if let Some(driver) = in_the_way(&member)? {
            strangers.push(Stranger { device: name, driver });
        }
    }
    if strangers.is_empty() {
        return Ok(());
    }
    Err(IsolationError::Strangers { device, group: number, strangers }.into())
}

fn no_group(host: &Host, device: String) -> IsolationError {
    match iommu::works(host) {
        Ok(true) => IsolationError::NoGroup { device },
        Ok(false) => IsolationError::NoIommu { device, hint: CpuVendor::of(host).iommu_mend() },
        Err(error) => unreadable(error),
    }
}

/// The driver that keeps the group of the device in folder `member` from VFIO, if one does.
pub(crate) fn in_the_way(member: &Path) -> Result<Option<DriverName>, IsolationError> {
    let Some(driver) = link_name(&member.join("driver"))? else { return Ok(None) };
    // Drivers that leave DMA to others: the kernel's `driver_managed_dma`.
    let harmless = driver.contains("vfio") || ["pci-stub", "pcieport"].contains(&driver.as_str());
    // A vendor's own VFIO driver (nvidia) shows itself by the device's `vfio-dev` folder.
    let vfio = harmless || !iommu::entries(&member.join("vfio-dev")).map_err(unreadable)?.is_empty();
    let bridge =
        || Ok(read_if_there(&member.join("class"))?.is_some_and(|class| class.starts_with("0x0604")));
    Ok(if vfio || bridge()? { None } else { Some(DriverName(driver)) })
}

/// Last part of what a link of sysfs leads to; none where there is no such link.
fn link_name(link: &Path) -> Result<Option<String>, IsolationError> {
    match fs::read_link(link) {
        Ok(target) => Ok(target.file_name().map(|name| name.to_string_lossy().into_owned())),
        Err(error) if gone(&error) => Ok(None),
        Err(source) => Err(IsolationError::Read { path: link.into(), source }),
    }
}

fn read_if_there(path: &Path) -> Result<Option<String>, IsolationError> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if gone(&error) => Ok(None),
        Err(source) => Err(IsolationError::Read { path: path.into(), source }),
    }
}

/// The attribute or its device is not there (ENODEV: it went away while it was read).
fn gone(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(nix::Error::ENODEV as i32)
}

fn unreadable(error: iommu::Unreadable) -> IsolationError {
    IsolationError::Read { path: error.path, source: error.source }
}

#[cfg(test)]
mod tests;
