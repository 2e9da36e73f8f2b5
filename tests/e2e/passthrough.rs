//! A whole GPU as one slice.

#![allow(clippy::unwrap_used)]

mod support;

use std::fs;
use support::{Daemon, Model, SimGpu, Tenant, assert_nothing_left};

fn settings(gpu: &SimGpu, reuse: &str) -> String {
    format!("[gpu.\"{}\"]\nmechanism = \"passthrough\"\nreuse = \"{reuse}\"\n", gpu.address)
}

#[test]
fn a_whole_gpu_goes_to_a_tenant_and_back_to_its_driver() {
    let gpu = SimGpu::find(Model::Sim);
    assert_eq!(gpu.driver().as_deref(), Some("simgpu"));
    let mut daemon = Daemon::start_with(&settings(&gpu, "reset"));
    let id = daemon.create(&format!("whole --gpu {} --owner a", gpu.address)).remove(0);
    assert_eq!(gpu.driver().as_deref(), Some("vfio-pci"));
    let slice = daemon.slice(&id);
    assert_eq!(slice["address"], gpu.address.as_str());
    assert_eq!(slice["mechanism"], "passthrough");
    let tenant = Tenant::open(&slice);
    assert!(tenant.write() > 0);
    daemon.ctl(&format!("release {id}")).fails_with(&[&id]);
    drop(tenant);
    // A restart of vgpud knows it again.
    daemon.kill();
    daemon.start_again();
    daemon.ok(&format!("release {id}"));
    daemon.ok(&format!("lease {id} --owner b"));
    assert_eq!(Tenant::open(&daemon.slice(&id)).found(), 0, "what tenant a wrote");
    daemon.ok(&format!("release {id}"));
    daemon.ctl(&format!("create whole --gpu {}", gpu.address)).fails_with(&["whole"]);
    daemon.ok(&format!("destroy {id}"));
    assert_eq!(gpu.driver().as_deref(), Some("simgpu"));
    assert_nothing_left(&daemon);
}

/// How much memory a whole GPU has, no BAR says, so that none counts as verified.
#[test]
fn memory_that_is_not_known_is_not_taken_for_clean() {
    let gpu = SimGpu::find(Model::Sim);
    let daemon = Daemon::start_with(&settings(&gpu, "verified"));
    daemon
        .ctl(&format!("create whole --gpu {}", gpu.address))
        .fails_with(&["how much memory a whole GPU has is not known", "`reuse` in the settings"]);
    for slice in daemon.json("slices")["slices"].as_array().unwrap() {
        daemon.ok(&format!("destroy {}", slice["id"].as_str().unwrap()));
    }
    assert_eq!(gpu.driver().as_deref(), Some("simgpu"));
    assert_nothing_left(&daemon);
}

#[test]
fn what_would_end_badly_is_refused() {
    let (sim, mi300x) = (SimGpu::find(Model::Sim), SimGpu::find(Model::Mi300x));
    let daemon = Daemon::start_with(&(settings(&sim, "reset") + &settings(&mi300x, "reset")));
    daemon
        .ctl(&format!("create whole --gpu {}", mi300x.address))
        .fails_with(&[&mi300x.address, "dead until the host is restarted"]);
    fs::write(sim.sysfs("sriov_numvfs"), "2").unwrap();
    let refused = daemon.ctl(&format!("create whole --gpu {}", sim.address));
    fs::write(sim.sysfs("sriov_numvfs"), "0").unwrap();
    refused.fails_with(&[&sim.address, "it has virtual functions"]);
    assert_eq!([sim.driver(), mi300x.driver()], [Some("simgpu".to_owned()), Some("simgpu".to_owned())]);
    assert_nothing_left(&daemon);
}
