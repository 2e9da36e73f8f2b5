//! The lab host really restarts, and vgpud finds its ledger on the disk that outlived it: once after a
//! power cut with work under way, once after a clean stop.
//!
//! Each module is one boot (xtask/src/suites.rs); what one knows the next reads from [`Notes`](support::restart::Notes).

#![allow(clippy::unwrap_used)]

mod support;

use serde_json::Value;
use std::{fs, process::Stdio};
use support::{
    Daemon, Model, SimGpu, assert_nothing_left, entries,
    restart::{
        LIMIT, Notes, assert_renumbered, assert_told, assert_usable, groups, lease_of, slices, state_dir,
        wait_until_at_rest,
    },
    wait_for,
};

const MODELS: [Model; 4] = [Model::Simmdev, Model::Mi300x, Model::Sim, Model::Flex170];

mod first_boot {
    use super::*;

    /// Slices that are ready, leased, in a running guest, out of use, and one that is being created.
    #[test]
    fn the_power_is_cut_with_work_under_way() {
        let [mdev, mi300x, sim, flex] = MODELS.map(SimGpu::find);
        let daemon = Daemon::start_on(&state_dir(), "");
        let mut notes = Notes::default();
        let mut create = |purpose: &str, words: String| {
            let id = daemon.create(&words).remove(0);
            notes.slices.insert(purpose.to_owned(), id.clone());
            id
        };
        for (kind, words) in [
            ("vf", format!("vf-8 --gpu {}", mi300x.address)),
            ("mdev", format!("simgpu_mdev-small --gpu {}", mdev.address)),
        ] {
            create(&format!("ready {kind}"), words.clone());
            create(&format!("leased {kind}"), format!("{words} --owner tenant-{kind}"));
            let guest = create(&format!("guest {kind}"), words.clone());
            let quarantined =
                create(&format!("quarantined {kind}"), format!("{words} --owner careless-{kind}"));
            let gpu = if kind == "vf" { &mi300x } else { &mdev };
            let knob = gpu.set("flr", "fail-fast", "clear");
            daemon.ctl(&format!("release {quarantined}")).failure();
            drop(knob);
            assert_eq!(daemon.phase(&quarantined), "quarantined");
            let mut vm =
                daemon.run(&format!("{guest} --owner guest-{kind} -- gpu list write secret hold 36000"));
            vm.wait_for("holding");
            vm.leave_running();
        }
        create("recut", format!("vf-8 --gpu {} --owner tenant-recut", sim.address));

        // Longer than the power lasts.
        flex.turn("create_ms", "50000");
        let begun = daemon
            .vgpuctl()
            .args(["create", "vf-4", "--gpu", &flex.address])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let creating = wait_for("the last creation to begin", LIMIT, || {
            let slices = slices(&daemon);
            slices.iter().find(|slice| slice["phase"] == "creating").map(|slice| slice["id"].clone())
        });
        drop(begun);
        notes.slices.insert("creating".to_owned(), creating.as_str().unwrap().to_owned());
        notes.groups = groups(&MODELS.map(SimGpu::find), &daemon, &[notes.id("ready vf")]);
        notes.write();
        daemon.leave_running();
    }
}

mod second_boot {
    use super::*;

    #[test]
    fn leases_are_closed_and_slices_made_again_after_a_power_cut() {
        let mut notes = Notes::read();
        let sim = SimGpu::find(Model::Sim);
        assert!(entries("/sys/bus/mdev/devices").is_empty(), "mdevs are gone with the boot");
        assert!(MODELS[1..].iter().all(|model| SimGpu::find(*model).read("sriov_numvfs") == "0"));
        // Somebody else is faster, and cuts this one otherwise.
        fs::write(sim.sysfs("sriov_drivers_autoprobe"), "0").unwrap();
        fs::write(sim.sysfs("sriov_numvfs"), "4").unwrap();

        let mut daemon = Daemon::start_on(&state_dir(), "");
        wait_until_at_rest(&daemon);
        let groups = groups(&MODELS.map(SimGpu::find), &daemon, &[notes.id("ready vf")]);
        assert_renumbered(&notes.groups, &groups);
        assert_told(&daemon, "host-restarted", &[]);
        assert!(entries("/run/cdi").is_empty());

        for kind in ["vf", "mdev"] {
            let [ready, leased, guest, quarantined] = ["ready", "leased", "guest", "quarantined"]
                .map(|purpose| notes.id(&format!("{purpose} {kind}")).to_owned());
            for id in [&ready, &leased, &guest] {
                assert_eq!(daemon.phase(id), "ready", "{:#}", daemon.slice(id));
                assert_eq!(daemon.slice(id)["lease"], Value::Null);
                assert_told(&daemon, "slice-creating", &[id, "restart"]);
            }
            for (id, owner) in [(&leased, format!("tenant-{kind}")), (&guest, format!("guest-{kind}"))] {
                assert_eq!(lease_of(&daemon, id), (owner.clone(), "host-restarted".into()));
                assert_told(&daemon, "lease-ended", &[id, &owner, "restart"]);
            }
            assert_eq!(daemon.phase(&quarantined), "quarantined");
            assert_usable(&daemon, &guest);
        }

        let creating = daemon.slice(notes.id("creating"));
        assert_eq!(
            (&creating["phase"], &creating["profile"]),
            (&"ready".into(), &"vf-4".into()),
            "{creating:#}"
        );

        let recut = daemon.slice(notes.id("recut"));
        let reason = recut["quarantine_reason"].as_str().unwrap_or_default();
        assert!(
            recut["phase"] == "quarantined" && reason.contains("4 VFs enabled and 8 are needed"),
            "{recut:#}"
        );
        assert_eq!(
            lease_of(&daemon, notes.id("recut")),
            ("tenant-recut".to_owned(), "host-restarted".into())
        );
        daemon.ok(&format!("destroy {}", notes.id("recut")));
        assert_eq!(sim.read("sriov_numvfs"), "4", "somebody else's");

        // For the clean restart: one that is leased, also of the GPU that will be missing.
        for purpose in ["leased vf", "leased mdev", "creating"] {
            daemon.ok(&format!("lease {} --owner second", notes.id(purpose)));
        }
        daemon.stop();
        notes.groups = groups;
        notes.write();
    }
}

mod third_boot {
    use super::*;

    #[test]
    fn a_clean_restart_without_one_gpu() {
        let notes = Notes::read();
        let daemon = Daemon::start_on(&state_dir(), "");
        wait_until_at_rest(&daemon);
        let present: Vec<_> = MODELS[..3].iter().map(|model| SimGpu::find(*model)).collect();
        assert_renumbered(&notes.groups, &groups(&present, &daemon, &[notes.id("ready vf")]));
        assert_told(&daemon, "host-restarted", &[]);
        for purpose in ["leased vf", "leased mdev", "creating"] {
            assert_eq!(
                lease_of(&daemon, notes.id(purpose)).0,
                "second",
                "{:#}",
                daemon.json(&format!("history {}", notes.id(purpose)))
            );
        }
        for purpose in ["leased vf", "leased mdev"] {
            assert_eq!(lease_of(&daemon, notes.id(purpose)).1, "host-restarted");
            assert_usable(&daemon, notes.id(purpose));
        }
        let absent = daemon.slice(notes.id("creating"));
        let gpu = absent["gpu"].as_str().unwrap();
        assert!(!entries("/sys/bus/pci/devices").iter().any(|device| device == gpu), "{gpu} is missing");
        let reason = absent["quarantine_reason"].as_str().unwrap_or_default();
        assert!(absent["phase"] == "quarantined" && reason.contains(gpu), "{absent:#}");
        assert_eq!(absent["lease"], Value::Null);
        assert_told(&daemon, "gpu-vanished", &[gpu]);
        daemon.ok(&format!("destroy {}", notes.id("creating")));

        // What was out of use before both restarts has its way out.
        for purpose in ["quarantined vf", "quarantined mdev"] {
            assert_eq!(daemon.phase(notes.id(purpose)), "quarantined");
            daemon.ok(&format!("quarantine clear {}", notes.id(purpose)));
            assert_usable(&daemon, notes.id(purpose));
        }
        for slice in slices(&daemon) {
            daemon.ok(&format!("destroy {}", slice["id"].as_str().unwrap()));
        }
        assert_nothing_left(&daemon);
        daemon.ok("ledger check");
    }
}
