//! The terms of a lease: who opens its node, and how long it lasts.

#![allow(clippy::unwrap_used)]

mod support;

use nix::{
    sys::time::TimeSpec,
    time::{ClockId, clock_settime},
};
use serde_json::Value;
use std::{
    fs,
    os::unix::{fs::MetadataExt, process::CommandExt},
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};
use support::{Daemon, Model, SimGpu, assert_nothing_left, wait_for};

const MINUTE: Duration = Duration::from_secs(60);
const CONSUMER: u32 = 4001;
const GROUP: u32 = 4002;
const STRANGER: u32 = 4003;

/// Whether this host has cdevs beside group nodes.
fn has_cdev() -> bool {
    Path::new("/dev/iommu").try_exists().unwrap()
}

fn a_vf_and_an_mdev(daemon: &Daemon) -> [String; 2] {
    let (sriov, mdev) = (SimGpu::find(Model::Mi300x), SimGpu::find(Model::Simmdev));
    let vf = daemon.create(&format!("vf-4 --gpu {}", sriov.address)).remove(0);
    let mdev = daemon.create(&format!("simgpu_mdev-small --gpu {}", mdev.address)).remove(0);
    [vf, mdev]
}

/// A shell of this user that runs a script on a node.
fn shell(uid: u32, gid: u32, script: &str, node: &str) -> Command {
    let mut command = Command::new("/bin/sh");
    command.args(["-c", script, "sh", node]).uid(uid).gid(gid).stdin(Stdio::null()).stderr(Stdio::null());
    command
}

/// Whether a process of this user can open the node, for reading and writing.
fn opens(uid: u32, gid: u32, node: &str) -> bool {
    shell(uid, gid, "exec 3<>\"$1\"", node).status().unwrap().success()
}

/// Every node of the slice's device.
fn nodes(slice: &Value) -> Vec<String> {
    let nodes = ["group_node", "cdev_node"].into_iter().filter_map(|key| slice[key].as_str());
    nodes.map(str::to_owned).collect()
}

#[track_caller]
fn assert_closed(slice: &Value) {
    for node in nodes(slice) {
        let found = fs::metadata(&node).unwrap();
        assert_eq!((found.uid(), found.gid(), found.mode() & 0o777), (0, 0, 0o600), "{node}");
        for (uid, gid) in [(CONSUMER, CONSUMER), (STRANGER, GROUP)] {
            assert!(!opens(uid, gid, &node), "{node} by {uid}:{gid}");
        }
    }
}

/// One node, by one user or group, while the lease lasts: not before, not after, and no other.
#[test]
fn a_node_is_its_consumers_while_the_lease_lasts() {
    let kinds: &[&str] = if has_cdev() { &["group", "cdev"] } else { &["group"] };
    for kind in kinds {
        let daemon = Daemon::start_with(&format!("[vfio]\nnode = \"{kind}\""));
        for id in a_vf_and_an_mdev(&daemon) {
            let path = |slice: &Value| slice[format!("{kind}_node")].as_str().unwrap().to_owned();
            assert_closed(&daemon.slice(&id));
            daemon.ok(&format!("lease {id} --owner a --user {CONSUMER}"));
            let slice = daemon.slice(&id);
            let node = path(&slice);
            assert_eq!(slice["lease"]["node"], node.as_str());
            let found = fs::metadata(&node).unwrap();
            assert_eq!((found.uid(), found.gid(), found.mode() & 0o777), (CONSUMER, 0, 0o600));
            assert!(opens(CONSUMER, CONSUMER, &node), "{node}");
            for (uid, gid) in [(STRANGER, STRANGER), (STRANGER, GROUP)] {
                assert!(!opens(uid, gid, &node), "{node} by {uid}:{gid}");
            }
            for other in nodes(&slice).into_iter().filter(|other| *other != node) {
                assert!(!opens(CONSUMER, CONSUMER, &other), "{other} beside {node}");
            }
            daemon.ok(&format!("release {id}"));
            assert_closed(&daemon.slice(&id));

            daemon.ok(&format!("lease {id} --owner a --user {CONSUMER}:{GROUP}"));
            let node = path(&daemon.slice(&id));
            assert_eq!(fs::metadata(&node).unwrap().mode() & 0o777, 0o660);
            assert!(opens(CONSUMER, CONSUMER, &node) && opens(STRANGER, GROUP, &node), "{node}");
            assert!(!opens(STRANGER, STRANGER, &node), "{node}");
            daemon.ok(&format!("release {id}"));
            assert_closed(&daemon.slice(&id));
            daemon.ok(&format!("destroy {id}"));
        }
        assert_nothing_left(&daemon);
    }
}

#[test]
fn the_settings_name_the_usual_consumer_and_an_unknown_one_is_refused() {
    let daemon = Daemon::start_with(&format!("[vfio]\nuser = \"{CONSUMER}\"\ngroup = \"{GROUP}\""));
    let id = daemon.create("simgpu_mdev-small --owner a").remove(0);
    let node = daemon.slice(&id)["lease"]["node"].as_str().unwrap().to_owned();
    let found = fs::metadata(&node).unwrap();
    assert_eq!((found.uid(), found.gid(), found.mode() & 0o777), (CONSUMER, GROUP, 0o660));
    daemon.ok(&format!("release {id}"));
    let refused = daemon.ctl(&format!("lease {id} --owner a --user nobody-here"));
    assert_eq!(refused.code, 1);
    refused.fails_with(&["no user \"nobody-here\"", "getent passwd", "give a number"]);
    assert_eq!(daemon.phase(&id), "ready");
    daemon.ok(&format!("destroy {id}"));
    assert_nothing_left(&daemon);
}

/// A process that has the node open until it is killed.
fn hold(node: &str) -> Child {
    let mut child = shell(0, 0, "exec 3<>\"$1\"; exec sleep 3600", node).spawn().unwrap();
    wait_for("the node to be open", MINUTE, || {
        assert!(child.try_wait().unwrap().is_none(), "it opens {node}");
        fs::read_link(format!("/proc/{}/fd/3", child.id())).ok().filter(|open| open == Path::new(node))
    });
    child
}

/// The device is not torn out of whoever has it: the lease is overdue until that process lets go.
#[test]
fn a_lease_ends_by_itself_but_never_under_a_process_that_has_the_device() {
    let daemon = Daemon::start_with("[timeouts]\nrelease = \"1s\"");
    for id in a_vf_and_an_mdev(&daemon) {
        daemon.ok(&format!("lease {id} --owner a --for 15s"));
        let node = daemon.slice(&id)["lease"]["node"].as_str().unwrap().to_owned();
        let mut holder = hold(&node);
        let why = wait_for("the lease to be overdue", MINUTE, || {
            daemon.slice(&id)["lease"]["overdue"].as_str().map(str::to_owned)
        });
        assert!(why.contains(&holder.id().to_string()) && why.contains("sleep"), "{why}");
        let shown = daemon.ok(&format!("show {id}"));
        assert!(shown.contains("over for") && shown.contains(&holder.id().to_string()), "{shown}");
        assert!(holder.try_wait().unwrap().is_none());
        assert!(fs::read_link(format!("/proc/{}/fd/3", holder.id())).is_ok());
        holder.kill().unwrap();
        holder.wait().unwrap();
        daemon.wait_for_phase(&id, "ready", 2 * MINUTE);
        let told = daemon.ok("--output json events");
        let overdue = told.lines().filter(|line| line.contains("lease-overdue") && line.contains(&id));
        assert_eq!(overdue.count(), 1, "{told}");
        assert_eq!(daemon.json(&format!("history {id}"))["leases"][0]["ended"], "time-is-up");
        daemon.ok(&format!("destroy {id}"));
    }
    assert_nothing_left(&daemon);
}

#[test]
fn a_run_ends_its_micro_vm_when_the_time_of_its_lease_is_up() {
    let daemon = Daemon::start();
    let id = daemon.create("simgpu_mdev-small").remove(0);
    let output = daemon.run(&format!("{id} --for 40s -- gpu list hold 3600")).wait();
    assert_eq!(output.code, 124, "{output:#?}");
    assert!(output.stderr.contains("the time of its lease is up"), "{output:#?}");
    daemon.wait_for_phase(&id, "ready", MINUTE);
    daemon.ok(&format!("destroy {id}"));
    assert_nothing_left(&daemon);
}

/// The wall clock of this host, set right again at the end.
struct WallClock {
    was: Duration,
    since: Instant,
}

impl WallClock {
    fn taken() -> Self {
        Self { was: SystemTime::now().duration_since(UNIX_EPOCH).unwrap(), since: Instant::now() }
    }

    fn set(&self, shift: i64) {
        let right = i64::try_from((self.was + self.since.elapsed()).as_secs()).unwrap();
        clock_settime(ClockId::CLOCK_REALTIME, TimeSpec::new(right + shift, 0)).unwrap();
    }
}

impl Drop for WallClock {
    fn drop(&mut self) {
        self.set(0);
    }
}

/// A day forward, two days back, and vgpud started again in between: no lease ends early or late, and
/// what happened is told in order.
#[test]
fn a_clock_that_jumps_ends_no_lease_and_keeps_none() {
    const DAY: i64 = 86_400;
    let mut daemon = Daemon::start();
    let ids = a_vf_and_an_mdev(&daemon);
    let begun = Instant::now();
    let clock = WallClock::taken();
    daemon.ok(&format!("lease {} --owner long --for 1h", ids[0]));
    daemon.ok(&format!("lease {} --owner short --for 20s", ids[1]));
    let assert_long_lease = |daemon: &Daemon, clock: &str| {
        let slice = daemon.slice(&ids[0]);
        let left = slice["lease"]["ends_in_ms"].as_i64().unwrap_or_else(|| panic!("{clock}: {slice:#}"));
        let gone = i64::try_from(begun.elapsed().as_millis()).unwrap();
        assert!((3_600_000 - gone - 1_000..=3_600_000).contains(&left), "{clock}: {left} ms left");
    };
    clock.set(DAY);
    assert_long_lease(&daemon, "a day forward");
    daemon.kill();
    daemon.start_again();
    assert_long_lease(&daemon, "a day forward, started again");
    clock.set(-DAY);
    assert_long_lease(&daemon, "a day back");
    wait_for("the short lease to end", 2 * MINUTE, || {
        let ended = daemon.slice(&ids[1])["lease"].is_null();
        assert!(!ended || begun.elapsed() >= Duration::from_secs(20), "it ended early");
        ended.then_some(())
    });
    daemon.wait_for_phase(&ids[1], "ready", MINUTE);
    clock.set(DAY);
    daemon.kill();
    daemon.start_again();
    assert_long_lease(&daemon, "forward again");
    assert_eq!(daemon.phase(&ids[0]), "leased");
    daemon.ok(&format!("release {}", ids[0]));
    drop(clock);

    let told = daemon.ok("--output json events");
    let told: Vec<Value> = told.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let numbers =
        |key: &str| -> Vec<u64> { told.iter().map(|line| line["event"][key].as_u64().unwrap()).collect() };
    assert!(numbers("sequence").is_sorted_by(|a, b| a < b));
    assert!(!numbers("unix_ms").is_sorted(), "the clock did jump");
    let of_short: Vec<_> = told.iter().filter(|line| line["event"]["slice"] == ids[1].as_str()).collect();
    let at = |kind: &str| of_short.iter().position(|line| line["event"]["kind"] == kind).unwrap();
    assert!(at("lease-started") < at("lease-releasing") && at("lease-releasing") < at("lease-ended"));
    let history = daemon.json("history");
    let ended = |owner: &str| {
        let leases = history["leases"].as_array().unwrap();
        leases.iter().find(|lease| lease["owner"] == owner).unwrap()["ended"].clone()
    };
    assert_eq!((ended("short"), ended("long")), ("time-is-up".into(), "released".into()));
    daemon.ok(&format!("destroy {} {}", ids[0], ids[1]));
    assert_nothing_left(&daemon);
}
