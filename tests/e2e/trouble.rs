//! Bad input and trouble: one clear error each, nothing half done, nothing lost.

#![allow(clippy::unwrap_used)]

mod support;

use std::{
    fs,
    process::{Command, Stdio},
    time::Duration,
};
use support::{Daemon, Model, Output, SimGpu, assert_nothing_left, program};

const MINUTE: Duration = Duration::from_secs(60);

#[test]
fn what_does_not_exist_is_named() {
    let daemon = Daemon::start();
    daemon.ctl("create vf-8 --gpu 0000:99:00.0").fails_with(&["0000:99:00.0", "vgpuctl gpus"]);
    daemon.ctl("create vf-8 --gpu 0000:zz:00.0").fails_with(&["0000:zz:00.0"]);
    daemon.ctl("create vf-88").fails_with(&["vf-88"]);
    daemon.ctl("create simgpu_mdev-smal").fails_with(&["simgpu_mdev-smal", "simgpu_mdev-small"]);
    daemon.ctl("show s77").fails_with(&["s77"]);
    daemon.ctl("destroy s77").fails_with(&["s77"]);
    daemon.ctl("lease s77 --owner me").fails_with(&["s77"]);
    daemon.ctl("release s77").fails_with(&["s77"]);
    daemon.ctl("create vf-8 --memory 20GB").fails_with(&["20GB", "GiB"]);
    daemon.ctl("create --compute 130%").fails_with(&["130%"]);
    daemon.ctl("create vf-8 --owner two words").failure();
    assert_nothing_left(&daemon);
}

/// What is short, where, and what would fit.
#[test]
fn a_request_that_does_not_fit_says_what_would() {
    let (sim, mdev) = (SimGpu::find(Model::Sim), SimGpu::find(Model::Simmdev));
    let daemon = Daemon::start();
    daemon.ctl("create --memory 1GiB").fails_with(&["1GiB", "64MiB"]);
    daemon.ctl(&format!("create vf-8 --gpu {} --count 9", sim.address)).fails_with(&["9", "8"]);
    daemon.ctl(&format!("create simgpu_mdev-large --gpu {} --count 5", mdev.address)).fails_with(&["5", "4"]);
    daemon.ctl(&format!("create vf-16 --gpu {}", sim.address)).fails_with(&["vf-16", &sim.address]);
    assert_nothing_left(&daemon);
    let all = daemon.create(&format!("simgpu_mdev-large --gpu {} --count 4", mdev.address));
    daemon
        .ctl(&format!("create simgpu_mdev-small --gpu {}", mdev.address))
        .fails_with(&["simgpu_mdev-small", &mdev.address]);
    daemon.ok(&format!("destroy {}", all.join(" ")));
    assert_nothing_left(&daemon);
}

#[test]
fn gpus_that_cannot_be_cut_say_why() {
    let daemon = Daemon::start();
    let gpus = daemon.json("gpus");
    for (model, why) in [(Model::Rtx5070, "one VF"), (Model::B580, "SR-IOV")] {
        let gpu = SimGpu::find(model);
        let seen = gpus["gpus"]
            .as_array()
            .unwrap()
            .iter()
            .find(|seen| seen["address"] == gpu.address.as_str())
            .unwrap();
        assert!(seen["unusable"].as_str().unwrap().contains(why), "{seen:#}");
        daemon.ctl(&format!("create vf-1 --gpu {}", gpu.address)).fails_with(&[&gpu.address, why]);
    }
}

#[test]
fn fewer_vfs_than_asked_is_an_error_and_none_stay() {
    let sim = SimGpu::find(Model::Sim);
    let daemon = Daemon::start();
    let knob = sim.set("vf_short", "3", "0");
    daemon.ctl(&format!("create vf-8 --gpu {}", sim.address)).fails_with(&[&sim.address, "8", "5"]);
    assert_eq!(sim.read("sriov_numvfs"), "0");
    assert_nothing_left(&daemon);
    drop(knob);
    let id = daemon.create(&format!("vf-8 --gpu {}", sim.address)).remove(0);
    daemon.ok(&format!("destroy {id}"));
    assert_nothing_left(&daemon);
}

#[test]
fn an_error_of_the_kernel_is_passed_on_and_nothing_stays() {
    let daemon = Daemon::start();
    for (model, profile) in [(Model::Sim, "vf-4"), (Model::Simmdev, "simgpu_mdev-medium")] {
        let gpu = SimGpu::find(model);
        for (errno, text) in [("5", "EIO"), ("12", "ENOMEM"), ("16", "EBUSY"), ("28", "ENOSPC")] {
            let _knob = gpu.set("create_errno", errno, "0");
            daemon.ctl(&format!("create {profile} --gpu {}", gpu.address)).fails_with(&[&gpu.address, text]);
            assert_nothing_left(&daemon);
        }
    }
}

/// The VF count of a GPU cannot change under a tenant, and asking for it keeps nobody waiting.
#[test]
fn another_vf_count_is_refused_while_a_slice_exists() {
    let sim = SimGpu::find(Model::Sim);
    let daemon = Daemon::start();
    let id = daemon.create(&format!("vf-8 --gpu {} --owner tenant", sim.address)).remove(0);
    daemon.ctl(&format!("create vf-2 --gpu {}", sim.address)).fails_with(&[&sim.address, "vf-8"]);
    assert_eq!(sim.read("sriov_numvfs"), "8");
    daemon.ok(&format!("destroy --release {id}"));
    let id = daemon.create(&format!("vf-2 --gpu {}", sim.address)).remove(0);
    daemon.ok(&format!("destroy {id}"));
    assert_nothing_left(&daemon);
}

/// One GPU's kernel takes its time; the others and the API do not wait for it.
#[test]
fn a_slow_gpu_keeps_nobody_else_waiting() {
    let (sim, other) = (SimGpu::find(Model::Sim), SimGpu::find(Model::Simmdev));
    let daemon = Daemon::start();
    let _knob = sim.set("create_ms", "20000", "0");
    let mut slow = daemon.vgpuctl();
    let mut slow = slow
        .args(["create", "vf-8", "--gpu", &sim.address])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    support::wait_for("the slow creation to begin", MINUTE, || {
        daemon.ok("slices").contains("creating").then_some(())
    });
    let quick = daemon.create(&format!("simgpu_mdev-small --gpu {} --count 2", other.address));
    assert!(slow.try_wait().unwrap().is_none(), "the slow one is still at it");
    daemon.ok(&format!("destroy {}", quick.join(" ")));
    assert!(slow.wait().unwrap().success());
    let slices = daemon.json("slices");
    let id = slices["slices"][0]["id"].as_str().unwrap();
    daemon.ok(&format!("destroy {id}"));
    assert_nothing_left(&daemon);
}

#[test]
fn a_gpu_unplugged_in_the_middle_of_a_creation_is_an_error_and_nothing_stays() {
    let sim = SimGpu::find(Model::Sim);
    let daemon = Daemon::start();
    {
        let _knob = sim.set("create_ms", "3000", "0");
        let mut create = daemon.vgpuctl();
        let create = create
            .args(["create", "vf-8", "--gpu", &sim.address])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        support::wait_for("the creation to begin", MINUTE, || {
            daemon.ok("slices").contains("creating").then_some(())
        });
        sim.turn("unplug", "pf");
        let output = create.wait_with_output().unwrap();
        assert!(!output.status.success());
    }
    sim.turn("unplug", "none");
    support::wait_for("the GPU to be back", MINUTE, || {
        daemon.json("gpus").to_string().contains(&sim.address).then_some(())
    });
    for slice in daemon.json("slices")["slices"].as_array().unwrap() {
        daemon.ok(&format!("destroy {}", slice["id"].as_str().unwrap()));
    }
    let id = daemon.create(&format!("vf-8 --gpu {}", sim.address)).remove(0);
    daemon.ok(&format!("destroy {id}"));
    assert_nothing_left(&daemon);
}

/// A slice whose reset fails could carry the last tenant's data: it never goes to another.
#[test]
fn a_reset_that_fails_puts_the_slice_into_quarantine() {
    let sim = SimGpu::find(Model::Sim);
    let daemon = Daemon::start();
    let id = daemon.create(&format!("vf-8 --gpu {} --owner tenant-a", sim.address)).remove(0);
    let knob = sim.set("flr", "fail-fast", "clear");
    daemon.ctl(&format!("release {id}")).fails_with(&[&id]);
    assert_eq!(daemon.phase(&id), "quarantined");
    daemon.ctl(&format!("lease {id} --owner tenant-b")).fails_with(&[&id, "quarantine"]);
    drop(knob);
    daemon.ok(&format!("destroy {id}"));
    assert_nothing_left(&daemon);
}

/// An operator's word takes a slice out of quarantine through the scrub alone, and who had it and what
/// the scrubs found can be read afterwards.
#[test]
fn a_quarantined_slice_is_cleared_by_a_scrub_that_succeeds() {
    let sim = SimGpu::find(Model::Sim);
    let daemon = Daemon::start();
    let id = daemon.create(&format!("vf-8 --gpu {} --owner tenant-a", sim.address)).remove(0);
    let knob = sim.set("flr", "fail-fast", "clear");
    daemon.ctl(&format!("release {id}")).failure();
    let listed = daemon.json("quarantine list");
    assert_eq!(listed["quarantined"][0]["slice"]["id"], id.as_str(), "{listed:#}");
    daemon.ctl(&format!("quarantine clear {id}")).failure();
    assert_eq!(daemon.phase(&id), "quarantined");
    drop(knob);
    daemon.ok(&format!("quarantine clear {id}"));
    assert_eq!(daemon.phase(&id), "ready");
    daemon.ctl(&format!("quarantine clear {id}")).fails_with(&[&id, "quarantine"]);
    let history = daemon.json(&format!("history {id}"));
    let lease = &history["leases"][0];
    assert_eq!(
        (&lease["owner"], &lease["gpu"]),
        (&"tenant-a".into(), &sim.address.as_str().into()),
        "{history:#}"
    );
    let results: Vec<&str> =
        lease["scrubs"].as_array().unwrap().iter().map(|scrub| scrub["result"].as_str().unwrap()).collect();
    assert_eq!(results.first(), Some(&"failed"), "{history:#}");
    assert_eq!(results.last(), Some(&"clean"), "{history:#}");
    daemon.ok(&format!("destroy {id}"));
    assert_nothing_left(&daemon);
}

/// The kernel is in a reset of one slice for longer than anybody waits: nothing new begins on that GPU,
/// also after a restart of vgpud, until an operator has looked. Another GPU goes on.
#[test]
fn a_gpu_whose_reset_hangs_is_out_of_use_until_it_is_cleared() {
    let (sim, other) = (SimGpu::find(Model::Sim), SimGpu::find(Model::Simmdev));
    let mut daemon = Daemon::start_with("[scrub]\ndeadline = \"3s\"\n[timeouts]\nrelease = \"60s\"");
    let ids = daemon.create(&format!("vf-8 --gpu {} --count 2", sim.address));
    let [hung, spare] = &ids[..] else { panic!("{ids:?}") };
    daemon.ok(&format!("lease {hung} --owner tenant-a"));
    let knob = sim.set("flr_ms", "9000", "0");
    daemon.ctl(&format!("release {hung}")).fails_with(&["Waited 3 s"]);
    for _ in 0..2 {
        let listed = daemon.json("quarantine list");
        let gpu = &listed["quarantined_gpus"][0];
        assert_eq!(
            (&gpu["gpu"], &gpu["cause"], &gpu["by"]),
            (&sim.address.as_str().into(), &"no-answer".into(), &"vgpud".into()),
            "{listed:#}"
        );
        assert!(gpu["evidence"].as_str().unwrap().contains("Waited 3 s"), "{listed:#}");
        let way_out = format!("vgpuctl quarantine clear {}", sim.address);
        daemon.ctl(&format!("lease {spare} --owner tenant-b")).fails_with(&["quarantined", &way_out]);
        daemon.ctl(&format!("create vf-8 --gpu {}", sim.address)).fails_with(&["quarantined", &way_out]);
        daemon.ctl(&format!("quarantine clear {hung}")).fails_with(&[&way_out]);
        let made = daemon.create(&format!("simgpu_mdev-small --gpu {} --owner tenant-b", other.address));
        daemon.ok(&format!("destroy --release {}", made[0]));
        daemon.stop();
        daemon.start_again();
    }
    drop(knob);
    let cleared = daemon.json(&format!("quarantine clear {}", sim.address));
    assert_eq!(cleared["quarantined_slices"][0], hung.as_str(), "{cleared:#}");
    daemon.ok(&format!("lease {spare} --owner tenant-b"));
    // Killed, the process holds the device until the kernel returns.
    daemon.ok(&format!("quarantine clear {hung}"));
    assert_eq!(daemon.phase(hung), "ready");
    daemon.ok(&format!("destroy --release {hung} {spare}"));
    assert_nothing_left(&daemon);
}

/// One failed reset tells of a slice, those of two slices tell of their GPU.
#[test]
fn a_gpu_with_two_failed_resets_is_out_of_use() {
    let sim = SimGpu::find(Model::Sim);
    let daemon = Daemon::start();
    let ids = daemon.create(&format!("vf-8 --gpu {} --count 3 --owner tenant-a", sim.address));
    let knob = sim.set("flr", "fail-fast", "clear");
    let quarantined = || daemon.json("quarantine list")["quarantined_gpus"].as_array().unwrap().clone();
    daemon.ctl(&format!("release {}", ids[0])).failure();
    assert!(quarantined().is_empty());
    daemon.ctl(&format!("release {}", ids[1])).failure();
    let gpus = quarantined();
    assert_eq!((&gpus[0]["cause"], gpus.len()), (&"resets-failed".into(), 1), "{gpus:?}");
    assert_eq!(daemon.phase(&ids[2]), "leased");
    drop(knob);
    daemon.ok(&format!("quarantine clear {}", sim.address));
    for id in &ids[..2] {
        daemon.ok(&format!("quarantine clear {id}"));
        daemon.ok(&format!("lease {id} --owner tenant-b"));
    }
    daemon.ok(&format!("destroy --release {}", ids.join(" ")));
    assert_nothing_left(&daemon);
}

#[test]
fn an_operator_puts_a_gpu_out_of_use_and_leases_go_on() {
    let sim = SimGpu::find(Model::Sim);
    let daemon = Daemon::start();
    let id = daemon.create(&format!("vf-8 --gpu {} --owner tenant-a", sim.address)).remove(0);
    daemon.ctl(&format!("quarantine add {id} --reason odd")).fails_with(&["tenant-a", "release it first"]);
    let mut add = daemon.vgpuctl();
    Output::of(add.args(["quarantine", "add", &sim.address, "--reason", "fan broken"])).success();
    assert_eq!(daemon.phase(&id), "leased");
    let shown = daemon.json(&format!("gpus {}", sim.address));
    let found = &shown["gpus"][0]["quarantine"];
    assert_eq!(
        (&found["evidence"], &found["by"]),
        (&"fan broken".into(), &"User root (0)".into()),
        "{shown:#}"
    );
    assert!(daemon.ok("status").contains("fan broken"));
    let events = daemon.ok("events");
    assert!(events.contains("gpu-quarantined") && events.contains("User root (0)"), "{events}");
    daemon.ok(&format!("release {id}"));
    assert_eq!(daemon.phase(&id), "ready");
    daemon.ctl(&format!("lease {id} --owner tenant-b")).fails_with(&["fan broken", &sim.address]);
    daemon.ok(&format!("quarantine clear {}", sim.address));
    daemon.ok(&format!("quarantine add {id} --reason odd"));
    assert_eq!(daemon.phase(&id), "quarantined");
    daemon.ok(&format!("quarantine clear {id}"));
    daemon.ok(&format!("destroy {id}"));
    assert_nothing_left(&daemon);
}

#[test]
fn a_missing_vfio_driver_is_named_with_its_module() {
    let sim = SimGpu::find(Model::Sim);
    let daemon = Daemon::start();
    let block = "/etc/modprobe.d/blocked.conf";
    fs::create_dir_all("/etc/modprobe.d").unwrap();
    fs::write(block, "install vfio-pci /bin/false\ninstall vfio_pci /bin/false\n").unwrap();
    Output::of(Command::new("rmmod").arg("vfio_pci")).success();
    daemon.ctl(&format!("create vf-8 --gpu {}", sim.address)).fails_with(&["vfio-pci", "modprobe"]);
    assert_nothing_left(&daemon);
    fs::remove_file(block).unwrap();
    Output::of(Command::new("modprobe").arg("vfio-pci")).success();
    let id = daemon.create(&format!("vf-8 --gpu {}", sim.address)).remove(0);
    daemon.ok(&format!("destroy {id}"));
    assert_nothing_left(&daemon);
}

#[test]
fn vgpud_says_when_it_is_not_root() {
    let daemon = Daemon::prepared("");
    let mut command = Command::new("setpriv");
    command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).arg(program("vgpud"));
    Output::of(command.arg("--config").arg(daemon.settings())).fails_with(&["root"]);
}

#[test]
fn a_typo_in_the_settings_is_named_with_its_line_and_the_nearest_key() {
    let daemon = Daemon::prepared("[timeouts]\nrelaese = \"3s\"");
    let line =
        fs::read_to_string(daemon.settings()).unwrap().lines().position(|line| line.starts_with("relaese"));
    let line = (line.unwrap() + 1).to_string();
    Output::of(&mut daemon.vgpud()).fails_with(&["relaese", "release", "vgpud.toml", &line]);
}

#[test]
fn vgpuctl_says_how_to_start_vgpud() {
    let daemon = Daemon::prepared("");
    daemon.ctl("gpus").fails_with(&[daemon.socket().to_str().unwrap(), "systemctl start vgpud"]);
}
