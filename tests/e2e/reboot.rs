//! The lab host really restarts, and vgpud finds its ledger on the disk that outlived it: once after a
//! power cut with work under way, once after a clean stop.
//!
//! Each module is one boot (xtask/src/suites.rs); what one knows the next reads from [`Notes`].

#![allow(clippy::unwrap_used)]

mod support;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::{
    collections::BTreeMap,
    fs,
    io::Write,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};
use support::{Daemon, Model, SimGpu, assert_nothing_left, entries, wait_for};
use vgpud_lab::DISK;

/// For anything that vgpud does by itself, under emulation and on a busy machine.
const LIMIT: Duration = Duration::from_secs(180);

const MODELS: [Model; 4] = [Model::Simmdev, Model::Mi300x, Model::Sim, Model::Flex170];

fn state_dir() -> PathBuf {
    Path::new(DISK).join("vgpud")
}

/// What a boot leaves for the next.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Notes {
    /// IOMMU groups by PCI address.
    groups: BTreeMap<String, u32>,
    /// Slices by what they are for here.
    slices: BTreeMap<String, String>,
}

impl Notes {
    fn path() -> PathBuf {
        Path::new(DISK).join("notes.json")
    }

    fn read() -> Self {
        serde_json::from_str(&fs::read_to_string(Self::path()).unwrap()).unwrap()
    }

    /// Onto the disk itself: the power may be cut.
    fn write(&self) {
        let mut file = fs::File::create(Self::path()).unwrap();
        file.write_all(serde_json::to_string(self).unwrap().as_bytes()).unwrap();
        file.sync_all().unwrap();
        fs::File::open(DISK).unwrap().sync_all().unwrap();
    }

    fn id(&self, purpose: &str) -> &str {
        self.slices.get(purpose).unwrap_or_else(|| panic!("no slice for {purpose} in {self:?}"))
    }
}

/// The groups of these GPUs and of one slice.
fn groups(models: &[Model], daemon: &Daemon, id: &str) -> BTreeMap<String, u32> {
    let of_device = |address: String| {
        let link = fs::read_link(format!("/sys/bus/pci/devices/{address}/iommu_group")).unwrap();
        let group = link.file_name().unwrap().to_str().unwrap().parse().unwrap();
        (address, group)
    };
    let slice = daemon.slice(id);
    let vf = of_device(slice["address"].as_str().unwrap().to_owned());
    assert_eq!(slice["iommu_group"], vf.1, "{slice:#}");
    models.iter().map(|model| of_device(SimGpu::find(*model).address)).chain([vf]).collect()
}

/// That no device that both boots know has the group that it had.
#[track_caller]
fn assert_renumbered(before: &BTreeMap<String, u32>, now: &BTreeMap<String, u32>) {
    assert!(now.keys().all(|device| before.contains_key(device)), "{before:?} and {now:?}");
    assert!(now.iter().all(|(device, is)| before[device] != *is), "groups were {before:?} and are {now:?}");
}

fn slices(daemon: &Daemon) -> Vec<Value> {
    daemon.json("slices")["slices"].as_array().unwrap().clone()
}

fn wait_until_at_rest(daemon: &Daemon) {
    wait_for("vgpud to be at rest", LIMIT, || {
        let rests =
            |slice: &Value| ["ready", "leased", "quarantined"].contains(&slice["phase"].as_str().unwrap());
        slices(daemon).iter().all(rests).then_some(())
    });
}

/// How the last lease of a slice ended.
fn lease_of(daemon: &Daemon, id: &str) -> (String, Value) {
    let history = daemon.json(&format!("history {id}"));
    let lease = &history["leases"][0];
    (lease["owner"].as_str().unwrap_or_default().to_owned(), lease["ended"].clone())
}

/// A guest owns the slice: it sees one GPU with clean memory and can fill it.
#[track_caller]
fn assert_usable(daemon: &Daemon, id: &str) {
    let output = daemon.run(&format!("{id} -- gpu list read write mine check mine")).wait();
    assert_eq!(output.code, 0, "{output:#?}");
    assert!(output.stdout.contains("nonzero 0 of"), "{output:#?}");
    daemon.wait_for_phase(id, "ready", LIMIT);
}

#[track_caller]
fn assert_told(daemon: &Daemon, kind: &str, words: &[&str]) {
    let text = daemon.ok("--output json events");
    let events = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let events: Vec<Value> = events.map(|line| line.get("event").cloned().unwrap_or(line)).collect();
    let fits =
        |event: &&Value| event["kind"] == kind && words.iter().all(|word| event.to_string().contains(word));
    assert!(events.iter().any(|event| fits(&event)), "no {kind} with {words:?} in {events:#?}");
}

mod first_boot {
    use super::*;

    /// Slices that are ready, leased, in a running guest, out of use, and one that is being created.
    #[test]
    fn the_power_is_cut_with_work_under_way() {
        let [mdev, mi300x, sim, flex] = MODELS.map(SimGpu::find);
        let daemon = Daemon::start_on(&state_dir());
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
        notes.groups = groups(&MODELS, &daemon, notes.id("ready vf"));
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

        let mut daemon = Daemon::start_on(&state_dir());
        wait_until_at_rest(&daemon);
        let groups = groups(&MODELS, &daemon, notes.id("ready vf"));
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
        let daemon = Daemon::start_on(&state_dir());
        wait_until_at_rest(&daemon);
        assert_renumbered(&notes.groups, &groups(&MODELS[..3], &daemon, notes.id("ready vf")));
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
