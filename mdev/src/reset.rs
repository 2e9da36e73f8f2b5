//! Reset of a PCI function between users, by the kernel's `reset` in sysfs.

use crate::{Error, Host, PciAddress, ResetOutcome, attribute};

/// Resets the function by the first of its methods that works. The kernel itself quiets the device first: it
/// clears the command register, bus mastering included, and restores it (drivers/pci/pci.c,
/// `pci_dev_save_and_disable`), so that nothing needs to be written to config space here.
pub(crate) fn reset(host: &Host, address: PciAddress) -> Result<ResetOutcome, Error> {
    let folder = host.pci_device(address);
    let methods = attribute::read(&folder.join("reset_method"))?;
    // Kernels before 5.15 have no `reset_method`, and `reset` only where a method works.
    let method = match methods.as_deref().map(str::split_whitespace) {
        Some(mut methods) => methods.next().map(str::to_owned),
        None => attribute::exists(&folder.join("reset")).then(|| "unnamed".to_owned()),
    };
    let Some(method) = method else { return Ok(ResetOutcome::NotOffered) };
    host.write_attr(&folder.join("reset"), "1")?;
    if silent(host, address)? { Err(Error::NoAnswer(address)) } else { Ok(ResetOutcome::Done { method }) }
}

/// Whether the device is gone or does not answer to reads of its config space. Judged, as the kernel does
/// (`pci_dev_wait`), by the command and status registers: a VF's vendor id reads as ones always.
fn silent(host: &Host, address: PciAddress) -> Result<bool, Error> {
    let header = attribute::bytes(&host.pci_device(address).join("config"), 8)?;
    Ok(header.is_none_or(|header| header.get(4..8) == Some(&[0xff; 4])))
}
