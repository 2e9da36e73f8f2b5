//! Finding the GPUs of a host.

pub(crate) mod resource;
#[cfg(test)]
mod tests;

use crate::error::NotAGpu;
use crate::pci_ids::Names;
use crate::{
    Error, Gpu, Host, PciAddress, PciId, SriovCapability, amd_gim, attribute, device, intel_xe, mdev_bus,
    nvidia,
};
use vgpud_config::GpuSelection;

/// Base classes of PCI functions that count as GPUs (PCI Code and ID Assignment specification).
const DISPLAY: u32 = 0x03;
const ACCELERATOR: u32 = 0x12;

/// What a look at all of a host's GPUs came to.
#[derive(Debug, Default)]
pub struct Inventory {
    /// In order of address.
    pub gpus: Vec<Gpu>,
    /// Functions that are there and cannot be read, which may be GPUs: not to be taken for gone. One
    /// broken card must not hide the others.
    pub unreadable: Vec<(PciAddress, Error)>,
}

/// Every GPU of the host: PFs of display class 03xx or accelerator class 12xx, and the devices that the
/// operator names. One that vanishes while it is read is left out.
///
/// # Errors
/// Where the PCI bus cannot be listed.
pub fn gpus(host: &Host, selection: &GpuSelection) -> Result<Inventory, Error> {
    let mut inventory = Inventory::default();
    for name in attribute::names(&host.pci_devices())? {
        let Ok(address) = name.parse() else { continue };
        match look(host, selection, address) {
            Ok(Some(Ok(gpu))) => inventory.gpus.push(gpu),
            Ok(Some(Err(_)) | None) => {}
            Err(error) => inventory.unreadable.push((address, error)),
        }
    }
    inventory.gpus.sort_unstable_by_key(|gpu| gpu.address);
    Ok(inventory)
}

/// One GPU, read now.
///
/// # Errors
/// [`Error::NoSuchGpu`] where no such function exists, [`Error::NotAGpu`] where it is no GPU.
pub fn gpu(host: &Host, selection: &GpuSelection, address: PciAddress) -> Result<Gpu, Error> {
    match look(host, selection, address)? {
        Some(Ok(gpu)) => Ok(gpu),
        Some(Err(why)) => Err(Error::NotAGpu(address, why)),
        None => Err(Error::NoSuchGpu(address)),
    }
}

/// A hexadecimal number as the kernel writes ids and classes: `0x1002`.
fn hex(host: &Host, address: PciAddress, name: &str) -> Result<Option<u32>, Error> {
    let path = host.pci_device(address).join(name);
    let Some(content) = attribute::read(&path)? else { return Ok(None) };
    match u32::from_str_radix(content.trim_start_matches("0x"), 16) {
        Ok(number) => Ok(Some(number)),
        Err(_) => Err(Error::Content { path, content, wanted: "a hexadecimal number" }),
    }
}

fn id(host: &Host, address: PciAddress, vendor: &str, device: &str) -> Result<Option<PciId>, Error> {
    let part = |name| Ok::<_, Error>(hex(host, address, name)?.and_then(|id| u16::try_from(id).ok()));
    Ok(part(vendor)?.zip(part(device)?).map(|(vendor, device)| PciId { vendor, device }))
}

/// Vendor and device of a PCI function; none where there is no such function.
pub(crate) fn id_of(host: &Host, address: PciAddress) -> Result<Option<PciId>, Error> {
    id(host, address, "vendor", "device")
}

/// The GPU at `address`, or why what is there is none; nothing where no function is there.
fn look(
    host: &Host,
    selection: &GpuSelection,
    address: PciAddress,
) -> Result<Option<Result<Gpu, NotAGpu>>, Error> {
    let folder = host.pci_device(address);
    // Excluded functions are never touched, not even read.
    if selection.exclude.contains(&address) {
        return Ok(attribute::exists(&folder).then_some(Err(NotAGpu::Excluded)));
    }
    if let Some(pf) = attribute::link(&folder.join("physfn"))?.and_then(|pf| pf.parse().ok()) {
        return Ok(Some(Err(NotAGpu::VirtualFunction(pf))));
    }
    let (Some(id), Some(class)) = (id(host, address, "vendor", "device")?, hex(host, address, "class")?)
    else {
        return Ok(None);
    };
    if !matches!(class >> 16, DISPLAY | ACCELERATOR) && !selection.include.contains(&id) {
        return Ok(Some(Err(NotAGpu::Class { class, id })));
    }
    let gpu = read(host, address, id, class)?;
    // A function that went away in the middle was read in part.
    Ok(attribute::exists(&folder.join("vendor")).then_some(Ok(gpu)))
}

fn read(host: &Host, address: PciAddress, id: PciId, class: u32) -> Result<Gpu, Error> {
    let folder = host.pci_device(address);
    let names = Names::of(id, host);
    let methods = attribute::read(&folder.join("reset_method"))?.unwrap_or_default();
    // The kernel writes -1 where the machine has no NUMA information.
    let node = attribute::parse::<i64>(&folder.join("numa_node"), "the number of a NUMA node")?;
    let (driver, sriov) = (device::driver(&folder)?, sriov(host, address)?);
    let is_on = |name: &str| driver.as_ref().is_some_and(|driver| driver.0 == name);
    let enabled = sriov.as_ref().map_or(0, |sriov| sriov.enabled);
    let nvidia = nvidia::read(host, address, id, driver.as_ref(), sriov.as_ref())?;
    Ok(Gpu {
        mig: nvidia::read_mig(host, address, id, nvidia.as_ref()),
        nvidia,
        xe: if is_on(intel_xe::DRIVER) { intel_xe::provisioning(host, address, enabled) } else { None },
        partitioning: if is_on(amd_gim::DRIVER) { amd_gim::partitioning(host, address) } else { None },
        subsystem: self::id(host, address, "subsystem_vendor", "subsystem_device")?,
        vendor_name: names.vendor,
        device_name: names.device,
        numa_node: node.and_then(|node| u32::try_from(node).ok()),
        iommu_group: device::iommu_group(host, &folder)?,
        reset_methods: methods.split_whitespace().map(str::to_owned).collect(),
        mdev_types: mdev_bus::types(host, address)?,
        driver,
        sriov,
        ..Gpu::new(address, id, class)
    })
}

fn sriov(host: &Host, address: PciAddress) -> Result<Option<SriovCapability>, Error> {
    let folder = host.pci_device(address);
    let count = |name: &str| attribute::parse::<u16>(&folder.join(name), "a number of VFs");
    let (Some(total), Some(enabled)) = (count("sriov_totalvfs")?, count("sriov_numvfs")?) else {
        return Ok(None);
    };
    let mut bound = 0;
    for name in attribute::names(&folder)?.iter().filter(|name| name.starts_with("virtfn")) {
        bound += u16::from(device::driver(&folder.join(name))?.is_some());
    }
    let resources = attribute::read(&folder.join("resource"))?.unwrap_or_default();
    let config = host.config_space(address)?.unwrap_or_default();
    let vf_aperture =
        resource::total_vfs(&config).and_then(|in_config| resource::vf_aperture(&resources, in_config));
    Ok(Some(SriovCapability { total, enabled, bound, vf_aperture }))
}
