//! What one boot of a machine leaves for the next, on the disk that outlives it, and what vgpud says of
//! the restart.

use super::{Daemon, SimGpu, wait_for};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::{
    collections::BTreeMap,
    fs,
    io::Write,
    path::{Path, PathBuf},
    time::Duration,
};
use vgpud_lab::DISK;

/// For anything that vgpud does by itself, under emulation and on a busy machine.
pub const LIMIT: Duration = Duration::from_secs(180);

pub fn state_dir() -> PathBuf {
    Path::new(DISK).join("vgpud")
}

/// What a boot leaves for the next.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Notes {
    /// IOMMU groups by PCI address.
    pub groups: BTreeMap<String, u32>,
    /// Slices by what they are for here.
    pub slices: BTreeMap<String, String>,
}

impl Notes {
    fn path() -> PathBuf {
        Path::new(DISK).join("notes.json")
    }

    pub fn read() -> Self {
        serde_json::from_str(&fs::read_to_string(Self::path()).unwrap()).unwrap()
    }

    /// Onto the disk itself: the power may be cut.
    pub fn write(&self) {
        let mut file = fs::File::create(Self::path()).unwrap();
        file.write_all(serde_json::to_string(self).unwrap().as_bytes()).unwrap();
        file.sync_all().unwrap();
        fs::File::open(DISK).unwrap().sync_all().unwrap();
    }

    #[track_caller]
    pub fn id(&self, purpose: &str) -> &str {
        self.slices.get(purpose).unwrap_or_else(|| panic!("no slice for {purpose} in {self:?}"))
    }
}

/// The groups of these GPUs and of these slices' functions, as vgpud has them of the latter.
#[track_caller]
pub fn groups(gpus: &[SimGpu], daemon: &Daemon, ids: &[&str]) -> BTreeMap<String, u32> {
    let of_device = |address: &str| -> u32 {
        let link = fs::read_link(format!("/sys/bus/pci/devices/{address}/iommu_group")).unwrap();
        link.file_name().unwrap().to_str().unwrap().parse().unwrap()
    };
    let of_slice = |id: &&str| {
        let slice = daemon.slice(id);
        let address = slice["address"].as_str().unwrap();
        assert_eq!(slice["iommu_group"], of_device(address), "{slice:#}");
        (address.to_owned(), of_device(address))
    };
    let of_gpus = gpus.iter().map(|gpu| (gpu.address.clone(), of_device(&gpu.address)));
    of_gpus.chain(ids.iter().map(of_slice)).collect()
}

/// That no device that both boots know has the group that it had.
#[track_caller]
pub fn assert_renumbered(before: &BTreeMap<String, u32>, now: &BTreeMap<String, u32>) {
    assert!(now.keys().all(|device| before.contains_key(device)), "{before:?} and {now:?}");
    assert!(now.iter().all(|(device, is)| before[device] != *is), "groups were {before:?} and are {now:?}");
}

pub fn slices(daemon: &Daemon) -> Vec<Value> {
    daemon.json("slices")["slices"].as_array().unwrap().clone()
}

pub fn wait_until_at_rest(daemon: &Daemon) {
    wait_for("vgpud to be at rest", LIMIT, || {
        let rests =
            |slice: &Value| ["ready", "leased", "quarantined"].contains(&slice["phase"].as_str().unwrap());
        slices(daemon).iter().all(rests).then_some(())
    });
}

/// How the last lease of a slice ended.
pub fn lease_of(daemon: &Daemon, id: &str) -> (String, Value) {
    let history = daemon.json(&format!("history {id}"));
    let lease = &history["leases"][0];
    (lease["owner"].as_str().unwrap_or_default().to_owned(), lease["ended"].clone())
}

/// A guest owns the slice: it sees one GPU with clean memory and can fill it.
#[track_caller]
pub fn assert_usable(daemon: &Daemon, id: &str) {
    let output = daemon.run(&format!("{id} -- gpu list read write mine check mine")).wait();
    assert_eq!(output.code, 0, "{output:#?}");
    assert!(output.stdout.contains("nonzero 0 of"), "{output:#?}");
    daemon.wait_for_phase(id, "ready", LIMIT);
}

#[track_caller]
pub fn assert_told(daemon: &Daemon, kind: &str, words: &[&str]) {
    let text = daemon.ok("--output json events");
    let events = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let events: Vec<Value> = events.map(|line| line.get("event").cloned().unwrap_or(line)).collect();
    let fits =
        |event: &&Value| event["kind"] == kind && words.iter().all(|word| event.to_string().contains(word));
    assert!(events.iter().any(|event| fits(&event)), "no {kind} with {words:?} in {events:#?}");
}
