//! What the last owner left: found, overwritten, told, or kept from everybody else.

#![allow(clippy::unwrap_used)]

mod support;

use serde_json::Value;
use std::{
    path::Path,
    time::{Duration, Instant},
};
use support::{Daemon, Model, Output, SimGpu, Tenant, assert_nothing_left, program, tell, wait_for};

const MINUTE: Duration = Duration::from_secs(60);

/// A GPU, a size to cut from it, and that size's memory in bytes.
const KINDS: [(Model, &str, u64); 2] =
    [(Model::Sim, "vf-8", 16 << 20), (Model::Simmdev, "simgpu_mdev-small", 16 << 20)];

/// A slice with tenant A, who has written all of its memory and closed it.
fn written(daemon: &Daemon, gpu: &SimGpu, profile: &str) -> (String, u64) {
    let begun = Instant::now();
    let id = daemon.create(&format!("{profile} --gpu {} --owner tenant-a", gpu.address)).remove(0);
    let created = begun.elapsed();
    let bytes = Tenant::open(&daemon.slice(&id)).write();
    tell!("{profile}: created and leased in {created:?}, written after {:?}", begun.elapsed());
    (id, bytes)
}

/// Bytes that tenant B reads which it did not write. The slice's lease is ended again.
fn found_by_the_next(daemon: &Daemon, id: &str) -> u64 {
    daemon.ok(&format!("lease {id} --owner tenant-b"));
    let found = Tenant::open(&daemon.slice(id)).found();
    daemon.ok(&format!("release {id}"));
    found
}

/// What the events of this kind say.
fn events(daemon: &Daemon, kind: &str) -> Vec<String> {
    let text = daemon.ok("--output json events");
    let events = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let events = events.map(|mut line| line["event"].take()).filter(|event| event["kind"] == kind);
    events.map(|event| event["message"].as_str().unwrap().to_owned()).collect()
}

/// `vgpud device <task>` for a slice, as the daemon starts it.
fn device(task: &str, slice: &Value) -> Vec<Value> {
    let gpu = slice["gpu"].as_str().unwrap();
    let name = match (slice["address"].as_str(), slice["mdev_uuid"].as_str()) {
        (_, Some(uuid)) => format!("--mdev={uuid}"),
        (Some(address), _) => {
            let gpu = SimGpu { address: gpu.to_owned() };
            format!("--vf={}", gpu.vf_index(address))
        }
        (None, None) => panic!("{slice} has neither address nor UUID"),
    };
    let mut command = std::process::Command::new(program("vgpud"));
    command.arg("device").args(task.split(' ')).args(["--json", "--gpu", gpu, &name]);
    let text = Output::of(&mut command).success();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn a_secret_that_the_reset_leaves_is_found_overwritten_and_told() {
    let daemon = Daemon::start();
    for (model, profile, size) in KINDS {
        let gpu = SimGpu::find(model);
        let _knob = gpu.set("flr", "leave", "clear");
        let (id, bytes) = written(&daemon, &gpu, profile);
        assert_eq!(bytes, size);
        let begun = Instant::now();
        daemon.ok(&format!("release {id}"));
        tell!("{profile}: released, found, overwritten and read back in {:?}", begun.elapsed());
        let told = events(&daemon, "slice-scrubbed").pop().unwrap();
        let found = format!("{bytes} bytes of its memory were not zero after its reset");
        assert!(told.contains(&id) && told.contains(&found), "{told}");
        assert!(told.contains("overwritten, all"), "{told}");
        assert_eq!(daemon.phase(&id), "ready");
        assert_eq!(found_by_the_next(&daemon, &id), 0);
        daemon.ok(&format!("destroy {id}"));
    }
    assert_nothing_left(&daemon);
}

/// The same with the check switched off leaks, which is what makes the other test one.
#[test]
fn without_the_check_the_secret_leaks() {
    let daemon = Daemon::start_with("[scrub]\nreuse = \"reset\"");
    for (model, profile, size) in KINDS {
        let gpu = SimGpu::find(model);
        let _knob = gpu.set("flr", "leave", "clear");
        let (id, _) = written(&daemon, &gpu, profile);
        daemon.ok(&format!("release {id}"));
        let leaked = found_by_the_next(&daemon, &id);
        tell!("{profile} with reuse = \"reset\" and a reset that leaves memory: {leaked} bytes leaked");
        assert_eq!(leaked, size);
        daemon.ok(&format!("destroy {id}"));
        gpu.turn("flr", "clear");
    }
    assert_nothing_left(&daemon);
}

#[test]
fn a_reset_that_clears_is_proved_by_reading_back_at_memory_speed() {
    let daemon = Daemon::start();
    let large = (Model::Simmdev, "simgpu_mdev-large", 64 << 20);
    for (model, profile, size) in [KINDS[0], KINDS[1], large] {
        let gpu = SimGpu::find(model);
        let (id, _) = written(&daemon, &gpu, profile);
        let begun = Instant::now();
        daemon.ok(&format!("release {id}"));
        tell!("{profile}: released in {:?}", begun.elapsed());
        let told = events(&daemon, "slice-scrubbed").pop().unwrap();
        assert!(
            told.contains(&format!("all {size} bytes of its memory read zero after its reset")),
            "{told}"
        );
        let reports = device("scrub", &daemon.slice(&id));
        let evidence = reports.last().unwrap();
        assert_eq!((&evidence["report"], &evidence["verdict"]), (&"evidence".into(), &"clean".into()));
        assert_eq!(evidence["bytes_checked"], size);
        let micros = evidence["read_back_us"].as_u64().unwrap();
        let speed = size as f64 / (1 << 30) as f64 / Duration::from_micros(micros).as_secs_f64();
        tell!("{profile}: {} MiB read back in {micros} us, {speed:.2} GiB/s", size >> 20);
        daemon.ok(&format!("destroy {id}"));
    }
    assert_nothing_left(&daemon);
}

/// Intel's PF driver clears a VF's memory after the reset has returned: that is waited for, and nothing
/// is overwritten. What stays is overwritten then.
#[test]
fn a_clear_that_comes_after_the_reset_is_waited_for() {
    let daemon = Daemon::start();
    let gpu = SimGpu::find(Model::Flex170);
    let _knob = gpu.set("flr", "leave", "clear");
    let (id, size) = written(&daemon, &gpu, "vf-31");
    gpu.turn("flr", "late");
    let before = gpu.resets();
    daemon.ok(&format!("release {id}"));
    assert_eq!(gpu.resets() - before, 2);
    let event = events(&daemon, "slice-scrubbed").pop().unwrap();
    assert!(event.contains(&format!("all {size} bytes of its memory read zero after its reset")), "{event}");

    gpu.turn("flr", "leave");
    daemon.ok(&format!("lease {id} --owner tenant-a"));
    Tenant::open(&daemon.slice(&id)).write();
    daemon.ok(&format!("release {id}"));
    let event = events(&daemon, "slice-scrubbed").pop().unwrap();
    assert!(event.contains("were not zero after its reset (flr); overwritten"), "{event}");
    assert_eq!(found_by_the_next(&daemon, &id), 0);
    daemon.ok(&format!("destroy {id}"));
    assert_nothing_left(&daemon);
}

/// Drivers of real cards throttle resets: none is made that shows nothing. vfio-pci resets a device that
/// is opened and tells whether that worked; of others that is not known, and they are asked. All reset it
/// once more when it is closed.
#[test]
fn a_scrub_resets_no_more_often_than_it_must() {
    let daemon = Daemon::start();
    for ((model, profile, _), clean) in KINDS.into_iter().zip([2, 3]) {
        let gpu = SimGpu::find(model);
        let id = daemon.create(&format!("{profile} --gpu {}", gpu.address)).remove(0);
        let scrub = |verdict: &str| {
            let before = gpu.resets();
            let reports = device("scrub", &daemon.slice(&id));
            assert_eq!(reports.last().unwrap()["verdict"], verdict, "{reports:#?}");
            gpu.resets() - before
        };
        assert_eq!(scrub("clean"), clean, "{profile}: its memory is zero");
        let _knob = gpu.set("flr", "leave", "clear");
        daemon.ok(&format!("lease {id} --owner tenant-a"));
        Tenant::open(&daemon.slice(&id)).write();
        assert_eq!(scrub("cleaned-by-overwrite"), clean + 1, "{profile}: it has to be overwritten");
        daemon.ok(&format!("destroy --release {id}"));
    }
    assert_nothing_left(&daemon);
}

/// A vendor's clear is asked for, and its word is none for what can be seen.
#[test]
fn a_vendors_clear_that_lies_or_fails_is_found_out() {
    let daemon = Daemon::start();
    let gpu = SimGpu::find(Model::S7150);
    let _flr = gpu.set("flr", "leave", "clear");
    let _clear = gpu.set("clrvffb", "clear", "clear");
    let (id, size) = written(&daemon, &gpu, "vf-16");
    let left = format!("{size} bytes of its memory were not zero after its reset (flr)");
    for (how, told) in [
        (
            "clear",
            format!(
                "all {size} bytes of its memory read zero after its reset (flr) and its vendor's clear (clrvffb)"
            ),
        ),
        ("lie", format!("{left} and its vendor's clear (clrvffb); overwritten")),
        ("fail", format!("{left}; overwritten")),
    ] {
        gpu.turn("clrvffb", how);
        daemon.ok(&format!("release {id}"));
        let event = events(&daemon, "slice-scrubbed").pop().unwrap();
        tell!("a clear that would {how}: {event}");
        assert!(event.contains(&told), "{event}");
        let failed = event.contains("its vendor's clear failed: clrvffb of");
        assert_eq!(failed, how == "fail", "{event}");
        daemon.ok(&format!("lease {id} --owner tenant-b"));
        let tenant = Tenant::open(&daemon.slice(&id));
        assert_eq!(tenant.found(), 0, "after a clear that would {how}");
        tenant.write();
    }
    daemon.ok(&format!("destroy --release {id}"));
    assert_nothing_left(&daemon);
}

/// Memory that no BAR shows is on the vendor's word, where an operator says that it counts, and on
/// nothing else: a driver that lies there leaks.
#[test]
fn memory_that_no_bar_shows_is_reused_on_the_vendors_word_alone_where_that_is_the_policy() {
    let gpu = SimGpu::find(Model::S7150Blind);
    let daemon = Daemon::start();
    daemon.ctl(&format!("create vf-16 --gpu {}", gpu.address)).fails_with(&["no memory that can be mapped"]);
    assert_nothing_left(&daemon);
    drop(daemon);
    let daemon = Daemon::start_with(&format!("[gpu.\"{}\"]\nreuse = \"vendor\"", gpu.address));
    let _flr = gpu.set("flr", "leave", "clear");
    let _clear = gpu.set("clrvffb", "clear", "clear");
    let (id, size) = written(&daemon, &gpu, "vf-16");
    daemon.ok(&format!("release {id}"));
    let event = events(&daemon, "slice-scrubbed").pop().unwrap();
    assert!(event.contains("only its vendor's driver says that it is clean"), "{event}");
    assert_eq!(found_by_the_next(&daemon, &id), 0);

    daemon.ok(&format!("lease {id} --owner tenant-a"));
    Tenant::open(&daemon.slice(&id)).write();
    gpu.turn("clrvffb", "lie");
    daemon.ok(&format!("release {id}"));
    let leaked = found_by_the_next(&daemon, &id);
    tell!("a vendor's clear that lies about memory that no BAR shows: {leaked} bytes leaked");
    assert_eq!(leaked, size);

    daemon.ok(&format!("lease {id} --owner tenant-a"));
    gpu.turn("clrvffb", "fail");
    daemon.ctl(&format!("release {id}")).fails_with(&["its vendor's clear failed"]);
    assert_eq!(daemon.phase(&id), "quarantined");
    daemon.ctl(&format!("lease {id} --owner tenant-b")).fails_with(&[&id, "quarantine"]);
    gpu.turn("clrvffb", "clear");
    daemon.ok(&format!("quarantine clear {id}"));
    assert_eq!(found_by_the_next(&daemon, &id), 0);
    daemon.ok(&format!("destroy {id}"));
    assert_nothing_left(&daemon);
}

/// What cannot be made clean stays with its owner, and is anybody's when it is clean at last.
#[test]
fn a_slice_that_stays_dirty_is_kept_for_its_owner_where_that_is_the_policy() {
    let mut daemon = Daemon::start_with("[scrub]\nreuse = \"same-owner\"");
    for (model, profile, _) in KINDS {
        let gpu = SimGpu::find(model);
        let (id, _) = written(&daemon, &gpu, profile);
        let knob = gpu.set("flr", "table", "clear");
        daemon.ok(&format!("release {id}"));
        let event = events(&daemon, "slice-kept").pop().unwrap();
        assert!(event.contains("overwriting did not clear them"), "{event}");
        daemon.kill();
        daemon.start_again();
        assert_eq!(daemon.slice(&id)["reserved_for"], "tenant-a");
        assert!(daemon.ok("slices").contains("reserved for tenant-a"));
        daemon.ctl(&format!("lease {id} --owner tenant-b")).fails_with(&[&id, "tenant-a alone"]);
        daemon.ctl(&format!("run {id} --owner tenant-b")).fails_with(&[&id, "tenant-a alone"]);
        daemon.ok(&format!("lease {id} --owner tenant-a"));
        drop(knob);
        daemon.ok(&format!("release {id}"));
        assert_eq!(daemon.slice(&id)["reserved_for"], Value::Null);
        assert_eq!(found_by_the_next(&daemon, &id), 0);
        daemon.ok(&format!("destroy {id}"));
    }
    assert_nothing_left(&daemon);
}

/// More of the memory than can be read back is owned: nothing proves that it is clean.
#[test]
fn memory_that_no_bar_shows_is_not_called_clean() {
    let daemon = Daemon::start();
    let (model, profile, size) = KINDS[0];
    let id = daemon.create(&format!("{profile} --gpu {}", SimGpu::find(model).address)).remove(0);
    let reports = device(&format!("scrub --memory={}", size + 1), &daemon.slice(&id));
    let evidence = reports.last().unwrap();
    assert_eq!(evidence["verdict"], "unchecked");
    assert!(evidence["why"].as_str().unwrap().contains(&format!("only {size} bytes")), "{evidence}");
    daemon.ok(&format!("destroy {id}"));
    assert_nothing_left(&daemon);
}

#[test]
fn a_reset_that_fails_is_no_clean_slice() {
    let daemon = Daemon::start();
    for (model, profile, _) in KINDS {
        let gpu = SimGpu::find(model);
        let (id, _) = written(&daemon, &gpu, profile);
        let knob = gpu.set("flr", "fail-fast", "clear");
        daemon.ctl(&format!("release {id}")).failure();
        assert_eq!(daemon.phase(&id), "quarantined");
        let slice = daemon.slice(&id);
        let why = slice["quarantine_reason"].as_str().unwrap();
        // vfio-pci does not even open a function that its reset has lost.
        let told = if model == Model::Sim { "No such device" } else { "the reset failed" };
        assert!(why.contains(told), "{why}");
        daemon.ctl(&format!("lease {id} --owner tenant-b")).fails_with(&[&id, "quarantine"]);
        drop(knob);
        daemon.ok(&format!("destroy {id}"));
    }
    assert_nothing_left(&daemon);
}

/// The kernel is in a reset for longer than anybody waits: the slice is kept out of use in time, and
/// nobody else notices.
#[test]
fn a_reset_that_hangs_is_left_behind_in_time() {
    let daemon = Daemon::start_with("[scrub]\ndeadline = \"3s\"\n[timeouts]\nrelease = \"120s\"");
    let other = SimGpu::find(Model::Flex170);
    for (model, profile, _) in KINDS {
        let gpu = SimGpu::find(model);
        let (id, _) = written(&daemon, &gpu, profile);
        let knob = gpu.set("flr_ms", "20000", "0");
        let mut release = daemon.vgpuctl();
        let begun = Instant::now();
        let release = release.args(["release", &id]).stderr(std::process::Stdio::piped()).spawn().unwrap();
        let release = std::thread::spawn(move || (release.wait_with_output().unwrap(), begun.elapsed()));
        wait_for("the scrub to begin", MINUTE, || (daemon.phase(&id) == "scrubbing").then_some(()));
        let asked = Instant::now();
        let quick = daemon.create(&format!("vf-31 --gpu {}", other.address)).remove(0);
        daemon.ok(&format!("destroy {quick}"));
        tell!("meanwhile a slice of another GPU came and went in {:?}", asked.elapsed());
        let (output, took) = release.join().unwrap();
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        tell!("{profile}: a reset of 20 s was left behind after {took:?}");
        assert!(!output.status.success());
        assert!(text.contains("Waited 3 s for the device to open"), "{text}");
        assert!(took < Duration::from_secs(20), "{took:?}");
        assert_eq!(daemon.phase(&id), "quarantined");
        daemon.ctl(&format!("lease {id} --owner tenant-b")).fails_with(&[&id, "quarantine"]);
        drop(knob);
        // Killed, the process holds the device until the kernel returns, up to twice the reset's time.
        daemon.ok(&format!("destroy {id}"));
    }
    assert_nothing_left(&daemon);
}

/// Everything that a VM will do with the device, done once.
#[test]
fn a_ready_slice_passes_every_check() {
    let daemon = Daemon::start();
    for (model, profile, _) in KINDS {
        let id = daemon.create(&format!("{profile} --gpu {}", SimGpu::find(model).address)).remove(0);
        for line in daemon.ok(&format!("verify {id} --level full")).lines() {
            tell!("{profile}: {line}");
        }
        let verified = daemon.json(&format!("verify {id} --level full"));
        assert_eq!(verified["ready"], true, "{verified:#}");
        let checks = verified["checks"].as_array().unwrap();
        let came_to = |name: &str| {
            let found = checks.iter().find(|check| check["name"] == name);
            found.unwrap_or_else(|| panic!("no check {name}"))["verdict"].as_str().unwrap()
        };
        for name in ["driver", "parent", "iommu-group", "node", "iommu", "device-info", "config-space"] {
            assert_eq!(came_to(name), "pass", "{name}");
        }
        for name in ["reset", "dma", "bar", "release"] {
            assert_eq!(came_to(name), "pass", "{name}");
        }
        let kvm = if Path::new("/dev/kvm").try_exists().unwrap() { "pass" } else { "skip" };
        assert_eq!((came_to("kvm"), came_to("vcpu")), (kvm, kvm));
        assert_eq!(came_to("msix"), if model == Model::Simmdev { "skip" } else { "pass" });
        assert_eq!(daemon.phase(&id), "ready");
        daemon.ok(&format!("lease {id} --owner tenant"));
        assert_eq!(Tenant::open(&daemon.slice(&id)).found(), 0, "what the checks wrote is gone");
        daemon.ctl(&format!("verify {id}")).fails_with(&[&id, "leased to tenant"]);
        daemon.ok(&format!("destroy --release {id}"));
    }
    assert_nothing_left(&daemon);
}

/// A check that fails says what it saw and exits with 1; the slice was not changed by asking.
#[test]
fn a_reset_that_fails_is_found_by_the_checks() {
    let daemon = Daemon::start();
    let (model, profile, _) = KINDS[1];
    let gpu = SimGpu::find(model);
    let id = daemon.create(&format!("{profile} --gpu {}", gpu.address)).remove(0);
    let knob = gpu.set("flr", "fail-fast", "clear");
    let output = daemon.ctl(&format!("verify {id} --level full"));
    assert_eq!(output.code, 1, "{output:#?}");
    let line = output.stdout.lines().find(|line| line.starts_with("reset ")).unwrap();
    assert!(line.contains("FAILED"), "{line}");
    drop(knob);
    daemon.ok(&format!("verify {id} --level full"));
    daemon.ok(&format!("destroy {id}"));
    assert_nothing_left(&daemon);
}
