//! The simulated NVIDIA vGPU host driver and the stand-ins of its tools do what the "Quirks" in
//! tests/lab/kmod/README.md say. No vgpud here: plain sysfs, and the tools as their users call them.

#![allow(clippy::unwrap_used)]

#[path = "personality_nvidia/mediated.rs"]
mod mediated;
mod support;

use nix::errno::Errno;
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};
use support::{Model, Output, SimGpu, wait_for};
use vgpud_mdev::Host;
use vgpud_vmm::{device::Device, node::Node};

const MINUTE: Duration = Duration::from_secs(60);
const DRIVERS: &str = "/sys/bus/pci/drivers";
const HEADER: &str = "ID    : vGPU Name";

fn sriov_manage(operation: &str, gpu: &SimGpu) -> Output {
    Output::of(Command::new("/usr/lib/nvidia/sriov-manage").args([operation, &gpu.address]))
}

fn nvidia_smi(words: &str) -> Output {
    Output::of(Command::new("nvidia-smi").args(words.split(' ')))
}

/// Like `nvidia_smi` for one GPU; `@` in `words` stands for its address.
fn smi(gpu: &SimGpu, words: &str) -> Output {
    nvidia_smi(&words.replace('@', &gpu.address))
}

#[track_caller]
fn read(path: &Path) -> String {
    fs::read_to_string(path)
        .unwrap_or_else(|error| panic!("{}: {error}", path.display()))
        .trim_end()
        .to_owned()
}

fn write(path: &Path, value: &str) -> Result<(), Errno> {
    fs::write(path, value).map_err(|error| Errno::from_raw(error.raw_os_error().unwrap()))
}

fn driver_of(device: &Path) -> Option<String> {
    let link = fs::read_link(device.join("driver")).ok()?;
    Some(link.file_name().unwrap().to_string_lossy().into_owned())
}

fn bind(driver: &str, operation: &str, address: &str) -> Result<(), Errno> {
    write(&Path::new(DRIVERS).join(driver).join(operation), address)
}

/// A VF's folder in sysfs.
#[derive(Debug, Clone)]
struct Vf(PathBuf);

impl Vf {
    fn of(gpu: &SimGpu, index: u32) -> Self {
        Self(fs::canonicalize(gpu.sysfs(&format!("virtfn{index}"))).unwrap())
    }

    fn address(&self) -> String {
        self.0.file_name().unwrap().to_string_lossy().into_owned()
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.join("nvidia").join(name)
    }

    /// What a file says, or how the kernel refuses to.
    fn says(&self, name: &str) -> Result<String, Errno> {
        fs::read_to_string(self.file(name))
            .map(|text| text.trim_end().to_owned())
            .map_err(|error| Errno::from_raw(error.raw_os_error().unwrap()))
    }

    fn set_type(&self, id: &str) -> Result<(), Errno> {
        write(&self.file("current_vgpu_type"), id)
    }

    #[track_caller]
    fn type_id(&self) -> String {
        read(&self.file("current_vgpu_type"))
    }

    /// The rows below the header, by type number.
    #[track_caller]
    fn creatable(&self) -> Vec<String> {
        let text = read(&self.file("creatable_vgpu_types"));
        let mut lines = text.lines();
        assert_eq!(lines.next(), Some(HEADER));
        lines.map(|line| line.split_once(" : ").unwrap().0.trim().to_owned()).collect()
    }

    fn node(&self) -> Node {
        let group = fs::read_link(self.0.join("iommu_group")).unwrap();
        let cdev = self.0.join("vfio-dev");
        let path = if Path::new("/dev/iommu").try_exists().unwrap() {
            let name = fs::read_dir(cdev).unwrap().next().unwrap().unwrap().file_name();
            Path::new("/dev/vfio/devices").join(name)
        } else {
            Path::new("/dev/vfio").join(group.file_name().unwrap())
        };
        Node::from_path(path.to_str().unwrap()).unwrap()
    }

    fn open(&self) -> Result<Device, String> {
        Device::open(&Host::default(), &self.node(), &self.0).map_err(|error| format!("{error:?}"))
    }
}

/// A card with all its VFs, and no vGPU on them when the test begins and ends.
struct Card {
    gpu: SimGpu,
    vfs: Vec<Vf>,
}

impl Card {
    #[track_caller]
    fn with_vfs(model: Model) -> Self {
        let gpu = SimGpu::find(model);
        sriov_manage("-e", &gpu).success();
        let total: u32 = gpu.read("sriov_totalvfs").parse().unwrap();
        assert_eq!(gpu.read("sriov_numvfs"), total.to_string());
        let vfs = (0..total).map(|index| Vf::of(&gpu, index)).collect();
        Self { gpu, vfs }
    }

    #[track_caller]
    fn without_vfs(model: Model) -> SimGpu {
        let gpu = SimGpu::find(model);
        sriov_manage("-d", &gpu).success();
        assert_eq!(gpu.read("sriov_numvfs"), "0");
        gpu
    }

    fn vf(&self, index: usize) -> &Vf {
        &self.vfs[index]
    }
}

impl Drop for Card {
    fn drop(&mut self) {
        for vf in &self.vfs {
            let _ = vf.set_type("0");
        }
    }
}

#[test]
fn the_driver_has_no_sriov_configure() {
    let gpu = Card::without_vfs(Model::L40s);
    assert_eq!(write(&gpu.sysfs("sriov_numvfs"), "32"), Err(Errno::ENOENT));
    assert_eq!(gpu.read("sriov_numvfs"), "0");
    assert!(Path::new("/sys/module/nvidia_vgpu_vfio").try_exists().unwrap());
}

#[test]
fn sriov_manage_makes_all_vfs_and_takes_them_away() {
    let gpu = Card::without_vfs(Model::L40s);
    assert_eq!(
        sriov_manage("-d", &gpu).success(),
        format!("GPU at {} already has VFs disabled.\n", gpu.address)
    );
    assert_eq!(sriov_manage("-e", &gpu).success(), format!("Enabling VFs on {}\n", gpu.address));
    assert_eq!(gpu.read("sriov_numvfs"), "32");
    assert_eq!(driver_of(&gpu.sysfs("")).as_deref(), Some("nvidia"));
    assert!(!gpu.sysfs("nvidia").try_exists().unwrap(), "only VFs have it");
    for index in 0..32 {
        let vf = Vf::of(&gpu, index);
        assert_eq!(driver_of(&vf.0).as_deref(), Some("nvidia"), "{vf:?}");
        assert_eq!(vf.type_id(), "0");
        assert_eq!(fs::read_dir(vf.0.join("vfio-dev")).unwrap().count(), 1, "{vf:?}");
    }
    assert_eq!(
        sriov_manage("-e", &gpu).success(),
        format!("GPU at {} already has VFs enabled.\n", gpu.address)
    );
    Output::of(Command::new("/usr/lib/nvidia/sriov-manage").args(["-d", "ALL"])).success();
    assert_eq!(gpu.read("sriov_numvfs"), "0");
    assert_eq!(driver_of(&gpu.sysfs("")).as_deref(), Some("nvidia"));
}

#[test]
fn a_client_keeps_the_unbind_lock_from_sriov_manage() {
    let gpu = Card::without_vfs(Model::A100);
    let lock = PathBuf::from(format!("/proc/driver/nvidia/gpus/{}/unbindLock", gpu.address));
    let client = gpu.set("nvidia/clients", "1", "0");
    write(&lock, "1").unwrap();
    assert_eq!(read(&lock), "0", "writing succeeds all the same");
    sriov_manage("-e", &gpu).fails_with(&["Cannot obtain unbindLock", &gpu.address]);
    assert_eq!(gpu.read("sriov_numvfs"), "0");
    assert_eq!(driver_of(&gpu.sysfs("")).as_deref(), Some("nvidia"));
    drop(client);
    write(&lock, "1").unwrap();
    assert_eq!(read(&lock), "1");
}

/// VFs are unbound before the lock is asked for.
#[test]
fn disabling_that_gets_no_unbind_lock_leaves_dead_vfs() {
    let card = Card::with_vfs(Model::A100);
    let client = card.gpu.set("nvidia/clients", "1", "0");
    sriov_manage("-d", &card.gpu).fails_with(&["Cannot obtain unbindLock"]);
    assert_eq!(card.gpu.read("sriov_numvfs"), "20");
    assert!(card.vfs.iter().all(|vf| driver_of(&vf.0).is_none()));
    drop(client);
    Card::without_vfs(Model::A100);
}

#[test]
fn sriov_manage_may_report_success_without_vfs() {
    let gpu = Card::without_vfs(Model::A100);
    let lie = gpu.set("nvidia/sriov_manage", "lie", "work");
    sriov_manage("-e", &gpu).success();
    assert_eq!(gpu.read("sriov_numvfs"), "0");
    drop(lie);
    Card::with_vfs(Model::A100);
}

#[test]
fn sriov_manage_may_strand_the_pf_on_pci_pf_stub() {
    let gpu = Card::without_vfs(Model::A100);
    let bus_id = format!("0000{}", gpu.address.to_uppercase());
    assert!(nvidia_smi("-q").success().contains(&bus_id));
    let strand = gpu.set("nvidia/sriov_manage", "strand", "work");
    sriov_manage("-e", &gpu).failure();
    assert_eq!(gpu.read("sriov_numvfs"), "0");
    assert_eq!(driver_of(&gpu.sysfs("")).as_deref(), Some("pci-pf-stub"));
    assert!(!nvidia_smi("-q").success().contains(&bus_id), "the driver no longer has it");
    drop(strand);
    Card::with_vfs(Model::A100);
    assert_eq!(driver_of(&gpu.sysfs("")).as_deref(), Some("nvidia"));
}

#[test]
fn a_type_is_set_by_its_number_and_read_back() {
    let card = Card::with_vfs(Model::A100);
    let vf = card.vf(5);
    assert_eq!(vf.type_id(), "0");
    for name in ["gpu_instance_id", "placement_id"] {
        assert_eq!(vf.says(name), Err(Errno::ENXIO), "{name}");
    }
    assert_eq!(write(&vf.file("vgpu_params"), "enable_uvm=1"), Err(Errno::ENXIO));
    assert!(read(&vf.file("creatable_vgpu_types")).contains("694   : GRID A100D-10C\n"));
    vf.set_type("694").unwrap();
    assert_eq!(vf.type_id(), "694");
    for name in ["gpu_instance_id", "placement_id"] {
        vf.says(name).unwrap().parse::<u32>().unwrap();
    }
    assert_eq!(vf.creatable(), [""; 0], "it has one");
    write(&vf.file("vgpu_params"), "enable_uvm=1").unwrap();
    assert_eq!(vf.says("vgpu_params").as_deref(), Ok("enable_uvm=1"));
    write(&vf.file("vgpu_params"), " ").unwrap();
    assert_eq!(vf.says("vgpu_params").as_deref(), Ok(""));
    vf.set_type("0").unwrap();
    assert_eq!((vf.type_id().as_str(), vf.says("placement_id")), ("0", Err(Errno::ENXIO)));
}

#[test]
fn a_type_that_cannot_be_had_is_eio_and_leaves_none() {
    let card = Card::with_vfs(Model::A100);
    let vf = card.vf(0);
    assert_eq!(vf.set_type("4711"), Err(Errno::EIO));
    assert_eq!(vf.type_id(), "0");
    vf.set_type("694").unwrap();
    assert_eq!(vf.set_type("692"), Err(Errno::EIO), "not from one to another");
    assert_eq!(vf.type_id(), "0");
}

#[test]
fn a_listed_type_may_be_refused() {
    let card = Card::with_vfs(Model::A100);
    let vf = card.vf(0);
    let _refused = card.gpu.set("nvidia/refuse_type", "697", "0");
    assert!(vf.creatable().contains(&"697".to_owned()));
    assert_eq!(vf.set_type("697"), Err(Errno::EIO));
    assert_eq!(vf.type_id(), "0");
    vf.set_type("696").unwrap();
}

#[test]
fn the_name_may_come_first() {
    let card = Card::with_vfs(Model::A100);
    let _order = card.gpu.set("nvidia/type_order", "name", "id");
    let text = read(&card.vf(0).file("creatable_vgpu_types"));
    assert!(text.lines().any(|line| line == "GRID A100D-4C  692"), "{text}");
}

/// The first vGPU decides the framebuffer of all; the series may differ.
#[test]
fn equal_size_shrinks_the_list_of_every_vf() {
    let card = Card::with_vfs(Model::L40s);
    assert_eq!(card.vf(31).creatable().len(), 23);
    card.vf(0).set_type("1155").unwrap();
    assert_eq!(card.vf(31).creatable(), ["1155", "1165"], "24Q and 24A");
    assert_eq!(card.vf(31).set_type("1147"), Err(Errno::EIO));
    card.vf(1).set_type("1165").unwrap();
    assert_eq!(card.vf(31).creatable(), [""; 0], "the card is full");
    assert_eq!(card.vf(31).set_type("1155"), Err(Errno::EIO));
    card.vf(0).set_type("0").unwrap();
    assert_eq!(card.vf(31).creatable(), ["1155", "1165"]);
}

#[test]
fn vfio_opens_only_a_vf_that_has_a_type() {
    let card = Card::with_vfs(Model::A100);
    let vf = card.vf(2);
    let refused = vf.open().unwrap_err();
    assert!(refused.contains("ENODEV") || refused.contains("code: 19"), "{refused}");
    vf.set_type("694").unwrap();
    let device = vf.open().unwrap();
    assert_eq!(device.regions()[0].size, 4 << 20, "BAR0 is the VF's VRAM");
    let resets = card.gpu.resets();
    device.reset().unwrap();
    assert_eq!(card.gpu.resets(), resets + 1);
}

#[test]
fn a_vgpu_that_is_held_cannot_be_destroyed() {
    let card = Card::with_vfs(Model::A100);
    let vf = card.vf(3);
    vf.set_type("694").unwrap();
    let device = vf.open().unwrap();
    assert_eq!(vf.set_type("0"), Err(Errno::EBUSY));
    let eperm = card.gpu.set("nvidia/held_errno", "1", "16");
    assert_eq!(vf.set_type("0"), Err(Errno::EPERM));
    drop(eperm);
    assert_eq!(vf.type_id(), "694");
    drop(device);
    assert_eq!(vf.type_id(), "694", "it stays when its user ends");
    vf.set_type("0").unwrap();
}

#[test]
fn an_unbound_vf_is_dead_until_sriov_is_off_and_on() {
    let card = Card::with_vfs(Model::A100);
    let vf = card.vf(1).clone();
    vf.set_type("694").unwrap();
    bind("nvidia", "unbind", &vf.address()).unwrap();

    write(&vf.0.join("driver_override"), "vfio-pci").unwrap();
    assert_eq!(bind("vfio-pci", "bind", &vf.address()), Err(Errno::EINVAL));
    write(&vf.0.join("driver_override"), "\n").unwrap();

    bind("nvidia", "bind", &vf.address()).unwrap();
    assert_eq!(vf.type_id(), "0", "the vGPU went with the driver");
    assert!(!vf.0.join("vfio-dev").try_exists().unwrap());
    assert_eq!(vf.creatable(), [""; 0]);
    assert_eq!(vf.set_type("694"), Err(Errno::EIO));
    card.vf(2).set_type("694").unwrap();
    drop(card);

    Card::without_vfs(Model::A100);
    let card = Card::with_vfs(Model::A100);
    card.vf(1).set_type("694").unwrap();
    card.vf(1).open().unwrap();
}

#[test]
fn heterogeneous_mode_mixes_sizes_until_sriov_manage() {
    let card = Card::with_vfs(Model::L40s);
    card.vf(0).set_type("1155").unwrap();
    let busy = smi(&card.gpu, "vgpu -i @ -shm 1");
    assert_eq!((busy.code, busy.stdout.contains("In use by another client")), (19, true), "{busy:?}");
    card.vf(0).set_type("0").unwrap();
    smi(&card.gpu, "vgpu -i @ -shm 1").success();
    assert!(smi(&card.gpu, "-q -i @").success().contains("vGPU Heterogeneous Mode           : Enabled"));

    // Each begins at a multiple of its size.
    for (index, id, placement) in [(0, "1149", "0"), (1, "1155", "24"), (2, "1152", "8"), (3, "1149", "3")] {
        card.vf(index).set_type(id).unwrap();
        assert_eq!(card.vf(index).says("placement_id").as_deref(), Ok(placement), "{id}");
    }
    let left = card.vf(4).creatable();
    assert!(
        left.contains(&"1152".to_owned()) && !left.contains(&"1154".to_owned()),
        "16 GB would begin at 16: {left:?}"
    );
    let gpu = card.gpu.clone();
    drop(card);

    sriov_manage("-d", &gpu).success();
    assert!(smi(&gpu, "-q -i @").success().contains("vGPU Heterogeneous Mode           : Disabled"));
}

#[test]
fn nvidia_smi_tells_what_a_manager_asks() {
    let gpu = SimGpu::find(Model::L40s);
    let bus_id = format!("0000{}", gpu.address.to_uppercase());
    let all = nvidia_smi("-q").success();
    assert!(all.contains(&format!("\nGPU {bus_id}\n")), "{all}");
    assert!(all.contains("Host VGPU Mode                    : SR-IOV\n"), "{all}");
    let fields = "--query-gpu=pci.bus_id,name,mig.mode.current --format=csv,noheader";
    assert_eq!(
        nvidia_smi(&format!("{fields} -i {bus_id}")).success(),
        format!("{bus_id}, NVIDIA L40S, [N/A]\n")
    );
    let mig = smi(&gpu, "mig -i @ -lgi");
    assert_eq!((mig.code, mig.stdout.as_str()), (6, "No MIG-enabled devices found.\n"));
    let warned = smi(&gpu, "-i @ -mig 1").success();
    assert!(warned.contains("Not Supported\nTreating as warning"), "{warned}");
}

#[test]
fn the_card_goes_with_its_vfs_and_comes_back_without() {
    let card = Card::with_vfs(Model::A100);
    card.vf(0).set_type("694").unwrap();
    card.gpu.turn("unplug", "pf");
    wait_for("the card to be gone", MINUTE, || (!card.gpu.sysfs("").try_exists().unwrap()).then_some(()));
    wait_for("the card to be back", MINUTE, || fs::write(card.gpu.knob_path("unplug"), "none").ok());
    assert_eq!(card.gpu.read("sriov_numvfs"), "0");
    assert_eq!(driver_of(&card.gpu.sysfs("")).as_deref(), Some("nvidia"));
    let card = Card::with_vfs(Model::A100);
    assert_eq!(card.vf(0).type_id(), "0");
}

/// A card in MIG mode without VFs; the mode and its instances go when this is dropped.
struct Mig(SimGpu);

impl Mig {
    fn on() -> Self {
        let gpu = Card::without_vfs(Model::A100);
        let text = smi(&gpu, "-i @ -mig 1").success();
        assert_eq!(text, format!("Enabled MIG Mode for GPU 0000{}\nAll done.\n", gpu.address.to_uppercase()));
        Self(gpu)
    }
}

impl Drop for Mig {
    fn drop(&mut self) {
        sriov_manage("-d", &self.0);
        smi(&self.0, "mig -i @ -dci");
        smi(&self.0, "mig -i @ -dgi");
        smi(&self.0, "-i @ -mig 0");
    }
}

#[test]
fn mig_instances_take_the_places_that_their_profiles_allow() {
    let mig = Mig::on();
    let gpu = &mig.0;
    let profiles = smi(gpu, "mig -i @ -lgip").success();
    for row in
        ["MIG 1g.10gb       19     7/7 ", "MIG 3g.40gb        9     2/2 ", "MIG 7g.80gb        0     1/1 "]
    {
        assert!(profiles.contains(row), "{row}: {profiles}");
    }
    let made = smi(gpu, "mig -i @ -cgi 9,19,2g.20gb -C").success();
    for line in [
        "Successfully created GPU instance ID  2 on GPU  0 using profile MIG 3g.40gb (ID  9)\n",
        "Successfully created compute instance ID  0 on GPU  0 GPU instance ID  2 ",
        "Successfully created GPU instance ID 10 on GPU  0 using profile MIG 1g.10gb (ID 19)\n",
        "Successfully created GPU instance ID  3 on GPU  0 using profile MIG 2g.20gb (ID 14)\n",
    ] {
        assert!(made.contains(line), "{line}: {made}");
    }
    let instances = smi(gpu, "mig -i @ -lgi").success();
    for row in ["9        2          4:4 ", "19       10          3:1 ", "14        3          0:2 "] {
        assert!(instances.contains(row), "{row}: {instances}");
    }
    // One slice is free, and of those two that 2g wants none.
    let full = smi(gpu, "mig -i @ -cgi 14");
    assert_eq!(full.code, 23, "{full:?}");
    assert!(full.stdout.contains("Insufficient Resources"), "{full:?}");
    assert!(smi(gpu, "mig -i @ -lgip").success().contains("MIG 1g.10gb       19     1/7 "));

    let busy = smi(gpu, "mig -i @ -dgi -gi 2");
    assert_eq!((busy.code, busy.stdout.contains("In use by another client")), (19, true), "{busy:?}");
    assert_eq!(smi(gpu, "-i @ -mig 0").code, 19, "there are instances");
    smi(gpu, "mig -i @ -dci").success();
    let gone = smi(gpu, "mig -i @ -dgi -gi 2").success();
    assert_eq!(gone, "Successfully destroyed GPU instance ID  2 from GPU  0\n");
    smi(gpu, "mig -i @ -dgi").success();
    // Or at the place that is asked for.
    let at_two = smi(gpu, "mig -i @ -cgi 14:2,19:0 -C").success();
    assert!(at_two.contains("GPU instance ID  4 on GPU  0 using profile MIG 2g.20gb"), "{at_two}");
    assert_eq!(smi(gpu, "mig -i @ -cgi 19:2").code, 23, "it is taken");
    assert_eq!(smi(gpu, "mig -i @ -cgi 14:1").code, 23, "none begins there");
    let compute = smi(gpu, "mig -i @ -lci").success();
    assert!(compute.contains("4       MIG 2g.20gb           0         0        0:2     |"), "{compute}");
    smi(gpu, "mig -i @ -dci").success();
    let none = smi(gpu, "mig -i @ -lci");
    assert_eq!((none.code, none.stdout.as_str()), (6, "No compute instances found: Not Found\n"));
    smi(gpu, "mig -i @ -dgi").success();
    let none = smi(gpu, "mig -i @ -lgi");
    assert_eq!((none.code, none.stdout.as_str()), (6, "No GPU instances found: Not Found\n"));
}

/// The PF's driver is bound anew, and GPU instances do not survive that.
#[test]
fn mig_instances_made_before_sriov_manage_are_lost() {
    let mig = Mig::on();
    smi(&mig.0, "mig -i @ -cgi 19 -C").success();
    let card = Card::with_vfs(Model::A100);
    assert_eq!(smi(&card.gpu, "mig -i @ -lgi").code, 6);
    assert_eq!(card.vf(0).creatable(), [""; 0]);
    assert_eq!(card.vf(0).set_type("699"), Err(Errno::EIO));
}

#[test]
fn mig_mode_decides_which_types_there_are() {
    let mig = Mig::on();
    let card = Card::with_vfs(Model::A100);
    let gpu = &mig.0;
    let mode = "--query-gpu=mig.mode.current --format=csv,noheader -i @";
    assert_eq!(smi(gpu, mode).success(), "Enabled\n");
    let refused = smi(gpu, "-i @ -mig 0");
    assert_eq!(
        (refused.code, refused.stdout.contains("In use by another client")),
        (19, true),
        "{refused:?}"
    );

    smi(gpu, "mig -i @ -cgi 9,19,19").success();
    assert_eq!(card.vf(0).creatable(), ["699", "701"], "no time-sliced one, and none without its instance");
    assert_eq!(card.vf(0).set_type("694"), Err(Errno::EIO));
    card.vf(0).set_type("701").unwrap();
    assert_eq!(card.vf(0).says("gpu_instance_id").as_deref(), Ok("2"));
    assert_eq!(card.vf(1).creatable(), ["699"]);
    card.vf(1).set_type("699").unwrap();
    card.vf(2).set_type("699").unwrap();
    let mut backing = [card.vf(1), card.vf(2)].map(|vf| vf.says("gpu_instance_id").unwrap());
    backing.sort();
    assert_eq!(backing, ["10", "9"]);
    assert_eq!(card.vf(3).creatable(), [""; 0]);
    let busy = smi(gpu, "mig -i @ -dgi -gi 2");
    assert_eq!(busy.code, 19, "{busy:?}");
    drop(card);

    drop(mig);
    assert_eq!(smi(&SimGpu::find(Model::A100), mode).success(), "Disabled\n");
    let card = Card::with_vfs(Model::A100);
    assert_eq!(card.vf(0).creatable(), ["692", "693", "694", "695", "696", "697", "698"]);
}
