//! One host with GPUs of three vendors, of which one cannot be cut, and requests that name none of them.
//!
//! What can go wrong on such a host, and where it is tried:
//!
//! | trouble | test |
//! |---|---|
//! | a request that no GPU can ever satisfy, and one that none can satisfy now | [`what_can_never_be_had_and_what_cannot_be_had_now_are_told_apart`]; by profile, and with one GPU named: `trouble::a_request_that_does_not_fit_says_what_would` |
//! | a vendor's tool that says something new, that hangs, that goes away | [`a_vendors_tool_that_goes_wrong_is_told_and_the_other_vendors_serve_on`] |
//! | a vendor's tool that is not there | [`without_the_vendors_tool_the_other_vendors_serve`]; vgpud's process for it: `nvidia::the_process_that_turns_vfs_on_is_missed_by_name` |
//! | a vendor's tool that lies, is locked out, or stops half-way | `nvidia::the_drivers_quirks_are_seen_through`, `nvidia::a_card_that_was_left_half_way_is_told_with_the_way_back` |
//! | a card that lists a type and refuses it | `nvidia::the_drivers_quirks_are_seen_through` |
//! | errors of the kernel, fewer VFs than asked for | `trouble::an_error_of_the_kernel_is_passed_on_and_nothing_stays`, `trouble::fewer_vfs_than_asked_is_an_error_and_none_stay` |
//! | a GPU that is given to two mechanisms, or to one that cannot cut it | [`a_gpu_in_two_spellings_is_refused_with_both`], [`the_later_file_says_how_a_gpu_is_cut`], [`a_mechanism_that_does_not_apply_is_told_and_the_others_serve`] |
//! | a consumer card with one VF | [`twenty_requests_are_served_by_gpus_of_three_vendors`]; asked for by address: `trouble::gpus_that_cannot_be_cut_say_why` |

#![allow(clippy::unwrap_used)]

mod support;

use serde_json::Value;
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    time::Duration,
};
use support::{Daemon, Model, Output, Running, SimGpu, Tenant, assert_nothing_left, tell, wait_for};

const LIMIT: Duration = Duration::from_secs(180);

/// The tool that comes with NVIDIA's driver.
const SRIOV_MANAGE: &str = "/usr/lib/nvidia/sriov-manage";

/// The GPUs of this host.
struct Gpus {
    amd: SimGpu,
    nvidia: SimGpu,
    intel: SimGpu,
    /// It has one VF, and its driver no SR-IOV.
    consumer: SimGpu,
}

impl Gpus {
    #[track_caller]
    fn find() -> Self {
        let found = Self {
            amd: SimGpu::find(Model::Mi300x),
            nvidia: SimGpu::find(Model::L40s),
            intel: SimGpu::find(Model::B60),
            consumer: SimGpu::find(Model::Rtx5070),
        };
        let drivers = [&found.amd, &found.nvidia, &found.intel].map(|gpu| gpu.driver().unwrap_or_default());
        assert_eq!(drivers, ["gim", "nvidia", "xe"]);
        assert_eq!(found.consumer.read("sriov_totalvfs"), "1");
        found
    }

    fn of_slice(&self, slice: &Value) -> &SimGpu {
        let all = [&self.amd, &self.nvidia, &self.intel];
        let of_it = all.into_iter().find(|gpu| slice["gpu"] == gpu.address.as_str());
        of_it.unwrap_or_else(|| panic!("on no GPU that can be cut: {slice:#}"))
    }

    /// No BAR shows a vGPU's memory, so NVIDIA's reset is taken at its word.
    fn settings(&self, device: &str) -> String {
        format!("[gpu.\"{}\"]\nreuse = \"reset\"\n[timeouts]\ndevice = \"{device}\"\n", self.nvidia.address)
    }
}

/// How a refusal reads to a program: reason and exit code; its text holds `words`.
#[track_caller]
fn refused(daemon: &Daemon, words: &str, texts: &[&str]) -> (String, i32) {
    let refused = daemon.ctl(&format!("--output json create {words}"));
    tell!("{}", refused.stderr.trim_end());
    let error: Value = serde_json::from_str(&refused.stderr).unwrap();
    let reason = error["error"]["reason"].as_str().unwrap().to_owned();
    assert_eq!(error["error"]["exit_code"], refused.code);
    let code = refused.code;
    refused.fails_with(texts);
    (reason, code)
}

/// Served and given back at once.
#[track_caller]
fn assert_served(daemon: &Daemon, words: &str, gpu: &SimGpu) {
    let id = daemon.create(words).remove(0);
    assert_eq!(daemon.slice(&id)["gpu"], gpu.address.as_str());
    daemon.ok(&format!("destroy {id}"));
}

/// By memory, with and without compute, in turn: a fourth of the AMD, a vGPU of the NVIDIA, and a
/// twenty-fourth of the Intel. What a VF of the Intel has is known when it is cut, which the first
/// request for an enforced share brings about: the others are the AMD's, and all given away by then.
fn requests() -> Vec<&'static str> {
    let first = ["--memory 16MiB --compute 20%", "--memory 2GiB"].repeat(4);
    let small = ["--memory 4MiB", "--memory 4MiB --compute 4%"].repeat(5);
    [first, vec!["--compute 4% --enforced"; 2], small].concat()
}

/// What has the slice of one request.
enum Consumer {
    Vm(Running),
    Program(Tenant),
}

#[test]
fn twenty_requests_are_served_by_gpus_of_three_vendors() {
    /// Every so many.
    const VM: usize = 3;
    let gpus = Gpus::find();
    // As its operator does it, so that its idle VFs keep their turns.
    let turns = gpus.intel.sysfs("sriov_admin/.bulk_profile/sched_priority");
    fs::write(&turns, "normal").unwrap();
    let daemon = Daemon::start_with(&gpus.settings("80s"));
    let why_not = daemon.ok("create --memory 4MiB --dry-run");
    assert!(why_not.contains(&gpus.consumer.address) && why_not.contains("allows one VF"), "{why_not}");

    let served: Vec<String> = requests()
        .into_iter()
        .enumerate()
        .map(|(number, words)| {
            let owner = if number % VM == 0 { String::new() } else { format!(" --owner tenant-{number}") };
            daemon.create(&format!("{words}{owner}")).remove(0)
        })
        .collect();
    let mut consumers: Vec<Consumer> = Vec::new();
    for (number, id) in served.iter().enumerate() {
        consumers.push(if number % VM == 0 {
            let command = format!("gpu list write mark-of-{id} check mark-of-{id} hold 3600");
            Consumer::Vm(daemon.run(&format!("{id} --owner tenant-{number} --memory 128MiB -- {command}")))
        } else {
            let tenant = Tenant::open(&daemon.slice(id));
            assert_eq!(tenant.found(), 0, "what is new is clean");
            Consumer::Program(tenant)
        });
    }
    for consumer in &mut consumers {
        if let Consumer::Vm(vm) = consumer {
            vm.wait_for("holding");
        }
    }
    // After the VMs have come up: xe clears a VF's memory some time after the reset that opening it makes.
    for consumer in &consumers {
        if let Consumer::Program(tenant) = consumer {
            assert!(tenant.write() > 0);
        }
    }

    // Only now, when everybody has written.
    let mut by_gpu: BTreeMap<String, u32> = BTreeMap::new();
    let mut vendors = BTreeSet::new();
    let mut devices = BTreeSet::new();
    for (number, (id, consumer)) in served.iter().zip(&consumers).enumerate() {
        let slice = daemon.slice(id);
        let gpu = gpus.of_slice(&slice);
        assert_eq!(
            (&slice["phase"], &slice["lease"]["owner"]),
            (&"leased".into(), &format!("tenant-{number}").into())
        );
        assert!(devices.insert(slice["address"].as_str().unwrap().to_owned()), "given twice: {slice:#}");
        match consumer {
            Consumer::Vm(vm) => {
                let console = vm.console();
                let seen: Vec<_> = console.lines().filter(|line| line.contains(" vram ")).collect();
                let vendor = gpu.read("vendor");
                assert!(
                    seen.len() == 1 && seen[0].contains(&format!(" {}:", vendor.trim_start_matches("0x"))),
                    "{id} sees {seen:?}"
                );
                assert_eq!(gpu.texts(&slice), [format!("mark-of-{id}")], "memory of {id}");
            }
            Consumer::Program(_) => assert!(gpu.texts(&slice)[0].starts_with("tenant A"), "memory of {id}"),
        }
        *by_gpu.entry(gpu.address.clone()).or_default() += 1;
        vendors.insert(gpu.read("vendor"));
    }
    let tally = format!(
        "mixed: {} requests served by {} GPUs of {} vendors",
        by_gpu.values().sum::<u32>(),
        by_gpu.len(),
        vendors.len()
    );

    for (number, (id, consumer)) in served.iter().zip(consumers).enumerate() {
        match consumer {
            Consumer::Vm(vm) => {
                vm.signal("TERM");
                vm.wait();
            }
            Consumer::Program(tenant) => {
                drop(tenant);
                daemon.ok(&format!("release {id}"));
            }
        }
        daemon.wait_for_phase(id, "ready", LIMIT);
        let slice = daemon.slice(id);
        let gpu = gpus.of_slice(&slice);
        assert_eq!(gpu.texts(&slice), [""], "{id} after tenant-{number}");
        let history = daemon.json(&format!("history {id}"));
        let scrub = history["leases"][0]["scrubs"].as_array().unwrap().last().unwrap();
        assert_eq!(scrub["result"], "clean", "{scrub}");
        // Where nothing can be read back, that it was made anew is all that is claimed.
        assert_eq!(scrub["evidence"].is_null(), gpu.address == gpus.nvidia.address, "{scrub}");
    }
    daemon.ok(&format!("destroy {}", served.join(" ")));
    for gpu in [&gpus.nvidia, &gpus.intel] {
        wait_for("the VFs to go", LIMIT, || (gpu.read("sriov_numvfs") == "0").then_some(()));
    }
    assert_eq!(gpus.amd.read("sriov_numvfs"), "4", "its driver's own");
    assert_nothing_left(&daemon);
    fs::write(&turns, "low").unwrap();
    assert_eq!((served.len(), vendors.len()), (20, 3), "{by_gpu:?}");
    tell!("{tally}");
}

#[test]
fn what_can_never_be_had_and_what_cannot_be_had_now_are_told_apart() {
    let gpus = Gpus::find();
    let daemon = Daemon::start_with(&gpus.settings("80s"));
    let largest = format!("the largest on {} is", gpus.nvidia.address);
    let never = ("TOO_LARGE".to_owned(), 1);
    let unknown = "with memory that its driver tells when it is cut";
    assert_eq!(refused(&daemon, "--memory 100GiB", &["Asked 100GiB", &largest, "48GiB", unknown]), never);
    // Each is there, and no GPU has all.
    let texts = ["Asked 2GiB and 10% of compute, enforced", &gpus.nvidia.address, "whose cap is best effort"];
    let words = "--memory 2GiB --compute 10% --enforced";
    assert_eq!(refused(&daemon, words, &texts), ("NOT_ENFORCED".to_owned(), 1));

    let id = daemon.create("--memory 40GiB --owner tenant").remove(0);
    assert_eq!(daemon.slice(&id)["gpu"], gpus.nvidia.address.as_str());
    let texts = ["Asked 1 of 40GiB", "0 can be created now", "more when slices are destroyed"];
    assert_eq!(refused(&daemon, "--memory 40GiB", &texts), ("NO_CAPACITY".to_owned(), 1));
    assert_eq!(refused(&daemon, "--memory 100GiB", &["Asked 100GiB", &largest, "48GiB"]), never);
    daemon.ok(&format!("destroy --release {id}"));
    assert_served(&daemon, "--memory 40GiB", &gpus.nvidia);
    assert_nothing_left(&daemon);
}

/// A program in the place of the vendor's.
struct Tool {
    folder: tempfile::TempDir,
}

impl Tool {
    fn new() -> Self {
        let tool = Self { folder: tempfile::Builder::new().prefix("tool-").tempdir_in("/run").unwrap() };
        tool.becomes("exit 0");
        tool
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("sriov-manage")
    }

    /// By rename: the former one may still run.
    fn becomes(&self, script: &str) {
        let new = self.folder.path().join("new");
        fs::write(&new, format!("#!/bin/bash\n{script}\n")).unwrap();
        fs::set_permissions(&new, fs::Permissions::from_mode(0o755)).unwrap();
        fs::rename(new, self.path()).unwrap();
    }

    fn setting(path: &Path) -> String {
        format!("[nvidia]\nsriov_manage = \"{}\"\n", path.display())
    }
}

#[test]
fn a_vendors_tool_that_goes_wrong_is_told_and_the_other_vendors_serve_on() {
    let gpus = Gpus::find();
    let tool = Tool::new();
    let path = tool.path().display().to_string();
    let made = gpus.nvidia.counter("create");
    let daemon = Daemon::start_with(&(gpus.settings("10s") + &Tool::setting(&tool.path())));
    let cases: [(&str, &str, &[&str]); 3] = [
        (
            "echo 'E4711: the licence of this host says perhaps'; exit 7",
            "SRIOV_MANAGE",
            &["failed (E4711: the licence of this host says perhaps)", "0 of 32 VFs on", "dmesg"],
        ),
        (
            "printf 'VFs: \\033[31m32\\n'; exit 0",
            "SRIOV_MANAGE",
            &["said that all went well", "0 of 32 VFs on"],
        ),
        ("sleep 3600", "SRIOV_MANAGE", &["Waited", &path, "to end", "`device` under [timeouts]"]),
    ];
    for (script, reason, texts) in cases {
        tool.becomes(script);
        assert_eq!(refused(&daemon, "--memory 2GiB", texts).0, reason);
    }
    fs::remove_file(tool.path()).unwrap();
    assert_eq!(refused(&daemon, "--memory 2GiB", &["this host lacks the program", &path]).0, "TOO_LARGE");
    assert_eq!(daemon.json("quarantine list")["quarantined_gpus"], serde_json::json!([]));
    assert_served(&daemon, "--memory 16MiB --compute 20%", &gpus.amd);
    assert_nothing_left(&daemon);
    drop(daemon);

    // What it says is no reason to refuse where it did what was asked.
    tool.becomes(&format!(
        "echo 'NOTICE: as of release 99 this takes a moment' >&2; exec {SRIOV_MANAGE} \"$@\""
    ));
    let daemon = Daemon::start_with(&(gpus.settings("80s") + &Tool::setting(&tool.path())));
    assert_served(&daemon, "--memory 2GiB", &gpus.nvidia);
    assert_eq!(gpus.nvidia.counter("create") - made, 1);
    assert_nothing_left(&daemon);
}

#[test]
fn without_the_vendors_tool_the_other_vendors_serve() {
    let gpus = Gpus::find();
    let tool = Tool::new();
    fs::remove_file(tool.path()).unwrap();
    let path = tool.path().display().to_string();
    let daemon = Daemon::start_with(&(gpus.settings("80s") + &Tool::setting(&tool.path())));
    refused(&daemon, "--memory 2GiB", &["this host lacks the program", &path]);
    tool.becomes(&format!("exec {SRIOV_MANAGE} \"$@\""));
    // The process that runs NVIDIA's tools is there for its others.
    assert_served(&daemon, "--memory 2GiB", &gpus.nvidia);
    assert_served(&daemon, "--memory 16MiB --compute 20%", &gpus.amd);
    assert_nothing_left(&daemon);
}

/// `[gpu."ADDRESS"]` with a mechanism.
fn cut_by(address: &str, mechanism: &str) -> String {
    format!("[gpu.\"{address}\"]\nmechanism = \"{mechanism}\"\n")
}

/// Without its domain, as `lspci` writes it.
fn short(gpu: &SimGpu) -> &str {
    gpu.address.strip_prefix("0000:").unwrap()
}

#[test]
fn a_gpu_in_two_spellings_is_refused_with_both() {
    let gpu = Gpus::find().intel;
    let first = cut_by(&gpu.address, "intel-xe");
    let twice: [(&str, &[&str]); 2] =
        [(&gpu.address, &["duplicate key"]), (short(&gpu), &["is the same as", &gpu.address, "keep one"])];
    for (spelling, texts) in twice {
        let daemon = Daemon::prepared(&(first.clone() + &cut_by(spelling, "passthrough")));
        let ended = Output::of(&mut daemon.vgpud());
        tell!("{}", ended.stderr.trim_end());
        ended.fails_with(&[&["vgpud.toml, line ", spelling][..], texts].concat());
    }
}

#[test]
fn the_later_file_says_how_a_gpu_is_cut() {
    let gpus = Gpus::find();
    let mut daemon = Daemon::prepared(&cut_by(&gpus.intel.address, "intel-xe"));
    let folder = daemon.folder().join("vgpud.toml.d");
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join("10.toml"), cut_by(short(&gpus.intel), "amd-gim")).unwrap();
    fs::write(folder.join("20.toml"), cut_by(&gpus.intel.address.to_uppercase(), "sriov")).unwrap();
    daemon.start_again();
    let profiles = daemon.json(&format!("profiles {}", gpus.intel.address));
    let mechanisms: BTreeSet<_> =
        profiles["profiles"].as_array().unwrap().iter().map(|of| of["mechanism"].as_str().unwrap()).collect();
    assert_eq!(mechanisms, BTreeSet::from(["sriov"]), "{profiles:#}");
}

#[test]
fn a_mechanism_that_does_not_apply_is_told_and_the_others_serve() {
    let gpus = Gpus::find();
    let settings = cut_by(&gpus.intel.address, "amd-gim") + &cut_by(&gpus.consumer.address, "sriov");
    let daemon = Daemon::start_with(&settings);
    for (gpu, mechanism, why) in [
        (&gpus.intel, "amd-gim", "it is not on AMD's driver gim"),
        (&gpus.consumer, "sriov", "allows one VF"),
    ] {
        let asked = format!("{} cannot be cut by {mechanism}, as the settings ask", gpu.address);
        let shown = daemon.json(&format!("gpus {}", gpu.address));
        let unusable = shown["gpus"][0]["unusable"].as_str().unwrap_or_default();
        assert!(unusable.contains(&asked) && unusable.contains(why), "{shown:#}");
        let told = refused(&daemon, &format!("--memory 4MiB --gpu {}", gpu.address), &[&asked, why]);
        assert_eq!(told, ("GPU_UNUSABLE".to_owned(), 1));
    }
    assert_served(&daemon, "--memory 4MiB", &gpus.amd);
    assert_nothing_left(&daemon);
}
