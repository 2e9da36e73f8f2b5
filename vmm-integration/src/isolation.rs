//! Whether an IOMMU group isolates a slice (kernel: Documentation/driver-api/vfio.rst).

use crate::Error;
use vgpud_mdev::{Host, Instance};

/// Checks that the slice has an IOMMU group and that nothing else in it is in use: every other
/// member is unbound, a bridge, or on a VFIO driver.
///
/// # Errors
/// Names the strangers and their drivers, or says that there is no IOMMU and how to turn it on.
pub fn check_group(_host: &Host, _instance: &Instance) -> Result<(), Error> {
    todo!()
}
