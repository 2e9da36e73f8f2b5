//! The one place that builds a path under /sys, /dev, /proc, /run or /etc.

use crate::attribute::{Kernel, RunningKernel};
use crate::{
    MdevUuid, PciAddress,
    nvidia::{Tools, line::Line},
};
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};
use vgpud_config::{MigMode, NvidiaSettings};

/// A Linux host seen from one root folder: `/` in production, a temporary tree in unit tests, where
/// something else plays the kernel too.
#[derive(Clone, Debug)]
pub struct Host {
    root: PathBuf,
    kernel: Arc<dyn Kernel>,
    patience: Duration,
    nvidia: NvidiaSettings,
    mig: Arc<BTreeMap<PciAddress, MigMode>>,
    tools: Arc<Tools>,
    line: Arc<Line>,
}

impl Default for Host {
    fn default() -> Self {
        Self::new("/")
    }
}

impl Host {
    /// The host below `root`, with the running kernel and a patience of 60 s.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        let patience = Duration::from_secs(60);
        let (nvidia, mig) = (NvidiaSettings::default(), Arc::default());
        let (tools, line) = (Arc::default(), Arc::default());
        Self { root: root.into(), kernel: Arc::new(RunningKernel), patience, nvidia, mig, tools, line }
    }

    /// The same host, where `kernel` answers to writes.
    #[must_use]
    pub fn with_kernel(self, kernel: Arc<dyn Kernel>) -> Self {
        Self { kernel, ..self }
    }

    /// The same host, where one change of a device is waited for that long (`device` in `[timeouts]`
    /// of the settings).
    #[must_use]
    pub fn with_patience(self, patience: Duration) -> Self {
        Self { patience, ..self }
    }

    /// How long one change of a device is waited for.
    #[must_use]
    pub fn patience(&self) -> Duration {
        self.patience
    }

    /// The same host, with NVIDIA's tools where the settings say (`[nvidia]`).
    #[must_use]
    pub fn with_nvidia(self, settings: &NvidiaSettings) -> Self {
        Self { nvidia: settings.clone(), ..self }
    }

    /// NVIDIA's tool that turns virtual functions on and off, whether it is there or not.
    #[must_use]
    pub fn sriov_manage(&self) -> PathBuf {
        self.path(&self.nvidia.sriov_manage)
    }

    /// NVIDIA's tool that tells of MIG and changes it, whether it is there or not.
    #[must_use]
    pub fn nvidia_smi(&self) -> PathBuf {
        self.path(&self.nvidia.nvidia_smi)
    }

    /// The runs of NVIDIA's tools that this process starts on this host.
    #[must_use]
    pub const fn tools(&self) -> &Arc<Tools> {
        &self.tools
    }

    pub(crate) fn line(&self) -> &Line {
        &self.line
    }

    /// How long work on this GPU has waited so far, all in all, for work on other GPUs to end: time in which
    /// nothing was the matter with it.
    #[must_use]
    pub fn time_in_line(&self, gpu: PciAddress) -> Duration {
        self.line.stood(gpu)
    }

    /// The same host, with MIG as the settings ask for it (`mig` in `[gpu."…"]`).
    #[must_use]
    pub fn with_mig(self, mig: BTreeMap<PciAddress, MigMode>) -> Self {
        Self { mig: Arc::new(mig), ..self }
    }

    /// What the settings ask of MIG on this GPU.
    #[must_use]
    pub fn mig(&self, gpu: PciAddress) -> Option<MigMode> {
        self.mig.get(&gpu).copied()
    }

    /// Where vgpud notes what it changes of MIG: gone after a start of the host, as its GPU instances are.
    #[must_use]
    pub fn mig_notes(&self) -> PathBuf {
        self.path("run/vgpud/mig")
    }

    pub(crate) fn kernel(&self) -> &dyn Kernel {
        &*self.kernel
    }

    /// `path`, an absolute path of this host, below its root.
    pub fn path(&self, path: impl AsRef<Path>) -> PathBuf {
        let path = path.as_ref();
        self.root.join(path.strip_prefix("/").unwrap_or(path))
    }

    pub fn pci_devices(&self) -> PathBuf {
        self.path("sys/bus/pci/devices")
    }

    pub fn pci_device(&self, address: PciAddress) -> PathBuf {
        self.pci_devices().join(address.to_string())
    }

    pub fn pci_drivers(&self) -> PathBuf {
        self.path("sys/bus/pci/drivers")
    }

    /// `/sys/kernel/debug/dri`: what graphics drivers show for debugging, where debugfs is mounted.
    pub fn dri_debug(&self) -> PathBuf {
        self.path("sys/kernel/debug/dri")
    }

    pub fn pci_drivers_probe(&self) -> PathBuf {
        self.path("sys/bus/pci/drivers_probe")
    }

    pub fn mdev_devices(&self) -> PathBuf {
        self.path("sys/bus/mdev/devices")
    }

    pub fn mdev_device(&self, uuid: MdevUuid) -> PathBuf {
        self.mdev_devices().join(uuid.to_string())
    }

    /// `/sys/class/mdev_bus/<parent>`: there where the device is a parent of mediated devices.
    pub fn mdev_parent(&self, address: PciAddress) -> PathBuf {
        self.path("sys/class/mdev_bus").join(address.to_string())
    }

    /// `/sys/kernel/iommu_groups/<number>/devices`.
    pub fn iommu_group(&self, number: u32) -> PathBuf {
        self.path("sys/kernel/iommu_groups").join(number.to_string()).join("devices")
    }

    /// `/dev/vfio`: group nodes, `vfio` (the container) and `devices/` (cdevs).
    pub fn vfio_nodes(&self) -> PathBuf {
        self.path("dev/vfio")
    }

    /// `/dev/iommu`, without which no cdev can be used.
    pub fn iommufd(&self) -> PathBuf {
        self.path("dev/iommu")
    }

    /// The running kernel's release, as `uname -r` says it.
    pub fn kernel_release(&self) -> PathBuf {
        self.path("proc/sys/kernel/osrelease")
    }

    /// Which modules drive which devices, for one kernel release.
    pub fn module_aliases(&self, release: &str) -> PathBuf {
        self.path("lib/modules").join(release).join("modules.alias")
    }

    /// Where distributions keep the PCI ID database.
    pub fn pci_id_databases(&self) -> [PathBuf; 3] {
        ["usr/share/misc/pci.ids", "usr/share/hwdata/pci.ids", "usr/share/pci.ids"]
            .map(|path| self.path(path))
    }
}
