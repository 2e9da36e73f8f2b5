//! IOMMU groups that do not isolate: VFs behind a PCIe port without access control (ACS) share a group
//! with their PF, which the host uses. The SR-IOV device is QEMU's emulated network card (igb), named
//! as a GPU in the settings.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::{fs, process::Command};
use support::{Daemon, Output, assert_nothing_left, tell};

/// PF of the igb.
const IGB: &str = "8086:10c9";

fn igb() -> String {
    Output::of(Command::new("modprobe").arg("igb")).success();
    let devices = fs::read_dir("/sys/bus/pci/drivers/igb").unwrap();
    let names = devices.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned());
    names.into_iter().find(|name| name.contains(':')).expect("an igb on the igb driver")
}

/// Address of the port that the card is in: in sysfs a function's folder is inside that of its port.
fn port_above(function: &str) -> String {
    let folder = fs::canonicalize(format!("/sys/bus/pci/devices/{function}")).unwrap();
    folder.parent().unwrap().file_name().unwrap().to_string_lossy().into_owned()
}

/// Why the VFs are in the PF's group, as an error and doctor say it.
fn cause(pf: &str) -> String {
    format!("since PCIe port {} above it has no access control (ACS)", port_above(pf))
}

#[test]
fn a_vf_whose_group_holds_a_stranger_in_use_is_not_handed_over() {
    let pf = igb();
    let daemon = Daemon::start_with(&format!("[gpus]\ninclude = [\"{IGB}\"]"));
    let refused = daemon.ctl(&format!("create vf-2 --gpu {pf} --owner tenant"));
    tell!("{}", refused.stderr.trim_end());
    refused.fails_with(&[&format!("also holds {pf} (igb), {}", cause(&pf)), "turn on ACS in the firmware"]);
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
fn doctor_foretells_the_stranger_and_names_the_port_without_access_control() {
    let pf = igb();
    let daemon = Daemon::start_with(&format!("[gpus]\ninclude = [\"{IGB}\"]"));
    let output = daemon.ctl("doctor");
    for line in output.stdout.lines().filter(|line| line.contains("ACS")) {
        tell!("{}", line.trim());
    }
    assert_eq!(output.code, 1, "{output:#?}");
    let told = format!("with {pf} (igb), {}", cause(&pf));
    assert!(output.stdout.contains("virtual functions of") && output.stdout.contains(&told), "{output:#?}");
    assert_nothing_left(&daemon);
}
