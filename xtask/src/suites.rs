//! Which host each suite of lab tests runs on. A suite is one file in `tests/e2e`.

use anyhow::{Result, ensure};
use std::{collections::BTreeSet, time::Duration};
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
    pub tests: Tests,
    pub end: End,
}

/// Which of the target's tests a boot runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tests {
    All,
    /// Those of a module, which `::` ends.
    Of(&'static str),
    /// A host that differs from another suite's in how devices are opened: the tests that meet the
    /// difference. A long run has all.
    Differing(&'static [&'static str]),
}

/// How a boot ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    PowerOff,
    PowerCut,
}

impl Tests {
    /// For [`vgpud_lab::run_test_binary`]. `filter` is the user's, empty where there is none.
    pub fn filters(self, filter: &str, length: Length) -> Vec<&str> {
        match self {
            Self::Of(module) => vec![module],
            Self::Differing(names) if filter.is_empty() && length == Length::Default => names.to_vec(),
            Self::All | Self::Differing(_) => vec![filter],
        }
    }
}

impl Suite {
    fn new(target: &'static str, host: HostSpec, minutes: u64) -> Self {
        Self::with_boots(target, vec![Boot { host, tests: Tests::All, end: End::PowerOff }], minutes)
    }

    /// A target that has a suite on Debian's VFIO, on that with device nodes.
    fn by_cdev(
        target: &'static str,
        gpus: &[&str],
        minutes: u64,
        differing: &'static [&'static str],
    ) -> Self {
        let host = HostSpec::new(VfioFlavour::Cdev).gpus(gpus.iter().copied());
        let tests = Tests::Differing(differing);
        Self::with_boots(target, vec![Boot { host, tests, end: End::PowerOff }], minutes)
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
    /// # Errors
    /// A test of [`Tests::Differing`] is not there: its name was changed or mistyped.
    pub fn check(&self, names: &BTreeSet<String>) -> Result<()> {
        for boot in &self.boots {
            let Tests::Differing(differing) = boot.tests else { continue };
            for name in differing {
                ensure!(
                    names.contains(*name),
                    "There is no test {name:?} in {}, as suites.rs has it",
                    self.target
                );
            }
        }
        Ok(())
    }

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
        Suite::new("kill_points", debian().gpus(["mi300x", "sim", "simmdev"]), 45),
        Suite::new("many", cdev().gpus(["sim", "simmdev"]), 30),
        Suite::new("mixed", mixed(debian()), 25),
        Suite::with_boots("reboot_vendors", reboots_of_vendors(debian()), 15),
        Suite::new("micro_vm", debian().gpus(["mi300x", "simmdev"]), 15),
        Suite::by_cdev(
            "micro_vm",
            &["mi300x", "simmdev"],
            15,
            &[
                "a_guest_uses_its_slice_and_the_next_one_finds_it_clean",
                "a_slice_in_use_is_neither_released_nor_destroyed_nor_given_to_another",
                "a_running_guest_outlives_vgpud",
            ],
        ),
        Suite::new("daemon", debian().gpus(["mi300x", "simmdev"]), 15),
        Suite::new("handover", debian().gpus(["sim", "simmdev"]), 15),
        Suite::by_cdev("handover", &["sim", "simmdev"], 15, &["between_vfio_programs", "between_micro_vms"]),
        Suite::new("lease", debian().gpus(["mi300x", "simmdev"]), 15),
        Suite::by_cdev(
            "lease",
            &["mi300x", "simmdev"],
            15,
            &[
                "a_node_is_its_consumers_while_the_lease_lasts",
                "a_lease_ends_by_itself_but_never_under_a_process_that_has_the_device",
            ],
        ),
        Suite::new("scrub", debian().gpus(["sim", "flex170", "simmdev", "s7150", "s7150-blind"]), 15),
        Suite::by_cdev(
            "scrub",
            &["sim", "flex170", "simmdev", "s7150", "s7150-blind"],
            15,
            &[
                "a_secret_that_the_reset_leaves_is_found_overwritten_and_told",
                "a_reset_that_clears_is_proved_by_reading_back_at_memory_speed",
                "a_reset_that_hangs_is_left_behind_in_time",
                "a_ready_slice_passes_every_check",
            ],
        ),
        Suite::new("trouble", debian().gpus(["mi300x", "sim", "simmdev", "rtx5070", "b580"]), 15),
        Suite::new("host", debian().gpus(["mi300x", "sim", "simmdev"]), 10),
        Suite::with_boots("reboot", reboots(debian()), 15),
        Suite::new("mechanisms", debian().gpus(["mi300x", "flex170", "simmdev", "rtx5070", "b580"]), 10),
        Suite::new("vendors", debian().gpus(["mi300x-gim", "b60"]), 15),
        Suite::new("personalities", debian().gpus(["mi300x-gim", "mi300x-gim", "flex170-xe", "b60"]), 10),
        Suite::new("personality_nvidia", debian().gpus(["a100", "l40s", "t4"]), 15),
        Suite::by_cdev(
            "personality_nvidia",
            &["a100", "l40s"],
            15,
            &["vfio_opens_only_a_vf_that_has_a_type", "a_vgpu_that_is_held_cannot_be_destroyed"],
        ),
        Suite::new("nvidia", debian().gpus(["a100", "l40s"]), 15),
        Suite::by_cdev("nvidia", &["a100", "l40s"], 15, &["a_guest_has_its_vgpu"]),
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
        Boot { host: first, tests: Tests::Of("first_boot::"), end: End::PowerCut },
        Boot { host: more(second, 8), tests: Tests::Of("second_boot::"), end: End::PowerOff },
        Boot { host: more(third, 1), tests: Tests::Of("third_boot::"), end: End::PowerOff },
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
