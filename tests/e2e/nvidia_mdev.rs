//! NVIDIA's vGPUs as mediated devices, through vgpuctl and a confined vgpud on the simulated host driver
//! (tests/lab/kmod/README.md): of a T4 itself, and of an A100's VFs as older kernels have them.

#![allow(clippy::unwrap_used)]

mod support;

use serde_json::{Value, json};
use std::{fs, path::Path, time::Duration};
use support::{Daemon, Model, SimGpu, Tenant, Turned, assert_nothing_left, entries, tell, wait_for};

const MINUTE: Duration = Duration::from_secs(60);

/// The two cards, as the driver's start leaves them.
struct Cards {
    t4: SimGpu,
    a100: SimGpu,
    _framework: Turned,
}

impl Cards {
    #[track_caller]
    fn find() -> Self {
        let (t4, a100) = (SimGpu::find(Model::T4), SimGpu::find(Model::A100));
        assert_eq!([t4.driver(), a100.driver()].map(Option::unwrap), ["nvidia", "nvidia"]);
        assert!(!t4.sysfs("sriov_numvfs").try_exists().unwrap(), "it has no SR-IOV");
        assert_eq!(a100.read("sriov_numvfs"), "0");
        let framework = a100.set("nvidia/framework", "mdev", "vendor");
        Self { t4, a100, _framework: framework }
    }

    /// A vgpud that knows what the A100's VFs will be. No BAR shows a vGPU's memory, so what its driver does is
    /// taken at its word.
    #[track_caller]
    fn serve(&self) -> Daemon {
        let a100 = &self.a100.address;
        Daemon::start_with(&format!("[gpu.\"{a100}\"]\nmechanism = \"nvidia-mdev\"\n{SETTINGS}"))
    }
}

const SETTINGS: &str = "[scrub]\nreuse = \"reset\"\n[timeouts]\ndevice = \"80s\"\nrelease = \"2s\"";

/// What vgpuctl shows of a card.
fn shown(daemon: &Daemon, gpu: &SimGpu) -> Value {
    let gpus = daemon.json("gpus");
    let mut gpus = gpus["gpus"].as_array().unwrap().iter();
    gpus.find(|of| of["address"] == gpu.address.as_str()).unwrap().clone()
}

/// How many of a profile can be created.
fn available(daemon: &Daemon, gpu: &SimGpu, profile: &str) -> u64 {
    let profiles = daemon.json(&format!("profiles {}", gpu.address));
    let mut profiles = profiles["profiles"].as_array().unwrap().iter();
    profiles.find(|of| of["name"] == profile).unwrap()["available"].as_u64().unwrap()
}

fn create(daemon: &Daemon, profile: &str, gpu: &SimGpu) -> String {
    daemon.create(&format!("{profile} --gpu {}", gpu.address)).remove(0)
}

/// The parent of a slice's mediated device, and the name of its type's folder.
fn parent_and_type(slice: &Value) -> (String, String) {
    let device = Path::new("/sys/bus/mdev/devices").join(slice["mdev_uuid"].as_str().unwrap());
    let name = |path: &Path| path.file_name().unwrap().to_string_lossy().into_owned();
    let parent = fs::canonicalize(&device).unwrap().parent().map(name).unwrap();
    (parent, name(&fs::read_link(device.join("mdev_type")).unwrap()))
}

fn vf(gpu: &SimGpu, index: u32) -> String {
    let link = fs::read_link(gpu.sysfs(&format!("virtfn{index}"))).unwrap();
    link.file_name().unwrap().to_string_lossy().into_owned()
}

/// One vGPU of each card goes from a micro-VM to the next owner while vgpud is killed and comes back; both cards
/// are full in between, and nothing is left of either.
#[test]
fn vgpus_of_a_pf_and_of_vfs_from_their_creation_to_their_end() {
    let cards = Cards::find();
    let Cards { t4, a100, .. } = &cards;
    let mut daemon = cards.serve();
    let halves = [(t4, "T4-8Q"), (a100, "A100D-40C")];
    assert_eq!(shown(&daemon, t4)["mechanisms"], json!(["nvidia-mdev"]));
    assert_eq!(halves.map(|(gpu, half)| available(&daemon, gpu, half)), [2, 2]);
    assert_eq!((available(&daemon, t4, "T4-16Q"), available(&daemon, t4, "T4-1Q")), (1, 16));

    let used = halves.map(|(gpu, half)| create(&daemon, half, gpu));
    let slices = used.each_ref().map(|id| daemon.slice(id));
    assert_eq!(slices.each_ref().map(|slice| slice["memory_bytes"].as_u64().unwrap() >> 30), [8, 40]);
    assert_eq!(
        slices.each_ref().map(parent_and_type),
        [(t4.address.clone(), "nvidia-233".to_owned()), (vf(a100, 0), "nvidia-697".to_owned())]
    );
    assert_eq!(a100.read("sriov_numvfs"), "20", "by sriov-manage");
    assert_eq!(shown(&daemon, a100)["mechanisms"], json!(["nvidia-mdev"]), "now that its VFs are on");

    // The first one sets the size of all, and two fill the card.
    let made = || [t4, a100].map(|gpu| gpu.counter("create"));
    let before = made();
    let refused = |gpu: &SimGpu, profile: &str| {
        let refused = daemon.ctl(&format!("create {profile} --gpu {} --dry-run", gpu.address));
        tell!("{}", refused.stderr.trim_end());
        refused.fails_with(&[profile, "can be created now"]);
    };
    for (gpu, profile) in [(t4, "T4-4Q"), (t4, "T4-16A"), (a100, "A100D-20C")] {
        refused(gpu, profile);
    }
    assert_eq!(available(&daemon, t4, "T4-4Q"), 0, "as its driver counts");
    assert_eq!(halves.map(|(gpu, half)| available(&daemon, gpu, half)), [1, 1]);
    daemon.ok(&format!("create T4-8Q --gpu {} --dry-run", t4.address));
    assert_eq!(made(), before, "a dry run makes nothing");
    let spare = halves.map(|(gpu, half)| create(&daemon, half, gpu));
    let second = parent_and_type(&daemon.slice(&spare[1]));
    assert_eq!(second, (vf(a100, 1), "vfio-pci-697".to_owned()), "of its own name here");
    for (gpu, half) in halves {
        refused(gpu, half);
    }

    let command = "gpu list write mine check mine hold 3600";
    let mut guests =
        used.each_ref().map(|id| daemon.run(&format!("{id} --owner guest --memory 128MiB -- {command}")));
    guests.iter_mut().for_each(|guest| guest.wait_for("holding"));
    let console = guests.each_ref().map(|guest| guest.console());
    for (console, bytes) in console.iter().zip([8 << 20, 32 << 20]) {
        assert!(console.contains(&format!(" vram {bytes}")), "{console}");
        assert!(console.contains(&format!("holds mine: 0 of {} pages differ", bytes / 4096)), "{console}");
    }
    daemon.kill();
    daemon.start_again();
    for id in &used {
        assert_eq!(
            (daemon.phase(id), &daemon.slice(id)["lease"]["owner"]),
            ("leased".into(), &json!("guest"))
        );
        daemon.ctl(&format!("release {id}")).fails_with(&[id, "qemu"]);
        daemon.ctl(&format!("destroy {id}")).fails_with(&[id, "is leased to"]);
    }
    let before = made();
    for guest in guests {
        guest.signal("TERM");
        guest.wait();
    }
    for id in &used {
        daemon.wait_for_phase(id, "ready", MINUTE);
        daemon.ok(&format!("lease {id} --owner next"));
        assert_eq!(Tenant::open(&daemon.slice(id)).found(), 0, "the next owner finds nothing");
        daemon.ok(&format!("release {id}"));
        daemon.wait_for_phase(id, "ready", MINUTE);
    }
    assert_eq!(made(), before.map(|count| count + 2), "made anew after each owner");

    daemon.ok(&format!("destroy {} {}", used.join(" "), spare.join(" ")));
    wait_for("the VFs to go", MINUTE, || (a100.read("sriov_numvfs") == "0").then_some(()));
    assert!(entries("/sys/class/mdev_bus") == [t4.address.clone()], "the T4 alone is a parent");
    assert_eq!(a100.driver().as_deref(), Some("nvidia"));
    let log = daemon.log();
    let runs: Vec<_> = log.lines().filter(|line| line.contains("sriov-manage")).collect();
    assert!(runs.len() == 2 && runs.iter().all(|run| run.contains(&a100.address)), "{runs:#?}");
    assert_nothing_left(&daemon);
}

/// What goes wrong is said with its way out, or seen through, and nothing is left of it.
#[test]
fn what_drivers_of_mediated_devices_do_is_seen_through() {
    let cards = Cards::find();
    let Cards { t4, a100, .. } = &cards;
    // Without a word in the settings the first mechanism is tried, and finds VFs of the other framework.
    let daemon = Daemon::start_with(SETTINGS);
    let refused = daemon.ctl(&format!("create A100D-40C --gpu {}", a100.address));
    tell!("{}", refused.stderr);
    refused.fails_with(&["mediated devices", "mechanism = \"nvidia-mdev\"", &a100.address]);
    assert_nothing_left(&daemon);

    let knob = t4.set("nvidia/refuse_type", "233", "0");
    let refused = daemon.ctl(&format!("create T4-8Q --gpu {}", t4.address));
    tell!("{}", refused.stderr);
    refused.fails_with(&["nvidia-233/create", "cannot create this type"]);
    drop(knob);
    assert_nothing_left(&daemon);

    // Some drivers remove the device when its VM ends.
    let id = create(&daemon, "T4-16Q", t4);
    daemon.ok(&format!("lease {id} --owner a"));
    let slice = daemon.slice(&id);
    drop(Tenant::open(&slice));
    let uuid = slice["mdev_uuid"].as_str().unwrap();
    fs::write(format!("/sys/bus/mdev/devices/{uuid}/remove"), "1").unwrap();
    daemon.ok(&format!("release {id}"));
    daemon.wait_for_phase(&id, "ready", MINUTE);
    assert_eq!(parent_and_type(&daemon.slice(&id)), (t4.address.clone(), "nvidia-234".to_owned()));
    daemon.ok(&format!("destroy {id}"));
    assert_nothing_left(&daemon);
}
