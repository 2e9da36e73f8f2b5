//! Moving a virtual function to its VFIO driver and away from it.
//!
//! By `driver_override`, which names one function; `new_id` would take every device of that id
//! (kernel: Documentation/ABI/testing/sysfs-bus-pci). `bind` rather than `drivers_probe`, for it
//! returns the errno of the driver's probe. A function that a vendor's driver hands to VFIO by itself
//! (`vfio-dev/` is there) is left alone.

#[cfg(test)]
mod tests;

use crate::{DriverName, Error, Host, PciAddress, attribute, device, module_alias};
use vgpud_config::Shown;

/// Puts the function on its VFIO driver. Afterwards its VFIO node exists.
///
/// # Errors
/// Names the missing module, or what the driver said. The function is then where it was.
pub(crate) fn to_vfio(host: &Host, address: PciAddress) -> Result<(), Error> {
    let folder = host.pci_device(address);
    if device::on_vfio(&folder)? {
        return wait_for_node(host, address);
    }
    let driver = vfio_driver(host, address)?;
    let previous = device::driver(&folder)?;
    let moved =
        move_to(host, address, &driver, previous.as_ref()).and_then(|()| wait_for_node(host, address));
    moved.map_err(|error| error.after_undo(&address, take_back(host, address, previous.as_ref())))
}

pub(crate) fn wait_for_node(host: &Host, address: PciAddress) -> Result<(), Error> {
    let folder = host.pci_device(address);
    let what = || format!("the VFIO node of {address} under {}", host.vfio_nodes().display());
    host.wait_for(what, || {
        let group = device::iommu_group(host, &folder)?;
        let nodes = device::vfio_nodes(host, &folder, group.as_ref())?;
        Ok((!nodes.is_empty()).then_some(()))
    })
}

/// Takes the function off its VFIO driver and leaves it without one. A function on any other driver,
/// or on one that a vendor keeps it on, is left there.
///
/// # Errors
/// Where the kernel refuses, or shows the driver still.
pub(crate) fn from_vfio(host: &Host, address: PciAddress) -> Result<(), Error> {
    let folder = host.pci_device(address);
    if device::on_vfio(&folder)?
        && let Some(driver) = device::driver(&folder)?
    {
        unbind(host, address, &driver)?;
    }
    // Asked separately, for an attempt may have ended between the two.
    let overridden = attribute::read(&folder.join("driver_override"))?.unwrap_or_default();
    if overridden.contains("vfio") { set_override(host, address, None) } else { Ok(()) }
}

/// Lets the kernel choose a driver for a function that has none. That none takes it is no error.
///
/// # Errors
/// Where the kernel refuses to look.
pub(crate) fn to_any_driver(host: &Host, address: PciAddress) -> Result<(), Error> {
    match device::driver(&host.pci_device(address))? {
        Some(_) => Ok(()),
        None => host.write_attr(&host.pci_drivers_probe(), &address.to_string()),
    }
}

fn vfio_driver(host: &Host, address: PciAddress) -> Result<DriverName, Error> {
    let path = host.pci_device(address).join("modalias");
    let modalias = attribute::read(&path)?.unwrap_or_default();
    let module = module_alias::vfio_module(host, &modalias)?;
    let driver = module_alias::driver_of(&host.pci_drivers(), &module).map(DriverName);
    driver.ok_or_else(|| Error::NoVfioDriver { driver: DriverName(module.replace('_', "-")) })
}

fn move_to(
    host: &Host,
    address: PciAddress,
    driver: &DriverName,
    previous: Option<&DriverName>,
) -> Result<(), Error> {
    set_override(host, address, Some(driver))?;
    if let Some(previous) = previous {
        unbind(host, address, previous)?;
    }
    host.write_attr(&host.pci_drivers().join(&driver.0).join("bind"), &address.to_string())?;
    let now = device::driver(&host.pci_device(address))?;
    if now.as_ref() == Some(driver) {
        return Ok(());
    }
    Err(Error::ReadBack {
        device: address.to_string(),
        wanted: format!("driver {driver}"),
        shown: now.map_or_else(|| "is on no driver".to_owned(), |now| format!("is on driver {now}")),
        way_out: "the kernel log says why (`dmesg`)",
    })
}

/// Undoes [`move_to`] as far as it got.
pub(crate) fn take_back(
    host: &Host,
    address: PciAddress,
    previous: Option<&DriverName>,
) -> Result<(), Error> {
    let folder = host.pci_device(address);
    if !attribute::exists(&folder) {
        return Ok(());
    }
    let now = device::driver(&folder)?;
    if now.as_ref() != previous
        && let Some(now) = now
    {
        unbind(host, address, &now)?;
    }
    set_override(host, address, None)?;
    match previous {
        Some(previous) if device::driver(&folder)?.is_none() => {
            host.write_attr(&host.pci_drivers().join(&previous.0).join("bind"), &address.to_string())
        }
        _ => Ok(()),
    }
}

fn unbind(host: &Host, address: PciAddress, driver: &DriverName) -> Result<(), Error> {
    let folder = host.pci_device(address);
    host.write_attr(&folder.join("driver/unbind"), &address.to_string())?;
    match device::driver(&folder)? {
        None => Ok(()),
        Some(now) => Err(Error::ReadBack {
            device: address.to_string(),
            wanted: format!("being off driver {driver}"),
            shown: format!("is on driver {now}"),
            way_out: "something binds it again: look for a udev rule",
        }),
    }
}

/// The kernel clears an override at a line feed, and shows a cleared one as `(null)`.
fn set_override(host: &Host, address: PciAddress, driver: Option<&DriverName>) -> Result<(), Error> {
    let path = host.pci_device(address).join("driver_override");
    host.write_attr(&path, driver.map_or("\n", |driver| &driver.0))?;
    let now = attribute::read(&path)?.filter(|now| now != "(null)" && !now.is_empty());
    if now.as_deref() == driver.map(|driver| driver.0.as_str()) {
        return Ok(());
    }
    Err(Error::ReadBack {
        device: address.to_string(),
        wanted: driver.map_or_else(|| "no driver override".to_owned(), |driver| format!("override {driver}")),
        shown: now
            .map_or_else(|| "has no override".to_owned(), |now| format!("has override {}", Shown(&now))),
        way_out: "something else sets it: look for driverctl",
    })
}
