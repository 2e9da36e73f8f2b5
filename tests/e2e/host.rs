//! Trouble that comes from the host and not from a request: holders that never let go, devices and
//! drivers that go away under a lease, and a kernel that talks without end.

#![allow(clippy::unwrap_used)]

mod support;

use serde_json::Value;
use std::{
    fs, io,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};
use support::{Daemon, Model, SimGpu, Tenant, Turned, assert_nothing_left, entries, signal, tell, wait_for};

const MINUTE: Duration = Duration::from_secs(60);

/// Nobody waits longer for an answer, however busy the host is: all of it runs under emulation.
const AT_MOST: Duration = Duration::from_secs(10);

fn node(slice: &Value) -> PathBuf {
    slice["lease"]["node"].as_str().unwrap_or_else(|| panic!("no node in {slice:#}")).into()
}

fn has_cdi_file(id: &str) -> bool {
    let texts = entries("/run/cdi").into_iter().map(|name| fs::read_to_string(format!("/run/cdi/{name}")));
    texts.map(Result::unwrap).any(|text| text.contains(&format!("\"{id}\"")))
}

fn reason(daemon: &Daemon, id: &str) -> String {
    let slice = daemon.slice(id);
    slice["quarantine_reason"].as_str().unwrap_or_else(|| panic!("no reason in {slice:#}")).to_owned()
}

/// The life of another slice, while something is wrong elsewhere.
#[track_caller]
fn a_life_goes_on(daemon: &Daemon, words: &str) {
    let id = daemon.create(words).remove(0);
    daemon.ok(&format!("lease {id} --owner tenant-b"));
    let tenant = Tenant::open(&daemon.slice(&id));
    assert_eq!(tenant.found(), 0, "the memory of {id}");
    tenant.write();
    drop(tenant);
    daemon.ok(&format!("release {id}"));
    daemon.ok(&format!("destroy {id}"));
}

/// A process that ends with its test, stopped or not.
struct Kept(Child);

impl Drop for Kept {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A QEMU that has the slice and whose guest never begins.
fn vmm(slice: &Value) -> Kept {
    let device = format!("vfio-pci,host={}", slice["address"].as_str().unwrap());
    let child = Command::new("qemu-system-x86_64")
        .args(["-machine", "q35", "-m", "64M", "-S", "-nodefaults", "-display", "none", "-device", &device])
        .stdin(Stdio::null())
        .spawn()
        .unwrap();
    let mut child = Kept(child);
    wait_for("QEMU to have the device", MINUTE, || {
        assert!(child.0.try_wait().unwrap().is_none(), "QEMU takes {slice:#}");
        let maps = fs::read_to_string(format!("/proc/{}/maps", child.0.id())).unwrap();
        maps.contains("vfio").then_some(())
    });
    child
}

/// A VMM that hangs for ever, as far as anybody can see: the slice stays its own and nobody else is kept
/// waiting. When it is gone, nothing of what it had is left for the next tenant.
#[test]
fn a_holder_that_never_lets_go_keeps_its_slice_and_no_other() {
    let (sim, mdev) = (SimGpu::find(Model::Sim), SimGpu::find(Model::Simmdev));
    let daemon = Daemon::start_with("[timeouts]\nrelease = \"15s\"");
    let _knob = sim.set("flr", "leave", "clear");
    let id = daemon.create(&format!("vf-8 --gpu {} --owner tenant-a", sim.address)).remove(0);
    let slice = daemon.slice(&id);
    Tenant::open(&slice).write();
    let mut holder = vmm(&slice);
    let pid = holder.0.id();
    signal(pid, "STOP");

    let begun = Instant::now();
    let mut release = daemon.vgpuctl();
    let release =
        release.args(["release", &id]).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    wait_for("the release to begin", MINUTE, || (daemon.phase(&id) == "releasing").then_some(()));
    a_life_goes_on(&daemon, &format!("vf-8 --gpu {}", sim.address));
    a_life_goes_on(&daemon, &format!("simgpu_mdev-small --gpu {}", mdev.address));
    let refused = release.wait_with_output().unwrap();
    let took = begun.elapsed();
    tell!("refused after {:.1} s, with a deadline of 15 s", took.as_secs_f32());
    let said = String::from_utf8(refused.stderr).unwrap();
    assert!(!refused.status.success() && said.contains(&format!("process {pid} (qemu-system")), "{said}");
    assert!(took < Duration::from_secs(15) + AT_MOST, "{took:?}");
    let after = daemon.slice(&id);
    assert_eq!((&after["phase"], &after["lease"]["owner"]), (&"leased".into(), &"tenant-a".into()));
    assert_eq!(node(&after), node(&slice));
    assert!(has_cdi_file(&id));
    assert!(fs::read_to_string(format!("/proc/{pid}/stat")).unwrap().contains(") T "), "it is stopped");

    signal(pid, "KILL");
    holder.0.wait().unwrap();
    daemon.ok(&format!("release {id}"));
    assert_eq!(daemon.phase(&id), "ready");
    assert!(!has_cdi_file(&id));
    let history = daemon.json(&format!("history {id}"));
    let scrub = history["leases"][0]["scrubs"].as_array().unwrap().last().unwrap();
    tell!("{scrub}");
    assert_eq!(scrub["result"], "clean");
    daemon.ok(&format!("lease {id} --owner tenant-b"));
    assert_eq!(Tenant::open(&daemon.slice(&id)).found(), 0, "bytes of tenant-a");
    daemon.ok(&format!("destroy --release {id}"));
    assert_nothing_left(&daemon);
}

/// Leases as many VFs of the GPU as there are owners.
fn leased<const N: usize>(daemon: &Daemon, gpu: &SimGpu) -> [(String, Value); N] {
    let words = format!("vf-8 --gpu {} --count {N} --owner tenant", gpu.address);
    let ids = daemon.create(&words);
    std::array::from_fn(|index| (ids[index].clone(), daemon.slice(&ids[index])))
}

/// Pulls the VF out; it can be made again when what is returned is dropped.
fn unplug(gpu: &SimGpu, slice: &Value) -> Turned {
    gpu.set("unplug", &gpu.vf_index(slice["address"].as_str().unwrap()).to_string(), "none")
}

/// Its slice is out of use with what was given to its consumer, before anybody asked; the others go on.
#[test]
fn a_vf_that_disappears_takes_its_lease_along_and_no_other() {
    let sim = SimGpu::find(Model::Sim);
    let daemon = Daemon::start();
    let [(gone, slice), (other, other_slice)] = leased(&daemon, &sim);
    let _unplugged = unplug(&sim, &slice);
    daemon.wait_for_phase(&gone, "quarantined", MINUTE);
    let why = reason(&daemon, &gone);
    assert!(why.contains("no longer there") && why.contains(&sim.address), "{why}");
    wait_for("the CDI file to go", MINUTE, || (!has_cdi_file(&gone)).then_some(()));
    assert!(!node(&slice).try_exists().unwrap());
    daemon.ctl(&format!("lease {gone} --owner tenant-b")).fails_with(&[&gone, "no longer there"]);

    assert_eq!(daemon.phase(&other), "leased");
    assert!(has_cdi_file(&other) && node(&other_slice).try_exists().unwrap());
    Tenant::open(&other_slice).write();
    a_life_goes_on(&daemon, &format!("vf-8 --gpu {}", sim.address));
    daemon.ok(&format!("destroy {gone}"));
    tell!("{}", daemon.json(&format!("history {gone}")));
    daemon.ok(&format!("destroy --release {other}"));
    assert_nothing_left(&daemon);
}

/// The kernel waits for who has it; nothing of vgpud does.
#[test]
fn a_vf_that_disappears_under_its_holder_is_not_waited_for() {
    let sim = SimGpu::find(Model::Sim);
    let daemon = Daemon::start();
    let [(gone, slice), (other, other_slice)] = leased(&daemon, &sim);
    let holder = Tenant::open(&slice);
    let _unplugged = unplug(&sim, &slice);
    daemon.wait_for_phase(&gone, "quarantined", MINUTE);
    wait_for("the CDI file to go", MINUTE, || (!has_cdi_file(&gone)).then_some(()));
    let refused = daemon.ctl(&format!("destroy {gone}"));
    refused.fails_with(&[&gone, &format!("process {}", std::process::id())]);
    assert_eq!(daemon.phase(&gone), "quarantined");
    Tenant::open(&other_slice).write();
    daemon.ok(&format!("release {other}"));
    daemon.ok(&format!("destroy {other}"));
    a_life_goes_on(&daemon, &format!("vf-8 --gpu {}", sim.address));
    drop(holder);
    daemon.ok(&format!("destroy {gone}"));
    assert_nothing_left(&daemon);
}

/// A GPU that has, or soon has, no driver.
struct Unbound {
    address: String,
    unbinding: Option<JoinHandle<io::Result<()>>>,
}

impl Unbound {
    /// Begins to take the driver away, which waits for whoever holds one of the VFs.
    fn begin(gpu: &SimGpu) -> Self {
        let address = gpu.address.clone();
        let unbinding = thread::spawn(move || fs::write("/sys/bus/pci/drivers/simgpu/unbind", address));
        wait_for("the removal to begin", MINUTE, || (!gpu.sysfs("driver").is_symlink()).then_some(()));
        Self { address: gpu.address.clone(), unbinding: Some(unbinding) }
    }

    fn has_ended(&self) -> bool {
        self.unbinding.as_ref().is_none_or(JoinHandle::is_finished)
    }

    fn wait(&mut self) {
        self.unbinding.take().into_iter().for_each(|unbinding| unbinding.join().unwrap().unwrap());
    }

    fn bind(&mut self) {
        self.wait();
        fs::write("/sys/bus/pci/drivers/simgpu/bind", &self.address).unwrap();
    }
}

/// The next test of the suite is judged for itself.
impl Drop for Unbound {
    fn drop(&mut self) {
        if thread::panicking() {
            // It may be there again, and a panic on top of one would end the suite.
            self.unbinding.take().map(JoinHandle::join);
            let _ = fs::write("/sys/bus/pci/drivers/simgpu/bind", &self.address);
        }
    }
}

#[test]
fn a_driver_taken_from_its_gpu_takes_the_slices_along_and_they_can_be_made_again() {
    let sim = SimGpu::find(Model::Sim);
    let daemon = Daemon::start();
    let [(cleared, _), (ended, _)] = leased(&daemon, &sim);
    let mut unbound = Unbound::begin(&sim);
    unbound.wait();
    for id in [&cleared, &ended] {
        daemon.wait_for_phase(id, "quarantined", MINUTE);
        let why = reason(&daemon, id);
        assert!(why.contains("no longer there") && why.contains(&sim.address), "{why}");
        wait_for("the CDI file to go", MINUTE, || (!has_cdi_file(id)).then_some(()));
    }
    let gpu = &daemon.json(&format!("gpus {}", sim.address))["gpus"][0];
    assert!(gpu["unusable"].as_str().unwrap().contains("no driver"), "{gpu:#}");
    let refused = daemon.ctl(&format!("create vf-8 --gpu {}", sim.address));
    refused.fails_with(&[&sim.address, "no driver"]);
    let refused = daemon.ctl(&format!("quarantine clear {cleared}"));
    tell!("{refused:#?}");
    refused.fails_with(&["no driver"]);
    unbound.bind();
    daemon.ok(&format!("quarantine clear {cleared}"));
    daemon.ok(&format!("lease {cleared} --owner tenant"));
    daemon.ok(&format!("destroy {ended}"));
    a_life_goes_on(&daemon, &format!("vf-8 --gpu {}", sim.address));
    daemon.ok(&format!("destroy --release {cleared}"));
    assert_nothing_left(&daemon);
}

/// The kernel sits in the removal of the driver until the holder lets go, and whoever reads how many VFs
/// the GPU has sits behind it.
#[test]
fn a_driver_that_waits_for_a_holder_keeps_no_other_gpu_waiting() {
    let (sim, other) = (SimGpu::find(Model::Sim), SimGpu::find(Model::Mi300x));
    let daemon = Daemon::start();
    let [(held, slice)] = leased(&daemon, &sim);
    // Also where the test fails, the holder goes before the driver is waited for.
    let mut unbound = None;
    let holder = Tenant::open(&slice);
    let unbound = unbound.insert(Unbound::begin(&sim));
    let mut slowest = Duration::ZERO;
    let mut timed = |words: &str| {
        let begun = Instant::now();
        daemon.ok(words);
        tell!("{words}: {} ms", begun.elapsed().as_millis());
        slowest = slowest.max(begun.elapsed());
    };
    ["status", "slices", "gpus", "gpus"].into_iter().for_each(&mut timed);
    timed(&format!("show {held}"));
    timed("create simgpu_mdev-small --owner tenant-b");
    assert!(slowest < AT_MOST, "{slowest:?}");
    a_life_goes_on(&daemon, &format!("vf-8 --gpu {}", other.address));
    assert!(!unbound.has_ended(), "the kernel waits for the holder");

    drop(holder);
    unbound.wait();
    daemon.wait_for_phase(&held, "quarantined", MINUTE);
    unbound.bind();
    for slice in daemon.json("slices")["slices"].as_array().unwrap() {
        daemon.ok(&format!("destroy --release {}", slice["id"].as_str().unwrap()));
    }
    a_life_goes_on(&daemon, &format!("vf-8 --gpu {}", sim.address));
    assert_nothing_left(&daemon);
}

/// The memory that a process has in RAM, in KiB.
fn resident(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

/// Stops what is told to at its end, be that a failure.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn in_a_flood_of_events_commands_are_answered_and_what_matters_is_noticed() {
    const EVENTS: usize = 10_000;
    let (sim, mdev) = (SimGpu::find(Model::Sim), SimGpu::find(Model::Simmdev));
    let daemon = Daemon::start();
    let [(gone, slice)] = leased(&daemon, &sim);
    let before = resident(daemon.pid());
    let (told, stop) = (AtomicUsize::new(0), AtomicBool::new(false));
    let (mut slowest, mut commands, mut most) = (Duration::ZERO, 0, before);
    let mut unplugged = None;
    let begun = Instant::now();
    thread::scope(|scope| {
        let _stop = Stop(&stop);
        for gpu in [&sim, &mdev] {
            let (told, stop) = (&told, &stop);
            scope.spawn(move || {
                while told.fetch_add(1, Ordering::Relaxed) < EVENTS || !stop.load(Ordering::Relaxed) {
                    fs::write(gpu.sysfs("uevent"), "change").unwrap();
                }
            });
        }
        let mut ask = |words: &str| {
            let begun = Instant::now();
            let answer = daemon.ok(words);
            slowest = slowest.max(begun.elapsed());
            most = most.max(resident(daemon.pid()));
            commands += 1;
            answer
        };
        let create = format!("--output json create simgpu_mdev-small --gpu {} --owner tenant", mdev.address);
        let created: Value = serde_json::from_str(&ask(&create)).unwrap();
        let id = created["slices"][0]["id"].as_str().unwrap();
        ask(&format!("release {id}"));
        ask("gpus");
        unplugged = Some(unplug(&sim, &slice));
        ask(&format!("destroy {id}"));
        while told.load(Ordering::Relaxed) < EVENTS {
            ask("status");
            ask("slices");
        }
    });
    tell!(
        "{} events in {:.1} s; the slowest of {commands} commands took {} ms; {before} KiB before, at most {most} KiB",
        told.load(Ordering::Relaxed),
        begun.elapsed().as_secs_f32(),
        slowest.as_millis()
    );
    assert!(slowest < AT_MOST, "{slowest:?}");
    assert!(most < before + 32 * 1024, "{before} KiB before, then {most} KiB");
    daemon.wait_for_phase(&gone, "quarantined", MINUTE);
    daemon.ok(&format!("destroy {gone}"));
    assert_nothing_left(&daemon);
    drop(unplugged);
}

#[test]
fn doctor_names_interrupts_that_no_iommu_guards() {
    let switch = Path::new("/sys/module/vfio_iommu_type1/parameters/allow_unsafe_interrupts");
    let daemon = Daemon::start();
    let found = || {
        let report: Value = serde_json::from_str(&daemon.ctl("--output json doctor").stdout).unwrap();
        let checks = report["checks"].as_array().unwrap();
        checks.iter().find(|check| check["name"] == "interrupts").unwrap().clone()
    };
    assert_eq!(found()["verdict"], "pass");
    fs::write(switch, "Y").unwrap();
    let warned = found();
    fs::write(switch, "N").unwrap();
    assert_eq!(warned["verdict"], "warn", "{warned:#}");
    let text = warned.to_string();
    for word in ["allow_unsafe_interrupts of vfio_iommu_type1 is Y", "interrupt remapping", "/etc/modprobe.d"]
    {
        assert!(text.contains(word), "no {word:?} in {text}");
    }
    assert_eq!(found()["verdict"], "pass");
}
