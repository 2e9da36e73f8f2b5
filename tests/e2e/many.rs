//! Many tenants at once, and many times the same.

#![allow(clippy::unwrap_used)]

mod support;

use std::time::Duration;
use support::{Daemon, Model, Running, SimGpu, assert_nothing_left};

/// Eight VFs of one GPU and eight mdevs of another, each leased to an owner and given to a micro-VM of
/// its own, all at once. Each guest sees one GPU and marks all of its VRAM; the host then looks into
/// every slice's window and finds the mark of its own tenant and nothing else.
#[test]
fn sixteen_tenants_at_once_have_their_own_slice_and_no_other() {
    let (sim, simmdev) = (SimGpu::find(Model::Sim), SimGpu::find(Model::Simmdev));
    let daemon = Daemon::start();
    let vfs = daemon.create(&format!("vf-8 --gpu {} --count 8", sim.address));
    let mdevs = daemon.create(&format!("simgpu_mdev-small --gpu {} --count 8", simmdev.address));
    assert_eq!((vfs.len(), mdevs.len()), (8, 8));
    let tenants: Vec<(&SimGpu, &String)> =
        vfs.iter().map(|id| (&sim, id)).chain(mdevs.iter().map(|id| (&simmdev, id))).collect();

    let mut running: Vec<Running> = tenants
        .iter()
        .map(|(_, id)| {
            let command = format!("gpu list write mark-of-{id} check mark-of-{id} hold 3600");
            let mut vm = daemon.run(&format!("{id} --owner tenant-{id} --memory 128MiB -- {command}"));
            // Sixteen boots at once take an emulated CPU much longer than one after the other.
            vm.wait_for("holding");
            vm
        })
        .collect();
    // Only now, when every tenant has written: a mark that went astray would be in somebody's window.
    for ((gpu, id), vm) in tenants.iter().zip(&running) {
        let slice = daemon.slice(id);
        assert_eq!(slice["lease"]["owner"], format!("tenant-{id}"));
        let console = vm.console();
        let seen: Vec<_> = console.lines().filter(|line| line.contains(" vram ")).collect();
        assert_eq!(seen.len(), 1, "{id} sees {seen:?}");
        assert_eq!(gpu.texts(&slice), [format!("mark-of-{id}")], "VRAM of {id}");
    }
    assert_eq!(daemon.json("slices")["slices"].as_array().unwrap().len(), 16);

    for vm in &mut running {
        assert!(vm.is_running(), "all are up at once");
    }
    for vm in &running {
        vm.signal("TERM");
    }
    for vm in running {
        vm.wait();
    }
    for (_, id) in &tenants {
        daemon.wait_for_phase(id, "ready", Duration::from_secs(60));
        daemon.ok(&format!("destroy {id}"));
    }
    assert_nothing_left(&daemon);
}

#[test]
fn created_and_destroyed_ten_times_nothing_is_left() {
    create_and_destroy(10);
}

#[test]
#[ignore = "long: `./x test --long` creates and destroys fifty times"]
fn created_and_destroyed_fifty_times_nothing_is_left() {
    create_and_destroy(50);
}

/// From nothing to a leased slice of each kind and back to nothing.
fn create_and_destroy(times: usize) {
    let (sim, simmdev) = (SimGpu::find(Model::Sim), SimGpu::find(Model::Simmdev));
    let daemon = Daemon::start();
    for _ in 0..times {
        let vf = daemon.create(&format!("vf-8 --gpu {} --owner tenant", sim.address));
        let mdev = daemon.create(&format!("simgpu_mdev-large --gpu {} --owner tenant", simmdev.address));
        daemon.ok(&format!("destroy --release {} {}", vf[0], mdev[0]));
        assert_nothing_left(&daemon);
    }
}
