//! Drivers and the devices on them.

use super::kernel::{FakeKernel, State, Thing, folder};
use crate::PciAddress;
use nix::errno::Errno;

impl FakeKernel {
    pub(super) fn bind(&self, state: &mut State, device: PciAddress, driver: &str) -> Result<(), Errno> {
        let folder = folder(device);
        let ids = state.drivers.iter().find(|(name, _)| name == driver).map(|(_, ids)| ids);
        if !self.tree().has(&folder) || !ids.is_some_and(|ids| self.fits(&folder, driver, ids)) {
            return Err(Errno::ENODEV);
        }
        self.attach(state, device, driver)
    }

    pub(super) fn unbind(&self, state: &mut State, device: PciAddress, driver: &str) -> Result<(), Errno> {
        if self.tree().target(&format!("{}/driver", folder(device))).as_deref() != Some(driver) {
            return Err(Errno::ENODEV);
        }
        state.wait_for_user(&device.to_string());
        self.detach(state, device);
        Ok(())
    }

    /// The first driver that fits; that none does, or refuses, is no error.
    pub(super) fn probe(&self, state: &mut State, device: PciAddress) -> Result<(), Errno> {
        let folder = folder(device);
        if !self.tree().has(&folder) {
            return Err(Errno::ENODEV);
        }
        if self.tree().has(&format!("{folder}/driver")) {
            return Ok(());
        }
        let fitting = state.drivers.iter().filter(|(name, ids)| self.fits(&folder, name, ids));
        let fitting: Vec<_> = fitting.map(|(name, _)| name.clone()).collect();
        let _ = fitting.iter().any(|driver| self.attach(state, device, driver).is_ok());
        Ok(())
    }

    /// `pci_match_device`: an override takes its driver and no other.
    fn fits(&self, folder: &str, driver: &str, ids: &[String]) -> bool {
        let read = |name: &str| self.tree().read(&format!("{folder}/{name}")).unwrap_or_default();
        match read("driver_override").as_str() {
            "(null)" => {
                let id = format!("{}:{}", &read("vendor")[2..], &read("device")[2..]);
                ids.contains(&id)
            }
            wanted => wanted == driver,
        }
    }

    pub(super) fn attach(&self, state: &mut State, device: PciAddress, driver: &str) -> Result<(), Errno> {
        let folder = folder(device);
        if self.tree().has(&format!("{folder}/driver")) {
            return Err(Errno::EBUSY);
        }
        let vfio = driver.contains("vfio");
        if vfio && !self.tree().has(&format!("{folder}/iommu_group")) {
            return Err(Errno::EINVAL);
        }
        let driver = format!("sys/bus/pci/drivers/{driver}");
        self.tree().link(&format!("{folder}/driver"), &driver);
        self.tree().link(&format!("{driver}/{device}"), &folder);
        if vfio {
            self.open_vfio(state, &folder);
        }
        Ok(())
    }

    /// Takes the device off its driver, where it has one.
    pub(super) fn detach(&self, state: &mut State, device: PciAddress) {
        let folder = folder(device);
        let Some(driver) = self.tree().target(&format!("{folder}/driver")) else { return };
        self.close_vfio(state, &folder);
        self.tree().remove(&format!("{folder}/driver"));
        self.tree().remove(&format!("sys/bus/pci/drivers/{driver}/{device}"));
    }

    /// The device at `folder` can be opened through VFIO.
    pub(super) fn open_vfio(&self, state: &mut State, folder: &str) {
        let number = state.next_vfio;
        state.next_vfio += 1;
        self.tree().file(&format!("{folder}/vfio-dev/vfio{number}/dev"), b"511:0\n");
        if state.cdev {
            self.appear(state, Thing::Node(format!("dev/vfio/devices/vfio{number}")));
        }
        if let Some(group) = self.tree().target(&format!("{folder}/iommu_group")) {
            let node = format!("dev/vfio/{group}");
            if !self.tree().has(&node) {
                self.appear(state, Thing::Node(node));
            }
        }
    }

    pub(super) fn close_vfio(&self, state: &mut State, folder: &str) {
        for name in self.tree().names(&format!("{folder}/vfio-dev")) {
            self.disappear(state, &format!("dev/vfio/devices/{name}"));
        }
        self.tree().remove(&format!("{folder}/vfio-dev"));
        let Some(group) = self.tree().target(&format!("{folder}/iommu_group")) else { return };
        let members = format!("sys/kernel/iommu_groups/{group}/devices");
        let open = |name: &String| self.tree().has(&format!("{members}/{name}/vfio-dev"));
        if !self.tree().names(&members).iter().any(open) {
            self.disappear(state, &format!("dev/vfio/{group}"));
        }
    }
}
