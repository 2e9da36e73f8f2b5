//! The one place that builds a path under /sys, /dev, /proc, /run or /etc.

use crate::{MdevUuid, PciAddress};
use std::path::{Path, PathBuf};

/// A Linux host seen from one root folder: `/` in production, a temporary tree in unit tests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host {
    root: PathBuf,
}

impl Default for Host {
    fn default() -> Self {
        Self::new("/")
    }
}

impl Host {
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
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

    pub fn mdev_devices(&self) -> PathBuf {
        self.path("sys/bus/mdev/devices")
    }

    pub fn mdev_device(&self, uuid: MdevUuid) -> PathBuf {
        self.mdev_devices().join(uuid.to_string())
    }

    /// `/dev/vfio`: group nodes, `vfio` (the container) and `devices/` (cdevs).
    pub fn vfio_nodes(&self) -> PathBuf {
        self.path("dev/vfio")
    }
}
