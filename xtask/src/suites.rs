//! Which host each suite of lab tests runs on. A suite is one file in `tests/e2e`.

use std::time::Duration;
use vgpud_lab::{HostSpec, Length, VfioFlavour};

/// One test binary on one host.
#[derive(Debug, Clone)]
pub struct Suite {
    /// The test target.
    pub target: &'static str,
    /// One after the other; several have one disk in common.
    pub boots: Vec<Boot>,
    deadline: Duration,
}

/// One boot of a suite's host.
#[derive(Debug, Clone)]
pub struct Boot {
    pub host: HostSpec,
    /// What the names of this boot's tests have in common; empty: all.
    pub tests: &'static str,
    pub end: End,
}

/// How a boot ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    PowerOff,
    PowerCut,
}

impl Suite {
    fn new(target: &'static str, host: HostSpec, minutes: u64) -> Self {
        Self::with_boots(target, vec![Boot { host, tests: "", end: End::PowerOff }], minutes)
    }

    fn with_boots(target: &'static str, boots: Vec<Boot>, minutes: u64) -> Self {
        Self { target, boots, deadline: Duration::from_secs(60 * minutes) }
    }

    /// `lifecycle on debian VFIO`.
    pub fn place(&self) -> String {
        let Some(Boot { host, .. }) = self.boots.first() else { return self.target.to_owned() };
        let iommu = if host.iommu == vgpud_lab::Iommu::Off { ", no IOMMU" } else { "" };
        format!("{} on {} VFIO{iommu}", self.target, host.vfio)
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
        Suite::new("kill_points", debian().gpus(["mi300x", "sim", "simmdev"]), 30),
        Suite::new("many", cdev().gpus(["sim", "simmdev"]), 20),
        Suite::new("mixed", mixed(debian()), 25),
        Suite::with_boots("reboot_vendors", reboots_of_vendors(debian()), 15),
        Suite::new("micro_vm", debian().gpus(["mi300x", "simmdev"]), 15),
        Suite::new("micro_vm", cdev().gpus(["mi300x", "simmdev"]), 15),
        Suite::new("daemon", debian().gpus(["mi300x", "simmdev"]), 15),
        Suite::new("handover", debian().gpus(["sim", "simmdev"]), 15),
        Suite::new("handover", cdev().gpus(["sim", "simmdev"]), 15),
        Suite::new("lease", debian().gpus(["mi300x", "simmdev"]), 15),
        Suite::new("lease", cdev().gpus(["mi300x", "simmdev"]), 15),
        Suite::new("scrub", debian().gpus(["sim", "flex170", "simmdev", "s7150", "s7150-blind"]), 15),
        Suite::new("scrub", cdev().gpus(["sim", "flex170", "simmdev", "s7150", "s7150-blind"]), 15),
        Suite::new("trouble", debian().gpus(["mi300x", "sim", "simmdev", "rtx5070", "b580"]), 15),
        Suite::new("host", debian().gpus(["mi300x", "sim", "simmdev"]), 10),
        Suite::with_boots("reboot", reboots(debian()), 15),
        Suite::new("mechanisms", debian().gpus(["mi300x", "flex170", "simmdev", "rtx5070", "b580"]), 10),
        Suite::new("vendors", debian().gpus(["mi300x-gim", "b60"]), 15),
        Suite::new("personalities", debian().gpus(["mi300x-gim", "mi300x-gim", "flex170-xe", "b60"]), 10),
        Suite::new("personality_nvidia", debian().gpus(["a100", "l40s", "t4"]), 15),
        Suite::new("personality_nvidia", cdev().gpus(["a100", "l40s", "t4"]), 15),
        Suite::new("nvidia", debian().gpus(["a100", "l40s"]), 15),
        Suite::new("nvidia", cdev().gpus(["a100", "l40s"]), 15),
        Suite::new("nvidia_mdev", debian().gpus(["a100", "t4"]), 15),
        Suite::new("mig", debian().gpus(["a100"]), 20),
        Suite::new("sandbox", debian().gpus(["mi300x", "simmdev"]), 10),
        Suite::new("layout", debian().gpus(["sim", "simmdev", "mi300x-gim"]), 15),
        Suite::new("passthrough", debian().gpus(["mi300x", "sim"]), 10),
        Suite::new("isolation", without_acs(debian()), 10),
        Suite::new("no_iommu", debian().gpus(["mi300x", "simmdev"]).without_iommu(), 10),
    ]
}

/// Each vendor's own driver, and a card that cannot be cut.
fn mixed(host: HostSpec) -> HostSpec {
    host.gpus(["mi300x-gim", "l40s", "rtx5070", "b60"]).kernel_parameter("gim.vf_num=4")
}

/// Three boots of one machine. A group gets the next number when its device is found, and the extra
/// devices are found before the GPUs: in the second boot no group has the number that it has in the
/// others. In the last one the last GPU is missing.
fn three_boots(hosts: [HostSpec; 3]) -> Vec<Boot> {
    let more = |host: HostSpec, count| (0..count).fold(host, |host, _| host.device("virtio-rng-pci"));
    let [first, second, third] = hosts;
    vec![
        Boot { host: first, tests: "first_boot::", end: End::PowerCut },
        Boot { host: more(second, 8), tests: "second_boot::", end: End::PowerOff },
        Boot { host: more(third, 1), tests: "third_boot::", end: End::PowerOff },
    ]
}

fn reboots(host: HostSpec) -> Vec<Boot> {
    let gpus = ["simmdev", "mi300x", "sim", "flex170"];
    let whole = host.clone().gpus(gpus);
    three_boots([whole.clone(), whole, host.gpus(gpus.into_iter().take(3))])
}

/// At the last one gim is loaded for another number of VFs, too.
fn reboots_of_vendors(host: HostSpec) -> Vec<Boot> {
    let gpus = ["mi300x-gim", "l40s", "rtx5070", "b60"];
    let whole = host.clone().gpus(gpus).kernel_parameter("gim.vf_num=8");
    let last = host.gpus(gpus.into_iter().take(3)).kernel_parameter("gim.vf_num=4");
    three_boots([whole.clone(), whole, last])
}

/// An SR-IOV device behind a PCIe port that does not keep its devices apart.
fn without_acs(host: HostSpec) -> HostSpec {
    host.device("pcie-root-port,id=port0,chassis=1,disable-acs=on").device("igb,bus=port0")
}
