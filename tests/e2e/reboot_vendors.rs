//! The vendors' own mechanisms over restarts of the host: what each has to make again is not what the
//! others have, and none of it was there when the kernel came up.
//!
//! Each module is one boot (xtask/src/suites.rs), as in `reboot`.

#![allow(clippy::unwrap_used)]

mod support;

use serde_json::Value;
use std::fs;
use support::{
    Daemon, Model, SimGpu, Tenant, assert_nothing_left, entries,
    restart::{
        LIMIT, Notes, assert_renumbered, assert_told, assert_usable, groups, lease_of, slices, state_dir,
        wait_until_at_rest,
    },
    tell, wait_for,
};

const GIM: Model = Model::Mi300x;
const NVIDIA: Model = Model::L40s;
const WHOLE: Model = Model::Rtx5070;
const XE: Model = Model::B60;

/// Those that the last boot has too.
const THAT_STAY: [Model; 3] = [GIM, NVIDIA, WHOLE];

/// With several slices each, by how a slice is asked for.
const DIVIDED: [(Model, &str); 3] = [(GIM, "vf-8"), (NVIDIA, "L40S-2Q"), (XE, "vf-24")];

fn start() -> Daemon {
    let (nvidia, whole) = (SimGpu::find(NVIDIA).address, SimGpu::find(WHOLE).address);
    let settings = format!(
        "[gpu.\"{nvidia}\"]\nreuse = \"reset\"\n[gpu.\"{whole}\"]\nmechanism = \"passthrough\"\n\
         reuse = \"reset\"\n[timeouts]\ndevice = \"80s\""
    );
    Daemon::start_on(&state_dir(), &settings)
}

fn purpose(what: &str, model: Model) -> String {
    format!("{what} {model:?}")
}

/// The numbers of the types of the vGPUs that there are.
fn vgpu_types() -> Vec<String> {
    let gpu = SimGpu::find(NVIDIA);
    let of_vf =
        |index| fs::read_to_string(gpu.sysfs(&format!("virtfn{index}/nvidia/current_vgpu_type"))).ok();
    let texts = (0..32).filter_map(of_vf).map(|text| text.trim().to_owned());
    texts.filter(|number| number != "0").collect()
}

fn share_of_first_vf(name: &str) -> String {
    SimGpu::find(XE).read(&format!("sriov_admin/vf1/profile/{name}"))
}

fn driver_of(slice: &Value) -> String {
    let link = format!("/sys/bus/pci/devices/{}/driver", slice["address"].as_str().unwrap());
    fs::read_link(link).unwrap().file_name().unwrap().to_string_lossy().into_owned()
}

/// As the kernel and the PF drivers leave the GPUs.
#[track_caller]
fn assert_untouched(vfs_of_gim: &str) {
    assert_eq!(SimGpu::find(GIM).read("sriov_numvfs"), vfs_of_gim, "gim's own");
    assert_eq!(SimGpu::find(NVIDIA).read("sriov_numvfs"), "0");
    assert_eq!(SimGpu::find(WHOLE).driver().as_deref(), Some("simgpu_display"));
}

/// What each mechanism has to make, with slices of all.
#[track_caller]
fn assert_made(daemon: &Daemon, notes: &Notes) {
    assert_eq!(SimGpu::find(NVIDIA).read("sriov_numvfs"), "32", "by sriov-manage");
    let types = vgpu_types();
    assert!(types.len() == 3 && types.iter().all(|number| *number == types[0]), "{types:?}");
    assert_eq!(SimGpu::find(WHOLE).driver().as_deref(), Some("vfio-pci"));
    let of_gim = daemon.slice(notes.id(&purpose("ready", GIM)));
    assert_eq!(driver_of(&of_gim), "vfio-pci");
}

#[track_caller]
fn assert_shares() {
    assert_eq!(SimGpu::find(XE).read("sriov_numvfs"), "24");
    let shares = ["exec_quantum_ms", "preempt_timeout_us", "vram_quota"].map(share_of_first_vf);
    assert_eq!(shares, ["43", "43000", "4194304"]);
}

mod first_boot {
    use super::*;

    #[test]
    fn the_power_is_cut_under_tenants_of_every_vendor() {
        assert_untouched("8");
        let daemon = start();
        let mut notes = Notes::default();
        for (model, profile) in DIVIDED {
            let words = format!("{profile} --gpu {}", SimGpu::find(model).address);
            for (what, owner) in [("ready", ""), ("leased", " --owner tenant"), ("guest", "")] {
                let id = daemon.create(&format!("{words}{owner}")).remove(0);
                notes.slices.insert(purpose(what, model), id);
            }
        }
        let words = format!("whole --gpu {} --owner tenant", SimGpu::find(WHOLE).address);
        notes.slices.insert(purpose("leased", WHOLE), daemon.create(&words).remove(0));
        let with_guests = [GIM, NVIDIA, XE].map(|model| notes.id(&purpose("guest", model)).to_owned());
        let guests = with_guests.map(|id| {
            daemon.run(&format!("{id} --owner guest --memory 128MiB -- gpu list write secret hold 36000"))
        });
        for mut guest in guests {
            guest.wait_for("holding");
            guest.leave_running();
        }
        assert_made(&daemon, &notes);
        assert_shares();
        let gpus = [GIM, NVIDIA, WHOLE, XE].map(SimGpu::find);
        notes.groups = groups(&gpus, &daemon, &[notes.id(&purpose("ready", GIM))]);
        notes.write();
        daemon.leave_running();
    }
}

mod second_boot {
    use super::*;

    #[test]
    fn every_mechanism_makes_its_slices_again() {
        let mut notes = Notes::read();
        assert_untouched("8");
        assert_eq!(SimGpu::find(XE).read("sriov_numvfs"), "0");
        assert_eq!(share_of_first_vf("exec_quantum_ms"), "0");

        let mut daemon = start();
        wait_until_at_rest(&daemon);
        assert_made(&daemon, &notes);
        assert_shares();
        // VFs of the others get their groups when vgpud makes them, in the order in which that happens.
        let gpus = [GIM, NVIDIA, WHOLE, XE].map(SimGpu::find);
        let groups_now = groups(&gpus, &daemon, &[notes.id(&purpose("ready", GIM))]);
        assert_renumbered(&notes.groups, &groups_now);
        assert_told(&daemon, "host-restarted", &[]);
        assert!(entries("/run/cdi").is_empty());
        let all: Vec<String> = notes.slices.values().cloned().collect();
        groups(&[], &daemon, &all.iter().map(String::as_str).collect::<Vec<_>>());
        for id in &all {
            let slice = daemon.slice(id);
            assert_eq!((&slice["phase"], &slice["lease"]), (&"ready".into(), &Value::Null), "{slice:#}");
            assert_told(&daemon, "slice-creating", &[id, "restart"]);
        }
        for (purpose, id) in &notes.slices {
            if let Some((owner, _)) = purpose.split_once(' ').filter(|(what, _)| *what != "ready") {
                let owner = if owner == "leased" { "tenant" } else { owner };
                assert_eq!(lease_of(&daemon, id), (owner.to_owned(), "host-restarted".into()), "{purpose}");
            }
        }
        for model in [GIM, NVIDIA, XE] {
            let id = notes.id(&purpose("leased", model));
            assert_usable(&daemon, id);
            daemon.ok(&format!("lease {id} --owner second"));
        }
        let whole = notes.id(&purpose("leased", WHOLE));
        daemon.ok(&format!("lease {whole} --owner second"));
        assert!(Tenant::open(&daemon.slice(whole)).write() > 0);
        daemon.stop();
        notes.groups = groups_now;
        notes.write();
    }
}

mod third_boot {
    use super::*;

    /// The Intel is missing, and gim was loaded for another number of VFs.
    #[test]
    fn what_cannot_be_made_again_is_explained_and_the_rest_is_made() {
        let notes = Notes::read();
        assert_untouched("4");
        let daemon = start();
        wait_until_at_rest(&daemon);
        let now = groups(&THAT_STAY.map(SimGpu::find), &daemon, &[]);
        assert_renumbered(&notes.groups, &now);

        let quarantined = |what: &str, model: Model, words: &[&str]| {
            let slice = daemon.slice(notes.id(&purpose(what, model)));
            let reason = slice["quarantine_reason"].as_str().unwrap_or_default();
            tell!("{reason}");
            assert!(
                slice["phase"] == "quarantined" && words.iter().all(|word| reason.contains(word)),
                "{slice:#}"
            );
            assert_eq!(slice["lease"], Value::Null);
            slice
        };
        for what in ["ready", "leased", "guest"] {
            let slice = quarantined(what, XE, &[]);
            let gpu = slice["gpu"].as_str().unwrap();
            quarantined(what, XE, &[gpu]);
            assert!(!entries("/sys/bus/pci/devices").iter().any(|device| device == gpu));
            assert_told(&daemon, "gpu-vanished", &[gpu]);
            quarantined(what, GIM, &["has the 4 VFs that its driver made", "8 are needed", "vf_num"]);
        }
        assert_eq!(SimGpu::find(NVIDIA).read("sriov_numvfs"), "32", "by sriov-manage");
        assert_eq!(vgpu_types().len(), 3);
        assert_eq!(SimGpu::find(WHOLE).driver().as_deref(), Some("vfio-pci"));
        for model in [NVIDIA, WHOLE] {
            let id = notes.id(&purpose("leased", model));
            assert_eq!(lease_of(&daemon, id), ("second".to_owned(), "host-restarted".into()));
        }
        assert_usable(&daemon, notes.id(&purpose("leased", NVIDIA)));
        // The AMD serves what it offers now, once nothing of the other number is left.
        let lost: Vec<&str> = ["ready", "leased", "guest"].map(|what| notes.id(&purpose(what, GIM))).to_vec();
        daemon.ok(&format!("destroy {}", lost.join(" ")));
        let id = daemon.create(&format!("vf-4 --gpu {}", SimGpu::find(GIM).address)).remove(0);
        assert_usable(&daemon, &id);
        for slice in slices(&daemon) {
            daemon.ok(&format!("destroy {}", slice["id"].as_str().unwrap()));
        }
        wait_for("the GPUs to be put back", LIMIT, || {
            let whole = SimGpu::find(WHOLE).driver().as_deref() == Some("simgpu_display");
            (whole && SimGpu::find(NVIDIA).read("sriov_numvfs") == "0").then_some(())
        });
        assert_untouched("4");
        assert_nothing_left(&daemon);
        daemon.ok("ledger check");
    }
}
