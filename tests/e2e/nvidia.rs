//! vGPUs of NVIDIA's through vgpuctl and a confined vgpud, on the simulated host driver with the quirks
//! that its users report (tests/lab/kmod/README.md).

#![allow(clippy::unwrap_used)]

mod support;

use serde_json::{Value, json};
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};
use support::{Daemon, Model, Output, SimGpu, Tenant, assert_nothing_left, tell, wait_for};

const MINUTE: Duration = Duration::from_secs(60);

/// No BAR shows a vGPU's memory, so what its driver does is taken at its word.
const SETTINGS: &str = "[scrub]\nreuse = \"reset\"\n[timeouts]\ndevice = \"80s\"";

/// A card that is as the driver's start leaves it when the test begins and ends.
struct Card(SimGpu);

impl Card {
    #[track_caller]
    fn find(model: Model) -> Self {
        let card = Self(SimGpu::find(model));
        assert_eq!((card.0.driver().as_deref(), card.0.read("sriov_numvfs").as_str()), (Some("nvidia"), "0"));
        card
    }

    fn address(&self) -> &str {
        &self.0.address
    }

    fn sriov_manage(&self, operation: &str) -> Output {
        Output::of(Command::new("/usr/lib/nvidia/sriov-manage").args([operation, self.address()]))
    }

    fn vf(&self, index: u32) -> PathBuf {
        self.0.sysfs(&format!("virtfn{index}/nvidia/current_vgpu_type"))
    }

    /// Numbers of the types of its vGPUs.
    fn types(&self) -> Vec<String> {
        let texts = (0..64).filter_map(|index| fs::read_to_string(self.vf(index)).ok());
        texts.map(|text| text.trim().to_owned()).filter(|number| number != "0").collect()
    }

    fn way_back(&self) {
        for (driver, action) in [("pci-pf-stub", "unbind"), ("nvidia", "bind")] {
            let _ = fs::write(format!("/sys/bus/pci/drivers/{driver}/{action}"), self.address());
        }
    }

    /// What vgpuctl shows of it.
    fn shown(&self, daemon: &Daemon) -> Value {
        let gpus = daemon.json("gpus");
        let mut gpus = gpus["gpus"].as_array().unwrap().iter();
        gpus.find(|gpu| gpu["address"] == self.address()).unwrap().clone()
    }

    /// How many of a profile can be created, if it is offered.
    fn available(&self, daemon: &Daemon, profile: &str) -> Option<u64> {
        let profiles = daemon.json(&format!("profiles {}", self.address()));
        let mut profiles = profiles["profiles"].as_array().unwrap().iter();
        profiles.find(|of| of["name"] == profile).map(|of| of["available"].as_u64().unwrap())
    }
}

impl Drop for Card {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            return;
        }
        for knob in ["clients", "refuse_type"] {
            let _ = fs::write(self.0.knob_path(&format!("nvidia/{knob}")), "0");
        }
        let _ = fs::write(self.0.knob_path("nvidia/sriov_manage"), "work");
        if self.0.driver().as_deref() != Some("nvidia") {
            self.way_back();
        }
        for index in 0..64 {
            let _ = fs::write(self.vf(index), "0");
        }
        self.sriov_manage("-d");
    }
}

/// The first vGPU turns VFs on, each owner gets a vGPU that was made for them, one that is held is not torn
/// away, and the last one that goes takes the VFs along.
#[test]
fn a_vgpu_from_its_creation_to_its_end() {
    let card = Card::find(Model::L40s);
    let daemon = Daemon::start_with(SETTINGS);
    let said = daemon.json("status")["daemon"]["sandbox"].as_str().unwrap().to_owned();
    assert!(said.contains("seccomp"), "vgpud is confined: {said}");
    assert_eq!(card.shown(&daemon)["mechanisms"], json!(["nvidia-vfio", "nvidia-mdev"]), "its VFs will tell");
    assert_eq!(card.available(&daemon, "L40S-8Q"), Some(6), "by the catalogue");

    let id = daemon.create(&format!("--memory 8GiB --gpu {}", card.address())).remove(0);
    let slice = daemon.slice(&id);
    assert_eq!((&slice["profile"], &slice["memory_bytes"]), (&json!("L40S-8Q"), &json!(8_u64 << 30)));
    assert_eq!((card.0.read("sriov_numvfs").as_str(), card.types()), ("32", vec!["1152".to_owned()]));
    assert_eq!(card.available(&daemon, "L40S-8Q"), Some(5));
    let counted = |what: &str| card.0.counter(what);
    let made = counted("create");
    for owner in ["a", "b"] {
        daemon.ok(&format!("lease {id} --owner {owner}"));
        let slice = daemon.slice(&id);
        let tenant = Tenant::open(&slice);
        tenant.write();
        daemon.ctl(&format!("release {id}")).fails_with(&[&id, "is held by process", "(nvidia-"]);
        daemon.ctl(&format!("destroy {id}")).fails_with(&[&id, "is leased to"]);
        assert_eq!(card.types(), ["1152"], "held, and left alone");
        drop(tenant);
        daemon.ok(&format!("release {id}"));
        daemon.wait_for_phase(&id, "ready", MINUTE);
    }
    assert_eq!(counted("create") - made, 2, "made anew after each owner");
    tell!("{}", daemon.ok(&format!("history {id}")));
    daemon.ok(&format!("destroy {id}"));
    wait_for("the VFs to go", MINUTE, || (card.0.read("sriov_numvfs") == "0").then_some(()));
    assert_eq!(card.0.driver().as_deref(), Some("nvidia"));
    assert_nothing_left(&daemon);
}

#[test]
fn a_guest_has_its_vgpu() {
    let card = Card::find(Model::L40s);
    let daemon = Daemon::start_with(SETTINGS);
    let id = daemon.create(&format!("L40S-8Q --gpu {}", card.address())).remove(0);
    let output = daemon.run(&format!("{id} --owner tenant -- gpu list write mine check mine")).wait();
    assert_eq!(output.code, 0, "{output:#?}");
    assert!(output.stdout.contains(" vram "), "{output:#?}");
    daemon.wait_for_phase(&id, "ready", MINUTE);
    daemon.ok(&format!("destroy {id}"));
    assert_nothing_left(&daemon);
}

/// The driver names no type of a full card: a vgpud that starts anew knows its slices all the same.
#[test]
fn vgpus_of_one_card_have_one_size_and_outlive_vgpud() {
    let card = Card::find(Model::L40s);
    let mut daemon = Daemon::start_with(SETTINGS);
    let half = format!("L40S-24Q --gpu {}", card.address());
    let first = daemon.create(&half).remove(0);
    let refused = daemon.ctl(&format!("create L40S-8Q --gpu {}", card.address()));
    tell!("{}", refused.stderr);
    refused.fails_with(&["L40S-8Q", "can be created now"]);
    assert_eq!(card.available(&daemon, "L40S-24A"), Some(1), "of the same size");
    let second = daemon.create(&format!("L40S-24A --gpu {}", card.address())).remove(0);
    assert_eq!(card.available(&daemon, "L40S-24Q"), Some(0));
    daemon.ctl(&format!("create {half}")).fails_with(&["L40S-24Q"]);
    daemon.ok(&format!("lease {second} --owner a"));
    daemon.kill();
    daemon.start_again();
    assert_eq!((daemon.phase(&first).as_str(), daemon.phase(&second).as_str()), ("ready", "leased"));
    daemon.ok(&format!("release {second}"));
    daemon.wait_for_phase(&second, "ready", MINUTE);
    assert_eq!(card.types(), ["1155", "1165"]);
    daemon.ok(&format!("destroy {first} {second}"));
    assert_nothing_left(&daemon);
    let eighth = daemon.create(&format!("L40S-8Q --gpu {}", card.address())).remove(0);
    daemon.ok(&format!("destroy {eighth}"));
    assert_nothing_left(&daemon);
}

/// What is to be read back and cannot be is refused before anything is done.
#[test]
fn without_reuse_by_reset_no_vgpu_is_made() {
    let card = Card::find(Model::L40s);
    let daemon = Daemon::start();
    let made = card.0.counter("create");
    let refused = daemon.ctl(&format!("create L40S-8Q --gpu {}", card.address()));
    tell!("{}", refused.stderr);
    refused.fails_with(&["No BAR shows the memory", "reuse = \"reset\""]);
    assert_eq!((card.0.counter("create"), card.0.read("sriov_numvfs")), (made, "0".to_owned()));
    assert_nothing_left(&daemon);
}

/// VFs that an administrator has turned on are used and left on.
#[test]
fn vfs_of_somebody_else_stay() {
    let card = Card::find(Model::A100);
    card.sriov_manage("-e").success();
    let daemon = Daemon::start_with(SETTINGS);
    let id = daemon.create(&format!("A100D-40C --gpu {}", card.address())).remove(0);
    daemon.ok(&format!("destroy {id}"));
    assert_eq!((card.0.read("sriov_numvfs").as_str(), card.types()), ("20", vec![]));
    // A vGPU that somebody else makes is counted and left alone.
    fs::write(card.vf(0), "697").unwrap();
    assert_eq!(card.available(&daemon, "A100D-40C"), Some(1));
    let id = daemon.create(&format!("A100D-40C --gpu {}", card.address())).remove(0);
    daemon.ok(&format!("destroy {id}"));
    assert_eq!(card.types(), ["697"]);
    fs::write(card.vf(0), "0").unwrap();
    card.sriov_manage("-d").success();
    assert_nothing_left(&daemon);
}

/// What goes wrong is said with its way out, and nothing is left of it.
#[test]
fn the_drivers_quirks_are_seen_through() {
    let card = Card::find(Model::L40s);
    let daemon = Daemon::start_with(SETTINGS);
    let create = format!("create L40S-8Q --gpu {}", card.address());
    let cases: [(&str, &str, &str, &[&str]); 3] = [
        (
            "refuse_type",
            "1152",
            "0",
            &["refuses L40S-8Q (type 1152)", "although its driver lists it", "NVRM"],
        ),
        ("clients", "1", "0", &["Cannot obtain unbindLock", "nv-hostengine", "0 of 32 VFs"]),
        ("sriov_manage", "lie", "work", &["said that all went well", "0 of 32 VFs", "dmesg"]),
    ];
    for (knob, value, after, words) in cases {
        let knob = card.0.set(&format!("nvidia/{knob}"), value, after);
        let refused = daemon.ctl(&create);
        tell!("{}", refused.stderr);
        refused.fails_with(words);
        drop(knob);
        assert_nothing_left(&daemon);
    }
    let _names = card.0.set("nvidia/type_order", "name", "id");
    let id = daemon.create(&format!("L40S-8Q --gpu {}", card.address())).remove(0);
    assert_eq!(card.types(), ["1152"]);
    daemon.ok(&format!("destroy {id}"));
    assert_nothing_left(&daemon);
}

#[test]
fn a_card_that_was_left_half_way_is_told_with_the_way_back() {
    let card = Card::find(Model::L40s);
    let daemon = Daemon::start_with(SETTINGS);
    let create = format!("create L40S-8Q --gpu {}", card.address());
    let way_back = ["/sys/bus/pci/drivers/pci-pf-stub/unbind", "/sys/bus/pci/drivers/nvidia/bind"];
    let knob = card.0.set("nvidia/sriov_manage", "strand", "work");
    let refused = daemon.ctl(&create);
    tell!("{}", refused.stderr);
    refused.fails_with(&way_back);
    drop(knob);
    assert_eq!(card.0.driver().as_deref(), Some("pci-pf-stub"));
    let shown = card.shown(&daemon);
    assert!(way_back.iter().all(|way| shown["unusable"].as_str().unwrap().contains(way)), "{shown}");
    daemon.ctl(&create).fails_with(&way_back);
    card.way_back();
    let id = daemon.create(&format!("L40S-8Q --gpu {}", card.address())).remove(0);
    daemon.ok(&format!("destroy {id}"));
    assert_nothing_left(&daemon);
}

/// The process that runs the tool is vgpud's child, and what is missing without it is said.
#[test]
fn the_process_that_turns_vfs_on_is_missed_by_name() {
    let card = Card::find(Model::L40s);
    let daemon = Daemon::start_with(SETTINGS);
    let child = vgpud_lab::trespass::child(daemon.pid(), "vgpud-vfs").unwrap();
    Output::of(Command::new("kill").args(["-KILL", &child.to_string()])).success();
    let refused = daemon.ctl(&format!("create L40S-8Q --gpu {}", card.address()));
    tell!("{}", refused.stderr);
    refused.fails_with(&["sriov-manage", "vgpud-vfs", "start vgpud again"]);
    assert_nothing_left(&daemon);
    let doctor = daemon.ctl("doctor").stdout;
    assert!(doctor.contains("nvidia-vfio into"), "{doctor}");
    assert!(Path::new("/usr/lib/nvidia/sriov-manage").try_exists().unwrap());
}
