//! Finding the GPUs of a host.

use crate::{Error, Gpu, Host, PciAddress};
use vgpud_config::GpuSelection;

/// Every GPU of the host, in order of address: PFs of display class 03xx or accelerator class 12xx,
/// and the devices that the operator names.
///
/// # Errors
/// Where sysfs cannot be read. A GPU that vanishes while it is read is left out.
pub fn gpus(_host: &Host, _selection: &GpuSelection) -> Result<Vec<Gpu>, Error> {
    todo!()
}

/// One GPU, read now.
///
/// # Errors
/// [`Error::NoSuchGpu`] where no such function exists or it is no GPU.
pub fn gpu(_host: &Host, _selection: &GpuSelection, address: PciAddress) -> Result<Gpu, Error> {
    Err(Error::NoSuchGpu(address))
}
