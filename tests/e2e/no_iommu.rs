//! A host without an IOMMU: nothing can be handed over, and every part says so.

#![allow(clippy::unwrap_used)]

mod support;

use support::{Daemon, Model, SimGpu, assert_nothing_left};

#[test]
fn doctor_says_how_to_turn_the_iommu_on() {
    let daemon = Daemon::start();
    let output = daemon.ctl("doctor");
    assert_eq!(output.code, 1, "{output:#?}");
    // AMD's is on unless it was turned off; Intel's has to be asked for.
    let mend = ["AMD-Vi", "intel_iommu=on"];
    assert!(mend.iter().any(|word| output.stdout.contains(word)), "{output:#?}");
}

#[test]
fn a_vf_is_refused_and_none_stays() {
    let gpu = SimGpu::find(Model::Mi300x);
    let daemon = Daemon::start();
    daemon.ctl(&format!("create vf-8 --gpu {}", gpu.address)).fails_with(&["IOMMU", "intel_iommu=on"]);
    assert_eq!(gpu.read("sriov_numvfs"), "0");
    assert_nothing_left(&daemon);
}

/// A mediated device does not need one: its parent's driver isolates it.
#[test]
fn a_mediated_device_works_all_the_same() {
    let gpu = SimGpu::find(Model::Simmdev);
    let daemon = Daemon::start();
    let id = daemon.create(&format!("simgpu_mdev-small --gpu {} --owner tenant", gpu.address)).remove(0);
    daemon.ok(&format!("destroy --release {id}"));
    assert_nothing_left(&daemon);
}
