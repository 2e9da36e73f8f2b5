//! The vendors' own mechanisms, from discovery to a GPU as it was found, on simulated GPUs whose PF drivers
//! behave as xe and GIM do (tests/lab/kmod/README.md).

#![allow(clippy::unwrap_used)]

mod support;

use std::{fs, time::Duration};
use support::{Daemon, SimGpu, pf_driver};

const MINUTE: Duration = Duration::from_secs(60);

/// The GPU of a PF driver that is loaded anew with this parameter.
#[track_caller]
fn loaded(module: &str, parameter: &str) -> SimGpu {
    pf_driver::load(module, &[parameter]).pop().unwrap_or_else(|| panic!("no GPU on {module}"))
}

/// Two tenants, one after the other and over a restart of vgpud: the second finds nothing of the first.
#[track_caller]
fn two_tenants(daemon: &mut Daemon, gpu: &SimGpu, id: &str) {
    let output = daemon.run(&format!("{id} -- gpu list read write secret-of-a check secret-of-a")).wait();
    assert_eq!(output.code, 0, "{output:#?}");
    assert!(output.stdout.contains("nonzero 0 of"), "{output:#?}");
    daemon.wait_for_phase(id, "ready", MINUTE);
    // At once, for the PF's driver may clear it later anyway.
    assert_eq!(gpu.read_vram(0, 4096), [0; 4096], "ready, and not clean");
    daemon.stop();
    daemon.start_again();
    assert_eq!(daemon.phase(id), "ready");
    let output = daemon.run(&format!("{id} -- gpu read")).wait();
    assert_eq!(output.code, 0, "{output:#?}");
    assert!(output.stdout.contains("nonzero 0 of"), "the next tenant finds bytes: {output:#?}");
    daemon.wait_for_phase(id, "ready", MINUTE);
}

/// What `vgpuctl profiles` offers on one GPU: mechanism, and name and memory of each profile.
fn offers(daemon: &Daemon, gpu: &SimGpu) -> String {
    daemon.json(&format!("profiles {}", gpu.address)).to_string()
}

/// 24 VFs share 128 MiB: 4 MiB each in pages of 2 MiB, which is what a VF's BAR shows here.
#[test]
fn intel_xe_gives_each_vf_its_share_and_takes_all_back() {
    // Where the shares are; debugfs has the same GPU's times below `gt0` or beside its VRAM.
    let interfaces = [
        ("sysfs", "sriov_admin/{}/profile/", "vram_quota", ""),
        ("debugfs-tiles", "/sys/kernel/debug/dri/{gpu}/sriov/{}/tile0/", "vram_quota", "gt0/"),
        ("debugfs-gts", "/sys/kernel/debug/dri/{gpu}/gt0/{}/", "lmem_quota", ""),
    ];
    for (admin, share, quota, times) in interfaces {
        let gpu = loaded("simgpu_xe", &format!("admin={admin}"));
        let value = |function: &str, name: &str| {
            let folder = share.replace("{gpu}", &gpu.address).replace("{}", function);
            let between = if name == quota { "" } else { times };
            let path = gpu.sysfs(&format!("{folder}{between}{name}"));
            fs::read_to_string(&path)
                .unwrap_or_else(|error| panic!("{}: {error}", path.display()))
                .trim()
                .to_owned()
        };
        let mut daemon = Daemon::start();
        let offered = offers(&daemon, &gpu);
        assert!(offered.contains("intel-xe") && offered.contains("vf-24"), "{offered}");
        let id = daemon.create(&format!("vf-24 --gpu {}", gpu.address)).remove(0);
        assert_eq!(gpu.read("sriov_numvfs"), "24");
        assert_eq!(value("vf1", quota), "4194304");
        assert_eq!(
            (value("pf", "exec_quantum_ms"), value("vf1", "exec_quantum_ms")),
            ("64".into(), "43".into())
        );
        assert_eq!(value("vf1", "preempt_timeout_us"), "43000");
        let offered = offers(&daemon, &gpu);
        assert!(offered.contains("4194304"), "the memory of a VF, as xe says it: {offered}");
        two_tenants(&mut daemon, &gpu, &id);
        daemon.ok(&format!("destroy {id}"));
        support::wait_for("the GPU to be as before", MINUTE, || {
            (gpu.read("sriov_numvfs") == "0").then_some(())
        });
        support::wait_for("times without limit", MINUTE, || {
            (value("pf", "exec_quantum_ms") == "0" && value("pf", "preempt_timeout_us") == "0").then_some(())
        });
        assert_eq!((value("vf1", "exec_quantum_ms"), value("vf1", quota)), ("0".into(), "0".into()));
        assert_eq!(gpu.read("sriov_drivers_autoprobe"), "1");
    }
}

#[test]
fn amd_gim_hands_on_the_vfs_that_there_are_and_keeps_them() {
    let gpu = loaded("gim", "vf_num=4");
    let mut daemon = Daemon::start();
    let offered = offers(&daemon, &gpu);
    assert!(
        offered.contains("amd-gim") && offered.contains("vf-4") && !offered.contains("vf-8"),
        "{offered}"
    );
    daemon.ctl(&format!("create vf-8 --gpu {}", gpu.address)).fails_with(&["vf-8", "vf-4"]);
    let id = daemon.create(&format!("vf-4 --gpu {}", gpu.address)).remove(0);
    two_tenants(&mut daemon, &gpu, &id);
    daemon.ok(&format!("destroy {id}"));
    assert_eq!(gpu.read("sriov_numvfs"), "4");
    assert!(!gpu.sysfs("virtfn0/driver").is_symlink(), "the VF is a spare again");
}
