//! One virtual function as sysfs shows it.

use crate::{
    DriverName, Error, Host, Instance, InstanceName, PciAddress, ResetOutcome, VfIndex, VfioNodes, attribute,
    device,
};

/// A VF that exists, whatever driver it is on.
#[derive(Debug)]
pub(super) struct VirtualFunction {
    pub(super) index: VfIndex,
    pub(super) address: PciAddress,
    pub(super) driver: Option<DriverName>,
}

/// All VFs of a GPU in order of their index.
pub(super) fn virtual_functions(host: &Host, gpu: PciAddress) -> Result<Vec<VirtualFunction>, Error> {
    let names = attribute::names(&host.pci_device(gpu))?;
    let indexes = names.iter().filter_map(|name| name.strip_prefix("virtfn")?.parse().ok());
    let mut indexes: Vec<u16> = indexes.collect();
    indexes.sort_unstable();
    let vfs =
        indexes.into_iter().filter_map(|index| VirtualFunction::read(host, gpu, VfIndex(index)).transpose());
    vfs.collect()
}

impl VirtualFunction {
    /// VF `index` of `gpu`; none where it does not exist, or its `physfn` leads elsewhere.
    pub(super) fn read(host: &Host, gpu: PciAddress, index: VfIndex) -> Result<Option<Self>, Error> {
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

    /// The instance that this VF is; none where it is a spare.
    pub(super) fn instance(self, host: &Host, gpu: PciAddress) -> Result<Option<Instance>, Error> {
        let sysfs = host.pci_device(self.address);
        let enabled = attribute::parse::<u16>(&host.pci_device(gpu).join("sriov_numvfs"), "a number of VFs")?;
        let Some(profile) = enabled.and_then(super::profile_of).filter(|_| self.driver.is_some()) else {
            return Ok(None);
        };
        if !device::on_vfio(&sysfs)? {
            return Ok(None);
        }
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

    /// The node of a VF whose driver is gone from sysfs and not yet done with it: the kernel removes
    /// the node of a group when its last device has left.
    pub(super) fn leaving(&self, host: &Host) -> Result<VfioNodes, Error> {
        if self.driver.is_some() {
            return Ok(VfioNodes::default());
        }
        let group = device::iommu_group(host, &host.pci_device(self.address))?;
        Ok(VfioNodes { group: group.and_then(|group| device::group_node(host, &group)), cdev: None })
    }

    /// FLR, by the kernel's `reset`. The kernel itself quiets the device first: it clears the command
    /// register, bus mastering included, and restores it (drivers/pci/pci.c,
    /// `pci_dev_save_and_disable`), so that nothing needs to be written to config space here.
    pub(super) fn reset(&self, host: &Host) -> Result<ResetOutcome, Error> {
        let folder = host.pci_device(self.address);
        let methods = attribute::read(&folder.join("reset_method"))?;
        // Kernels before 5.15 have no `reset_method`, and `reset` only where a method works.
        let method = match methods.as_deref().map(str::split_whitespace) {
            Some(mut methods) => methods.next().map(str::to_owned),
            None => attribute::exists(&folder.join("reset")).then(|| "unnamed".to_owned()),
        };
        let Some(method) = method else { return Ok(ResetOutcome::NotOffered) };
        host.write_attr(&folder.join("reset"), "1")?;
        if self.silent(host)? {
            Err(Error::NoAnswer(self.address))
        } else {
            Ok(ResetOutcome::Done { method })
        }
    }

    /// Whether the device is gone or does not answer to reads of its config space. Judged, as the kernel does
    /// (`pci_dev_wait`), by the command and status registers: a VF's vendor id reads as ones always.
    fn silent(&self, host: &Host) -> Result<bool, Error> {
        let header = attribute::bytes(&host.pci_device(self.address).join("config"), 8)?;
        Ok(header.is_none_or(|header| header.get(4..8) == Some(&[0xff; 4])))
    }
}
