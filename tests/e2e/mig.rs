//! vGPUs in GPU instances of MIG through vgpuctl and a confined vgpud, on the simulated host driver of an A100
//! with the quirks that its users report (tests/lab/kmod/README.md).

#![allow(clippy::unwrap_used)]

mod support;

use serde_json::{Value, json};
use std::{fs, path::PathBuf, process::Command, time::Duration};
use support::{Daemon, Model, Output, SimGpu, Tenant, assert_nothing_left, tell, wait_for};

const MINUTE: Duration = Duration::from_secs(60);

/// An A100 whose MIG and VFs are off when a test begins and ends.
struct Card(SimGpu);

impl Card {
    #[track_caller]
    fn find() -> Self {
        let card = Self(SimGpu::find(Model::A100));
        assert_eq!((card.0.read("sriov_numvfs").as_str(), card.mode()), ("0", false));
        card
    }

    fn address(&self) -> &str {
        &self.0.address
    }

    /// The first of the GPUs of NVIDIA's, and MIG as the settings ask.
    fn settings(&self, mig: Option<&str>) -> String {
        let mig = mig.map(|mode| format!("[gpu.\"{}\"]\nmig = \"{mode}\"\n", self.address()));
        format!("{}[scrub]\nreuse = \"reset\"\n[timeouts]\ndevice = \"120s\"", mig.unwrap_or_default())
    }

    fn smi(&self, words: &str) -> Output {
        let words = words.replace('@', self.address());
        Output::of(Command::new("nvidia-smi").args(words.split(' ')))
    }

    fn sriov_manage(&self, operation: &str) -> Output {
        Output::of(Command::new("/usr/lib/nvidia/sriov-manage").args([operation, self.address()]))
    }

    /// Values of the driver's state.
    fn state(&self, key: &str) -> Vec<String> {
        let state = self.0.knob("nvidia/smi");
        let values = state.lines().filter_map(|line| line.strip_prefix(key)?.strip_prefix(' '));
        values.map(str::to_owned).collect()
    }

    fn mode(&self) -> bool {
        self.state("mig") == ["1"]
    }

    /// GPU instances as `3g.40gb at 4`.
    fn instances(&self) -> Vec<String> {
        let mut found: Vec<_> = self
            .state("gi")
            .iter()
            .map(|line| {
                let words: Vec<_> = line.split(' ').collect();
                format!("{} at {}", words[2], words[3])
            })
            .collect();
        found.sort();
        found
    }

    fn vf(&self, index: u32, file: &str) -> PathBuf {
        self.0.sysfs(&format!("virtfn{index}/nvidia/{file}"))
    }

    /// Of the vGPUs, by VF: the GPU instance of each.
    fn backing(&self) -> Vec<String> {
        let texts = (0..20).filter_map(|index| fs::read_to_string(self.vf(index, "gpu_instance_id")).ok());
        texts.map(|text| text.trim().to_owned()).collect()
    }

    /// What vgpuctl shows of it.
    fn shown(&self, daemon: &Daemon) -> Value {
        let gpus = daemon.json("gpus");
        let mut gpus = gpus["gpus"].as_array().unwrap().iter();
        gpus.find(|gpu| gpu["address"] == self.address()).unwrap().clone()
    }

    /// What can be created, and how many of each.
    fn free(&self, daemon: &Daemon) -> Vec<(String, u64)> {
        let profiles = daemon.json(&format!("profiles {}", self.address()));
        let profiles = profiles["profiles"].as_array().unwrap().iter();
        let counted = profiles
            .map(|of| (of["name"].as_str().unwrap().to_owned(), of["available"].as_u64().unwrap()))
            .filter(|(_, available)| *available > 0);
        counted.collect()
    }

    fn create(&self, daemon: &Daemon, what: &str) -> String {
        daemon.create(&format!("{what} --gpu {}", self.address())).remove(0)
    }

    #[track_caller]
    fn assert_as_before(&self) {
        wait_for("the GPU to be as it was", MINUTE, || {
            (self.0.read("sriov_numvfs") == "0" && !self.mode()).then_some(())
        });
        assert_eq!(self.instances(), [""; 0]);
        let notes = fs::read_dir("/run/vgpud/mig").map(|notes| notes.count());
        assert_eq!(notes.unwrap_or(0), 0, "nothing is noted any more");
    }
}

impl Drop for Card {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            return;
        }
        let _ = fs::write(self.0.knob_path("nvidia/nvidia_smi"), "work");
        for index in 0..20 {
            let _ = fs::write(self.vf(index, "current_vgpu_type"), "0");
        }
        self.sriov_manage("-d");
        for words in ["mig -i @ -dci", "mig -i @ -dgi", "-i @ -mig 0"] {
            self.smi(words);
        }
        let _ = fs::remove_dir_all("/run/vgpud/mig");
    }
}

fn of(free: &[(&str, u64)]) -> Vec<(String, u64)> {
    free.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect()
}

/// The first slice turns MIG and VFs on and the last one takes both along; between its owners a slice gets
/// another vGPU in another GPU instance.
#[test]
fn a_vgpu_on_mig_from_its_creation_to_its_end() {
    let card = Card::find();
    let daemon = Daemon::start_with(&card.settings(Some("on")));
    let said = daemon.json("status")["daemon"]["sandbox"].as_str().unwrap().to_owned();
    assert!(said.contains("seccomp"), "vgpud is confined: {said}");
    let mig = &card.shown(&daemon)["mig"];
    assert_eq!((&mig["mode"], &mig["wanted"], &mig["instances"]), (&json!("off"), &json!("on"), &json!([])));
    assert!(card.free(&daemon).contains(&("A100D-1-10C".to_owned(), 7)), "{:?}", card.free(&daemon));

    let id = card.create(&daemon, "--memory 40GiB --compute 40%");
    let slice = daemon.slice(&id);
    assert_eq!((&slice["profile"], &slice["memory_bytes"]), (&json!("A100D-3-40C"), &json!(40_u64 << 30)));
    assert_eq!((card.mode(), card.instances()), (true, vec!["3g.40gb at 4".to_owned()]));
    assert_eq!(card.backing(), ["2"]);
    let gpus = daemon.ctl("gpus").stdout;
    assert!(gpus.contains("on, 1 GPU instance"), "{gpus}");
    let shown = card.shown(&daemon)["mig"]["instances"].clone();
    assert_eq!(shown, json!([{ "id": 2, "name": "3g.40gb", "start": 4, "vf": 0, "compute": false }]));
    for owner in ["a", "b"] {
        let made = card.0.counter("create");
        daemon.ok(&format!("lease {id} --owner {owner}"));
        let tenant = Tenant::open(&daemon.slice(&id));
        tenant.write();
        daemon.ctl(&format!("release {id}")).fails_with(&[&id, "is held by process"]);
        assert_eq!(card.instances(), ["3g.40gb at 4"]);
        drop(tenant);
        daemon.ok(&format!("release {id}"));
        daemon.wait_for_phase(&id, "ready", 2 * MINUTE);
        assert_eq!(card.0.counter("create"), made + 1, "another vGPU after {owner}");
    }
    assert_eq!((card.backing(), card.instances()), (vec!["2".to_owned()], vec!["3g.40gb at 4".to_owned()]));
    daemon.ok(&format!("destroy {id}"));
    card.assert_as_before();
    assert_nothing_left(&daemon);
}

/// As the operator has it, MIG stays on; sizes are mixed up to what the card holds, and a new vgpud knows them.
#[test]
fn several_sizes_share_a_card_up_to_its_limit() {
    let card = Card::find();
    card.smi("-i @ -mig 1").success();
    let mut daemon = Daemon::start_with(&card.settings(None));
    let names = ["A100D-4-40C", "A100D-2-20C", "A100D-1-10C"];
    let slices = names.map(|name| card.create(&daemon, name));
    assert_eq!(card.instances(), ["1g.10gb at 6", "2g.20gb at 4", "4g.40gb at 0"]);
    assert_eq!(card.backing().len(), 3);
    assert_eq!(card.free(&daemon), of(&[]));
    let made = card.0.counter("create");
    let refused = daemon.ctl(&format!("create A100D-1-10C --gpu {}", card.address()));
    tell!("{}", refused.stderr);
    refused.fails_with(&["A100D-1-10C"]);
    daemon.ctl(&format!("create A100D-40C --gpu {}", card.address())).fails_with(&["A100D-40C"]);
    assert_eq!(card.0.counter("create"), made, "refused before any write");

    daemon.ok(&format!("lease {} --owner a", slices[1]));
    daemon.kill();
    daemon.start_again();
    let phases: Vec<_> = slices.iter().map(|id| daemon.phase(id)).collect();
    assert_eq!(phases, ["ready", "leased", "ready"]);
    daemon.ok(&format!("destroy {}", slices[0]));
    assert_eq!(card.instances(), ["1g.10gb at 6", "2g.20gb at 4"]);
    let third = card.create(&daemon, "A100D-3-40C");
    daemon.ok(&format!("release {}", slices[1]));
    daemon.wait_for_phase(&slices[1], "ready", 2 * MINUTE);
    assert_eq!(card.instances(), ["1g.10gb at 6", "2g.20gb at 4", "3g.40gb at 0"]);
    daemon.ok(&format!("destroy {third} {} {}", slices[1], slices[2]));
    wait_for("the VFs to go", MINUTE, || (card.0.read("sriov_numvfs") == "0").then_some(()));
    assert!(card.mode(), "it was the operator's");
    card.smi("-i @ -mig 0").success();
    card.assert_as_before();
    assert_nothing_left(&daemon);
}

#[test]
fn a_guest_has_its_vgpu() {
    let card = Card::find();
    let daemon = Daemon::start_with(&card.settings(Some("on")));
    let id = card.create(&daemon, "A100D-7-80C");
    let output = daemon.run(&format!("{id} --owner tenant -- gpu list write mine check mine")).wait();
    assert_eq!(output.code, 0, "{output:#?}");
    assert!(output.stdout.contains(" vram "), "{output:#?}");
    daemon.wait_for_phase(&id, "ready", 2 * MINUTE);
    daemon.ok(&format!("destroy {id}"));
    card.assert_as_before();
    assert_nothing_left(&daemon);
}

/// VFs would take along what somebody else made: they stay off until that is gone.
#[test]
fn vfs_stay_off_where_somebody_else_has_a_gpu_instance() {
    let card = Card::find();
    card.smi("-i @ -mig 1").success();
    card.smi("mig -i @ -cgi 3g.40gb -C").success();
    let daemon = Daemon::start_with(&card.settings(None));
    let theirs = "somebody else made GPU instance 2 (3g.40gb at 4)";
    let why = card.shown(&daemon)["unusable"].as_str().unwrap().to_owned();
    assert!(why.contains(theirs), "{why}");
    let made = card.0.counter("create");
    let refused = daemon.ctl(&format!("create A100D-1-10C --gpu {}", card.address()));
    tell!("{}", refused.stderr);
    let destroy = |what: &str| format!("nvidia-smi mig -i {} {what} -gi 2", card.address());
    refused.fails_with(&[theirs, &destroy("-dci"), &destroy("-dgi")]);
    assert_eq!((card.0.read("sriov_numvfs").as_str(), card.0.counter("create")), ("0", made));
    assert_eq!(card.instances(), ["3g.40gb at 4"]);
    // As it says.
    card.smi("mig -i @ -dci -gi 2").success();
    card.smi("mig -i @ -dgi -gi 2").success();
    let id = card.create(&daemon, "A100D-1-10C");
    daemon.ok(&format!("destroy {id}"));
    wait_for("the VFs to go", MINUTE, || (card.0.read("sriov_numvfs") == "0").then_some(()));
    card.smi("-i @ -mig 0").success();
    card.assert_as_before();
    assert_nothing_left(&daemon);
}

/// What goes wrong is said with its way out, and nothing is left of it.
#[test]
fn what_nvidia_smi_does_wrong_is_seen_through() {
    let card = Card::find();
    let daemon = Daemon::start_with(&card.settings(Some("on")));
    let create = format!("create A100D-3-40C --gpu {}", card.address());
    let lie = card.0.set("nvidia/nvidia_smi", "lie", "work");
    let refused = daemon.ctl(&create);
    tell!("{}", refused.stderr);
    refused.fails_with(&["MIG is off after `nvidia-smi", "-mig 1`, which said that all went well"]);
    drop(lie);
    card.assert_as_before();

    // Somebody else has a GPU instance where ours would be.
    card.smi("-i @ -mig 1").success();
    card.sriov_manage("-e").success();
    card.smi("mig -i @ -cgi 7g.80gb").success();
    assert_eq!(card.free(&daemon), of(&[("A100D-7-80C", 1)]), "theirs can be used as it is");
    daemon.ctl(&create).fails_with(&["A100D-3-40C"]);
    let new = card.0.set("nvidia/nvidia_smi", "new", "work");
    let refused = daemon.ctl(&create);
    tell!("{}", refused.stderr);
    refused.fails_with(&["whether MIG is on is not known", "A line that nobody has seen before"]);
    drop(new);
    let id = card.create(&daemon, "A100D-7-80C");
    daemon.ok(&format!("destroy {id}"));
    assert_eq!(card.instances(), ["7g.80gb at 0"], "and is left");
    card.smi("mig -i @ -dgi").success();

    // Whoever runs the tool again ends all GPU instances.
    let id = card.create(&daemon, "A100D-3-40C");
    assert_eq!(card.instances(), ["3g.40gb at 4"]);
    fs::write(card.vf(0, "current_vgpu_type"), "0").unwrap();
    card.sriov_manage("-d").success();
    card.sriov_manage("-e").success();
    assert_eq!(card.instances(), [""; 0]);
    tell!("{}", daemon.ctl("slices").stdout);
    daemon.ctl(&format!("destroy {id}"));
    let id = card.create(&daemon, "A100D-3-40C");
    assert_eq!(card.instances(), ["3g.40gb at 4"]);
    daemon.ok(&format!("destroy {id}"));
    card.sriov_manage("-d").success();
    card.smi("-i @ -mig 0").success();
    card.assert_as_before();
    assert_nothing_left(&daemon);
}
