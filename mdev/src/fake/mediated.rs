//! Parents of mediated devices.

use super::{
    FakeGpu,
    kernel::{FakeKernel, State, Thing, folder},
};
use crate::PciAddress;
use nix::errno::Errno;

impl FakeKernel {
    pub(super) fn mdev_parent(&self, gpu: &FakeGpu) {
        if gpu.mdev_types.is_empty() {
            return;
        }
        let folder = folder(gpu.address);
        self.tree().link(&format!("sys/class/mdev_bus/{}", gpu.address), &folder);
        self.tree().folder("sys/bus/mdev/devices");
        self.tree().folder(&format!("sys/bus/mdev/drivers/{}", mdev_driver(gpu)));
        for mdev in &gpu.mdev_types {
            let folder = format!("{folder}/mdev_supported_types/{}", mdev.id);
            self.mdev_type(&folder, &mdev.id.replace('-', " "), &mdev.description);
        }
        self.count_available(gpu);
    }

    pub(super) fn mdev_type(&self, folder: &str, name: &str, description: &str) {
        self.tree().file(&format!("{folder}/create"), b"");
        self.tree().text(&format!("{folder}/device_api"), "vfio-pci");
        self.tree().text(&format!("{folder}/name"), name);
        self.tree().text(&format!("{folder}/description"), description);
        self.tree().folder(&format!("{folder}/devices"));
    }

    /// Units that existing devices take.
    fn used(&self, gpu: &FakeGpu) -> u32 {
        let types = format!("{}/mdev_supported_types", folder(gpu.address));
        let of = |id: &str| self.tree().names(&format!("{types}/{id}/devices")).len();
        gpu.mdev_types.iter().map(|mdev| mdev.units * u32::try_from(of(&mdev.id)).unwrap()).sum()
    }

    fn count_available(&self, gpu: &FakeGpu) {
        if gpu.vgpus.is_some() {
            return self.count_vgpus(gpu);
        }
        let free = gpu.mdev_units - self.used(gpu);
        for mdev in &gpu.mdev_types {
            let path =
                format!("{}/mdev_supported_types/{}/available_instances", folder(gpu.address), mdev.id);
            self.tree().text(&path, &(free / mdev.units).to_string());
        }
    }

    /// `folder` is the type's.
    pub(super) fn create_mdev(&self, state: &mut State, folder: &str, value: &str) -> Result<(), Errno> {
        let uuid: uuid::Uuid = value.parse().map_err(|_| Errno::EINVAL)?;
        let parent = folder.split('/').nth(3).and_then(|name| name.parse::<PciAddress>().ok());
        let gpu = parent.and_then(|parent| self.gpu_of(state, parent)).ok_or(Errno::ENODEV)?;
        let name = uuid.as_hyphenated().to_string();
        if self.tree().has(&format!("sys/bus/mdev/devices/{name}")) {
            return Err(Errno::EEXIST);
        }
        // mdev_device_create() of Linux 6.1 and later.
        if self.tree().read(&format!("{folder}/available_instances")).as_deref() == Some("0") {
            return Err(Errno::EUSERS);
        }
        if gpu.vgpus.as_ref().is_some_and(|vgpus| vgpus.refuses(folder)) {
            return Err(Errno::EIO);
        }
        let device = format!("{}/{name}", folder.rsplitn(3, '/').last().unwrap_or_default());
        self.tree().file(&format!("{device}/remove"), b"");
        self.tree().link(&format!("{device}/mdev_type"), folder);
        self.tree().link(&format!("{device}/driver"), &format!("sys/bus/mdev/drivers/{}", mdev_driver(&gpu)));
        self.tree().link(&format!("{folder}/devices/{name}"), &device);
        let group = state.group();
        self.join_group(&device, &name, group);
        self.open_vfio(state, &device);
        self.appear(state, Thing::Link(format!("sys/bus/mdev/devices/{name}"), device));
        self.count_available(&gpu);
        Ok(())
    }

    /// `folder` is the device's.
    pub(super) fn remove_mdev(&self, state: &mut State, folder: &str, value: &str) -> Result<(), Errno> {
        if value != "1" {
            return Err(Errno::EINVAL);
        }
        let name = folder.rsplit('/').next().unwrap_or_default();
        state.wait_for_user(name);
        self.let_mdev_go(state, folder);
        Ok(())
    }

    pub(super) fn remove_by_itself(&self, uuid: &str) {
        let device =
            std::fs::canonicalize(self.root().join("sys/bus/mdev/devices").join(uuid)).expect("a device");
        let folder = device.strip_prefix(self.root()).expect("a path of this host");
        let mut state = self.state();
        state.held.remove(uuid);
        self.let_mdev_go(&mut state, folder.to_str().expect("a name in UTF-8"));
    }

    fn let_mdev_go(&self, state: &mut State, folder: &str) {
        let Some((parent, name)) = folder.rsplit_once('/') else { return };
        self.drop_mdev(state, parent, name);
        let parent = parent.rsplit('/').next().and_then(|parent| parent.parse().ok());
        if let Some(gpu) = parent.and_then(|parent| self.gpu_of(state, parent)) {
            self.count_available(&gpu);
        }
    }

    /// The GPU that is a parent, or whose VF is.
    fn gpu_of(&self, state: &State, parent: PciAddress) -> Option<FakeGpu> {
        let pf = self.tree().target(&format!("{}/physfn", folder(parent)));
        let pf = pf.and_then(|pf| pf.parse().ok()).unwrap_or(parent);
        state.gpus.get(&pf).cloned()
    }

    fn drop_mdev(&self, state: &mut State, parent: &str, name: &str) {
        let device = format!("{parent}/{name}");
        self.close_vfio(state, &device);
        self.leave_group(&device, name);
        if let Some(mdev) = self.tree().target(&format!("{device}/mdev_type")) {
            self.tree().remove(&format!("{parent}/mdev_supported_types/{mdev}/devices/{name}"));
        }
        self.disappear(state, &format!("sys/bus/mdev/devices/{name}"));
        self.tree().remove(&device);
    }

    pub(super) fn drop_mdevs(&self, state: &mut State, parent: PciAddress) {
        let parent = folder(parent);
        for name in self.tree().names(&parent) {
            if self.tree().has(&format!("{parent}/{name}/mdev_type")) {
                self.drop_mdev(state, &parent, &name);
            }
        }
    }
}

pub(super) fn mdev_driver(gpu: &FakeGpu) -> String {
    if gpu.vgpus.is_some() {
        return "nvidia-vgpu-vfio".to_owned();
    }
    format!("{}_vgpu", gpu.driver.as_deref().unwrap_or("fake"))
}
