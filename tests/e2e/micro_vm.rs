//! `vgpuctl run`: a slice in a micro-VM, and back.

#![allow(clippy::unwrap_used)]

mod support;

use std::{path::Path, time::Duration};
use support::{Daemon, Model, SimGpu, assert_nothing_left, signal};

const MINUTE: Duration = Duration::from_secs(60);

fn gpus() -> (SimGpu, SimGpu) {
    (SimGpu::find(Model::Mi300x), SimGpu::find(Model::Simmdev))
}

/// One slice of each kind.
fn a_vf_and_an_mdev(daemon: &Daemon) -> [String; 2] {
    let (sriov, mdev) = gpus();
    let vf = daemon.create(&format!("vf-4 --gpu {}", sriov.address)).remove(0);
    let mdev = daemon.create(&format!("simgpu_mdev-small --gpu {}", mdev.address)).remove(0);
    [vf, mdev]
}

/// The next tenant of the slice finds nothing.
#[track_caller]
fn assert_clean(daemon: &Daemon, id: &str) {
    let output = daemon.run(&format!("{id} -- gpu read")).wait();
    assert_eq!(output.code, 0, "{output:#?}");
    assert!(output.stdout.contains("nonzero 0 of"), "the next tenant of {id} finds bytes: {output:#?}");
}

/// Whether this host has the nodes of `--node cdev`.
fn has_cdev() -> bool {
    Path::new("/dev/iommu").try_exists().unwrap()
}

/// Through every kind of node that this host has: the guest sees one GPU, fills its VRAM and reads it
/// back; the next tenant of the same slice finds zeros; the command's exit code comes out.
#[test]
fn a_guest_uses_its_slice_and_the_next_one_finds_it_clean() {
    let daemon = Daemon::start();
    let slices = a_vf_and_an_mdev(&daemon);
    let nodes: &[&str] = if has_cdev() { &["group", "cdev"] } else { &["group"] };
    for id in &slices {
        for node in nodes {
            let run = daemon.run(&format!(
                "{id} --node {node} -- gpu list read write secret-of-a check secret-of-a exit 7"
            ));
            let output = run.wait();
            assert_eq!(output.code, 7, "{output:#?}");
            let seen: Vec<_> = output.stdout.lines().filter(|line| line.contains(" vram ")).collect();
            assert_eq!(seen.len(), 1, "{id} by {node} sees {seen:?}");
            assert!(output.stdout.contains("vram 16777216"), "{output:#?}");
            assert!(output.stdout.contains("nonzero 0 of"), "VRAM was not clean before: {output:#?}");
            daemon.wait_for_phase(id, "ready", MINUTE);
        }
        assert_clean(&daemon, id);
    }
    daemon.ok(&format!("destroy {} {}", slices[0], slices[1]));
    assert_nothing_left(&daemon);
}

/// The board for guests whose drivers insist on a PC. Without an exit code: port I/O of a program faults
/// in such a guest while the lab host itself is emulated, so `gpu exit` cannot be used.
#[test]
fn a_guest_on_q35_uses_its_slice_too() {
    let daemon = Daemon::start();
    let slices = a_vf_and_an_mdev(&daemon);
    let vms = slices.each_ref().map(|id| daemon.run(&format!("{id} --machine q35 -- gpu list write mine")));
    for vm in vms {
        let output = vm.wait();
        assert_eq!(output.code, 0, "{output:#?}");
        assert_eq!(output.stdout.matches(" vram 16777216").count(), 1, "{output:#?}");
        assert!(output.stdout.contains("wrote mine: 0 of 4096 pages differ"), "{output:#?}");
    }
    daemon.ok(&format!("destroy {}", slices.join(" ")));
    assert_nothing_left(&daemon);
}

/// The kernel tears nothing out of a running guest, and says who holds the device.
#[test]
fn a_slice_in_use_is_neither_released_nor_destroyed_nor_given_to_another() {
    let daemon = Daemon::start_with("[timeouts]\nrelease = \"2s\"");
    for id in a_vf_and_an_mdev(&daemon) {
        let mut vm = daemon.run(&format!("{id} --owner tenant-a -- gpu list write mine hold 3600"));
        vm.wait_for("holding");
        let qemu = vm.qemu().to_string();
        daemon.ctl(&format!("lease {id} --owner tenant-b")).fails_with(&[&id, "tenant-a"]);
        daemon.ctl(&format!("run {id} --owner tenant-b")).fails_with(&[&id, "tenant-a"]);
        daemon.ctl(&format!("destroy {id}")).fails_with(&[&id, "tenant-a"]);
        daemon.ctl(&format!("release {id}")).fails_with(&[&id, &qemu, "qemu"]);
        daemon.ctl(&format!("destroy --release {id}")).fails_with(&[&id, &qemu, "qemu"]);
        assert_eq!(daemon.phase(&id), "leased");
        assert_eq!(daemon.slice(&id)["lease"]["owner"], "tenant-a");
        vm.signal("TERM");
        vm.wait();
        daemon.wait_for_phase(&id, "ready", MINUTE);
        daemon.ok(&format!("destroy {id}"));
    }
    assert_nothing_left(&daemon);
}

#[test]
fn a_micro_vm_killed_with_sigkill_leaves_a_clean_slice() {
    let daemon = Daemon::start();
    for id in a_vf_and_an_mdev(&daemon) {
        let mut vm = daemon.run(&format!("{id} -- gpu list write secret hold 3600"));
        vm.wait_for("holding");
        signal(vm.qemu(), "KILL");
        let output = vm.wait();
        assert_eq!(output.code, 128 + 9, "{output:#?}");
        assert!(output.stderr.contains("signal 9"), "{output:#?}");
        daemon.wait_for_phase(&id, "ready", MINUTE);
        assert_clean(&daemon, &id);
        daemon.ok(&format!("destroy {id}"));
    }
    assert_nothing_left(&daemon);
}

/// Nobody is left to release the lease; vgpud does it.
#[test]
fn vgpuctl_killed_with_sigkill_takes_its_micro_vm_along_and_the_slice_comes_back() {
    let daemon = Daemon::start();
    for id in a_vf_and_an_mdev(&daemon) {
        let mut vm = daemon.run(&format!("{id} -- gpu list hold 3600"));
        vm.wait_for("holding");
        vm.signal("KILL");
        vm.wait();
        daemon.wait_for_phase(&id, "ready", MINUTE);
        daemon.ok(&format!("destroy {id}"));
    }
    assert_nothing_left(&daemon);
}

/// A crash and a clean stop of vgpud: the guest goes on, and afterwards the slice is taken back.
#[test]
fn a_running_guest_outlives_vgpud() {
    let mut daemon = Daemon::start();
    let [vf, mdev] = a_vf_and_an_mdev(&daemon);
    let command = "gpu list write before hold 40 check before write after check after";
    let mut vms = [&vf, &mdev].map(|id| daemon.run(&format!("{id} --owner tenant-a -- {command}")));
    vms.iter_mut().for_each(|vm| vm.wait_for("holding"));
    daemon.kill();
    daemon.start_again();
    assert_eq!([&vf, &mdev].map(|id| daemon.phase(id)), ["leased", "leased"]);
    daemon.stop();
    daemon.start_again();
    assert_eq!([&vf, &mdev].map(|id| daemon.phase(id)), ["leased", "leased"]);
    for vm in vms {
        let output = vm.wait();
        assert_eq!(output.code, 0, "{output:#?}");
    }
    for id in [&vf, &mdev] {
        daemon.wait_for_phase(id, "ready", MINUTE);
        daemon.ok(&format!("destroy {id}"));
    }
    assert_nothing_left(&daemon);
}

#[test]
fn what_is_missing_is_said_before_anything_starts() {
    let daemon = Daemon::start();
    let [vf, mdev] = a_vf_and_an_mdev(&daemon);
    daemon.ctl(&format!("run {vf} --kernel /nowhere/vmlinuz")).fails_with(&["/nowhere/vmlinuz"]);
    daemon.ctl(&format!("run {vf} --initrd /nowhere/initrd")).fails_with(&["/nowhere/initrd"]);
    daemon.ctl("run s999").fails_with(&["s999"]);
    if !has_cdev() {
        daemon.ctl(&format!("run {vf} --node cdev")).fails_with(&["cdev", "iommufd"]);
    }
    daemon.ctl(&format!("run {vf} --qemu /nowhere/qemu")).fails_with(&["/nowhere/qemu"]);
    assert_eq!([&vf, &mdev].map(|id| daemon.phase(id)), ["ready", "ready"]);
    daemon.ok(&format!("destroy {vf} {mdev}"));
    assert_nothing_left(&daemon);
}
