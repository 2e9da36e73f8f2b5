//! Which host each suite of lab tests runs on. A suite is one file in `tests/e2e`.

use std::time::Duration;
use vgpud_lab::{HostSpec, Length, VfioFlavour};

/// One test binary on one host.
#[derive(Debug, Clone)]
pub struct Suite {
    /// The test target.
    pub target: &'static str,
    pub host: HostSpec,
    deadline: Duration,
}

impl Suite {
    fn new(target: &'static str, host: HostSpec, minutes: u64) -> Self {
        Self { target, host, deadline: Duration::from_secs(60 * minutes) }
    }

    /// `lifecycle on debian VFIO`.
    pub fn place(&self) -> String {
        let iommu = if self.host.iommu == vgpud_lab::Iommu::Off { ", no IOMMU" } else { "" };
        format!("{} on {} VFIO{iommu}", self.target, self.host.vfio)
    }
}

impl Suite {
    /// For all its tests together, with those that only a long run has.
    pub fn deadline(&self, length: Length) -> Duration {
        match length {
            Length::Default => self.deadline,
            Length::Long => self.deadline * 4,
        }
    }
}

/// All suites, the long ones first so that two hosts at once end together.
pub fn all() -> Vec<Suite> {
    let debian = || HostSpec::new(VfioFlavour::Debian);
    let cdev = || HostSpec::new(VfioFlavour::Cdev);
    vec![
        Suite::new("many", cdev().gpus(["sim", "simmdev"]), 20),
        Suite::new("micro_vm", debian().gpus(["mi300x", "simmdev"]), 15),
        Suite::new("micro_vm", cdev().gpus(["mi300x", "simmdev"]), 15),
        Suite::new("daemon", debian().gpus(["mi300x", "simmdev"]), 15),
        Suite::new("handover", debian().gpus(["sim", "simmdev"]), 15),
        Suite::new("handover", cdev().gpus(["sim", "simmdev"]), 15),
        Suite::new("scrub", debian().gpus(["sim", "flex170", "simmdev", "s7150", "s7150-blind"]), 15),
        Suite::new("scrub", cdev().gpus(["sim", "flex170", "simmdev", "s7150", "s7150-blind"]), 15),
        Suite::new("trouble", debian().gpus(["mi300x", "sim", "simmdev", "rtx5070", "b580"]), 15),
        Suite::new("mechanisms", debian().gpus(["mi300x", "flex170", "simmdev", "rtx5070", "b580"]), 10),
        Suite::new("sandbox", debian().gpus(["mi300x", "simmdev"]), 10),
        Suite::new("isolation", without_acs(debian()), 10),
        Suite::new("no_iommu", debian().gpus(["mi300x", "simmdev"]).without_iommu(), 10),
    ]
}

/// An SR-IOV device behind a PCIe port that does not keep its devices apart.
fn without_acs(host: HostSpec) -> HostSpec {
    host.device("pcie-root-port,id=port0,chassis=1,disable-acs=on").device("igb,bus=port0")
}
