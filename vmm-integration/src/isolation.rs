//! Whether an IOMMU group isolates a slice (kernel: Documentation/driver-api/vfio.rst).

pub use crate::iommu::CpuVendor;
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

/// Why a group does not isolate a slice. Its Display is [`Self::fault`] and [`Self::mend`] in one
/// sentence.
#[derive(Debug)]
pub enum IsolationError {
    NoIommu { device: String, cpu: CpuVendor },
    NoGroup { device: String },
    NoIommuMode { device: String, cpu: CpuVendor },
    Strangers { device: String, group: u32, strangers: Vec<Stranger> },
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
                format!("IOMMU group {group} of {device} also holds {}", list(strangers))
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
            Self::Strangers { .. } => {
                Some("unbind them or bind them to vfio-pci, or move the card to another slot")
            }
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
    let strangers = strangers(&group, &device)?;
    if strangers.is_empty() {
        Ok(())
    } else {
        Err(IsolationError::Strangers { device, group: number, strangers })
    }
}

/// The members of a group (`group`: its folder), beside `device`, that keep it from VFIO.
pub(crate) fn strangers(group: &Path, device: &str) -> Result<Vec<Stranger>, vgpud_mdev::Error> {
    let members = group.join("devices");
    let mut strangers = Vec::new();
    for member in attribute::names(&members)?.into_iter().filter(|member| member != device) {
        if let Some(driver) = in_the_way(&members.join(&member))? {
            strangers.push(Stranger { device: member, driver });
        }
    }
    Ok(strangers)
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

#[cfg(test)]
mod tests;
