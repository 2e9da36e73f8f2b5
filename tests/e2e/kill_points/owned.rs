//! Whether everything on the host that vgpud makes belongs to a slice of its ledger, and the other way
//! round.

use super::support::{Daemon, Model, SimGpu, entries};
use serde_json::Value;
use std::{collections::BTreeSet, fs, os::unix::fs::PermissionsExt, path::Path};

pub fn slices(daemon: &Daemon) -> Vec<Value> {
    daemon.json("slices")["slices"].as_array().unwrap().clone()
}

/// The same of a vgpud that may die at any moment.
pub fn slices_if_it_lives(daemon: &Daemon) -> Option<Vec<Value>> {
    let listed = daemon.ctl("--output json slices");
    (listed.code == 0).then(|| {
        let listed: Value = serde_json::from_str(&listed.stdout).unwrap();
        listed["slices"].as_array().unwrap().clone()
    })
}

fn texts(slices: &[Value], field: &str) -> BTreeSet<String> {
    slices.iter().filter_map(|slice| slice[field].as_str().map(str::to_owned)).collect()
}

fn ids(slices: &[Value], phase: &str) -> BTreeSet<String> {
    let chosen: Vec<_> = slices.iter().filter(|slice| slice["phase"] == phase).cloned().collect();
    texts(&chosen, "id")
}

/// VFs of all GPUs that were made ready for VFIO.
fn bound() -> BTreeSet<String> {
    let devices = entries("/sys/bus/pci/devices").into_iter();
    let is_bound = |device: &String| {
        let folder = Path::new("/sys/bus/pci/devices").join(device);
        let chosen = fs::read_to_string(folder.join("driver_override")).unwrap_or_default();
        folder.join("physfn").is_symlink()
            && (folder.join("driver").is_symlink() || !["", "(null)"].contains(&chosen.trim()))
    };
    devices.filter(is_bound).collect()
}

/// The slices that runtimes can find.
fn published() -> BTreeSet<String> {
    let files = entries("/var/run/cdi").into_iter().map(|name| Path::new("/var/run/cdi").join(name));
    let device = |path: std::path::PathBuf| {
        let text = fs::read_to_string(&path).unwrap();
        let file: Value = serde_json::from_str(&text)
            .unwrap_or_else(|error| panic!("{}: {error} in {text:?}", path.display()));
        file["devices"][0]["name"].as_str().unwrap().to_owned()
    };
    files.map(device).collect()
}

/// Whether a GPU without slices is as vgpud found it.
fn is_put_back(gpu: &SimGpu) -> bool {
    gpu.read("sriov_numvfs") == "0" && gpu.read("sriov_drivers_autoprobe") == "1"
}

/// Whether nothing is under way: neither for a slice nor for a GPU.
pub fn is_at_rest(slices: &[Value]) -> bool {
    let rests =
        |slice: &Value| ["ready", "leased", "quarantined"].contains(&slice["phase"].as_str().unwrap());
    let cut = texts(slices, "gpu");
    let gpus = [Model::Sim, Model::Mi300x].map(SimGpu::find);
    slices.iter().all(rests) && gpus.iter().all(|gpu| cut.contains(&gpu.address) || is_put_back(gpu))
}

/// Fails where anything has no owner, or a slice has not what it needs. Only for slices at rest.
#[track_caller]
pub fn assert_owned(daemon: &Daemon, slices: &[Value]) {
    let mdevs: BTreeSet<String> = entries("/sys/bus/mdev/devices").into_iter().collect();
    assert_eq!(mdevs, texts(slices, "mdev_uuid"), "mdevs, and those of {slices:#?}");
    assert_eq!(bound(), texts(slices, "address"), "VFs, and those of {slices:#?}");
    assert_eq!(published(), ids(slices, "leased"), "CDI devices, and leased slices of {slices:#?}");
    let groups = entries("/dev/vfio").into_iter().filter(|name| name != "vfio" && name != "devices");
    let groups: BTreeSet<String> = groups.map(|name| format!("/dev/vfio/{name}")).collect();
    assert_eq!(groups, texts(slices, "group_node"), "nodes, and those of {slices:#?}");
    for node in groups {
        let mode = fs::metadata(&node).unwrap().permissions().mode() & 0o7777;
        assert_eq!(mode, 0o600, "{node} of {slices:#?}");
    }
    let history = daemon.json("history");
    let leases = history["leases"].as_array().unwrap();
    let open: Vec<&str> = leases
        .iter()
        .filter(|lease| lease["to_unix_ms"].is_null())
        .map(|lease| lease["slice"].as_str().unwrap())
        .collect();
    let leased = ids(slices, "leased");
    assert_eq!(open.len(), leased.len(), "one open lease a leased slice: {open:?}");
    assert_eq!(open.iter().map(|id| (*id).to_owned()).collect::<BTreeSet<_>>(), leased);
    daemon.ok("ledger check");
}
