//! IOMMU groups that do not isolate: VFs behind a PCIe port without access control (ACS) share a group
//! with their PF, which the host uses. The SR-IOV device is QEMU's emulated network card (igb), named
//! as a GPU in the settings.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::{fs, process::Command};
use support::{Daemon, Output, assert_nothing_left};

/// PF of the igb.
const IGB: &str = "8086:10c9";

fn igb() -> String {
    Output::of(Command::new("modprobe").arg("igb")).success();
    let devices = fs::read_dir("/sys/bus/pci/drivers/igb").unwrap();
    let names = devices.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned());
    names.into_iter().find(|name| name.contains(':')).expect("an igb on the igb driver")
}

#[test]
fn a_vf_whose_group_holds_a_stranger_in_use_is_not_handed_over() {
    let pf = igb();
    let daemon = Daemon::start_with(&format!("[gpus]\ninclude = [\"{IGB}\"]"));
    let refused = daemon.ctl(&format!("create vf-2 --gpu {pf} --owner tenant"));
    refused.fails_with(&[&pf, "igb", "group"]);
    assert!(
        fs::read_dir("/var/run/cdi").is_ok_and(|mut files| files.next().is_none())
            || !std::path::Path::new("/var/run/cdi").try_exists().unwrap()
    );
    for slice in daemon.json("slices")["slices"].as_array().unwrap() {
        daemon.ok(&format!("destroy {}", slice["id"].as_str().unwrap()));
    }
    assert_nothing_left(&daemon);
}

#[test]
fn doctor_names_the_stranger() {
    let pf = igb();
    let daemon = Daemon::start_with(&format!("[gpus]\ninclude = [\"{IGB}\"]"));
    fs::write(format!("/sys/bus/pci/devices/{pf}/sriov_drivers_autoprobe"), "0").unwrap();
    fs::write(format!("/sys/bus/pci/devices/{pf}/sriov_numvfs"), "1").unwrap();
    let output = daemon.ctl("doctor");
    fs::write(format!("/sys/bus/pci/devices/{pf}/sriov_numvfs"), "0").unwrap();
    fs::write(format!("/sys/bus/pci/devices/{pf}/sriov_drivers_autoprobe"), "1").unwrap();
    assert!(output.stdout.contains(&pf) && output.stdout.contains("igb"), "{output:#?}");
    assert_nothing_left(&daemon);
}
