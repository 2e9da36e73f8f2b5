//! A folder that plays sysfs, and something that plays the kernel behind it: for unit tests.
//!
//! [`FakeHost`] builds a tree of GPUs, drivers and IOMMU groups in a temporary folder and answers to
//! writes as the kernel does, at once and in the caller's thread. What it plays, and from where:
//!
//! | attribute | rules |
//! |---|---|
//! | `sriov_numvfs`, `sriov_drivers_autoprobe` | drivers/pci/iov.c: ERANGE, EBUSY, ENOENT, fewer VFs than asked |
//! | `driver_override`, `bind`, `unbind`, `drivers_probe` | drivers/base/bus.c, drivers/pci/pci-driver.c |
//! | `create`, `remove`, `available_instances` | drivers/vfio/mdev |
//! | `sriov_admin`, its debugfs forerunner | drivers/gpu/drm/xe: VFs from 1, rounding, fair shares, EOPNOTSUPP |
//! | files of gim | amd/MxGPU-Virtualization: VFs from the start, ENOENT on `sriov_numvfs`; modes are the whole hive's, and what is refused is written with success |
//! | `nvidia-smi` | MIG, as NVIDIA's guides and the users of vGPUs on MIG say |
//! | `nvidia/current_vgpu_type`, `creatable_vgpu_types`, `sriov-manage`, mediated devices | NVIDIA Virtual GPU Software User Guide, and what its users report |
//! | `reset` | drivers/pci/pci.c, as far as "a method exists" |
//! | `/dev/vfio` nodes, `vfio-dev`, IOMMU groups | drivers/vfio, as far as they exist or not |
//!
//! What it does not play: anything that a device *does* (memory, DMA, the content of a reset), files
//! that can be opened as VFIO nodes, attributes that come into being by being written to by a second
//! process, windows of an mdev parent's memory (types share a pool of units), and blocking: where the
//! kernel would wait for a VFIO user to let go, the fake panics, for a test that gets there is wrong.
//! Such claims need the lab.
//!
//! Time is counted in pauses of [`Host::wait_for`]: nothing here sleeps.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::missing_panics_doc)] // Test equipment.

mod config_space;
mod driver;
mod fault;
mod gim;
mod gpu;
mod kernel;
mod mediated;
mod mig;
mod nvidia;
mod nvidia_mdev;
mod personality;
mod skip;
#[cfg(test)]
mod tests;
mod tree;
mod virtual_function;

pub use config_space::function;
pub use gpu::{FakeGpu, FakeMdevType, FakeXe, XeShares};
pub use kernel::FakeKernel;
pub use mig::{FakeRival, FakeSmi};
pub use nvidia::{FakeTurn, FakeVgpus};
pub use skip::skip;

use crate::{Host, PciAddress, attribute::Kernel};
use fault::Fault;
use nix::errno::Errno;
use std::{collections::BTreeMap, path::PathBuf, sync::Arc, time::Duration};

/// A host made of files.
#[derive(Debug)]
pub struct FakeHost {
    kernel: Arc<FakeKernel>,
}

/// What a [`FakeHost`] is made of.
#[derive(Clone, Debug)]
pub struct Machine {
    gpus: Vec<FakeGpu>,
    drivers: Vec<(String, Vec<String>)>,
    vfio_modules: Vec<String>,
    aliases: String,
    pci_ids: Option<String>,
    iommu: bool,
    cdev: bool,
}

impl Default for Machine {
    /// A host with an IOMMU, group nodes only, vfio-pci loaded, and no GPU.
    fn default() -> Self {
        Self {
            gpus: Vec::new(),
            drivers: Vec::new(),
            vfio_modules: vec!["vfio-pci".to_owned()],
            aliases: "alias vfio_pci:v*d*sv*sd*bc*sc*i* vfio_pci\n".to_owned(),
            pci_ids: None,
            iommu: true,
            cdev: false,
        }
    }
}

impl Machine {
    /// With this GPU, on the driver that it names.
    #[must_use]
    pub fn gpu(mut self, gpu: FakeGpu) -> Self {
        self.gpus.push(gpu);
        self
    }

    /// With a driver that takes devices of these `vendor:device` ids by itself.
    #[must_use]
    pub fn driver(mut self, name: &str, ids: &[&str]) -> Self {
        self.drivers.push((name.to_owned(), ids.iter().map(ToString::to_string).collect()));
        self
    }

    /// With one more VFIO driver loaded.
    #[must_use]
    pub fn vfio_driver(mut self, name: &str) -> Self {
        self.vfio_modules.push(name.to_owned());
        self
    }

    /// Without any VFIO driver loaded.
    #[must_use]
    pub fn without_vfio(mut self) -> Self {
        self.vfio_modules.clear();
        self
    }

    /// With this line in `modules.alias`.
    #[must_use]
    pub fn alias(mut self, line: &str) -> Self {
        self.aliases.push_str(line);
        self.aliases.push('\n');
        self
    }

    /// With this PCI ID database.
    #[must_use]
    pub fn pci_ids(mut self, text: &str) -> Self {
        self.pci_ids = Some(text.to_owned());
        self
    }

    /// Without an IOMMU: no groups, and vfio-pci refuses devices.
    #[must_use]
    pub fn without_iommu(mut self) -> Self {
        self.iommu = false;
        self
    }

    /// With `/dev/iommu` and VFIO cdevs.
    #[must_use]
    pub fn cdev(mut self) -> Self {
        self.cdev = true;
        self
    }

    /// Builds it.
    #[must_use]
    pub fn build(&self) -> FakeHost {
        FakeHost { kernel: Arc::new(FakeKernel::new(self)) }
    }
}

impl FakeHost {
    /// Begins a host.
    #[must_use]
    pub fn machine() -> Machine {
        Machine::default()
    }

    /// The host as the rest of the program sees it, with a patience of 40 pauses.
    #[must_use]
    pub fn host(&self) -> Host {
        Host::new(self.kernel.root()).with_kernel(self.kernel()).with_patience(Duration::from_millis(200))
    }

    /// What answers to [`host`](Self::host), for a test that stands in between.
    #[must_use]
    pub fn kernel(&self) -> Arc<dyn Kernel> {
        Arc::<FakeKernel>::clone(&self.kernel)
    }

    /// The `n`-th write from now on (from 0) to an attribute whose path ends with `attribute` fails;
    /// an empty `attribute` counts all writes.
    pub fn fail(&self, attribute: &str, n: usize, errno: Errno) {
        self.kernel.add(attribute, n, Fault::Errno(errno));
    }

    /// That write succeeds and changes nothing.
    pub fn ignore(&self, attribute: &str, n: usize) {
        self.kernel.add(attribute, n, Fault::Ignore);
    }

    /// At that write the device is gone from the host, and the write fails with ENODEV.
    pub fn vanish_at(&self, attribute: &str, n: usize, device: PciAddress) {
        self.kernel.add(attribute, n, Fault::Vanish(device));
    }

    /// The device is gone from now on, its VFs and mediated devices with it.
    pub fn vanish(&self, device: PciAddress) {
        self.kernel.vanish(device);
    }

    /// The next time that VFs are enabled, only so many come.
    pub fn short_vfs(&self, count: u16) {
        self.kernel.short_vfs(count);
    }

    /// What NVIDIA's tool does when it is run next, and then and then; afterwards it works.
    pub fn sriov_manage(&self, turns: &[FakeTurn]) {
        self.kernel.plan_turns(turns);
    }

    /// How `nvidia-smi` tells of MIG from now on; none: well. What it changes it changes all the same.
    pub fn nvidia_smi(&self, how: Option<FakeSmi>) {
        self.kernel.state().smi = how;
    }

    /// Somebody else makes a GPU instance, with a compute instance or without; returns its id.
    pub fn gpu_instance(&self, gpu: PciAddress, profile: u32, start: u8, compute: bool) -> u32 {
        self.kernel.plant_instance(gpu, profile, start, compute)
    }

    /// The next GPU instance that is asked for is made by somebody else a moment before.
    pub fn forestall_gpu_instance(&self, rival: FakeRival) {
        self.kernel.add("nvidia-smi", 0, Fault::Rival(rival));
    }

    /// The ids of a GPU's GPU instances, in the order in which they were made.
    #[must_use]
    pub fn gpu_instances(&self, gpu: PciAddress) -> Vec<u32> {
        self.kernel
            .state()
            .mig
            .get(&gpu)
            .map(|mig| mig.instances.iter().map(|gi| gi.id).collect())
            .unwrap_or_default()
    }

    /// At the `n`-th write from now on (from 0), of any attribute or by one of NVIDIA's tools, the process is
    /// killed when it is done: whoever writes unwinds.
    pub fn die_at(&self, n: usize) {
        self.kernel.add("", n, Fault::Die);
    }

    /// What the kernel makes from now on (VFs, mediated devices, VFIO nodes) is seen after so many
    /// pauses.
    pub fn delay(&self, pauses: u32) {
        self.kernel.delay(pauses, pauses);
    }

    /// The same for VFIO nodes alone.
    pub fn delay_nodes(&self, pauses: u32) {
        self.kernel.delay(0, pauses);
    }

    /// A VFIO user holds the device: whatever would wait for it panics. `device` is a PCI address or
    /// a UUID.
    pub fn hold(&self, device: &str) {
        self.kernel.hold(device, true);
    }

    /// The VFIO user let go.
    pub fn let_go(&self, device: &str) {
        self.kernel.hold(device, false);
    }

    /// The driver removes a mediated device by itself, as some of NVIDIA's do when its VM ends.
    pub fn remove_mdev(&self, uuid: &str) {
        self.kernel.remove_by_itself(uuid);
    }

    /// From now on the device's config space reads as ones.
    pub fn silence(&self, device: PciAddress) {
        self.kernel.tree().file(&format!("{}/config", kernel::folder(device)), &[0xff; 64]);
    }

    /// Writes an attribute as the kernel itself would: no rule applies.
    pub fn set(&self, path: &str, content: &str) {
        self.kernel.tree().file(path.trim_start_matches('/'), content.as_bytes());
    }

    /// Every write so far, in order: path below the root, and value.
    #[must_use]
    pub fn writes(&self) -> Vec<(String, String)> {
        self.kernel.writes()
    }

    /// Every file and link below the root with its content, to compare before with after.
    #[must_use]
    pub fn snapshot(&self) -> BTreeMap<PathBuf, String> {
        self.kernel.tree().snapshot()
    }
}
