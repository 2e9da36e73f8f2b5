//! What a lab host is to be like.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Whose VFIO modules the host loads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum VfioFlavour {
    /// Debian's own, as most users have: group nodes (`/dev/vfio/N`) only.
    #[default]
    Debian,
    /// Built with device nodes: `/dev/iommu` and `/dev/vfio/devices/vfioN` too.
    Cdev,
}

/// The word that the host's init takes.
impl fmt::Display for VfioFlavour {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Debian => "debian",
            Self::Cdev => "cdev",
        })
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Iommu {
    #[default]
    On,
    /// The machine has none: no IOMMU groups, VFIO cannot be used.
    Off,
}

/// Where the host's console goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Console {
    /// Into the run's log.
    #[default]
    Log,
    /// To this terminal (and the log), with a shell on it; its end takes the host down.
    Terminal,
}

/// A host's description.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostSpec {
    pub vfio: VfioFlavour,
    pub iommu: Iommu,
    /// The simulated GPUs, by the names of `tests/lab/kmod`, with their PF drivers; none: no module of it is loaded.
    pub gpus: Vec<String>,
    /// More devices, as QEMU's `-device` takes them.
    pub devices: Vec<String>,
    /// A disk image that outlives the host, which has it at [`DISK`](crate::DISK); a blank one is
    /// formatted there.
    pub disk: Option<PathBuf>,
    /// Added to the kernel's command line, for example parameters of modules.
    pub kernel_parameters: Vec<String>,
    pub console: Console,
    /// The longest that the host may take to come up.
    pub boot_limit: Duration,
}

impl Default for HostSpec {
    /// Debian's VFIO, an IOMMU, no GPU.
    fn default() -> Self {
        Self {
            vfio: VfioFlavour::default(),
            iommu: Iommu::default(),
            gpus: Vec::new(),
            devices: Vec::new(),
            disk: None,
            kernel_parameters: Vec::new(),
            console: Console::default(),
            boot_limit: Duration::from_secs(180),
        }
    }
}

impl HostSpec {
    /// A host of this flavour of VFIO with an IOMMU and no GPU.
    #[must_use]
    pub fn new(vfio: VfioFlavour) -> Self {
        Self { vfio, ..Self::default() }
    }

    /// With these simulated GPUs, by the names of `tests/lab/kmod`.
    #[must_use]
    pub fn gpus<I, S>(mut self, gpus: I) -> Self
    where
        I: IntoIterator<Item = S>,
        S: Into<String>,
    {
        self.gpus = gpus.into_iter().map(Into::into).collect();
        self
    }

    /// With one more device, as QEMU's `-device` takes it.
    #[must_use]
    pub fn device(mut self, device: &str) -> Self {
        self.devices.push(device.to_owned());
        self
    }

    /// With one more word on the kernel's command line, such as a module's parameter (`gim.vf_num=4`).
    #[must_use]
    pub fn kernel_parameter(mut self, word: &str) -> Self {
        self.kernel_parameters.push(word.to_owned());
        self
    }

    /// With a disk that outlives it.
    #[must_use]
    pub fn disk(mut self, image: &Path) -> Self {
        self.disk = Some(image.to_owned());
        self
    }

    #[must_use]
    pub fn without_iommu(mut self) -> Self {
        self.iommu = Iommu::Off;
        self
    }
}
