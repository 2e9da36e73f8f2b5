use super::NvidiaMdev;
use crate::{
    Error, Gpu, Host, Instance, InstanceName, MdevUuid, Mechanism, MechanismKind, Memory, PciAddress,
    ProfileName, ResetOutcome, Taken,
    fake::{FakeGpu, FakeHost, FakeTurn, FakeVgpus},
    instance, inventory, mechanisms,
    nvidia::Turn,
    uncuttable,
};
use nix::errno::Errno;
use std::slice;

const GPU: &str = "0000:41:00.0";

fn gpu() -> PciAddress {
    GPU.parse().unwrap()
}

fn name(number: u128) -> InstanceName {
    InstanceName::Mdev(MdevUuid(uuid::Uuid::from_u128(number)))
}

fn uuid(number: u128) -> String {
    uuid::Uuid::from_u128(number).to_string()
}

fn profile(name: &str) -> ProfileName {
    name.parse().unwrap()
}

fn build(gpu: FakeGpu) -> (FakeHost, Host) {
    let fake = FakeHost::machine().gpu(gpu).build();
    let host = fake.host();
    (fake, host)
}

fn t4() -> (FakeHost, Host) {
    build(FakeGpu::new(GPU).nvidia_mdev(&FakeVgpus::t4()))
}

/// An L40S of 8 VFs, as an older kernel has it.
fn l40s(vgpus: &FakeVgpus) -> (FakeHost, Host) {
    build(FakeGpu::new(GPU).nvidia(8, &vgpus.clone().mediated()))
}

fn seen(host: &Host) -> Gpu {
    inventory::gpu(host, &vgpud_config::GpuSelection::default(), gpu()).unwrap()
}

fn create(host: &Host, of: &str, number: u128) -> Result<Instance, Error> {
    NvidiaMdev.create(host, gpu(), &profile(of), name(number))
}

fn destroy(host: &Host, number: u128) -> Result<(), Error> {
    NvidiaMdev.destroy(host, gpu(), name(number))
}

fn vfs_on(host: &Host) -> u16 {
    seen(host).sriov.unwrap().enabled
}

fn parent_of(host: &Host, number: u128) -> String {
    let real = std::fs::canonicalize(host.path("/sys/bus/mdev/devices").join(uuid(number))).unwrap();
    real.parent().unwrap().file_name().unwrap().to_str().unwrap().to_owned()
}

/// Name, free and capacity of each profile.
fn offers(host: &Host, taken: &[(&str, bool)]) -> Vec<(String, u32, u32)> {
    let taken: Vec<_> =
        taken.iter().map(|(name, exists)| Taken { profile: profile(name), exists: *exists }).collect();
    let profiles = NvidiaMdev.profiles(&seen(host), &taken);
    profiles.into_iter().map(|of| (of.name.to_string(), of.available, of.capacity)).collect()
}

fn of(name: &str, available: u32, capacity: u32) -> (String, u32, u32) {
    (name.to_owned(), available, capacity)
}

fn told<T: std::fmt::Debug>(result: Result<T, Error>) -> String {
    result.unwrap_err().to_string()
}

#[track_caller]
fn assert_holds(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "no {part:?} in {text}");
    }
}

#[test]
fn a_card_without_vfs_holds_vgpus_of_one_size() {
    let (fake, host) = t4();
    let before = fake.snapshot();
    let kinds: Vec<_> = mechanisms(&seen(&host)).into_iter().map(Mechanism::kind).collect();
    assert_eq!(kinds, [MechanismKind::NvidiaMdev], "and no generic mediated devices");
    let empty =
        [of("T4-2Q", 8, 8), of("T4-2B", 8, 8), of("T4-4Q", 4, 4), of("T4-8Q", 2, 2), of("T4-16Q", 1, 1)];
    assert_eq!(offers(&host, &[]), empty);
    assert_eq!(NvidiaMdev.profiles(&seen(&host), &[])[2].memory, Some(Memory::from_bytes(4 << 30)));
    let coming = offers(&host, &[("T4-4Q", false)]);
    assert!(coming.contains(&of("T4-4Q", 3, 4)) && coming.contains(&of("T4-8Q", 0, 2)), "{coming:?}");

    let made = create(&host, "T4-4Q", 1).unwrap();
    assert_eq!((made.name, &made.profile, made.address), (name(1), &profile("T4-4Q"), None));
    assert!(made.nodes.group.is_some());
    let writes = fake.writes();
    assert_eq!(create(&host, "T4-4Q", 1).unwrap(), made, "asked again");
    assert_eq!(fake.writes(), writes, "and nothing written");
    assert_eq!(
        offers(&host, &[("T4-4Q", true)]),
        [of("T4-2Q", 0, 8), of("T4-2B", 0, 8), of("T4-4Q", 3, 4), of("T4-8Q", 0, 2), of("T4-16Q", 0, 1)]
    );
    let when_empty = NvidiaMdev.when_empty(&seen(&host));
    assert!(when_empty.iter().any(|of| of.name == profile("T4-16Q") && of.available == 1));
    assert_holds(
        &told(create(&host, "T4-8Q", 2)),
        &["cannot hold another T4-8Q: it holds 1 of T4-4Q, and its driver offers T4-4Q now"],
    );
    assert_holds(&told(create(&host, "T4-6Q", 2)), &["has no profile T4-6Q"]);
    assert_eq!(instance::list(&host, gpu()).unwrap(), slice::from_ref(&made));
    assert_eq!(made.reset(&host).unwrap(), ResetOutcome::NotOffered);
    assert!(NvidiaMdev.makes_anew() && !NvidiaMdev.shows_memory());
    NvidiaMdev.retire(&host, gpu()).unwrap();
    for _ in 0..2 {
        destroy(&host, 1).unwrap();
    }
    assert_eq!(fake.snapshot(), before);
}

/// Ids of odd VFs' types begin with another driver's name.
#[test]
fn a_vf_holds_one_vgpu_and_the_last_one_takes_the_vfs_along() {
    let (fake, host) = l40s(&FakeVgpus::l40s());
    let before = fake.snapshot();
    assert!(offers(&host, &[]).contains(&of("L40S-24Q", 2, 2)), "by the catalogue");
    let first = create(&host, "L40S-24Q", 1).unwrap();
    assert_eq!((vfs_on(&host), parent_of(&host, 1).as_str()), (8, "0000:41:00.4"));
    let kinds: Vec<_> = mechanisms(&seen(&host)).into_iter().map(Mechanism::kind).collect();
    assert_eq!(kinds, [MechanismKind::NvidiaMdev], "now that its VFs are on");
    let left = offers(&host, &[("L40S-24Q", true)]);
    for expected in [of("L40S-24Q", 1, 2), of("L40S-24A", 1, 2), of("L40S-8Q", 0, 6), of("L40S-48Q", 0, 1)] {
        assert!(left.contains(&expected), "{left:?}");
    }
    let second = create(&host, "L40S-24A", 2).unwrap();
    assert_eq!(parent_of(&host, 2), "0000:41:00.5", "VF 0 has one");
    assert_eq!(second.profile, profile("L40S-24A"), "whatever the type's id begins with");
    assert!(attribute_of(&host, 2).starts_with("vfio-pci-"));
    assert_eq!(instance::list(&host, gpu()).unwrap(), [first, second.clone()]);
    assert_eq!(instance::find(&host, gpu(), name(2)).unwrap(), Some(second));
    assert_holds(
        &told(create(&host, "L40S-24Q", 3)),
        &["it holds 1 of L40S-24A, 1 of L40S-24Q", "no more vGPU"],
    );

    let text = told(NvidiaMdev.retire(&host, gpu()));
    assert_holds(&text, &["is not empty", &uuid(1), "on 0000:41:00.4", &uuid(2)]);
    for number in [1, 2, 2] {
        destroy(&host, number).unwrap();
    }
    for _ in 0..2 {
        NvidiaMdev.retire(&host, gpu()).unwrap();
    }
    assert_eq!(fake.snapshot(), before);
    destroy(&host, 1).unwrap();
}

fn attribute_of(host: &Host, number: u128) -> String {
    crate::attribute::link(&host.path("/sys/bus/mdev/devices").join(uuid(number)).join("mdev_type"))
        .unwrap()
        .unwrap()
}

#[test]
fn many_small_ones_fill_the_card() {
    let (_fake, host) = l40s(&FakeVgpus::l40s());
    create(&host, "L40S-8Q", 0).unwrap();
    for number in 1..6 {
        let (left, index) = (6 - u32::try_from(number).unwrap(), number);
        assert!(offers(&host, &[]).contains(&of("L40S-8Q", left, 6)), "{left}");
        create(&host, "L40S-8Q", index).unwrap();
    }
    assert!(offers(&host, &[]).contains(&of("L40S-8Q", 0, 6)));
    assert_holds(
        &told(create(&host, "L40S-8Q", 9)),
        &["it holds 6 of L40S-8Q, and its driver offers no more vGPU"],
    );
}

#[test]
fn a_card_of_mixed_sizes_is_asked_for_one_at_a_time() {
    let (_fake, host) = l40s(&FakeVgpus::l40s().mixed_sizes());
    create(&host, "L40S-24Q", 0).unwrap();
    assert!(offers(&host, &[]).contains(&of("L40S-8Q", 1, 6)));
    assert!(offers(&host, &[("L40S-8Q", false)]).iter().all(|(_, available, _)| *available == 0));
}

#[test]
fn vfs_that_are_no_parents_are_another_mechanism() {
    let (fake, host) = build(FakeGpu::new(GPU).nvidia(8, &FakeVgpus::l40s()));
    let before = fake.snapshot();
    let text = told(create(&host, "L40S-8Q", 1));
    assert_holds(&text, &["vendor-specific VFIO", "mechanism = \"nvidia-vfio\" for 0000:41:00.0"]);
    assert_eq!(fake.snapshot(), before, "the VFs are off again");
    host.kernel().turn_vfs(&host, gpu(), Turn::On).unwrap();
    let why = NvidiaMdev.unusable(&seen(&host)).unwrap();
    assert_eq!(why, "its VFs are no mediated devices: nvidia-vfio makes its vGPUs");
}

#[test]
fn what_the_tool_says_is_only_a_claim() {
    for turn in [FakeTurn::Lie, FakeTurn::Short(3)] {
        let (fake, host) = l40s(&FakeVgpus::l40s());
        let before = fake.snapshot();
        fake.sriov_manage(&[turn]);
        assert_holds(&told(create(&host, "L40S-8Q", 0)), &["of 8 VFs on after `sriov-manage -e`"]);
        assert_eq!(fake.snapshot(), before, "{turn:?}");
    }
}

#[test]
fn why_a_gpu_has_no_mediated_vgpus() {
    let (_fake, host) = build(FakeGpu::new(GPU).id("10de:1eb8").driver("nvidia"));
    assert_holds(&uncuttable(&seen(&host)).unwrap(), &["its driver nvidia offers no mediated devices"]);
    let (_fake, host) = build(FakeGpu::new(GPU).id("1002:74a1").driver("nvidia"));
    assert!(!NvidiaMdev.applies(&seen(&host)) && !NvidiaMdev.concerns(&seen(&host)));
}

/// With a fault at its first write, its second and so on, until it has no such write.
#[test]
fn a_fault_at_any_write_leaves_nothing_behind() {
    type Plant = fn(&FakeHost, usize);
    let plants: [Plant; 2] = [|fake, n| fake.fail("", n, Errno::EIO), |fake, n| fake.ignore("", n)];
    for machine in [t4, || l40s(&FakeVgpus::l40s())] {
        for plant in plants {
            let mut failed = 0;
            loop {
                let (fake, host) = machine();
                let of = if seen(&host).sriov.is_some() { "L40S-8Q" } else { "T4-8Q" };
                let before = fake.snapshot();
                plant(&fake, failed);
                let Err(error) = create(&host, of, 1) else { break };
                assert!(!matches!(error, Error::Undo { .. }), "{error}");
                assert_eq!(fake.snapshot(), before, "write {failed}: {error}");
                failed += 1;
            }
            assert!(failed >= 1);

            let (fake, host) = machine();
            let of = if seen(&host).sriov.is_some() { "L40S-8Q" } else { "T4-8Q" };
            let before = fake.snapshot();
            create(&host, of, 1).unwrap();
            plant(&fake, 0);
            let error = destroy(&host, 1).map(|()| "tried again");
            destroy(&host, 1).unwrap();
            NvidiaMdev.retire(&host, gpu()).unwrap();
            assert_eq!(fake.snapshot(), before, "{error:?}");
        }
    }
}

#[test]
fn a_type_that_the_driver_lists_and_refuses() {
    let (fake, host) = l40s(&FakeVgpus::l40s().refuse(1152));
    let before = fake.snapshot();
    assert_holds(
        &told(create(&host, "L40S-8Q", 0)),
        &["nvidia-1152/create: the GPU's driver cannot create this type in its present mode"],
    );
    assert_eq!(fake.snapshot(), before);
    create(&host, "L40S-1Q", 3).unwrap();
}

/// One VF that is not well hides no other, and is the reason only where no other serves.
#[test]
fn a_vf_that_cannot_be_read_is_passed_over() {
    let (fake, host) = l40s(&FakeVgpus::l40s());
    host.kernel().turn_vfs(&host, gpu(), Turn::On).unwrap();
    // An attribute that is a folder is there and cannot be read.
    let unreadable = |vf: &str| {
        let types = format!("sys/bus/pci/devices/{vf}/mdev_supported_types/nvidia-1152/name");
        std::fs::remove_file(host.path(format!("/{types}"))).unwrap();
        fake.set(&format!("{types}/x"), "");
    };
    unreadable("0000:41:00.4");
    create(&host, "L40S-8Q", 1).unwrap();
    assert_eq!(parent_of(&host, 1), "0000:41:00.5");
    let before = fake.snapshot();
    for wanted in ["L40S-48Q", "L40S-5Q"] {
        let text = told(create(&host, wanted, 2));
        assert_holds(&text, &["0000:41:00.4/mdev_supported_types/nvidia-1152/name"]);
    }
    assert_eq!(fake.snapshot(), before);
}

/// A vgpud that was killed between the steps of a creation, and comes back with the same name.
#[test]
fn what_was_begun_is_found_and_finished() {
    let (fake, host) = l40s(&FakeVgpus::l40s());
    let before = fake.snapshot();
    host.kernel().turn_vfs(&host, gpu(), Turn::On).unwrap();
    fake.delay_nodes(3);
    let types = host.path("/sys/class/mdev_bus/0000:41:00.6/mdev_supported_types");
    host.write_attr(&types.join("nvidia-1152/create"), &uuid(7)).unwrap();
    let made = create(&host, "L40S-8Q", 7).unwrap();
    assert_eq!(parent_of(&host, 7), "0000:41:00.6", "where it was begun");
    assert!(made.nodes.group.is_some());
    assert_holds(&told(create(&host, "L40S-1Q", 7)), &["exists already, of L40S-8Q on 0000:41:00.6"]);
    let other = "0000:42:00.0".parse().unwrap();
    assert_holds(
        &told(NvidiaMdev.destroy(&host, other, name(7))),
        &["on 0000:41:00.6 and not on GPU 0000:42:00.0"],
    );
    destroy(&host, 7).unwrap();
    NvidiaMdev.retire(&host, gpu()).unwrap();
    assert_eq!(fake.snapshot(), before);
}

#[test]
fn one_that_goes_by_itself_or_is_held_is_waited_for() {
    let (fake, host) = t4();
    let before = fake.snapshot();
    for errno in [Errno::EBUSY, Errno::EAGAIN, Errno::EIO, Errno::ENODEV] {
        create(&host, "T4-8Q", 1).unwrap();
        for _ in 0..3 {
            fake.fail("remove", 0, errno);
        }
        destroy(&host, 1).unwrap();
    }
    create(&host, "T4-8Q", 1).unwrap();
    fake.remove_mdev(&uuid(1));
    destroy(&host, 1).unwrap();
    assert_eq!(fake.snapshot(), before);

    create(&host, "T4-8Q", 1).unwrap();
    for n in 0..100 {
        fake.fail("remove", n, Errno::EBUSY);
    }
    assert_holds(&told(destroy(&host, 1)), &["something still holds the device; end its VM first"]);
    // Off the bus and held still below its VF.
    let (fake, host) = l40s(&FakeVgpus::l40s());
    host.kernel().turn_vfs(&host, gpu(), Turn::On).unwrap();
    fake.set(&format!("sys/bus/pci/devices/0000:41:00.5/{}/remove", uuid(5)), "");
    assert_holds(&told(destroy(&host, 5)), &["to go; does a VM still hold it?"]);
}

#[test]
fn a_gpu_that_vanishes_during_creation() {
    let (fake, host) = l40s(&FakeVgpus::l40s());
    fake.vanish_at("create", 0, gpu());
    create(&host, "L40S-8Q", 1).unwrap_err();
    assert_eq!(instance::list(&host, gpu()).unwrap(), []);
    assert_holds(&told(create(&host, "L40S-8Q", 1)), &["There is no PCI function"]);
    destroy(&host, 1).unwrap();
    NvidiaMdev.retire(&host, gpu()).unwrap();
}

#[test]
fn a_name_that_is_none_of_its() {
    let (_fake, host) = t4();
    let vf = InstanceName::Vf(crate::VfIndex(0));
    assert_holds(
        &told(NvidiaMdev.create(&host, gpu(), &profile("T4-8Q"), vf)),
        &["Mechanism nvidia-mdev cannot make VF 0"],
    );
    let next = || NvidiaMdev.next_name(gpu(), &profile("T4-8Q"), &[]).unwrap();
    assert_ne!(next(), next());
}
