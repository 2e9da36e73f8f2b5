//! vgpud's sandbox on a host with GPUs: what it must not do is tried from inside of it, while it has
//! slices, and everything that it must do is done by the other suites.

#![cfg(target_arch = "x86_64")]
#![allow(clippy::unwrap_used)]

mod support;

use std::{
    fs,
    io::Write as _,
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};
use support::{Daemon, Model, Output, SimGpu, assert_nothing_left, program, wait_for};
use vgpud_lab::trespass::{self, Report, Scene};

const MINUTE: Duration = Duration::from_secs(60);
/// IPC_LOCK, FOWNER, DAC_OVERRIDE and CHOWN, by their numbers in capabilities(7).
const DAEMON: u64 = 1 << 14 | 1 << 3 | 1 << 1 | 1;
/// IPC_LOCK and DAC_OVERRIDE.
const DEVICE: u64 = 1 << 14 | 1 << 1;
/// SYS_ADMIN, SYS_PTRACE and DAC_READ_SEARCH.
const LOOKOUT: u64 = 1 << 21 | 1 << 19 | 1 << 2;
const NONE: [&str; 0] = [];

fn lookout(daemon: &Daemon) -> u32 {
    trespass::child(daemon.pid(), "vgpud-lookout").unwrap()
}

#[test]
fn what_it_must_not_do_is_not_let_through_and_its_slices_stay() {
    let mut daemon = Daemon::start();
    let elsewhere = tempfile::tempdir_in("/run").unwrap();
    let mut scene = Scene::set(elsewhere.path()).unwrap();
    let ids = [daemon.create("vf-8 --owner tenant-a"), daemon.create("simgpu_mdev-small")].concat();
    let said = daemon.json("status")["daemon"]["sandbox"].as_str().unwrap().to_owned();
    let landlock = trespass::landlock(&said).unwrap_or_else(|| panic!("no Landlock in the lab: {said}"));
    let ground = scene.ground(&daemon.state_dir(), landlock);
    for thread in trespass::threads(daemon.pid()).unwrap() {
        assert_eq!(trespass::excess(thread, DAEMON, DAEMON).unwrap(), NONE);
    }
    assert_eq!(trespass::excess(lookout(&daemon), LOOKOUT, LOOKOUT).unwrap(), NONE);

    let mut report = Report::default();
    let broken = trespass::survived(daemon.pid(), &ground, &mut report).unwrap();
    assert!(broken.is_empty(), "what it needs: {broken:?}");
    daemon.ok("gpus");
    trespass::lookout(lookout(&daemon), &ground, &mut report).unwrap();
    daemon.kill();
    daemon.start_again();
    for attempt in trespass::deadly_attempts(&ground) {
        trespass::try_one(daemon.pid(), &attempt, &mut report).unwrap();
        daemon.kill();
        daemon.start_again();
    }
    writeln!(std::io::stderr(), "{report} ({said})").unwrap();
    assert!(report.let_through.is_empty(), "{:#?}", report.let_through);
    assert!(report.tried > 80, "{report}");
    assert_eq!(scene.harm().unwrap(), NONE);
    assert_eq!(daemon.phase(&ids[0]), "leased");
    assert_eq!(daemon.phase(&ids[1]), "ready");
    for id in &ids {
        daemon.ok(&format!("destroy --release {id}"));
    }
    assert_nothing_left(&daemon);
}

/// The process that works on a device keeps less than the daemon, and both filters hold for it.
#[test]
fn the_process_that_works_on_a_device_keeps_less() {
    let gpu = SimGpu::find(Model::Mi300x);
    let daemon = Daemon::start();
    let id = daemon.create("vf-8 --owner tenant").remove(0);
    let knob = gpu.set("flr_ms", "2000", "0");
    let mut release = daemon.vgpuctl().args(["release", &id]).stdout(Stdio::null()).spawn().unwrap();
    let process = wait_for("the scrub's process", MINUTE, || trespass::child(daemon.pid(), "vgpud-device"));
    let filters = || trespass::status(process, "Seccomp_filters").unwrap();
    wait_for("its filters", MINUTE, || (filters() == "6").then_some(()));
    // Its bounding set is the daemon's, which can no longer change it; no_new_privs keeps it from mattering.
    assert_eq!(trespass::excess(process, DEVICE, DAEMON).unwrap(), NONE);
    assert!(release.wait().unwrap().success());
    drop(knob);
    daemon.ok(&format!("destroy {id}"));
    assert_nothing_left(&daemon);
}

/// A folder that was replaced is no longer the one that vgpud may write to; the refusal says so, and a
/// new start mends it.
#[test]
fn a_wall_that_is_in_the_way_names_itself() {
    let mut daemon = Daemon::start();
    let id = daemon.create("vf-8").remove(0);
    fs::remove_dir_all("/run/cdi").unwrap();
    daemon.ctl(&format!("lease {id} --owner tenant")).fails_with(&["/run/cdi", "sandbox", "[daemon]"]);
    daemon.stop();
    daemon.start_again();
    daemon.ok(&format!("destroy {id}"));
    let id = daemon.create("vf-8 --owner tenant").remove(0);
    daemon.ok(&format!("destroy --release {id}"));
    assert_nothing_left(&daemon);
}

/// Where the operator turns it off, a slice lives as well.
#[test]
fn it_can_be_turned_off() {
    let mut daemon = Daemon::start();
    let text = fs::read_to_string(daemon.settings()).unwrap();
    fs::write(daemon.settings(), text.replacen("[daemon]", "[daemon]\nsandbox = \"off\"", 1)).unwrap();
    daemon.stop();
    daemon.start_again();
    assert_eq!(daemon.json("status")["daemon"]["sandbox"], "off, by the settings");
    assert_eq!(trespass::child(daemon.pid(), "vgpud-lookout"), None);
    let id = daemon.create("vf-8 --owner tenant").remove(0);
    daemon.ok(&format!("destroy --release {id}"));
    assert_nothing_left(&daemon);
}

/// The unit that is delivered, started by systemd itself: the walls of both stand together, and a slice
/// lives its life behind them.
#[test]
fn the_systemd_unit_and_the_sandbox_stand_together() {
    let unit = include_str!("../../deploy/systemd/vgpud.service");
    let unit = unit.replace("/usr/bin/vgpud", program("vgpud").to_str().unwrap());
    let folder = Path::new("/etc/systemd/system");
    fs::create_dir_all(folder).unwrap();
    // The lab has no other units that are to run.
    fs::write(folder.join("vgpud.service"), unit.replace("[Unit]", "[Unit]\nDefaultDependencies=no"))
        .unwrap();
    fs::write(folder.join("lab.target"), "[Unit]\nRequires=vgpud.service\nAfter=vgpud.service\n").unwrap();
    let script = "mount -t proc proc /proc && mount -t tmpfs tmpfs /run && mount -t cgroup2 cgroup2 /sys/fs/cgroup && \
        exec env container=lab /lib/systemd/systemd --system --unit=lab.target --show-status=0";
    let mut systemd = Command::new("unshare")
        .args([
            "--mount",
            "--pid",
            "--ipc",
            "--uts",
            "--cgroup",
            "--fork",
            "--kill-child",
            "sh",
            "-c",
            script,
        ])
        .stdin(Stdio::null())
        .spawn()
        .unwrap();
    let inside = |pid: u32, words: &str| {
        let mut command = Command::new("nsenter");
        command.args(["-t", &pid.to_string(), "-m", "--"]).arg(program("vgpuctl"));
        Output::of(command.args(words.split_whitespace()))
    };
    let daemon = wait_for("vgpud under systemd", MINUTE, || {
        let pid = named("vgpud")?;
        (inside(pid, "status").code == 0).then_some(pid)
    });
    let said = inside(daemon, "status").success();
    writeln!(std::io::stderr(), "under systemd:\n{said}").unwrap();
    assert!(said.contains("landlock ABI 6, seccomp, 3 capabilities"), "{said}");
    for thread in trespass::threads(daemon).unwrap() {
        for set in ["CapEff", "CapPrm"] {
            assert_eq!(trespass::status(thread, set).unwrap().trim_start_matches('0'), "b");
        }
    }
    let list = inside(daemon, "--output json create vf-8").success();
    let list: serde_json::Value = serde_json::from_str(&list).unwrap();
    let id = list["slices"][0]["id"].as_str().unwrap();
    inside(daemon, &format!("verify {id} --level full")).success();
    for words in ["lease ID --owner tenant", "release ID", "destroy ID"] {
        inside(daemon, &words.replace("ID", id)).success();
    }
    systemd.kill().unwrap();
    systemd.wait().unwrap();
    assert_nothing_left(&Daemon::start());
}

fn named(name: &str) -> Option<u32> {
    let processes =
        fs::read_dir("/proc").unwrap().filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    let mut processes = processes.filter(|pid: &u32| {
        fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|comm| comm.trim_end() == name)
    });
    processes.next()
}
