//! Instances: the virtual functions and mediated devices of a GPU that a VM can open through VFIO. What
//! exists is read from the kernel, whichever [`Mechanism`](crate::Mechanism) or person made it.

use crate::{
    DriverName, Error, Host, IommuGroup, PciAddress, device,
    mediated_device::MediatedDevice,
    nvidia::{self, TypeNames},
    passthrough, reset, vendor_clear,
    virtual_function::VirtualFunction,
};
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
    /// The GPU itself.
    Whole,
}

impl InstanceName {
    /// The name under which it is made anew: a new UUID, which nobody can mistake for the old device; what is
    /// there for good keeps its name.
    #[must_use]
    pub fn renewed(self) -> Self {
        match self {
            Self::Vf(_) | Self::Whole => self,
            Self::Mdev(_) => Self::Mdev(MdevUuid(uuid::Uuid::new_v4())),
        }
    }
}

impl fmt::Display for InstanceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Vf(VfIndex(index)) => write!(f, "VF {index}"),
            Self::Mdev(uuid) => write!(f, "mediated device {uuid}"),
            Self::Whole => f.write_str("passthrough device"),
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

/// What became of a reset that the kernel did not refuse.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ResetOutcome {
    /// The kernel reset the device. `method` is the first of the device's methods (`flr`, …); the
    /// kernel goes on to the next only where one turns out not to be supported.
    Done { method: String },
    /// The device offers no reset between users. A mediated device or an NVIDIA vGPU is cleaned by
    /// destroying it and creating it again (its driver starts it anew); anything else must stay out of use.
    NotOffered,
}

/// What became of a request that the vendor's driver clears an instance's memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClearOutcome {
    /// The driver says that it did. That is a claim: whoever can look at the memory does.
    Reported {
        /// The driver's interface.
        by: &'static str,
    },
    /// The driver has no such thing, or none whose word is worth anything.
    NotOffered,
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
    /// The mdev type, the type of an NVIDIA vGPU, or the VF count for a VF (`vf-8`): read back, never
    /// remembered.
    pub profile: crate::ProfileName,
    pub driver: Option<DriverName>,
    pub iommu_group: Option<IommuGroup>,
    pub nodes: VfioNodes,
}

/// The instance as it is now; none where there is none of this name. A VF that no VM could open is a
/// spare of its GPU and no instance.
///
/// # Errors
/// Where sysfs cannot be read.
pub fn find(host: &Host, gpu: PciAddress, name: InstanceName) -> Result<Option<Instance>, Error> {
    match name {
        InstanceName::Vf(index) => match VirtualFunction::read(host, gpu, index)? {
            Some(vf) => vf.instance(host, gpu, &TypeNames::of(host, gpu)),
            None => Ok(None),
        },
        InstanceName::Mdev(uuid) => match MediatedDevice::read(host, uuid)? {
            Some(mdev) => mdev.instance(host, gpu),
            None => Ok(None),
        },
        InstanceName::Whole => whole(host, gpu),
    }
}

/// The nodes of a device that is no instance any more but has not yet left its VFIO driver: the kernel
/// waits until its user closes it (drivers/vfio/vfio_main.c, `vfio_unregister_group_dev`), and whoever
/// binds or removes the device waits behind. Nothing where nothing leaves.
///
/// # Errors
/// As [`find`].
pub fn leaving(host: &Host, gpu: PciAddress, name: InstanceName) -> Result<VfioNodes, Error> {
    match name {
        InstanceName::Vf(index) => match VirtualFunction::read(host, gpu, index)? {
            Some(vf) => vf.leaving(host),
            None => Ok(VfioNodes::default()),
        },
        InstanceName::Whole => device::leaving(host, &host.pci_device(gpu)),
        InstanceName::Mdev(_) => Ok(VfioNodes::default()),
    }
}

/// The GPU itself, where it and what goes along with it are on VFIO.
fn whole(host: &Host, gpu: PciAddress) -> Result<Option<Instance>, Error> {
    let sysfs = host.pci_device(gpu);
    let Some(profile) = passthrough::profile() else { return Ok(None) };
    // The GPU comes first, so that nothing more is read of one on its own driver.
    for function in passthrough::functions(host, gpu)? {
        if !device::on_vfio(&host.pci_device(function))? {
            return Ok(None);
        }
    }
    let (driver, iommu_group) = (device::driver(&sysfs)?, device::iommu_group(host, &sysfs)?);
    let nodes = device::vfio_nodes(host, &sysfs, iommu_group.as_ref())?;
    let (name, address) = (InstanceName::Whole, Some(gpu));
    Ok(Some(Instance { gpu, name, sysfs, address, profile, driver, iommu_group, nodes }))
}

/// All instances of the GPU, in order of name, whoever made them.
///
/// # Errors
/// Where sysfs cannot be read.
pub fn list(host: &Host, gpu: PciAddress) -> Result<Vec<Instance>, Error> {
    let mut instances: Vec<Instance> = whole(host, gpu)?.into_iter().collect();
    let vgpus = TypeNames::of(host, gpu);
    for vf in VirtualFunction::all(host, gpu)? {
        instances.extend(vf.instance(host, gpu, &vgpus)?);
    }
    for mdev in MediatedDevice::all(host)? {
        instances.extend(mdev.instance(host, gpu)?);
    }
    instances.sort_unstable_by_key(|instance| instance.name);
    Ok(instances)
}

impl Instance {
    /// Whether it is of this profile, for all that the device says: it does not name the type of a vGPU of
    /// which no more fits ([`nvidia`]).
    #[must_use]
    pub fn may_be(&self, profile: &crate::ProfileName) -> bool {
        let is_vf = matches!(self.name, InstanceName::Vf(_));
        self.profile == *profile || (is_vf && nvidia::is_unnamed(&self.profile))
    }

    /// Resets it between users by the kernel's `reset` in sysfs. The kernel's verdict is checked, and that
    /// the device answers afterwards. A mediated device has no reset there (VFIO_DEVICE_RESET needs it open),
    /// and an NVIDIA vGPU is for one owner alone.
    ///
    /// # Errors
    /// Where the kernel says that the reset failed, or the device is silent after it.
    pub fn reset(&self, host: &Host) -> Result<ResetOutcome, Error> {
        match self.name {
            InstanceName::Vf(index) => {
                let vf = self.virtual_function(host, index)?.address;
                match nvidia::current(&host.pci_device(vf))? {
                    Some(_) => Ok(ResetOutcome::NotOffered),
                    None => reset::reset(host, vf),
                }
            }
            // What goes along with the GPU may have no reset of its own.
            InstanceName::Whole => {
                let mut functions = passthrough::functions(host, self.gpu)?.into_iter().rev();
                functions.try_fold(ResetOutcome::NotOffered, |_, function| reset::reset(host, function))
            }
            InstanceName::Mdev(_) => Ok(ResetOutcome::NotOffered),
        }
    }

    /// Lets the vendor's driver clear its memory, where that can be asked for. The caller has proved that
    /// nobody uses it.
    ///
    /// # Errors
    /// Where the driver refuses, or does not report success.
    pub fn clear_memory(&self, host: &Host) -> Result<ClearOutcome, Error> {
        match self.name {
            InstanceName::Vf(index) => vendor_clear::clear(host, self.virtual_function(host, index)?.address),
            InstanceName::Mdev(_) | InstanceName::Whole => Ok(ClearOutcome::NotOffered),
        }
    }

    fn virtual_function(&self, host: &Host, index: VfIndex) -> Result<VirtualFunction, Error> {
        let vf = VirtualFunction::read(host, self.gpu, index)?;
        vf.ok_or(Error::NoSuchInstance { gpu: self.gpu, name: self.name })
    }
}

/// The attribute that [`Instance::clear_memory`] writes, where it writes one; it need not exist.
#[must_use]
pub fn clear_attribute(host: &Host, gpu: PciAddress, name: InstanceName) -> Option<PathBuf> {
    match name {
        InstanceName::Vf(index) => {
            Some(vendor_clear::attribute_of(&host.pci_device(gpu).join(format!("virtfn{}", index.0))))
        }
        InstanceName::Mdev(_) | InstanceName::Whole => None,
    }
}
