//! What sysfs shows of any device, PCI function or mediated device alike.

use crate::{DriverName, Error, Host, IommuGroup, VfioNodes, attribute};
use std::path::{Path, PathBuf};

/// The driver that the device at `folder` is on.
pub(crate) fn driver(folder: &Path) -> Result<Option<DriverName>, Error> {
    Ok(attribute::link(&folder.join("driver"))?.map(DriverName))
}

/// The device's IOMMU group and everything in it.
pub(crate) fn iommu_group(host: &Host, folder: &Path) -> Result<Option<IommuGroup>, Error> {
    let link = folder.join("iommu_group");
    let Some(name) = attribute::link(&link)? else { return Ok(None) };
    let Ok(number) = name.parse() else {
        return Err(Error::Content { path: link, content: name, wanted: "an IOMMU group" });
    };
    Ok(Some(IommuGroup { number, members: attribute::names(&host.iommu_group(number))? }))
}

/// Whether the device is on a driver that hands it to user space through VFIO: vfio-pci, one of its
/// variants, or a vendor's. Kernels before 6.1 lack the folder `vfio-dev`; there the driver must tell,
/// and every driver of a mediated device is one.
pub(crate) fn on_vfio(folder: &Path) -> Result<bool, Error> {
    if !attribute::names(&folder.join("vfio-dev"))?.is_empty() {
        return Ok(true);
    }
    let mediated = attribute::exists(&folder.join("mdev_type"));
    Ok(driver(folder)?.is_some_and(|driver| mediated || driver.0.contains("vfio")))
}

fn there(node: PathBuf) -> Option<PathBuf> {
    attribute::exists(&node).then_some(node)
}

/// The VFIO node of a group, where it has one.
pub(crate) fn group_node(host: &Host, group: &IommuGroup) -> Option<PathBuf> {
    there(host.vfio_nodes().join(group.number.to_string()))
}

/// The node of a PCI function whose driver is gone from sysfs and not yet done with it: the kernel removes
/// the node of a group when its last device has left.
pub(crate) fn leaving(host: &Host, folder: &Path) -> Result<VfioNodes, Error> {
    if driver(folder)?.is_some() {
        return Ok(VfioNodes::default());
    }
    let group = iommu_group(host, folder)?;
    Ok(VfioNodes { group: group.and_then(|group| group_node(host, &group)), cdev: None })
}

/// The nodes of the device at `folder` that really exist. The kernel makes a group's node when the
/// first device of the group comes to a VFIO driver, and a cdev only where it was built for it.
pub(crate) fn vfio_nodes(host: &Host, folder: &Path, group: Option<&IommuGroup>) -> Result<VfioNodes, Error> {
    if !on_vfio(folder)? {
        return Ok(VfioNodes::default());
    }
    let group = group.and_then(|group| group_node(host, group));
    let named = attribute::names(&folder.join("vfio-dev"))?.into_iter().next();
    let cdev = named.and_then(|name| there(host.vfio_nodes().join("devices").join(name)));
    Ok(VfioNodes { group, cdev: cdev.filter(|_| attribute::exists(&host.iommufd())) })
}

impl VfioNodes {
    /// Whether nothing can be opened.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.group.is_none() && self.cdev.is_none()
    }
}
