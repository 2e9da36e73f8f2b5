//! Whether an IOMMU group isolates a slice (kernel: Documentation/driver-api/vfio.rst).

mod cause;
#[cfg(test)]
mod tests;

pub use crate::iommu::CpuVendor;
pub use cause::Cause;

use crate::{Error, iommu};
use std::{fmt, path::Path};
use vgpud_mdev::{DriverName, Host, Instance, InstanceName, attribute};

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

/// All that keep a group from VFIO beside one device of it, and what of the host put them there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Strangers {
    pub all: Vec<Stranger>,
    /// None where it cannot be told.
    pub cause: Option<Cause>,
}

impl Strangers {
    /// The way out.
    #[must_use]
    pub fn mend(&self) -> &'static str {
        let unknown = "unbind them or bind them to vfio-pci, or move the card to another slot";
        self.cause.as_ref().map_or(unknown, Cause::mend)
    }
}

impl fmt::Display for Strangers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all: Vec<_> = self.all.iter().map(Stranger::to_string).collect();
        f.write_str(&all.join(", "))?;
        self.cause.as_ref().map_or(Ok(()), |cause| write!(f, ", since {cause}"))
    }
}

/// Why a group does not isolate a slice. Its Display is [`Self::fault`] and [`Self::mend`] in one
/// sentence.
#[derive(Debug)]
pub enum IsolationError {
    NoIommu { device: String, cpu: CpuVendor },
    NoGroup { device: String },
    NoIommuMode { device: String, cpu: CpuVendor },
    Strangers { device: String, group: u32, strangers: Strangers },
    PhysicalFunction { device: String },
    Device(vgpud_mdev::Error),
}

impl IsolationError {
    /// What is wrong.
    #[must_use]
    pub fn fault(&self) -> String {
        match self {
            Self::NoIommu { device, .. } => {
                format!("{device} has no IOMMU group, as this host's IOMMU is off")
            }
            Self::NoGroup { device } => {
                format!("{device} has no IOMMU group although the host has an IOMMU")
            }
            Self::NoIommuMode { device, .. } => {
                format!("{device} is in VFIO's no-IOMMU mode, which isolates nothing")
            }
            Self::Strangers { device, group, strangers } => {
                format!("IOMMU group {group} of {device} also holds {strangers}")
            }
            Self::PhysicalFunction { device } => {
                format!(
                    "{device} is the physical function of a GPU with virtual functions and controls every slice of it"
                )
            }
            Self::Device(error) => error.to_string(),
        }
    }

    /// The way out; none where the fault names its own.
    #[must_use]
    pub fn mend(&self) -> Option<&'static str> {
        match self {
            Self::NoIommu { cpu, .. } | Self::NoIommuMode { cpu, .. } => Some(cpu.iommu_mend()),
            Self::NoGroup { .. } => {
                Some("bind the device to its VFIO driver, or move the card to a slot behind the IOMMU")
            }
            Self::Strangers { strangers, .. } => Some(strangers.mend()),
            Self::PhysicalFunction { .. } => Some("hand over one of its slices"),
            Self::Device(_) => None,
        }
    }
}

impl fmt::Display for IsolationError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.fault())?;
        self.mend().map_or(Ok(()), |mend| write!(f, "; {mend}"))
    }
}

impl std::error::Error for IsolationError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            // Its sentence is this error's, so its cause comes next.
            Self::Device(error) => error.source(),
            _ => None,
        }
    }
}

impl From<vgpud_mdev::Error> for IsolationError {
    fn from(error: vgpud_mdev::Error) -> Self {
        Self::Device(error)
    }
}

/// Checks that the slice has an IOMMU group and that nothing else in it is in use: every other
/// member is unbound, a bridge, or on a VFIO driver. The kernel lets VFIO open no other group
/// (`iommu_group_claim_dma_owner`); this says beforehand who is in the way.
///
/// # Errors
/// Names the strangers, their drivers and what does not keep them apart, or says that there is no IOMMU and how to turn it on.
pub fn check_group(host: &Host, instance: &Instance) -> Result<(), Error> {
    Ok(check(host, instance)?)
}

fn check(host: &Host, instance: &Instance) -> Result<(), IsolationError> {
    let device = match instance.name {
        InstanceName::Mdev(uuid) => uuid.to_string(),
        InstanceName::Vf(_) | InstanceName::Whole => {
            instance.address.map_or_else(|| instance.gpu.to_string(), |vf| vf.to_string())
        }
    };
    if attribute::read(&instance.sysfs.join("sriov_numvfs"))?.is_some_and(|count| count != "0") {
        return Err(IsolationError::PhysicalFunction { device });
    }
    let group = instance.sysfs.join("iommu_group");
    let Some(number) = attribute::link(&group)?.and_then(|number| number.parse().ok()) else {
        return Err(match iommu::works(host)? {
            true => IsolationError::NoGroup { device },
            false => IsolationError::NoIommu { device, cpu: CpuVendor::of(host) },
        });
    };
    // VFIO makes up a group for a mediated device, whose isolation is its parent driver's. For a
    // PCI function such a group means that nothing isolates it.
    if !matches!(instance.name, InstanceName::Mdev(_)) && iommu::made_up(&group)? {
        return Err(IsolationError::NoIommuMode { device, cpu: CpuVendor::of(host) });
    }
    match strangers(host, &instance.sysfs, Some(&device))? {
        Some(strangers) => Err(IsolationError::Strangers { device, group: number, strangers }),
        None => Ok(()),
    }
}

/// Who keeps the group of the device in this folder from VFIO. The device itself, of this name, does not
/// count; without a name it does, as it does for virtual functions that it will make.
pub(crate) fn strangers(
    host: &Host,
    folder: &Path,
    device: Option<&str>,
) -> Result<Option<Strangers>, vgpud_mdev::Error> {
    let members = folder.join("iommu_group/devices");
    let mut all = Vec::new();
    for member in attribute::names(&members)?.into_iter().filter(|member| device != Some(member)) {
        if let Some(driver) = in_the_way(&members.join(&member))? {
            all.push(Stranger { device: member, driver });
        }
    }
    if all.is_empty() {
        return Ok(None);
    }
    let cause = cause::cause(host, folder, &all)?;
    Ok(Some(Strangers { all, cause }))
}

/// The driver that keeps the group of the device in folder `member` from VFIO, if one does.
fn in_the_way(member: &Path) -> Result<Option<DriverName>, vgpud_mdev::Error> {
    let Some(driver) = attribute::link(&member.join("driver"))? else { return Ok(None) };
    // Drivers that leave DMA to others: the kernel's `driver_managed_dma`. A vendor's own VFIO
    // driver (nvidia) shows itself by the device's `vfio-dev` folder.
    let harmless = driver.contains("vfio")
        || ["pci-stub", "pcieport"].contains(&driver.as_str())
        || !attribute::names(&member.join("vfio-dev"))?.is_empty()
        || attribute::read(&member.join("class"))?.is_some_and(|class| class.starts_with("0x0604"));
    Ok((!harmless).then_some(DriverName(driver)))
}
