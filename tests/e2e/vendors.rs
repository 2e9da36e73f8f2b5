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

/// How the share of a profile of one GPU holds: as a cap, and as a floor.
fn holds(daemon: &Daemon, gpu: &SimGpu, name: &str) -> (String, String) {
    let offered = daemon.json(&format!("profiles {}", gpu.address));
    let profiles = offered["profiles"].as_array().unwrap();
    let profile = profiles.iter().find(|profile| profile["name"] == name).unwrap();
    let word = |key: &str| profile[key].as_str().unwrap().to_owned();
    (word("compute_cap"), word("compute_floor"))
}

/// A request for a 24th of an Intel GPU, as far as it holds there: the operator decides whether idle VFs keep
/// their turns, and nothing makes the floor more than best effort.
fn ask_for_a_share(daemon: &Daemon, gpu: &SimGpu, admin: &str) -> String {
    let best_effort = || ("best-effort".to_owned(), "best-effort".to_owned());
    let on = format!("--gpu {}", gpu.address);
    assert_eq!(holds(daemon, gpu, "vf-24"), best_effort());
    daemon.ctl(&format!("create --compute 4% --enforced {on}")).fails_with(&[
        format!("nothing on {} enforces that", gpu.address).as_str(),
        "vf-24, whose cap is best effort",
    ]);
    let plan = daemon.json(&format!("create --compute 4%+ {on} --dry-run"));
    assert_eq!(plan["plan"]["slices"][0]["profile"], "vf-24", "{plan}");
    if admin != "sysfs" {
        return daemon.create(&format!("--compute 4%+ {on}")).remove(0);
    }
    fs::write(gpu.sysfs("sriov_admin/.bulk_profile/sched_priority"), "normal").unwrap();
    assert_eq!(holds(daemon, gpu, "vf-24"), ("enforced".into(), "best-effort".into()));
    daemon
        .ctl(&format!("create --compute 4%+ --enforced {on}"))
        .fails_with(&["vf-24, whose floor is best effort"]);
    let id = daemon.create(&format!("--compute 4% --enforced {on}")).remove(0);
    let slice = daemon.slice(&id);
    assert_eq!((&slice["profile"], &slice["compute_cap"]), (&"vf-24".into(), &"enforced".into()), "{slice}");
    id
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
        let id = ask_for_a_share(&daemon, &gpu, admin);
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
    // Its four VFs have two dies each.
    assert_eq!(holds(&daemon, &gpu, "vf-4"), ("enforced".into(), "enforced".into()));
    let id = daemon.create(&format!("vf-4 --gpu {}", gpu.address)).remove(0);
    two_tenants(&mut daemon, &gpu, &id);
    daemon.ok(&format!("destroy {id}"));
    assert_eq!(gpu.read("sriov_numvfs"), "4");
    assert!(!gpu.sysfs("virtfn0/driver").is_symlink(), "the VF is a spare again");
}
