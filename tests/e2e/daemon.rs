//! vgpud and vgpuctl over the life of slices: asked, seen, handed over, restarted.

#![allow(clippy::unwrap_used)]

mod support;

use serde_json::{Value, json};
use std::{fs, os::unix::fs::MetadataExt, path::Path, time::Duration};
use support::{Daemon, Model, Output, SimGpu, assert_nothing_left, wait_for};

const MINUTE: Duration = Duration::from_secs(60);

#[test]
fn gpus_and_profiles_are_what_the_kernel_says() {
    let (sriov, mdev) = (SimGpu::find(Model::Mi300x), SimGpu::find(Model::Simmdev));
    let daemon = Daemon::start();
    let gpus = daemon.json("gpus");
    let gpus: Vec<&Value> = gpus["gpus"].as_array().unwrap().iter().collect();
    let of = |gpu: &SimGpu| *gpus.iter().find(|seen| seen["address"] == gpu.address.as_str()).unwrap();
    assert_eq!(of(&sriov)["id"], "1002:74a1");
    assert_eq!(of(&sriov)["driver"], "simgpu");
    assert_eq!(of(&sriov)["mechanisms"], json!(["sriov"]));
    assert_eq!((&of(&sriov)["vfs_total"], &of(&sriov)["vfs_enabled"]), (&json!(8), &json!(0)));
    assert_eq!(of(&sriov)["reset_methods"], json!(["flr"]));
    assert_eq!(of(&sriov)["iommu_group"]["members"], json!([sriov.address]));
    assert_eq!(of(&mdev)["mechanisms"], json!(["mdev"]));

    let profiles = daemon.json("profiles");
    let profiles = profiles["profiles"].as_array().unwrap();
    let named = |name: &str| profiles.iter().find(|profile| profile["name"] == name).unwrap();
    assert_eq!(named("vf-8")["memory_bytes"], 16 << 20);
    assert_eq!(named("vf-8")["available"], 8);
    assert_eq!(named("vf-2")["available"], 2);
    assert_eq!(named("simgpu_mdev-small")["memory_bytes"], 16 << 20);
    assert_eq!(named("simgpu_mdev-small")["available"], 16);
    assert_eq!(named("simgpu_mdev-large")["memory_bytes"], 64 << 20);
}

/// A request without a vendor's word goes to the smallest profile that has it; a dry run says why, and
/// does nothing.
#[test]
fn a_request_in_memory_and_compute_finds_its_gpu() {
    let (sriov, mdev) = (SimGpu::find(Model::Mi300x), SimGpu::find(Model::Simmdev));
    let daemon = Daemon::start();
    let plan = daemon.json("create --memory 40MiB --dry-run");
    assert!(plan.to_string().contains("simgpu_mdev-large"), "{plan}");
    assert!(plan.to_string().contains(&sriov.address), "the other GPU is considered too: {plan}");
    assert_nothing_left(&daemon);

    let large = daemon.create("--memory 40MiB").remove(0);
    assert_eq!(daemon.slice(&large)["profile"], "simgpu_mdev-large");
    assert_eq!(daemon.slice(&large)["gpu"], mdev.address.as_str());
    let half = daemon.create("--compute 50%").remove(0);
    assert_eq!(daemon.slice(&half)["profile"], "vf-2");
    assert_eq!(sriov.read("sriov_numvfs"), "2");
    daemon.ok(&format!("destroy {large} {half}"));
    assert_nothing_left(&daemon);
}

/// What a consumer gets with a lease: one node that its owner alone may open, and one CDI file that
/// names it; both are gone with the lease.
#[test]
fn a_lease_is_one_node_and_one_cdi_file_until_it_ends() {
    let daemon = Daemon::start();
    let sriov = SimGpu::find(Model::Mi300x);
    let mdev = SimGpu::find(Model::Simmdev);
    for words in
        [format!("vf-8 --gpu {}", sriov.address), format!("simgpu_mdev-small --gpu {}", mdev.address)]
    {
        let id = daemon.create(&words).remove(0);
        assert!(cdi_files().is_empty());
        daemon.ok(&format!("lease {id} --owner pod/one"));
        let slice = daemon.slice(&id);
        let node = slice["lease"]["node"].as_str().unwrap();
        assert_eq!(node, slice["group_node"].as_str().unwrap(), "Debian's VFIO has group nodes");
        assert_eq!(fs::metadata(node).unwrap().mode() & 0o777, 0o600);
        let files = cdi_files();
        assert_eq!(files.len(), 1, "{files:?}");
        let file: Value = serde_json::from_str(&fs::read_to_string(&files[0]).unwrap()).unwrap();
        assert_eq!(file["cdiVersion"], "0.5.0");
        assert_eq!(file["kind"], "vgpud.io/slice");
        assert_eq!(file["devices"][0]["name"], id);
        assert_eq!(file["devices"][0]["containerEdits"]["deviceNodes"], json!([{ "path": node }]));
        assert_eq!(slice["lease"]["cdi_device"], format!("vgpud.io/slice={id}"));
        daemon.ok(&format!("release {id}"));
        assert!(cdi_files().is_empty());
        assert_eq!(daemon.slice(&id)["lease"], Value::Null);
        assert_eq!(daemon.slice(&id)["generation"], 1);
        daemon.ok(&format!("destroy {id}"));
    }
    assert_nothing_left(&daemon);
}

fn cdi_files() -> Vec<std::path::PathBuf> {
    let Ok(entries) = fs::read_dir("/var/run/cdi") else { return Vec::new() };
    entries.map(|entry| entry.unwrap().path()).collect()
}

#[test]
fn events_tell_the_life_of_a_slice_in_order() {
    let daemon = Daemon::start();
    let id = daemon.create("vf-8 --owner tenant").remove(0);
    daemon.ok(&format!("release {id}"));
    daemon.ok(&format!("destroy {id}"));
    let text = daemon.ok("--output json events");
    let told: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let told: Vec<&Value> = told.iter().map(|line| line.get("event").unwrap_or(line)).collect();
    let of_slice: Vec<&&Value> = told.iter().filter(|event| event["slice"] == id.as_str()).collect();
    assert!(of_slice.len() >= 4, "{of_slice:#?}");
    let numbers: Vec<u64> = told.iter().map(|event| event["sequence"].as_u64().unwrap()).collect();
    assert!(numbers.is_sorted_by(|a, b| a < b), "{numbers:?}");
    let kinds: Vec<&str> = of_slice.iter().map(|event| event["kind"].as_str().unwrap()).collect();
    let at = |word: &str| kinds.iter().position(|kind| kind.contains(word));
    assert!(at("ready") < at("lease"), "{kinds:?}");
}

#[test]
fn events_are_followed_as_they_happen() {
    let daemon = Daemon::start();
    let before = daemon.create("vf-8").remove(0);
    let told = daemon.folder().join("followed");
    let mut follow = daemon
        .vgpuctl()
        .args(["--output", "json", "events", "--follow"])
        .stdout(fs::File::create(&told).unwrap())
        .spawn()
        .unwrap();
    let told_of = |id: &str| {
        let text = fs::read_to_string(&told).unwrap();
        text.lines()
            .any(|line| serde_json::from_str(line).is_ok_and(|event: Value| event["event"]["slice"] == id))
    };
    wait_for("what happened before", MINUTE, || told_of(&before).then_some(()));
    let after = daemon.create("simgpu_mdev-small").remove(0);
    wait_for("what happens now", MINUTE, || told_of(&after).then_some(()));
    assert!(follow.try_wait().unwrap().is_none(), "it goes on");
    follow.kill().unwrap();
    follow.wait().unwrap();
    daemon.ok(&format!("destroy {before} {after}"));
    assert_nothing_left(&daemon);
}

#[test]
fn doctor_finds_this_host_ready() {
    let daemon = Daemon::start();
    let report = daemon.json("doctor");
    assert_eq!(report["ready"], true, "{report:#}");
    let checks = report["checks"].as_array().unwrap();
    for name in ["iommu", "vfio-modules", "kvm", "qemu", "isolation", "memory-lock", "sandbox"] {
        let verdicts: Vec<_> = checks.iter().filter(|check| check["name"] == name).collect();
        assert!(
            !verdicts.is_empty() && verdicts.iter().all(|check| check["verdict"] == "pass"),
            "{name}: {verdicts:#?}"
        );
    }
}

/// vgpud crashes and comes back: nothing changed for anybody.
#[test]
fn a_crash_loses_no_slice_and_no_lease() {
    let mut daemon = Daemon::start();
    let vfs = daemon.create("vf-8 --count 3");
    let mdevs = daemon.create("simgpu_mdev-small --count 2 --owner tenant");
    let seen = |daemon: &Daemon| {
        let slices = daemon.json("slices");
        let key = |slice: &Value| {
            ["id", "phase", "address", "mdev_uuid", "lease"].map(|field| slice[field].to_string())
        };
        slices["slices"].as_array().unwrap().iter().map(key).collect::<Vec<_>>()
    };
    let before = seen(&daemon);
    assert_eq!(before.len(), 5);
    daemon.kill();
    daemon.start_again();
    assert_eq!(seen(&daemon), before);
    daemon.stop();
    assert!(!daemon.socket().try_exists().unwrap(), "a clean stop removes the socket");
    daemon.start_again();
    assert_eq!(seen(&daemon), before);
    for id in vfs.iter().chain(&mdevs) {
        daemon.ok(&format!("destroy --release {id}"));
    }
    assert_nothing_left(&daemon);
}

/// The instances went while vgpud was not looking: it is no secret, and each slice can be ended.
#[test]
fn instances_that_vanished_while_vgpud_was_down_are_noticed() {
    let sriov = SimGpu::find(Model::Mi300x);
    let mut daemon = Daemon::start();
    let vf = daemon.create("vf-8").remove(0);
    let mdev = daemon.create("simgpu_mdev-small --owner tenant").remove(0);
    let uuid = daemon.slice(&mdev)["mdev_uuid"].as_str().unwrap().to_owned();
    daemon.stop();
    fs::write(sriov.sysfs("sriov_numvfs"), "0").unwrap();
    fs::write(format!("/sys/bus/mdev/devices/{uuid}/remove"), "1").unwrap();
    daemon.start_again();
    for id in [&vf, &mdev] {
        let slice = daemon.slice(id);
        let explained = slice["phase"] == "quarantined" && slice["quarantine_reason"].is_string();
        assert!(slice["phase"] == "ready" || explained, "{slice:#}");
        daemon.ok(&format!("destroy --release {id}"));
    }
    assert_nothing_left(&daemon);
}

/// A GPU that somebody else has cut already is used as it is and left as it was.
#[test]
fn vfs_that_the_operator_made_are_used_and_never_taken_apart() {
    let sriov = SimGpu::find(Model::Mi300x);
    let daemon = Daemon::start();
    fs::write(sriov.sysfs("sriov_drivers_autoprobe"), "0").unwrap();
    fs::write(sriov.sysfs("sriov_numvfs"), "4").unwrap();
    let profiles = daemon.json(&format!("profiles {}", sriov.address));
    let offered: Vec<&str> = profiles["profiles"]
        .as_array()
        .unwrap()
        .iter()
        .map(|profile| profile["name"].as_str().unwrap())
        .collect();
    assert_eq!(offered, ["vf-4"]);
    daemon.ctl("create vf-8").fails_with(&[&sriov.address, "4"]);
    let id = daemon.create("vf-4").remove(0);
    daemon.ok(&format!("destroy {id}"));
    assert_eq!(sriov.read("sriov_numvfs"), "4");
    fs::write(sriov.sysfs("sriov_numvfs"), "0").unwrap();
    fs::write(sriov.sysfs("sriov_drivers_autoprobe"), "1").unwrap();
    assert_nothing_left(&daemon);
}

#[test]
fn a_gpu_that_vanishes_takes_its_slices_out_of_use_and_says_so() {
    let sriov = SimGpu::find(Model::Mi300x);
    let daemon = Daemon::start();
    let id = daemon.create("vf-8").remove(0);
    sriov.turn("unplug", "pf");
    daemon.wait_for_phase(&id, "quarantined", MINUTE);
    let reason = daemon.slice(&id)["quarantine_reason"].as_str().unwrap().to_owned();
    assert!(reason.contains(&sriov.address), "{reason}");
    let gpus = daemon.json("gpus").to_string();
    assert!(!gpus.contains(&sriov.address), "{gpus}");
    sriov.turn("unplug", "none");
    wait_for("the GPU to be back", MINUTE, || {
        daemon.json("gpus").to_string().contains(&sriov.address).then_some(())
    });
    daemon.ok(&format!("destroy {id}"));
    assert_nothing_left(&daemon);
    let fresh = daemon.create(&format!("vf-8 --gpu {}", sriov.address)).remove(0);
    daemon.ok(&format!("destroy {fresh}"));
    assert_nothing_left(&daemon);
}

#[test]
fn a_second_vgpud_is_refused_and_a_stale_socket_is_not_in_the_way() {
    let mut daemon = Daemon::start();
    let second = Output::of(&mut daemon.vgpud());
    second.fails_with(&[&daemon.pid().to_string(), daemon.state_dir().to_str().unwrap()]);
    assert!(Path::new(&daemon.socket()).try_exists().unwrap(), "the first one still has its socket");
    daemon.ok("status");
    daemon.kill();
    assert!(daemon.socket().try_exists().unwrap(), "a crash leaves the socket");
    daemon.ctl("slices").fails_with(&[daemon.socket().to_str().unwrap()]);
    daemon.start_again();
}

#[test]
fn a_damaged_ledger_is_refused_and_left_as_it_is() {
    let mut daemon = Daemon::start();
    let id = daemon.create("vf-8").remove(0);
    daemon.stop();
    let ledger = fs::read_dir(daemon.state_dir())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .find(|path| path.extension().is_some_and(|end| end == "db" || end == "sqlite"))
        .expect("a ledger");
    let whole = fs::read(&ledger).unwrap();
    let mut damaged = whole.clone();
    damaged[100..4096].fill(0x5a);
    fs::write(&ledger, &damaged).unwrap();
    Output::of(&mut daemon.vgpud()).fails_with(&[ledger.to_str().unwrap()]);
    assert_eq!(fs::read(&ledger).unwrap(), damaged, "not touched");
    fs::write(&ledger, &whole).unwrap();
    daemon.start_again();
    assert_eq!(daemon.phase(&id), "ready");
    daemon.ok(&format!("destroy {id}"));
    assert_nothing_left(&daemon);
}
