//! What the last owner left, and that the next one never reads it. The owners here are small VFIO
//! programs: they open the node of their lease, as a VMM does, and write or read all of the memory.

#![allow(clippy::unwrap_used)]

mod support;

use serde_json::Value;
use std::{
    io::Write as _,
    path::Path,
    time::{Duration, Instant},
};
use support::{Daemon, Model, Output, SimGpu, assert_nothing_left, program, wait_for};
use vgpud_mdev::Host;
use vgpud_vmm::{
    device::{Device, Mapping},
    node::Node,
};

const SECRET: [u8; 8] = *b"tenant A";
const MINUTE: Duration = Duration::from_secs(60);
/// Tenants of each kind of slice, one after the other.
const HANDOVERS: u64 = 100;

/// Says something that is shown of a test that passes, too: `eprintln!` would be kept back.
macro_rules! tell {
    ($($words:tt)*) => { std::io::stderr().write_all(format!("{}\n", format_args!($($words)*)).as_bytes()).unwrap() };
}

/// A GPU, a size to cut from it, and that size's memory in bytes.
const KINDS: [(Model, &str, u64); 2] =
    [(Model::Sim, "vf-8", 16 << 20), (Model::Simmdev, "simgpu_mdev-small", 16 << 20)];

/// A tenant that has its slice open.
struct Tenant {
    device: Device,
}

impl Tenant {
    /// Opens a slice by the node that was handed over with its lease.
    #[track_caller]
    fn open(slice: &Value) -> Self {
        let sysfs = Path::new(slice["sysfs_path"].as_str().unwrap());
        let node = Node::from_path(slice["lease"]["node"].as_str().unwrap()).unwrap();
        let device = Device::open(&Host::default(), &node, sysfs).unwrap();
        device.enable_memory().unwrap();
        Self { device }
    }

    fn memory(&self) -> Mapping {
        let region = &self.device.regions()[0];
        self.device.map(region, region.mappable[0]).unwrap()
    }

    /// Writes all of its memory; returns how much that is.
    fn write(&self) -> u64 {
        let memory = self.memory();
        memory.fill(SECRET);
        assert_eq!(memory.non_zero().bytes, memory.length() as u64, "written");
        memory.length() as u64
    }

    /// Bytes that somebody left in its memory.
    fn found(&self) -> u64 {
        self.memory().non_zero().bytes
    }
}

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
    for (model, profile, size) in KINDS {
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
        tell!(
            "{profile}: {} MiB read back in {micros} us, {} MiB/s",
            size >> 20,
            (size * 1_000_000 / micros) >> 20
        );
        assert!(Duration::from_micros(micros) < Duration::from_secs(1), "{evidence}");
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
    let daemon = Daemon::start_with("[scrub]\ndeadline = \"3s\"\n[timeouts]\nrelease = \"60s\"");
    let other = SimGpu::find(Model::Flex170);
    for (model, profile, _) in KINDS {
        let gpu = SimGpu::find(model);
        let (id, _) = written(&daemon, &gpu, profile);
        let knob = gpu.set("flr_ms", "9000", "0");
        let mut release = daemon.vgpuctl();
        let begun = Instant::now();
        let release = release.args(["release", &id]).stderr(std::process::Stdio::piped()).spawn().unwrap();
        wait_for("the scrub to begin", MINUTE, || (daemon.phase(&id) == "scrubbing").then_some(()));
        let asked = Instant::now();
        let quick = daemon.create(&format!("vf-31 --gpu {}", other.address)).remove(0);
        daemon.ok(&format!("destroy {quick}"));
        tell!("meanwhile a slice of another GPU came and went in {:?}", asked.elapsed());
        let output = release.wait_with_output().unwrap();
        let (text, took) = (String::from_utf8_lossy(&output.stderr).into_owned(), begun.elapsed());
        tell!("{profile}: a reset of 9 s was left behind after {took:?}");
        assert!(!output.status.success());
        assert!(text.contains("Waited 3 s for the device to open"), "{text}");
        assert!(took < Duration::from_secs(9), "{took:?}");
        assert_eq!(daemon.phase(&id), "quarantined");
        daemon.ctl(&format!("lease {id} --owner tenant-b")).fails_with(&[&id, "quarantine"]);
        drop(knob);
        // Killed, the process holds the device until the kernel returns, up to twice the reset's time.
        daemon.ok(&format!("destroy {id}"));
    }
    assert_nothing_left(&daemon);
}

/// One slice of each kind goes from tenant to tenant, each of whom writes all of it.
#[test]
fn handovers() {
    let daemon = Daemon::start();
    let (mut handovers, mut leaked) = (0, 0);
    let small = (Model::Flex170, "vf-2", 4 << 20);
    for (model, profile, size) in [small, KINDS[1]] {
        let gpu = SimGpu::find(model);
        let id = daemon.create(&format!("{profile} --gpu {}", gpu.address)).remove(0);
        let begun = Instant::now();
        let _knob = gpu.set("flr", "leave", "clear");
        for handover in 0..HANDOVERS {
            gpu.turn("flr", if handover % 2 == 0 { "leave" } else { "clear" });
            daemon.ok(&format!("lease {id} --owner tenant-{handover}"));
            let tenant = Tenant::open(&daemon.slice(&id));
            leaked += tenant.found();
            assert_eq!(tenant.write(), size);
            drop(tenant);
            daemon.ok(&format!("release {id}"));
            handovers += 1;
        }
        tell!("{profile}: {HANDOVERS} handovers in {:?}", begun.elapsed());
        daemon.ok(&format!("destroy {id}"));
    }
    tell!("handovers: {handovers}, {leaked} bytes leaked");
    assert_eq!(leaked, 0);
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
