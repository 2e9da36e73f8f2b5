//! One mediated device as the mdev bus shows it.

use crate::{
    DriverName, Error, Host, Instance, InstanceName, MdevUuid, PciAddress, ProfileName, attribute, device,
};
use std::path::PathBuf;

/// A mediated device that exists, whoever its parent is.
pub(crate) struct MediatedDevice {
    uuid: MdevUuid,
    sysfs: PathBuf,
    /// Name of the parent device: a PCI address, or something else for parents without hardware.
    pub(crate) parent: String,
    pub(crate) type_id: Option<String>,
}

impl MediatedDevice {
    pub(crate) fn read(host: &Host, uuid: MdevUuid) -> Result<Option<Self>, Error> {
        let sysfs = host.mdev_device(uuid);
        // The bus holds links into the parents' folders.
        let Some(real) = attribute::folder(&sysfs)? else { return Ok(None) };
        let parent = real.parent().and_then(|parent| parent.file_name());
        let parent = parent.map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let type_id = attribute::link(&sysfs.join("mdev_type"))?;
        Ok(Some(Self { uuid, sysfs, parent, type_id }))
    }

    /// Those of all parents.
    pub(crate) fn all(host: &Host) -> Result<Vec<Self>, Error> {
        let names = attribute::names(&host.mdev_devices())?;
        let uuids = names.iter().filter_map(|name| name.parse().ok());
        uuids.filter_map(|uuid| Self::read(host, uuid).transpose()).collect()
    }

    /// Whether it is a part of this GPU.
    pub(crate) fn is_of(&self, gpu: PciAddress) -> bool {
        self.parent == gpu.to_string()
    }

    /// The instance that it is; none where it belongs to another GPU.
    pub(crate) fn instance(self, host: &Host, gpu: PciAddress) -> Result<Option<Instance>, Error> {
        let type_id = self.type_id.as_ref().and_then(|id| id.parse::<ProfileName>().ok());
        let Some(profile) = type_id.filter(|_| self.is_of(gpu)) else { return Ok(None) };
        let iommu_group = device::iommu_group(host, &self.sysfs)?;
        let driver: Option<DriverName> = device::driver(&self.sysfs)?;
        let nodes = device::vfio_nodes(host, &self.sysfs, iommu_group.as_ref())?;
        let (name, sysfs) = (InstanceName::Mdev(self.uuid), self.sysfs);
        Ok(Some(Instance { gpu, name, sysfs, address: None, profile, driver, iommu_group, nodes }))
    }
}
