use super::NvidiaVfio;
use crate::{
    Error, Gpu, Host, Instance, InstanceName, Mechanism, Memory, PciAddress, ProfileName, Taken, VfIndex,
    fake::{FakeGpu, FakeHost, FakeTurn, FakeVgpus},
    instance, inventory, mechanisms,
    nvidia::{NvidiaVgpu, Turn},
    uncuttable,
};
use nix::errno::Errno;
use std::{error::Error as _, slice};

const GPU: &str = "0000:41:00.0";
const VF0: &str = "0000:41:00.4";

fn gpu() -> PciAddress {
    GPU.parse().unwrap()
}

fn vf(index: u16) -> InstanceName {
    InstanceName::Vf(VfIndex(index))
}

fn profile(name: &str) -> ProfileName {
    name.parse().unwrap()
}

/// An L40S of 8 VFs.
fn machine(vgpus: &FakeVgpus) -> (FakeHost, Host) {
    let fake = FakeHost::machine().gpu(FakeGpu::new(GPU).nvidia(8, vgpus)).build();
    let host = fake.host();
    (fake, host)
}

fn seen(host: &Host) -> Gpu {
    inventory::gpu(host, &vgpud_config::GpuSelection::default(), gpu()).unwrap()
}

fn create(host: &Host, name: &str, index: u16) -> Result<Instance, Error> {
    NvidiaVfio.create(host, gpu(), &profile(name), vf(index))
}

fn type_of(host: &Host, index: u16) -> String {
    let path = host.pci_device(gpu()).join(format!("virtfn{index}/nvidia/current_vgpu_type"));
    std::fs::read_to_string(path).unwrap().trim().to_owned()
}

fn vfs_on(host: &Host) -> u16 {
    seen(host).sriov.unwrap().enabled
}

/// Name, free and capacity of each profile.
fn offers(host: &Host, taken: &[(&str, bool)]) -> Vec<(String, u32, u32)> {
    let taken: Vec<_> =
        taken.iter().map(|(name, exists)| Taken { profile: profile(name), exists: *exists }).collect();
    let profiles = NvidiaVfio.profiles(&seen(host), &taken);
    profiles.into_iter().map(|of| (of.name.to_string(), of.available, of.capacity)).collect()
}

fn of(name: &str, available: u32, capacity: u32) -> (String, u32, u32) {
    (name.to_owned(), available, capacity)
}

fn told<T: std::fmt::Debug>(result: Result<T, Error>) -> String {
    let error = result.unwrap_err();
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(&format!("\n{error}"));
        cause = error.source();
    }
    text
}

#[track_caller]
fn assert_holds(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "no {part:?} in {text}");
    }
}

#[test]
fn a_vgpu_is_made_and_destroyed_and_nothing_is_left() {
    let (fake, host) = machine(&FakeVgpus::l40s());
    let before = fake.snapshot();
    let made = create(&host, "L40S-8Q", 2).unwrap();
    assert_eq!((made.name, &made.profile), (vf(2), &profile("L40S-8Q")));
    assert_eq!(made.driver.as_ref().unwrap().0, "nvidia");
    assert_eq!(made.address, Some("0000:41:00.6".parse().unwrap()));
    assert!(made.nodes.group.is_some());
    assert_eq!(type_of(&host, 2), "1152");
    assert_eq!(vfs_on(&host), 8, "all of them, whatever is needed");
    assert_eq!(instance::list(&host, gpu()).unwrap(), slice::from_ref(&made), "the others are spares");

    assert_eq!(create(&host, "L40S-8Q", 2).unwrap(), made, "asked again");
    let writes = fake.writes();
    let types: Vec<_> = writes.iter().map(|(_, value)| value.as_str()).collect();
    assert_eq!(types, ["1152", "0", "1152"], "one that was there is never taken for new");
    assert!(
        writes.iter().all(|(path, _)| path.ends_with("nvidia/current_vgpu_type")),
        "nothing is bound, unbound or overridden: {writes:?}"
    );

    let text = told(NvidiaVfio.retire(&host, gpu()));
    assert_holds(&text, &["is not empty", "the vGPU on VF 2 (0000:41:00.6)"]);
    for _ in 0..2 {
        NvidiaVfio.destroy(&host, gpu(), vf(2)).unwrap();
    }
    assert_eq!(instance::list(&host, gpu()).unwrap(), []);
    for _ in 0..2 {
        NvidiaVfio.retire(&host, gpu()).unwrap();
    }
    assert_eq!(fake.snapshot(), before);
    NvidiaVfio.destroy(&host, gpu(), vf(2)).unwrap();
}

#[test]
fn another_owner_gets_another_vgpu_and_no_reset() {
    let (_fake, host) = machine(&FakeVgpus::l40s());
    let made = create(&host, "L40S-8Q", 0).unwrap();
    assert_eq!(made.reset(&host).unwrap(), crate::ResetOutcome::NotOffered);
    assert!(NvidiaVfio.makes_anew() && !NvidiaVfio.shows_memory());
}

/// The fixed share of a type is one of as many as the card holds, VFs and memory considered; which scheduler
/// is set nobody says.
#[test]
fn a_time_sliced_vgpu_has_the_share_of_its_type_as_best_effort() {
    let (_fake, host) = machine(&FakeVgpus::l40s());
    let share = |name: &str| {
        let profiles = NvidiaVfio.profiles(&seen(&host), &[]);
        let of = profiles.into_iter().find(|offered| offered.name == profile(name)).unwrap();
        (of.compute.unwrap().to_string(), of.holds)
    };
    assert_eq!(share("L40S-8Q"), ("16.66%".to_owned(), crate::Holds::BEST_EFFORT));
    assert_eq!(share("L40S-1Q"), ("12.5%".to_owned(), crate::Holds::BEST_EFFORT));
    create(&host, "L40S-8Q", 0).unwrap();
    assert_eq!(share("L40S-8Q"), ("16.66%".to_owned(), crate::Holds::BEST_EFFORT));
    let holds = |name: &str| NvidiaVfio.holds(&seen(&host), &profile(name));
    assert_eq!((holds("L40S-8Q"), holds("A100-1-5C")), (crate::Holds::BEST_EFFORT, crate::Holds::ENFORCED));
}

#[test]
fn what_is_offered_before_vfs_are_on_is_what_the_card_is_known_for() {
    let (_fake, host) = machine(&FakeVgpus::l40s());
    let offered = offers(&host, &[]);
    // 8 VFs hold no more than 8 of any; 48 GB no more than 6 of 8 GB.
    for expected in [of("L40S-1Q", 8, 8), of("L40S-8Q", 6, 6), of("L40S-24Q", 2, 2), of("L40S-48Q", 1, 1)] {
        assert!(offered.contains(&expected), "{offered:?}");
    }
    let of_one_size = offered.iter().filter(|(name, ..)| name.contains("-24"));
    let of_one_size: Vec<_> = of_one_size.map(|(name, ..)| name.as_str()).collect();
    assert_eq!(of_one_size, ["L40S-24Q", "L40S-24A"], "whoever asks for a size gets what can more");
    let one_comes = offers(&host, &[("L40S-8Q", false)]);
    assert!(
        one_comes.contains(&of("L40S-8Q", 5, 6)) && one_comes.contains(&of("L40S-24Q", 0, 2)),
        "{one_comes:?}"
    );
}

#[test]
fn all_vgpus_of_a_card_have_one_size() {
    for vgpus in [FakeVgpus::l40s(), FakeVgpus::l40s().name_first()] {
        let (_fake, host) = machine(&vgpus);
        create(&host, "L40S-24Q", 0).unwrap();
        let listed = [of("L40S-24Q", 1, 2), of("L40S-24A", 1, 2)];
        assert_eq!(offers(&host, &[("L40S-24Q", true)]), listed);
        assert_eq!(
            offers(&host, &[("L40S-24Q", true), ("L40S-24A", false)]),
            [of("L40S-24Q", 0, 2), of("L40S-24A", 0, 2)],
            "the one that comes takes the rest"
        );
        let text = told(create(&host, "L40S-8Q", 1));
        assert_holds(
            &text,
            &[
                "GPU 0000:41:00.0 cannot hold another L40S-8Q",
                "offers L40S-24Q, L40S-24A on VF 1 (0000:41:00.5)",
            ],
        );
        assert_eq!(type_of(&host, 1), "0");
        let empty = NvidiaVfio.when_empty(&seen(&host));
        assert!(empty.iter().any(|of| of.name == profile("L40S-8Q") && of.available == 6), "{empty:?}");
    }
}

#[test]
fn a_card_of_mixed_sizes_is_asked_for_one_at_a_time() {
    let (_fake, host) = machine(&FakeVgpus::l40s().mixed_sizes());
    create(&host, "L40S-24Q", 0).unwrap();
    let offered = offers(&host, &[("L40S-24Q", true)]);
    assert!(offered.iter().any(|(name, available, _)| name == "L40S-8Q" && *available == 1), "{offered:?}");
    let one_comes = offers(&host, &[("L40S-24Q", true), ("L40S-8Q", false)]);
    assert!(one_comes.iter().all(|(_, available, _)| *available == 0), "{one_comes:?}");
}

#[test]
fn a_type_that_no_list_names_any_more_may_be_any_and_is_known_again() {
    let (_fake, host) = machine(&FakeVgpus::l40s());
    let first = create(&host, "L40S-24Q", 0).unwrap();
    let second = create(&host, "L40S-24A", 5).unwrap();
    assert_eq!(first.profile, profile("L40S-24Q"), "room was left");
    assert_eq!(second.profile, profile("type-1165"));
    assert!(second.may_be(&profile("L40S-24A")) && second.may_be(&profile("L40S-24Q")));
    let full = [("L40S-24Q", true), ("L40S-24A", true)];
    assert_eq!(offers(&host, &full), [of("L40S-24Q", 0, 2), of("L40S-24A", 0, 2)]);
    // Which of the two it is cannot be told: an interrupted attempt is made again.
    let again = create(&host, "L40S-24Q", 5).unwrap();
    assert!(again.may_be(&profile("L40S-24Q")));
    assert_eq!(type_of(&host, 5), "1155");
    NvidiaVfio.destroy(&host, gpu(), vf(0)).unwrap();
    let known = instance::find(&host, gpu(), vf(5)).unwrap().unwrap();
    assert_eq!(known.profile, profile("L40S-24Q"));
    assert!(!known.may_be(&profile("L40S-24A")));
}

#[test]
fn a_vgpu_of_somebody_else_is_left_alone() {
    let (fake, host) = machine(&FakeVgpus::l40s());
    create(&host, "L40S-8Q", 1).unwrap();
    let before = fake.snapshot();
    let text = told(create(&host, "L40S-1Q", 1));
    assert_holds(&text, &["VF 0000:41:00.5 of GPU 0000:41:00.0 is a vGPU already, a L40S-8Q"]);
    assert_eq!(fake.snapshot(), before);
}

#[test]
fn a_refused_type_is_named_with_its_card_and_undone() {
    let (fake, host) = machine(&FakeVgpus::l40s().refuse(1152));
    let before = fake.snapshot();
    let text = told(create(&host, "L40S-8Q", 0));
    assert_holds(
        &text,
        &[
            "GPU 0000:41:00.0 refuses L40S-8Q (type 1152) on VF 0000:41:00.4, although its driver lists it there",
            "NVRM",
            "os error 5",
        ],
    );
    assert_eq!(fake.snapshot(), before, "VFs that were turned on for it are off again");
    create(&host, "L40S-1Q", 3).unwrap();
    create(&host, "L40S-8Q", 0).unwrap_err();
    assert_eq!((vfs_on(&host), type_of(&host, 3).as_str()), (8, "1147"), "others use them");
}

#[test]
fn a_write_that_changed_nothing_is_found_out() {
    let (fake, host) = machine(&FakeVgpus::l40s());
    create(&host, "L40S-1Q", 0).unwrap();
    fake.ignore("current_vgpu_type", 0);
    assert_holds(
        &told(create(&host, "L40S-1Q", 1)),
        &["VF 1 (0000:41:00.5) is no vGPU, although the kernel took the request for type 1147 (L40S-1Q)"],
    );
    fake.ignore("current_vgpu_type", 0);
    assert_holds(
        &told(NvidiaVfio.destroy(&host, gpu(), vf(0))),
        &["VF 0 (0000:41:00.4) is a vGPU of type 1147, although the kernel took the request for no vGPU"],
    );
}

#[test]
fn a_vgpu_in_use_is_waited_for_and_not_torn_away() {
    for errno in [Errno::EBUSY, Errno::EPERM] {
        let (fake, host) = machine(&FakeVgpus::l40s().held(errno));
        create(&host, "L40S-1Q", 0).unwrap();
        for _ in 0..3 {
            fake.fail("current_vgpu_type", 0, errno);
        }
        NvidiaVfio.destroy(&host, gpu(), vf(0)).unwrap();
        create(&host, "L40S-1Q", 0).unwrap();
        fake.hold(VF0);
        let text = told(NvidiaVfio.destroy(&host, gpu(), vf(0)));
        assert_holds(&text, &["current_vgpu_type", "something still holds the vGPU; end its VM first"]);
        assert_eq!(type_of(&host, 0), "1147");
        fake.let_go(VF0);
        NvidiaVfio.destroy(&host, gpu(), vf(0)).unwrap();
    }
}

#[test]
fn a_vf_without_its_folder_is_no_place_and_hides_no_other() {
    let (_fake, host) = machine(&FakeVgpus::l40s().dead(1));
    let text = told(create(&host, "L40S-8Q", 0));
    assert_holds(
        &text,
        &["is on driver nvidia with 8 of 8 VFs on, 7 of them ready for vGPUs", "`sriov-manage -e`"],
    );
    assert_eq!(vfs_on(&host), 0, "what came is turned off again");
    // Somebody else turned them on.
    host.kernel().turn_vfs(&host, gpu(), Turn::On).unwrap();
    create(&host, "L40S-8Q", 0).unwrap();
    let text = told(create(&host, "L40S-8Q", 1));
    assert_holds(
        &text,
        &["VF 1 (0000:41:00.5) of GPU 0000:41:00.0 is on driver nvidia and cannot become a vGPU"],
    );
    let text = told(create(&host, "L40S-8Q", 9));
    assert_holds(&text, &["it has 8 VFs and no VF 9"]);
}

#[test]
fn what_the_tool_says_is_only_a_claim() {
    let cases: [(&[FakeTurn], &[&str]); 3] = [
        (
            &[FakeTurn::Lie],
            &[
                "is on driver nvidia with 0 of 8 VFs on after `sriov-manage -e`, which said that all went well",
            ],
        ),
        (&[FakeTurn::Short(3)], &["with 3 of 8 VFs on after", "said that all went well"]),
        (
            &[FakeTurn::LockedOut; 5],
            &["failed (Cannot obtain unbindLock for 0000:41:00.0)", "nv-hostengine", "try again"],
        ),
    ];
    for (turns, words) in cases {
        let (fake, host) = machine(&FakeVgpus::l40s());
        let before = fake.snapshot();
        fake.sriov_manage(turns);
        assert_holds(&told(create(&host, "L40S-8Q", 0)), words);
        assert_eq!(fake.snapshot(), before, "{turns:?}");
    }
    let (fake, host) = machine(&FakeVgpus::l40s());
    fake.sriov_manage(&[FakeTurn::LockedOut; 4]);
    create(&host, "L40S-8Q", 0).unwrap();
    NvidiaVfio.destroy(&host, gpu(), vf(0)).unwrap();
    fake.sriov_manage(&[FakeTurn::Lie]);
    assert_holds(&told(NvidiaVfio.retire(&host, gpu())), &["with 8 of 8 VFs on after `sriov-manage -d`"]);
}

#[test]
fn a_gpu_that_was_left_on_the_stub_is_told_with_the_way_back() {
    let (fake, host) = machine(&FakeVgpus::l40s());
    fake.sriov_manage(&[FakeTurn::Strand]);
    let way_back =
        ["left it on pci-pf-stub", "/sys/bus/pci/drivers/pci-pf-stub/unbind", "drivers/nvidia/bind"];
    let text = told(create(&host, "L40S-8Q", 0));
    assert_holds(&text, &["is on driver pci-pf-stub with 0 of 8 VFs on", "stopped half-way at"]);
    assert_holds(&text, &way_back);
    assert_holds(&uncuttable(&seen(&host)).unwrap(), &way_back);
    assert_holds(&told(create(&host, "L40S-8Q", 0)), &way_back);
    assert_holds(&told(NvidiaVfio.retire(&host, gpu())), &way_back);
}

#[test]
fn why_a_gpu_makes_no_vgpus() {
    let why = |gpu: FakeGpu| {
        let host = FakeHost::machine().gpu(gpu).build().host();
        uncuttable(&seen(&host)).unwrap()
    };
    let plain = || FakeGpu::new(GPU).nvidia(8, &FakeVgpus::l40s());
    let (fake, host) = machine(&FakeVgpus::l40s());
    let kinds: Vec<_> = mechanisms(&seen(&host)).into_iter().map(Mechanism::kind).collect();
    let either = [crate::MechanismKind::NvidiaVfio, crate::MechanismKind::NvidiaMdev];
    assert_eq!(kinds, either, "its VFs will tell");
    let without = |path: &str| {
        let path = host.path(path);
        std::fs::remove_dir_all(&path).or_else(|_| std::fs::remove_file(&path)).unwrap();
        uncuttable(&seen(&host)).unwrap()
    };
    assert_holds(
        &without("/sys/module/nvidia_vgpu_vfio"),
        &[
            "its driver nvidia is not the vGPU host driver",
            "this host lacks the module nvidia_vgpu_vfio, and",
        ],
    );
    let tool = host.sriov_manage();
    assert_holds(
        &without("/usr/lib/nvidia/sriov-manage"),
        &[&format!("lacks the module nvidia_vgpu_vfio and the program {}", tool.display())],
    );
    drop(fake);
    // A GeForce: one VF in its capability, with any driver.
    assert_holds(
        &why(plain().sriov(1)),
        &["cannot be cut: its SR-IOV capability allows one VF, which is no share, and"],
    );
    assert_holds(
        &why(plain().id("10de:ffff")),
        &["not known before its VFs are on: run `", "/sriov-manage -e 0000:41:00.0`"],
    );
    assert_holds(&why(plain().driver("nouveau")), &["its driver nouveau is not NVIDIA's vGPU host driver"]);
    assert!(!why(FakeGpu::new(GPU).id("1002:74a1")).contains("NVIDIA"), "another vendor's");
}

#[test]
fn an_unknown_card_is_used_when_somebody_has_turned_its_vfs_on() {
    let vgpus = FakeVgpus::new(32, &[(9, "NVIDIA X9-16Q", 16), (10, "NVIDIA X9-32Q", 32)]);
    let fake = FakeHost::machine().gpu(FakeGpu::new(GPU).nvidia(4, &vgpus).id("10de:ffff")).build();
    let host = fake.host();
    host.kernel().turn_vfs(&host, gpu(), Turn::On).unwrap();
    assert_eq!(offers(&host, &[]), [of("X9-16Q", 2, 2), of("X9-32Q", 1, 1)]);
    let memory = NvidiaVfio.profiles(&seen(&host), &[])[0].memory;
    assert_eq!(memory, Some(Memory::from_bytes(16 << 30)));
    create(&host, "X9-16Q", 0).unwrap();
    // How much it has cannot be seen any more; the driver's word is good for one.
    assert_eq!(offers(&host, &[("X9-16Q", true)]), [of("X9-16Q", 1, 2)]);
    assert!(NvidiaVfio.is_divided(&seen(&host)));
}

#[test]
fn mediated_devices_are_another_mechanism() {
    let (fake, host) = machine(&FakeVgpus::l40s().mediated());
    let before = fake.snapshot();
    let text = told(create(&host, "L40S-8Q", 0));
    assert_holds(&text, &["its vGPUs are mediated devices", "mechanism = \"nvidia-mdev\" for 0000:41:00.0"]);
    assert_eq!(fake.snapshot(), before, "the VFs are off again");
    host.kernel().turn_vfs(&host, gpu(), Turn::On).unwrap();
    assert!(matches!(seen(&host).nvidia, Some(NvidiaVgpu::Mediated { .. })));
    assert_eq!(
        NvidiaVfio.unusable(&seen(&host)).as_deref(),
        Some("its vGPUs are mediated devices, which nvidia-mdev makes")
    );
}

#[test]
fn names_are_the_lowest_free_vfs() {
    let next = |used: &[InstanceName]| NvidiaVfio.next_name(gpu(), &profile("L40S-8Q"), used);
    assert_eq!(next(&[vf(0), vf(2)]).unwrap(), vf(1));
    let all: Vec<_> = (0..64).map(vf).collect();
    assert_holds(&told(next(&all)), &["all 64 VFs are taken"]);
    let mdev = InstanceName::Mdev(crate::MdevUuid(uuid::Uuid::nil()));
    let (_fake, host) = machine(&FakeVgpus::l40s());
    assert_holds(
        &told(NvidiaVfio.create(&host, gpu(), &profile("L40S-8Q"), mdev)),
        &["Mechanism nvidia-vfio cannot make mediated device"],
    );
}

/// It lives again when VFs are turned off and on, which its slice must not stand in the way of.
#[test]
fn a_vf_that_its_driver_lost_keeps_no_slice() {
    let (fake, host) = machine(&FakeVgpus::l40s());
    let before = fake.snapshot();
    let made = create(&host, "L40S-8Q", 0).unwrap();
    std::fs::remove_dir_all(host.pci_device(made.address.unwrap()).join("nvidia")).unwrap();
    NvidiaVfio.destroy(&host, gpu(), vf(0)).unwrap();
    NvidiaVfio.retire(&host, gpu()).unwrap();
    assert_eq!(fake.snapshot(), before);
}
