use super::*;
use crate::{
    ResetOutcome,
    fake::{FakeGpu, FakeHost, FakeMdevType},
    instance, inventory,
};
use nix::errno::Errno;

const GPU: &str = "0000:42:00.0";

fn gpu() -> PciAddress {
    GPU.parse().unwrap()
}

fn name(number: u128) -> InstanceName {
    InstanceName::Mdev(MdevUuid(uuid::Uuid::from_u128(number)))
}

fn profile(name: &str) -> ProfileName {
    name.parse().unwrap()
}

fn parent(address: &str) -> FakeGpu {
    let types = [
        FakeMdevType::new("sim-small", 1, "num_heads=1, framebuffer=16M, max_instance=8"),
        FakeMdevType::new("sim-large", 4, "num_heads=1, framebuffer=64M, max_instance=2"),
    ];
    FakeGpu::new(address).class(0x03_0000).mdev(8, &types)
}

fn machine() -> (FakeHost, Host) {
    let fake = FakeHost::machine().gpu(parent(GPU)).gpu(parent("0000:43:00.0")).build();
    let host = fake.host();
    (fake, host)
}

fn create(host: &Host, type_id: &str, number: u128) -> Result<Instance, Error> {
    MdevBus.create(host, gpu(), &profile(type_id), name(number))
}

fn told<T: std::fmt::Debug>(result: Result<T, Error>) -> String {
    result.unwrap_err().to_string()
}

fn profiles(host: &Host) -> Vec<Profile> {
    let gpu = inventory::gpu(host, &vgpud_config::GpuSelection::default(), gpu()).unwrap();
    MdevBus.profiles(&gpu, &[])
}

#[test]
fn profiles_are_the_types_with_what_is_left() {
    let (_fake, host) = machine();
    create(&host, "sim-small", 1).unwrap();
    let memory = |mib: u64| Some(crate::Memory::from_bytes(mib << 20));
    let of = |name, mib, capacity, available| Profile {
        name: profile(name),
        memory: memory(mib),
        compute: None,
        holds: crate::Holds::NOT_AVAILABLE,
        capacity,
        available,
    };
    assert_eq!(profiles(&host), [of("sim-large", 64, 1, 1), of("sim-small", 16, 8, 7)]);
}

#[test]
fn a_device_is_made_and_removed_and_nothing_is_left() {
    let (fake, host) = machine();
    let before = fake.snapshot();
    let made = create(&host, "sim-small", 0xAB).unwrap();
    let uuid = "00000000-0000-0000-0000-0000000000ab";
    assert_eq!((made.gpu, made.name, made.address), (gpu(), name(0xAB), None));
    assert_eq!((made.profile.as_ref(), &made.sysfs), ("sim-small", &host.mdev_devices().join(uuid)));
    assert_eq!(made.driver.as_ref().unwrap().0, "simgpu_mdev_vgpu");
    let group = made.iommu_group.clone().unwrap();
    assert_eq!(group.members, [uuid]);
    assert_eq!(made.nodes.group, Some(host.vfio_nodes().join(group.number.to_string())));
    assert_eq!(made.nodes.cdev, None, "no /dev/iommu here");
    assert_eq!(fake.writes().last().unwrap().1, uuid, "hyphens, lower case");

    let writes = fake.writes();
    assert_eq!(create(&host, "sim-small", 0xAB).unwrap(), made, "asked again");
    assert_eq!(fake.writes(), writes, "and nothing written");
    let other = create(&host, "sim-large", 1).unwrap();
    MdevBus.create(&host, "0000:43:00.0".parse().unwrap(), &profile("sim-large"), name(9)).unwrap();
    assert_eq!(instance::list(&host, gpu()).unwrap(), [other, made.clone()]);
    assert_eq!(instance::find(&host, gpu(), name(0xAB)).unwrap(), Some(made.clone()));
    assert_eq!(instance::find(&host, gpu(), name(9)).unwrap(), None, "of another GPU");
    assert_eq!(made.reset(&host).unwrap(), ResetOutcome::NotOffered);
    MdevBus.retire(&host, gpu()).unwrap();
    assert_eq!(instance::list(&host, gpu()).unwrap().len(), 2, "those of others stay");

    for number in [0xAB, 1, 1] {
        MdevBus.destroy(&host, gpu(), name(number)).unwrap();
    }
    MdevBus.destroy(&host, "0000:43:00.0".parse().unwrap(), name(9)).unwrap();
    assert_eq!(fake.snapshot(), before);
}

#[test]
fn what_is_short_and_what_would_fit() {
    let (_fake, host) = machine();
    create(&host, "sim-large", 1).unwrap();
    create(&host, "sim-small", 2).unwrap();
    assert_eq!(
        told(create(&host, "sim-large", 3)),
        "GPU 0000:42:00.0 cannot hold another sim-large: no instance of 64MiB is left; \
         it holds 1 of sim-large, 1 of sim-small, and what fits is sim-small (3 more)"
    );
    for number in 4..7 {
        create(&host, "sim-small", number).unwrap();
    }
    assert_eq!(
        told(create(&host, "sim-small", 8)),
        "GPU 0000:42:00.0 cannot hold another sim-small: no instance of 16MiB is left; \
         it holds 1 of sim-large, 4 of sim-small, and nothing more fits"
    );
}

#[test]
fn what_cannot_be_asked_for() {
    let (fake, host) = machine();
    create(&host, "sim-small", 1).unwrap();
    let before = fake.snapshot();
    assert_eq!(
        told(create(&host, "sim", 2)),
        "GPU 0000:42:00.0 has no profile sim; `vgpuctl profiles 0000:42:00.0` lists what it offers"
    );
    let uuid = "00000000-0000-0000-0000-000000000001";
    assert_eq!(
        told(create(&host, "sim-large", 1)),
        format!(
            "Mediated device {uuid} exists already, of sim-small on 0000:42:00.0; remove it, or choose another UUID"
        )
    );
    let other: PciAddress = "0000:43:00.0".parse().unwrap();
    assert_eq!(
        told(MdevBus.destroy(&host, other, name(1))),
        format!(
            "Mediated device {uuid} exists already, on 0000:42:00.0 and not on GPU 0000:43:00.0; remove it, or choose another UUID"
        )
    );
    let vf = InstanceName::Vf(crate::VfIndex(3));
    assert_eq!(
        told(MdevBus.create(&host, gpu(), &profile("sim-small"), vf)),
        "Mechanism mdev cannot make VF 3 of GPU 0000:42:00.0; ask it for the next name"
    );
    let absent: PciAddress = "0000:99:00.0".parse().unwrap();
    assert_eq!(
        told(MdevBus.create(&host, absent, &profile("sim-small"), name(5))),
        "There is no PCI function 0000:99:00.0; `vgpuctl gpus` lists the GPUs of this host"
    );
    assert_eq!(fake.snapshot(), before);
}

#[test]
fn what_the_kernel_says_to_a_creation() {
    let cases = [
        (Errno::ENOSPC, "the GPU has no room left for an instance of this type"),
        (Errno::EUSERS, "the GPU has no room left for an instance of this type"),
        (Errno::EINVAL, "the GPU's driver refuses this type now, or the UUID is wrong"),
        (Errno::EIO, "the GPU's driver cannot create this type in its present mode"),
        (Errno::ENODEV, "the GPU is going away"),
    ];
    for (errno, hint) in cases {
        let (fake, host) = machine();
        let before = fake.snapshot();
        fake.fail("create", 0, errno);
        let create_path = types_folder(&host, gpu()).join("sim-small/create");
        assert_eq!(
            told(create(&host, "sim-small", 1)),
            format!(
                "Cannot write \"00000000-0000-0000-0000-000000000001\" to {}: {hint}",
                create_path.display()
            )
        );
        assert_eq!(fake.snapshot(), before);
    }
}

#[test]
fn what_comes_late_is_waited_for_and_what_never_comes_is_undone() {
    let (fake, host) = machine();
    fake.delay(5);
    assert!(create(&host, "sim-small", 1).unwrap().nodes.group.is_some());
    let expected = "Waited 0.2 s for a VFIO node of mediated device 00000000-0000-0000-0000-000000000002 of GPU \
        0000:42:00.0, in vain";
    let (fake, host) = machine();
    let before = fake.snapshot();
    fake.ignore("create", 0);
    assert_eq!(told(create(&host, "sim-small", 2)), expected);
    assert_eq!(fake.snapshot(), before);
}

#[test]
fn a_device_without_a_node_is_removed_again() {
    let (fake, host) = machine();
    create(&host, "sim-small", 1).unwrap();
    MdevBus.destroy(&host, gpu(), name(1)).unwrap();
    let before = fake.snapshot();
    // The node comes later than anybody waits, the device is on the bus at once.
    fake.delay_nodes(1000);
    assert!(told(create(&host, "sim-small", 2)).starts_with("Waited 0.2 s for a VFIO node"));
    assert_eq!(fake.snapshot(), before);
    fake.fail("remove", 0, Errno::EBUSY);
    let text = told(create(&host, "sim-small", 2));
    let expected = "mediated device 00000000-0000-0000-0000-000000000002 is left half set up, because it could not be \
        taken back after a failure (Cannot write \"1\" to ";
    assert!(text.starts_with(expected), "{text}");
    assert!(text.ends_with(": something still holds the device; end its VM first)"), "{text}");
    MdevBus.destroy(&host, gpu(), name(2)).unwrap();
}

#[test]
fn removal_is_read_back_and_finished_by_asking_again() {
    let (fake, host) = machine();
    let before = fake.snapshot();
    create(&host, "sim-small", 1).unwrap();
    fake.ignore("remove", 0);
    assert_eq!(
        told(MdevBus.destroy(&host, gpu(), name(1))),
        "Waited 0.2 s for mediated device 00000000-0000-0000-0000-000000000001 to go; does a VM still hold it?, in vain"
    );
    MdevBus.destroy(&host, gpu(), name(1)).unwrap();
    assert_eq!(fake.snapshot(), before);
}

#[test]
fn a_device_that_is_off_the_bus_but_held_is_not_gone() {
    let (fake, host) = machine();
    let folder = "sys/bus/pci/devices/0000:42:00.0/00000000-0000-0000-0000-000000000005";
    fake.set(&format!("{folder}/remove"), "");
    assert_eq!(instance::find(&host, gpu(), name(5)).unwrap(), None);
    assert_eq!(
        told(MdevBus.destroy(&host, gpu(), name(5))),
        "Waited 0.2 s for mediated device 00000000-0000-0000-0000-000000000005 to go; does a VM still hold it?, in vain"
    );
    std::fs::remove_dir_all(host.path(folder)).unwrap();
    MdevBus.destroy(&host, gpu(), name(5)).unwrap();
}

#[test]
fn a_parent_that_removes_by_itself_is_no_failure() {
    let (fake, host) = machine();
    create(&host, "sim-small", 1).unwrap();
    fake.vanish_at("remove", 0, gpu());
    MdevBus.destroy(&host, gpu(), name(1)).unwrap();
}

#[test]
fn a_gpu_that_vanishes_during_creation() {
    let (fake, host) = machine();
    fake.vanish_at("create", 0, gpu());
    assert!(told(create(&host, "sim-small", 1)).ends_with("/create: the GPU is going away"));
    assert_eq!(instance::list(&host, gpu()).unwrap(), []);
}

#[test]
fn names_are_new_each_time() {
    let next = || MdevBus.next_name(gpu(), &profile("sim-small"), &[]).unwrap();
    assert_ne!(next(), next());
}
