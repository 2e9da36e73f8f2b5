//! One slice opened through VFIO, by its group or its cdev: the only module that speaks to VFIO
//! about a device (kernel: Documentation/driver-api/vfio.rst, include/uapi/linux/vfio.h).
//!
//! vfio-pci resets a device when it is opened and again when it is closed, and a vendor's driver may
//! start its host side at opening, so a device is only opened between two owners. A reset can hang
//! in the kernel and an access to a dead device ends the process: [`process`] runs all of it in a
//! process of its own.

mod access;
mod error;
mod ioctl;
mod mapping;
pub mod process;
mod region;

pub use error::DeviceError;
pub use mapping::{Mapping, NonZero};
pub use region::{Access, Area, Region};

use crate::node::Node;
use access::{AddressSpace, refused};
use ioctl::Dma;
use nix::sys::eventfd::{EfdFlags, EventFd};
use std::{
    fs::File,
    io,
    os::{fd::AsFd, unix::fs::FileExt},
    path::Path,
};
use vfio_bindings::bindings::vfio::{
    VFIO_DEVICE_FLAGS_PCI, VFIO_DEVICE_FLAGS_RESET, VFIO_IRQ_SET_ACTION_TRIGGER, VFIO_IRQ_SET_DATA_BOOL,
    VFIO_IRQ_SET_DATA_EVENTFD, VFIO_IRQ_SET_DATA_NONE, VFIO_PCI_CONFIG_REGION_INDEX, VFIO_PCI_MSIX_IRQ_INDEX,
};
use vgpud_mdev::{COMMAND, COMMAND_MEMORY, ConfigSpace, Host};

/// A device that this process has open.
#[derive(Debug)]
pub struct Device {
    // The device's file is closed first, then what it was opened with.
    file: File,
    address_space: AddressSpace,
    name: String,
    flags: u32,
    regions: Vec<Region>,
}

/// Whether the kernel resets the device when asked to. vfio-pci says so only where the reset that it
/// made at opening worked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResetOffer {
    Offered,
    NotOffered,
}

impl Device {
    /// Opens the device in the sysfs folder `sysfs` through `node`.
    ///
    /// # Errors
    /// [`DeviceError`]; [`DeviceError::InUse`] where somebody has it.
    pub fn open(host: &Host, node: &Node, sysfs: &Path) -> Result<Self, DeviceError> {
        let name = sysfs.file_name().and_then(|name| name.to_str());
        let name = name.ok_or_else(|| DeviceError::NoName { sysfs: sysfs.to_owned() })?.to_owned();
        let (file, address_space) = access::open(host, node, &name)?;
        let info = ioctl::info(&file).map_err(refused(&name, "tell the properties"))?;
        if info.flags & VFIO_DEVICE_FLAGS_PCI == 0 {
            return Err(DeviceError::NotPci { device: name });
        }
        let mut regions = Vec::new();
        for index in 0..info.num_regions {
            match ioctl::region_info(&file, index) {
                Ok((info, caps)) => regions.push(Region::new(&info, &caps)),
                // A region that this device does not have, such as legacy VGA.
                Err(error) if error.kind() == io::ErrorKind::InvalidInput => {}
                Err(error) => return Err(refused(&name, "tell the regions")(error)),
            }
        }
        Ok(Self { file, address_space, name, flags: info.flags, regions })
    }

    /// Its name in sysfs: a PCI address or an mdev's UUID.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// In order of index; those that the device does not have are left out.
    #[must_use]
    pub fn regions(&self) -> &[Region] {
        &self.regions
    }

    fn region(&self, index: u32) -> Result<&Region, DeviceError> {
        let found = self.regions.iter().find(|region| region.index == index && region.size > 0);
        found.ok_or_else(|| self.beyond(index, 0, 0))
    }

    fn beyond(&self, region: u32, size: u64, offset: u64) -> DeviceError {
        DeviceError::Beyond { device: self.name.clone(), region, size, offset }
    }

    #[must_use]
    pub const fn reset_offer(&self) -> ResetOffer {
        match self.flags & VFIO_DEVICE_FLAGS_RESET {
            0 => ResetOffer::NotOffered,
            _ => ResetOffer::Offered,
        }
    }

    /// Resets the device. The kernel waits for it, up to a minute and more.
    ///
    /// # Errors
    /// The kernel's: ENOTTY where every method failed, EINVAL where it offers no reset.
    pub fn reset(&self) -> Result<(), DeviceError> {
        ioctl::reset(&self.file).map_err(refused(&self.name, "complete the reset"))
    }

    /// Reads `bytes.len()` bytes of a region, from `offset` on.
    ///
    /// # Errors
    /// Where they lie beyond its end, or the kernel refuses.
    pub fn read(&self, region: u32, offset: u64, bytes: &mut [u8]) -> Result<(), DeviceError> {
        let at = self.place(region, offset, bytes.len())?;
        self.file.read_exact_at(bytes, at).map_err(refused(&self.name, "read a region"))
    }

    /// Writes `bytes` to a region, from `offset` on.
    ///
    /// # Errors
    /// Where they lie beyond its end, or the kernel refuses.
    pub fn write(&self, region: u32, offset: u64, bytes: &[u8]) -> Result<(), DeviceError> {
        let at = self.place(region, offset, bytes.len())?;
        self.file.write_all_at(bytes, at).map_err(refused(&self.name, "write a region"))
    }

    fn place(&self, index: u32, offset: u64, length: usize) -> Result<u64, DeviceError> {
        let region = self.region(index)?;
        let end = offset.checked_add(length as u64).filter(|end| *end <= region.size);
        end.map(|_| region.offset + offset).ok_or_else(|| self.beyond(index, region.size, offset))
    }

    /// The first 256 bytes of config space.
    ///
    /// # Errors
    /// [`DeviceError::Silent`] where the device does not answer.
    pub fn config_space(&self) -> Result<ConfigSpace, DeviceError> {
        let mut bytes = vec![0; 256];
        self.read(VFIO_PCI_CONFIG_REGION_INDEX, 0, &mut bytes)?;
        let config = ConfigSpace(bytes);
        if config.id().is_none() {
            return Err(DeviceError::Silent { device: self.name.clone() });
        }
        Ok(config)
    }

    /// Lets the device answer memory accesses, and returns the command register as it was.
    ///
    /// # Errors
    /// Where the device does not answer or does not take it.
    pub fn enable_memory(&self) -> Result<u16, DeviceError> {
        let command = self.config_space()?.command().unwrap_or_default();
        self.set_command(command | COMMAND_MEMORY)?;
        Ok(command)
    }

    /// # Errors
    /// Where the kernel refuses.
    pub fn set_command(&self, command: u16) -> Result<(), DeviceError> {
        self.write(VFIO_PCI_CONFIG_REGION_INDEX, COMMAND, &command.to_le_bytes())
    }

    /// Maps a part of a region.
    ///
    /// # Errors
    /// Where the kernel refuses.
    pub fn map(&self, region: &Region, area: Area) -> Result<Mapping, DeviceError> {
        Mapping::of_device(&self.file, region.offset, area).map_err(refused(&self.name, "map a BAR"))
    }

    /// Lets the device reach `memory` at `iova`. It is pinned until [`Self::unmap_dma`], or until
    /// this device is closed.
    ///
    /// # Errors
    /// EEXIST where something is mapped there, ENOMEM beyond the memory lock limit.
    pub fn map_dma(&self, memory: &Mapping, iova: u64) -> Result<(), DeviceError> {
        let dma = Dma { address: memory.address(), length: memory.length() as u64, iova };
        self.address_space.map(dma).map_err(refused(&self.name, "map memory for DMA"))
    }

    /// Takes a mapping back, and returns how many bytes it had.
    ///
    /// # Errors
    /// Where the kernel refuses.
    pub fn unmap_dma(&self, memory: &Mapping, iova: u64) -> Result<u64, DeviceError> {
        let dma = Dma { address: memory.address(), length: memory.length() as u64, iova };
        self.address_space.unmap(dma).map_err(refused(&self.name, "unmap memory of DMA"))
    }

    /// Interrupt vectors of MSI-X; 0 where the device has none.
    ///
    /// # Errors
    /// Where the kernel refuses.
    pub fn msix_vectors(&self) -> Result<u32, DeviceError> {
        ioctl::interrupts(&self.file, VFIO_PCI_MSIX_IRQ_INDEX)
            .map_err(refused(&self.name, "tell the interrupts"))
    }

    /// Sets up vector 0 of MSI-X, lets the kernel raise it as if the device had, and takes it back.
    /// Returns how often it arrived, which should be once.
    ///
    /// # Errors
    /// Where the kernel refuses.
    pub fn loop_back_msix(&self) -> Result<u64, DeviceError> {
        let refused = |what| refused(&self.name, what);
        let flags = EfdFlags::EFD_NONBLOCK | EfdFlags::EFD_CLOEXEC;
        let arrived = EventFd::from_value_and_flags(0, flags)
            .map_err(|errno| refused("make an eventfd for an interrupt")(errno.into()))?;
        let set = |data, count, value| {
            let flags = data | VFIO_IRQ_SET_ACTION_TRIGGER;
            ioctl::set_interrupt(&self.file, VFIO_PCI_MSIX_IRQ_INDEX, flags, count, value)
        };
        set(VFIO_IRQ_SET_DATA_EVENTFD, 1, ioctl::raw(arrived.as_fd())).map_err(refused("set up MSI-X"))?;
        let raised = set(VFIO_IRQ_SET_DATA_BOOL, 1, 1);
        let count = match arrived.read() {
            Ok(count) => Ok(count),
            Err(nix::Error::EAGAIN) => Ok(0),
            Err(errno) => Err(refused("count an interrupt")(errno.into())),
        };
        set(VFIO_IRQ_SET_DATA_NONE, 0, 0).map_err(refused("take MSI-X back"))?;
        raised.map_err(refused("raise an interrupt"))?;
        count
    }

    /// Whether the driver can move the device's state to another host.
    ///
    /// # Errors
    /// Where the kernel does not say.
    pub fn can_migrate(&self) -> Result<bool, DeviceError> {
        match ioctl::can_migrate(&self.file) {
            Ok(()) => Ok(true),
            // Drivers without the feature answer ENOTTY; before the feature existed it was EINVAL.
            Err(error) if matches!(error.raw_os_error(), Some(nix::libc::ENOTTY | nix::libc::EINVAL)) => {
                Ok(false)
            }
            Err(error) => Err(refused(&self.name, "tell of migration")(error)),
        }
    }
}
