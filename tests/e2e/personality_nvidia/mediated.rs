//! The same driver where vGPUs are mediated devices: of a T4, and of an A100's VFs.

use super::{Card, Errno, MINUTE, Model, SimGpu, bind, driver_of, read, smi, sriov_manage, wait_for, write};
use std::{
    fs,
    path::{Path, PathBuf},
};

const FIRST: &str = "51a00000-0000-4000-8000-000000000001";
const SECOND: &str = "51a00000-0000-4000-8000-000000000002";

/// The types of a PCI function that is a parent; its devices go when this is dropped.
struct Parent(PathBuf);

impl Parent {
    fn of(address: &str) -> Self {
        Self(Path::new("/sys/class/mdev_bus").join(address).join("mdev_supported_types"))
    }

    fn of_vf(card: &Card, index: usize) -> Self {
        Self::of(&card.vf(index).address())
    }

    /// The folder of a type, by its number.
    #[track_caller]
    fn type_folder(&self, number: u32) -> PathBuf {
        let end = format!("-{number}");
        let mut types = fs::read_dir(&self.0).unwrap().map(|entry| entry.unwrap().path());
        types.find(|path| path.to_string_lossy().ends_with(&end)).unwrap()
    }

    #[track_caller]
    fn available<const N: usize>(&self, numbers: [u32; N]) -> [u32; N] {
        numbers.map(|number| read(&self.type_folder(number).join("available_instances")).parse().unwrap())
    }

    fn create(&self, number: u32, uuid: &str) -> Result<(), Errno> {
        write(&self.type_folder(number).join("create"), uuid)
    }
}

impl Drop for Parent {
    fn drop(&mut self) {
        for uuid in [FIRST, SECOND] {
            let below = self.0.parent().unwrap().join(uuid);
            if below.try_exists().unwrap_or(false) {
                let _ = fs::write(below.join("remove"), "1");
            }
        }
    }
}

#[test]
fn a_card_without_sriov_is_a_parent_itself() {
    let gpu = SimGpu::find(Model::T4);
    assert!(!gpu.sysfs("sriov_numvfs").try_exists().unwrap());
    sriov_manage("-e", &gpu).fails_with(&["no GPU with SR-IOV"]);
    let said = smi(&gpu, "-q -i @").success();
    assert!(said.contains("Host VGPU Mode                    : Non SR-IOV\n"), "{said}");

    let parent = Parent::of(&gpu.address);
    let half = parent.type_folder(233);
    assert_eq!(half.file_name().unwrap(), "nvidia-233");
    assert_eq!(["name", "device_api"].map(|file| read(&half.join(file))), ["GRID T4-8Q", "vfio-pci"]);
    let described = read(&half.join("description"));
    assert!(described.contains("framebuffer=8192M") && described.contains("max_instance=2"), "{described}");
    assert_eq!(parent.available([230, 233, 234]), [16, 2, 1]);
}

/// What does not fit stays listed, and is refused.
#[test]
fn equal_size_shows_in_the_counts_of_all_types() {
    let parent = Parent::of(&SimGpu::find(Model::T4).address);
    let counts = || parent.available([228, 232, 233, 234]);
    parent.create(233, FIRST).unwrap();
    assert_eq!(counts(), [1, 0, 1, 0], "8A and 8Q");
    assert_eq!(parent.create(232, SECOND), Err(Errno::EIO));
    parent.create(228, SECOND).unwrap();
    assert_eq!(counts(), [0; 4], "the card is full");
    drop(parent);
    let parent = Parent::of(&SimGpu::find(Model::T4).address);
    assert_eq!(parent.available([228, 232, 233, 234]), [2, 4, 2, 1]);
}

/// A card whose VFs are parents.
struct Mediated {
    card: Card,
    _framework: super::support::Turned,
}

impl Mediated {
    #[track_caller]
    fn with_vfs() -> Self {
        let gpu = Card::without_vfs(Model::A100);
        let framework = gpu.set("nvidia/framework", "mdev", "vendor");
        Self { card: Card::with_vfs(Model::A100), _framework: framework }
    }
}

impl Drop for Mediated {
    fn drop(&mut self) {
        sriov_manage("-d", &self.card.gpu);
    }
}

#[test]
fn a_vf_is_a_parent_of_one_device() {
    let mediated = Mediated::with_vfs();
    let card = &mediated.card;
    assert!(!Path::new("/sys/class/mdev_bus").join(&card.gpu.address).try_exists().unwrap());
    let vf = &card.vf(0).0;
    assert_eq!(driver_of(vf).as_deref(), Some("nvidia"));
    assert_eq!(["nvidia", "vfio-dev"].map(|name| vf.join(name).try_exists().unwrap()), [false; 2]);

    let [first, second] = [0, 1].map(|index| Parent::of_vf(card, index));
    let halves = [&first, &second].map(|parent| parent.type_folder(697));
    let ids = halves.each_ref().map(|folder| folder.file_name().unwrap().to_str().unwrap());
    assert_eq!(ids, ["nvidia-697", "vfio-pci-697"], "after the driver of that moment");
    assert_eq!(halves.map(|folder| read(&folder.join("name"))), ["GRID A100D-40C"; 2]);
    // A fourth, a half, and one that needs MIG.
    let counts = || [&first, &second].map(|parent| parent.available([696, 697, 701]));
    assert_eq!(counts(), [[1, 1, 0]; 2]);
    first.create(697, FIRST).unwrap();
    assert_eq!(counts(), [[0, 0, 0], [0, 1, 0]]);
    assert_eq!(first.create(697, SECOND), Err(Errno::EIO));
    second.create(697, SECOND).unwrap();
    assert_eq!(Parent::of_vf(card, 2).available([696, 697, 701]), [0; 3], "the card is full");
}

#[test]
fn a_listed_type_of_a_parent_may_be_refused() {
    let gpu = SimGpu::find(Model::T4);
    let parent = Parent::of(&gpu.address);
    let _refused = gpu.set("nvidia/refuse_type", "233", "0");
    assert_eq!(parent.available([233]), [2]);
    assert_eq!(parent.create(233, FIRST), Err(Errno::EIO));
    parent.create(228, FIRST).unwrap();
}

/// As with the vendor-specific framework, until SR-IOV is off and on.
#[test]
fn an_unbound_vf_is_no_parent_any_more() {
    let mediated = Mediated::with_vfs();
    let address = mediated.card.vf(0).address();
    let class = Path::new("/sys/class/mdev_bus").join(&address);
    assert!(class.try_exists().unwrap());
    bind("nvidia", "unbind", &address).unwrap();
    bind("nvidia", "bind", &address).unwrap();
    assert!(!class.try_exists().unwrap());
    assert_eq!(Parent::of_vf(&mediated.card, 1).available([697]), [1]);
    sriov_manage("-d", &mediated.card.gpu).success();
    wait_for("the parents to go", MINUTE, || {
        let left = fs::read_dir("/sys/class/mdev_bus").unwrap().count();
        (left == 1).then_some(())
    });
}
