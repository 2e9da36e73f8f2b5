//! One virtual function as sysfs shows it.

use crate::{
    DriverName, Error, Host, Instance, InstanceName, PciAddress, ProfileName, VfIndex, VfioNodes, attribute,
    device,
    nvidia::{self, TypeNames},
};

/// A VF that exists, whatever driver it is on.
#[derive(Debug)]
pub(crate) struct VirtualFunction {
    pub(crate) index: VfIndex,
    pub(crate) address: PciAddress,
    pub(crate) driver: Option<DriverName>,
}

/// The profile of one of `count` VFs: `vf-8`.
pub(crate) fn profile_of(count: u16) -> Option<ProfileName> {
    format!("vf-{count}").parse().ok()
}

/// The count in such a profile's name.
pub(crate) fn count_of(gpu: PciAddress, profile: &ProfileName) -> Result<u16, Error> {
    let count = profile.as_ref().strip_prefix("vf-").and_then(|count| count.parse().ok());
    let count = count.filter(|count| *count > 0 && profile_of(*count).as_ref() == Some(profile));
    count.ok_or_else(|| Error::NoSuchProfile { gpu, profile: profile.clone() })
}

impl VirtualFunction {
    /// All VFs of a GPU in order of their index.
    pub(crate) fn all(host: &Host, gpu: PciAddress) -> Result<Vec<Self>, Error> {
        let names = attribute::names(&host.pci_device(gpu))?;
        let indexes = names.iter().filter_map(|name| name.strip_prefix("virtfn")?.parse().ok());
        let mut indexes: Vec<u16> = indexes.collect();
        indexes.sort_unstable();
        indexes.into_iter().filter_map(|index| Self::read(host, gpu, VfIndex(index)).transpose()).collect()
    }

    /// VF `index` of `gpu`; none where it does not exist, or its `physfn` leads elsewhere.
    pub(crate) fn read(host: &Host, gpu: PciAddress, index: VfIndex) -> Result<Option<Self>, Error> {
        let link = host.pci_device(gpu).join(format!("virtfn{}", index.0));
        let Some(name) = attribute::link(&link)? else { return Ok(None) };
        let Ok(address) = name.parse::<PciAddress>() else {
            return Err(Error::Content { path: link, content: name, wanted: "a PCI address" });
        };
        let folder = host.pci_device(address);
        if attribute::link(&folder.join("physfn"))? != Some(gpu.to_string()) {
            return Ok(None);
        }
        Ok(Some(Self { index, address, driver: device::driver(&folder)? }))
    }

    /// As [`device::leaving`].
    pub(crate) fn leaving(&self, host: &Host) -> Result<VfioNodes, Error> {
        device::leaving(host, &host.pci_device(self.address))
    }

    /// The instance that this VF is; none where it is a spare.
    pub(crate) fn instance(
        self,
        host: &Host,
        gpu: PciAddress,
        vgpus: &TypeNames<'_>,
    ) -> Result<Option<Instance>, Error> {
        let sysfs = host.pci_device(self.address);
        let profile = match nvidia::current(&sysfs)? {
            // On a driver and with a node it is a spare all the same.
            Some(0) => None,
            Some(number) => vgpus.name(number)?,
            None => self.share(host, gpu)?,
        };
        let Some(profile) = profile else { return Ok(None) };
        let iommu_group = device::iommu_group(host, &sysfs)?;
        let nodes = device::vfio_nodes(host, &sysfs, iommu_group.as_ref())?;
        Ok(Some(Instance {
            gpu,
            name: InstanceName::Vf(self.index),
            sysfs,
            address: Some(self.address),
            profile,
            driver: self.driver,
            iommu_group,
            nodes,
        }))
    }

    /// Its profile as one of so many, where a VM could open it.
    fn share(&self, host: &Host, gpu: PciAddress) -> Result<Option<ProfileName>, Error> {
        let enabled = attribute::parse::<u16>(&host.pci_device(gpu).join("sriov_numvfs"), "a number of VFs")?;
        let open = self.driver.is_some() && device::on_vfio(&host.pci_device(self.address))?;
        Ok(enabled.and_then(profile_of).filter(|_| open))
    }
}
