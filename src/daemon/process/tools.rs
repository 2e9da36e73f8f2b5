//! NVIDIA's tools, run by the confined program through its process `vgpud vfs`.

use crate::process::{Home, wait_for};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use std::{
    fs,
    os::unix::fs::PermissionsExt,
    time::{Duration, Instant},
};
use vgpud_mdev::fake::{FakeGpu, FakeHost, FakeVgpus};
use vgpud_mdev::nvidia::MigMode;

const FIRST: &str = "0000:41:00.0";
const SECOND: &str = "0000:42:00.0";

/// Half of `device`, which a tool has.
const PATIENCE: Duration = Duration::from_secs(60);

#[test]
fn a_tool_that_hangs_on_one_gpu_keeps_no_other_gpu() {
    let machine = FakeHost::machine()
        .gpu(FakeGpu::new(FIRST).nvidia(8, &FakeVgpus::l40s()))
        .gpu(FakeGpu::new(SECOND).nvidia(8, &FakeVgpus::a100(MigMode::Off)).id("10de:20b5"));
    let home = Home::with(&machine);
    let tool = |path: &str, script: &str| {
        let path = home.folder().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    };
    tool("usr/lib/nvidia/sriov-manage", "echo $$ > $(dirname $0)/pid; exec sleep 600");
    tool("usr/bin/nvidia-smi", "echo Disabled, Disabled");
    home.write_settings("[scrub]\nreuse = \"reset\"\n[timeouts]\ndevice = \"120s\"\n");
    let daemon = home.start();
    let begun = Instant::now();
    let mut first = home.vgpuctl_command(&["create", "L40S-8Q", "--gpu", FIRST]);
    let first = first.stderr(std::process::Stdio::piped()).spawn().unwrap();
    let pid = wait_for("sriov-manage to hang", || {
        let pid = fs::read_to_string(home.folder().join("usr/lib/nvidia/pid")).ok()?;
        Some(Pid::from_raw(pid.trim().parse().ok()?))
    });

    // Its MIG is read while the tool of the other one runs, and again before its VFs would be turned on.
    let gpus = home.vgpuctl(&["gpus"]);
    assert!(gpus.status.success(), "{gpus:?}");
    let second = home.vgpuctl(&["create", "A100D-3-40C", "--gpu", SECOND]);
    let told = String::from_utf8_lossy(&second.stderr).into_owned();
    assert!(!second.status.success() && told.contains("A100D-3-40C"), "{told}");
    assert!(kill(pid, None).is_ok(), "it hangs yet");
    assert!(begun.elapsed() < PATIENCE);

    kill(pid, Signal::SIGKILL).unwrap();
    let first = first.wait_with_output().unwrap();
    let told = String::from_utf8_lossy(&first.stderr).into_owned();
    assert!(!first.status.success() && told.contains("sriov-manage -e`, which failed"), "{told}");
    daemon.signal("TERM");
    assert!(daemon.ended().success());
}
