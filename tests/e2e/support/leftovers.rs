//! What must be gone when the last slice is: in sysfs, /dev/vfio, the CDI folder and the ledger.

use super::Daemon;
use std::{fs, path::Path, process::Command};

/// The names in a folder; none where it is not there.
pub fn entries(folder: &str) -> Vec<String> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect()
}

/// Everything of a slice that is left on this host.
fn leftovers(daemon: &Daemon) -> Vec<String> {
    let mut found = Vec::new();
    for device in entries("/sys/bus/pci/devices") {
        let folder = Path::new("/sys/bus/pci/devices").join(&device);
        let read = |file: &str| fs::read_to_string(folder.join(file)).unwrap_or_default().trim().to_owned();
        let makes_vfs_itself = fs::read_link(folder.join("driver")).is_ok_and(|link| link.ends_with("gim"));
        let vfs = entries(&folder.to_string_lossy()).into_iter().filter(|name| name.starts_with("virtfn"));
        if makes_vfs_itself {
            let bound = vfs.filter(|vf| folder.join(vf).join("driver").is_symlink());
            found.extend(bound.map(|vf| format!("{vf} of {device} is on a driver")));
        } else if !["", "0"].contains(&read("sriov_numvfs").as_str()) {
            found.push(format!("{device} has {} VFs", read("sriov_numvfs")));
        }
        if read("sriov_drivers_autoprobe") == "0" {
            found.push(format!("{device} has autoprobe off"));
        }
        if !["", "(null)"].contains(&read("driver_override").as_str()) {
            found.push(format!("{device} has driver_override {}", read("driver_override")));
        }
    }
    found.extend(entries("/sys/bus/mdev/devices").into_iter().map(|uuid| format!("mdev {uuid}")));
    let node = |name: &String| name != "vfio" && name != "devices";
    found.extend(entries("/dev/vfio").into_iter().filter(node).map(|name| format!("/dev/vfio/{name}")));
    found.extend(entries("/dev/vfio/devices").into_iter().map(|name| format!("/dev/vfio/devices/{name}")));
    found.extend(entries("/run/cdi").into_iter().map(|name| format!("CDI file {name}")));
    let slices = daemon.json("slices");
    found.extend(slices["slices"].as_array().unwrap().iter().map(|slice| format!("slice {slice}")));
    found
}

/// Fails where anything of a slice is left.
#[track_caller]
pub fn assert_nothing_left(daemon: &Daemon) {
    let found = leftovers(daemon);
    assert!(found.is_empty(), "left over: {found:#?}");
}

/// Takes away what a failed test left, so that the next one of the suite is judged for itself.
/// Whatever cannot be done here shows in that test.
pub fn clear() {
    for (program, arguments) in [("pkill", &["-KILL", "-f", "qemu-system"][..]), ("modprobe", &["vfio-pci"])]
    {
        let _ = Command::new(program).args(arguments).status();
    }
    for uuid in entries("/sys/bus/mdev/devices") {
        let _ = fs::write(format!("/sys/bus/mdev/devices/{uuid}/remove"), "1");
    }
    let devices = Path::new("/sys/bus/pci/devices");
    for device in entries("/sys/bus/pci/devices") {
        let folder = devices.join(&device);
        let _ = fs::write(folder.join("nvidia/current_vgpu_type"), "0");
        // VFs that stay are spares again.
        if folder.join("physfn").is_symlink()
            && fs::read_link(folder.join("driver")).is_ok_and(|link| link.ends_with("vfio-pci"))
        {
            let _ = fs::write(folder.join("driver/unbind"), &device);
            let _ = fs::write(folder.join("driver_override"), "\n");
        }
    }
    let _ = Command::new("/usr/lib/nvidia/sriov-manage").args(["-d", "ALL"]).status();
    for device in entries("/sys/bus/pci/devices") {
        let folder = devices.join(&device);
        if folder.join("sriov_numvfs").try_exists().unwrap_or(false) {
            let _ = fs::write(folder.join("sriov_numvfs"), "0");
            let _ = fs::write(folder.join("sriov_drivers_autoprobe"), "1");
        }
    }
    let _ = fs::remove_dir_all("/run/cdi");
}
