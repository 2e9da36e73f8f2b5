//! Layouts of the settings on a real kernel: planned, applied, applied again, blocked by a lease, and
//! interrupted by the end of vgpud.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use serde_json::Value;
use std::{
    process::{Command, Stdio},
    time::Duration,
};
use support::{Daemon, Model, Output, SimGpu, assert_nothing_left, wait_for};

const MINUTE: Duration = Duration::from_secs(60);

/// The GPUs of this host: VFs, mediated devices, and VFs that gim made when it was loaded.
struct Gpus {
    sriov: String,
    mdev: String,
    gim: SimGpu,
}

impl Gpus {
    /// With gim loaded so that it made 4 VFs.
    fn find() -> Self {
        Output::of(Command::new("rmmod").arg("gim")).success();
        Output::of(Command::new("modprobe").args(["gim", "vf_num=4"])).success();
        let gim = SimGpu::of_driver("gim").pop().expect("a GPU on gim");
        assert_eq!(gim.read("sriov_numvfs"), "4");
        Self { sriov: SimGpu::find(Model::Sim).address, mdev: SimGpu::find(Model::Simmdev).address, gim }
    }

    fn settings(&self) -> String {
        let Self { sriov, mdev, gim } = self;
        format!(
            r#"
            [layout.day."{sriov}"]
            slices = [{{ profile = "vf-4", count = 3 }}]
            [layout.day."1234:51a1"]
            slices = [{{ memory = "20MiB", count = 2 }}]
            [layout.day."{gim}"]
            slices = [{{ profile = "vf-4", count = 2 }}]
            [layout.night."{sriov}"]
            slices = [{{ profile = "vf-2", count = 2 }}]
            [layout.night."{mdev}"]
            slices = [{{ profile = "simgpu_mdev-small", count = 6 }}]
            [layout.split."{gim}"]
            slices = [{{ profile = "vf-4", count = 2 }}]
            memory_mode = "NPS4"
            accelerator_mode = "CPX"
            [layout.gim8."{gim}"]
            slices = [{{ profile = "vf-8", count = 8 }}]
            [layout.empty.all]
            slices = []
            "#,
            gim = gim.address,
        )
    }
}

/// The JSON of `plan`, whatever its exit code.
#[track_caller]
fn plan(daemon: &Daemon, layout: &str, code: i32) -> Value {
    let output = daemon.ctl(&format!("--output json plan {layout}"));
    assert_eq!(output.code, code, "{output:#?}");
    serde_json::from_str::<Value>(&output.stdout).unwrap()["plan"].take()
}

/// What came of each GPU: `(address, outcome, ended, created)`.
#[track_caller]
fn apply(daemon: &Daemon, layout: &str, code: i32) -> Vec<(String, String, usize, usize)> {
    let output = daemon.ctl(&format!("--output json apply {layout} --yes"));
    assert_eq!(output.code, code, "{output:#?}");
    let document: Value = serde_json::from_str(&output.stdout).unwrap();
    let gpus = document["applied"]["gpus"].as_array().unwrap();
    let count = |gpu: &Value, key: &str| gpu[key].as_array().unwrap().len();
    let text = |gpu: &Value, key: &str| gpu[key].as_str().unwrap().to_owned();
    gpus.iter()
        .map(|gpu| (text(gpu, "gpu"), text(gpu, "outcome"), count(gpu, "removed"), count(gpu, "created")))
        .collect()
}

fn of<'a>(results: &'a [(String, String, usize, usize)], gpu: &str) -> (&'a str, usize, usize) {
    let (_, outcome, ended, created) = results.iter().find(|result| result.0 == gpu).expect("a result");
    (outcome, *ended, *created)
}

fn slices(daemon: &Daemon, gpu: &str) -> Vec<(String, String)> {
    let listed = daemon.json(&format!("slices --gpu {gpu}"));
    let text = |slice: &Value, key: &str| slice[key].as_str().unwrap().to_owned();
    let slices = listed["slices"].as_array().unwrap().iter();
    slices.map(|slice| (text(slice, "id"), text(slice, "profile"))).collect()
}

fn is_nothing(results: &[(String, String, usize, usize)]) -> bool {
    results.iter().all(|(_, outcome, ..)| outcome == "nothing-to-do")
}

fn modes(gim: &SimGpu) -> (String, String) {
    let memory = gim.read("memory_partition_mode");
    (memory.split_whitespace().nth(1).unwrap().to_owned(), gim.read("spatial_partition_mode"))
}

/// The modes of gim: refused while a slice is leased, not done by the driver, and done.
fn divided_anew(daemon: &Daemon, gim: &SimGpu) {
    let is = |memory: &str, compute: &str| assert_eq!(modes(gim), (memory.to_owned(), compute.to_owned()));
    is("NPS1", "QPX");
    let leased = slices(daemon, &gim.address).remove(0).0;
    daemon.ok(&format!("lease {leased} --owner tenant-a"));
    let planned = plan(daemon, "split", 1);
    assert!(planned.to_string().contains(&format!("{leased} (vf-4) is leased to tenant-a")), "{planned:#}");
    assert!(planned["partitions"].as_array().unwrap().is_empty(), "{planned:#}");
    assert_eq!(of(&apply(daemon, "split", 1), &gim.address), ("blocked", 0, 0));
    daemon.ok(&format!("release {leased}"));
    is("NPS1", "QPX");

    // A VF that is active and not vgpud's: the write succeeds, and nothing changes.
    let other = gim.sysfs("virtfn3/enable");
    std::fs::write(&other, "1").unwrap();
    let planned = plan(daemon, "split", 0);
    assert_eq!(planned["partitions"][0]["gpus"][0]["memory_mode"], "NPS1", "{planned:#}");
    let output = daemon.ctl("--output json apply split --yes");
    assert_ne!(output.code, 0, "{output:#?}");
    assert!(output.stdout.contains("is NPS1 and QPX, although the kernel took the request for NPS4 and CPX"));
    is("NPS1", "QPX");
    assert!(
        slices(daemon, &gim.address).is_empty(),
        "nothing is created with other modes than were asked for"
    );
    std::fs::write(&other, "0").unwrap();

    assert_eq!(of(&apply(daemon, "split", 0), &gim.address), ("done", 0, 2));
    is("NPS4", "CPX");
    assert!(is_nothing(&apply(daemon, "split", 0)), "applied already");
}

#[test]
fn a_layout_is_planned_applied_blocked_by_a_lease_and_finished_after_a_crash() {
    let gpus = Gpus::find();
    let mut daemon = Daemon::start_with(&gpus.settings());

    let planned = plan(&daemon, "day", 0);
    assert_eq!(planned["gpus"].as_array().unwrap().len(), 3, "{planned:#}");
    assert!(slices(&daemon, &gpus.sriov).is_empty(), "a plan changes nothing");
    let applied = apply(&daemon, "day", 0);
    assert_eq!(of(&applied, &gpus.sriov), ("done", 0, 3));
    assert_eq!(of(&applied, &gpus.mdev), ("done", 0, 2));
    assert_eq!(of(&applied, &gpus.gim.address), ("done", 0, 2));
    assert_eq!(slices(&daemon, &gpus.mdev)[0].1, "simgpu_mdev-medium", "the smallest of at least 20 MiB");
    assert!(is_nothing(&apply(&daemon, "day", 0)), "applied already");
    assert_eq!(plan(&daemon, "day", 0)["gpus"][0]["keep"].as_array().unwrap().len(), 3);

    // One that is leased is not ended; the other GPU is cut anew.
    let leased = slices(&daemon, &gpus.sriov).remove(0).0;
    daemon.ok(&format!("lease {leased} --owner tenant-a"));
    let planned = plan(&daemon, "night", 1);
    assert!(planned.to_string().contains(&format!("{leased} (vf-4) is leased to tenant-a")), "{planned:#}");
    // Nobody can be asked here.
    daemon.ctl("apply night").fails_with(&["2 slices would end", "--yes"]);
    let applied = apply(&daemon, "night", 1);
    assert_eq!(of(&applied, &gpus.sriov), ("blocked", 0, 0));
    assert_eq!(of(&applied, &gpus.mdev), ("done", 2, 6));
    assert_eq!(daemon.phase(&leased), "leased");
    assert_eq!(slices(&daemon, &gpus.sriov).len(), 3, "nothing is done by halves");
    daemon.ok(&format!("release {leased}"));

    // vgpud dies while the layout is on its way.
    let mut run = daemon
        .vgpuctl()
        .args(["apply", "day", "--yes"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    wait_for("a slice to go", MINUTE, || (slices(&daemon, &gpus.mdev).len() < 6).then_some(()));
    daemon.kill();
    assert!(!run.wait().unwrap().success(), "vgpuctl tells that it was interrupted");
    daemon.start_again();
    let applied = apply(&daemon, "day", 0);
    assert!(applied.iter().all(|result| result.1 == "done" || result.1 == "nothing-to-do"), "{applied:?}");
    assert_eq!(slices(&daemon, &gpus.mdev).len(), 2);
    assert_eq!(slices(&daemon, &gpus.sriov).len(), 3);
    assert!(is_nothing(&apply(&daemon, "day", 0)));

    divided_anew(&daemon, &gpus.gim);

    // Another number of gim's VFs is its operator's to set.
    let planned = plan(&daemon, "gim8", 1);
    let step = &planned["operator_steps"][0];
    assert_eq!(step["gpus"][0], gpus.gim.address.as_str(), "{planned:#}");
    assert_eq!(step["slices"].as_array().unwrap().len(), 2);
    let applied = apply(&daemon, "gim8", 1);
    assert_eq!(of(&applied, &gpus.gim.address), ("blocked", 0, 0));
    assert_eq!(gpus.gim.read("sriov_numvfs"), "4");
    for (id, _) in slices(&daemon, &gpus.gim.address) {
        daemon.ok(&format!("destroy {id}"));
    }
    // As the plan says, but for the file.
    let commands = step["commands"].as_array().unwrap();
    assert!(commands[0].as_str().unwrap().contains("vf_num=8"), "{step:#}");
    Output::of(Command::new("sh").args(["-c", commands[1].as_str().unwrap()])).success();
    Output::of(Command::new("sh").args(["-c", &format!("{} vf_num=8", commands[2].as_str().unwrap())]))
        .success();
    wait_for("vgpud to see 8 VFs", MINUTE, || (daemon.ctl("plan gim8").code == 0).then_some(()));
    assert_eq!(of(&apply(&daemon, "gim8", 0), &gpus.gim.address), ("done", 0, 8));

    apply(&daemon, "empty", 0);
    assert_nothing_left(&daemon);
}
