//! The fake obeys the kernel's rules; what tests of others rest on.

use super::*;
use crate::{Error, MdevUuid};
use std::{error::Error as _, io};

const GPU: &str = "0000:41:00.0";

fn errno(result: Result<(), Error>) -> Errno {
    let error = result.unwrap_err();
    let source = error.source().and_then(|source| source.downcast_ref::<io::Error>());
    Errno::from_raw(source.unwrap().raw_os_error().unwrap())
}

struct Fixture {
    fake: FakeHost,
    host: Host,
}

impl Fixture {
    fn new(gpu: FakeGpu) -> Self {
        let fake = FakeHost::machine().gpu(gpu).driver("amdgpu", &["1002:74b5"]).build();
        let host = fake.host();
        Self { fake, host }
    }

    fn write(&self, path: &str, value: &str) -> Result<(), Error> {
        self.host.write_attr(&self.host.path(path), value)
    }

    fn numvfs(&self, value: &str) -> Result<(), Error> {
        self.write(&format!("sys/bus/pci/devices/{GPU}/sriov_numvfs"), value)
    }

    fn link(&self, path: &str) -> Option<String> {
        crate::attribute::link(&self.host.path(path)).unwrap()
    }
}

#[test]
fn sriov_numvfs_follows_the_kernel() {
    let fixture = Fixture::new(FakeGpu::new(GPU).sriov(8).driver_max_vfs(6));
    let before = fixture.fake.snapshot();
    assert_eq!(errno(fixture.numvfs("many")), Errno::EINVAL);
    assert_eq!(errno(fixture.numvfs("7")), Errno::ERANGE);
    fixture.numvfs("0").unwrap();
    fixture.numvfs("2").unwrap();
    fixture.numvfs("2").unwrap();
    assert_eq!(errno(fixture.numvfs("3")), Errno::EBUSY);
    assert_eq!(fixture.link(&format!("sys/bus/pci/devices/{GPU}/virtfn1")).as_deref(), Some("0000:41:03.0"));
    assert_eq!(
        fixture.link("sys/bus/pci/devices/0000:41:03.0/driver").as_deref(),
        Some("amdgpu"),
        "autoprobe"
    );
    fixture.numvfs("0").unwrap();
    assert_eq!(fixture.fake.snapshot(), before);
    let fixture = Fixture::new(FakeGpu::new(GPU).sriov(8).without_sriov_configure());
    assert_eq!(errno(fixture.numvfs("2")), Errno::ENOENT);
}

#[test]
fn drivers_take_what_fits_and_nothing_else() {
    let fixture = Fixture::new(FakeGpu::new(GPU).sriov(8));
    let pf = format!("sys/bus/pci/devices/{GPU}");
    fixture.write(&format!("{pf}/sriov_drivers_autoprobe"), "0").unwrap();
    fixture.numvfs("1").unwrap();
    let (vf, folder) = ("0000:41:02.0", "sys/bus/pci/devices/0000:41:02.0");
    let bind = |driver: &str| fixture.write(&format!("sys/bus/pci/drivers/{driver}/bind"), vf);
    assert_eq!(fixture.link(&format!("{folder}/driver")), None, "autoprobe is off");
    assert_eq!(errno(bind("vfio-pci")), Errno::ENODEV, "no id and no override");
    fixture.write("sys/bus/pci/drivers_probe", vf).unwrap();
    assert_eq!(fixture.link(&format!("{folder}/driver")).as_deref(), Some("amdgpu"));
    fixture.write(&format!("{folder}/driver_override"), "vfio-pci").unwrap();
    assert_eq!(errno(bind("vfio-pci")), Errno::EBUSY);
    fixture.write(&format!("{folder}/driver/unbind"), vf).unwrap();
    assert_eq!(errno(fixture.write("sys/bus/pci/drivers/amdgpu/unbind", vf)), Errno::ENODEV);
    assert_eq!(errno(bind("amdgpu")), Errno::ENODEV, "the override names another");
    bind("vfio-pci").unwrap();
    fixture.write(&format!("{folder}/driver_override"), "\n").unwrap();
    assert_eq!(fixture.link(&format!("{folder}/driver")).as_deref(), Some("vfio-pci"), "until it is unbound");
}

#[test]
fn mdev_types_share_their_parents_units() {
    let types = [FakeMdevType::new("t-small", 1, ""), FakeMdevType::new("t-large", 4, "")];
    let fixture = Fixture::new(FakeGpu::new(GPU).mdev(4, &types));
    let folder = format!("sys/class/mdev_bus/{GPU}/mdev_supported_types");
    let available = |id: &str| {
        let path = fixture.host.path(format!("{folder}/{id}/available_instances"));
        crate::attribute::read(&path).unwrap().unwrap()
    };
    let create =
        |id: &str, uuid: MdevUuid| fixture.write(&format!("{folder}/{id}/create"), &uuid.to_string());
    let uuid = MdevUuid(uuid::Uuid::from_u128(7));
    let before = fixture.fake.snapshot();
    assert_eq!((available("t-small"), available("t-large")), ("4".to_owned(), "1".to_owned()));
    create("t-small", uuid).unwrap();
    assert_eq!((available("t-small"), available("t-large")), ("3".to_owned(), "0".to_owned()));
    assert_eq!(errno(create("t-small", uuid)), Errno::EEXIST);
    assert_eq!(errno(create("t-large", MdevUuid(uuid::Uuid::from_u128(8)))), Errno::EUSERS);
    let remove = format!("sys/bus/mdev/devices/{uuid}/remove");
    assert_eq!(errno(fixture.write(&remove, "yes")), Errno::EINVAL);
    fixture.write(&remove, "1").unwrap();
    assert_eq!(fixture.fake.snapshot(), before);
}

#[test]
#[should_panic(expected = "0000:41:02.0 is held: the kernel would block here")]
fn dropping_a_held_vf_would_block() {
    let fixture = Fixture::new(FakeGpu::new(GPU).sriov(8));
    fixture.numvfs("1").unwrap();
    fixture.fake.hold("0000:41:02.0");
    let _ = fixture.numvfs("0");
}

#[test]
fn a_vanished_gpu_takes_everything_along() {
    let types = [FakeMdevType::new("t-small", 1, "")];
    let fixture = Fixture::new(FakeGpu::new(GPU).sriov(8).mdev(4, &types));
    let create = format!("sys/class/mdev_bus/{GPU}/mdev_supported_types/t-small/create");
    fixture.numvfs("4").unwrap();
    fixture.write(&create, &MdevUuid(uuid::Uuid::from_u128(7)).to_string()).unwrap();
    fixture.fake.vanish(GPU.parse().unwrap());
    let left: Vec<_> = fixture
        .fake
        .snapshot()
        .into_keys()
        .filter(|path| path.display().to_string().contains("0000:"))
        .collect();
    assert_eq!(left, Vec::<PathBuf>::new());
    assert_eq!(errno(fixture.numvfs("0")), Errno::ENOENT);
}
