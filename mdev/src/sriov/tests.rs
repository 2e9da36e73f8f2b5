mod faults;

use super::*;
use crate::{
    ResetOutcome, VfIndex, attribute,
    fake::{FakeGpu, FakeHost, Machine},
    instance, inventory, uncuttable,
};
use nix::errno::Errno;
use std::error::Error as _;

const GPU: &str = "0000:41:00.0";

fn gpu() -> PciAddress {
    GPU.parse().unwrap()
}

fn vf(index: u16) -> InstanceName {
    InstanceName::Vf(VfIndex(index))
}

fn profile(name: &str) -> ProfileName {
    name.parse().unwrap()
}

fn sriov_gpu() -> FakeGpu {
    FakeGpu::new(GPU).sriov(8)
}

fn machine(gpu: FakeGpu) -> (FakeHost, Host) {
    build(&FakeHost::machine().gpu(gpu))
}

fn build(machine: &Machine) -> (FakeHost, Host) {
    let fake = machine.build();
    let host = fake.host();
    (fake, host)
}

fn read_gpu(host: &Host) -> Gpu {
    inventory::gpu(host, &vgpud_config::GpuSelection::default(), gpu()).unwrap()
}

fn create(host: &Host, name: &str, index: u16) -> Result<Instance, Error> {
    Sriov.create(host, gpu(), &profile(name), vf(index))
}

/// The error and its causes, a line each.
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

#[test]
fn profiles_are_powers_of_two_and_the_total() {
    let offered = |total: u16| {
        let (_fake, host) = machine(FakeGpu::new(GPU).sriov(total));
        let profiles = Sriov.profiles(&read_gpu(&host), &[]);
        profiles.into_iter().map(|profile| profile.name.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(offered(8), ["vf-1", "vf-2", "vf-4", "vf-8"]);
    assert_eq!(offered(31), ["vf-1", "vf-2", "vf-4", "vf-8", "vf-16", "vf-31"]);
    assert_eq!(offered(2), ["vf-1", "vf-2"]);
    assert_eq!(offered(u16::MAX).len(), 17);
}

#[test]
fn a_gpu_with_vfs_offers_their_count_only() {
    let (_fake, host) = machine(sriov_gpu());
    let whole = Profile {
        name: profile("vf-4"),
        memory: Some(crate::Memory::from_bytes(16 << 20)),
        compute: Some("25%".parse().unwrap()),
        holds: crate::Holds::NOT_AVAILABLE,
        capacity: 4,
        available: 4,
    };
    assert_eq!(Sriov.profiles(&read_gpu(&host), &[])[2], whole);
    create(&host, "vf-4", 2).unwrap();
    assert_eq!(Sriov.profiles(&read_gpu(&host), &[]), [Profile { available: 3, ..whole.clone() }]);
    Sriov.destroy(&host, gpu(), vf(2)).unwrap();
    assert_eq!(Sriov.profiles(&read_gpu(&host), &[]), [whole]);
}

#[test]
fn a_vf_is_made_and_taken_back_and_nothing_is_left() {
    let (fake, host) = build(&FakeHost::machine().gpu(sriov_gpu()).cdev());
    let before = fake.snapshot();
    let made = create(&host, "vf-4", 1).unwrap();
    assert_eq!(made.address, Some("0000:41:03.0".parse().unwrap()));
    assert_eq!((made.gpu, made.name, &made.profile), (gpu(), vf(1), &profile("vf-4")));
    assert_eq!(made.driver.as_ref().unwrap().0, "vfio-pci");
    assert_eq!(made.sysfs, host.pci_device(made.address.unwrap()));
    let group = made.iommu_group.clone().unwrap();
    assert_eq!(group.members, ["0000:41:03.0"]);
    assert_eq!(made.nodes.group, Some(host.vfio_nodes().join(group.number.to_string())));
    assert_eq!(made.nodes.cdev, Some(host.vfio_nodes().join("devices/vfio0")));
    assert_eq!(instance::find(&host, gpu(), vf(1)).unwrap(), Some(made.clone()));
    assert_eq!(instance::find(&host, gpu(), vf(0)).unwrap(), None, "a spare is no instance");
    let other = create(&host, "vf-4", 0).unwrap();
    assert_eq!(instance::list(&host, gpu()).unwrap(), [other, made.clone()]);

    let writes = fake.writes();
    assert_eq!(create(&host, "vf-4", 1).unwrap(), made, "asked again");
    assert_eq!(fake.writes(), writes, "and nothing written");
    let first: Vec<_> =
        writes.iter().map(|(path, value)| (path.rsplit('/').next().unwrap(), &**value)).collect();
    let vf1 = "0000:41:03.0";
    let expected = [
        ("sriov_drivers_autoprobe", "0"),
        ("sriov_numvfs", "4"),
        ("driver_override", "vfio-pci"),
        ("bind", vf1),
    ];
    assert_eq!(first[..4], expected);

    for index in [0, 1, 1] {
        Sriov.destroy(&host, gpu(), vf(index)).unwrap();
    }
    assert_eq!(instance::list(&host, gpu()).unwrap(), []);
    Sriov.retire(&host, gpu()).unwrap();
    assert_eq!(fake.snapshot(), before);
    Sriov.retire(&host, gpu()).unwrap();
}

#[test]
fn next_names_are_the_lowest_free() {
    let next = |used: &[InstanceName]| Sriov.next_name(gpu(), &profile("vf-2"), used);
    assert_eq!(next(&[]).unwrap(), vf(0));
    assert_eq!(next(&[vf(0), vf(7)]).unwrap(), vf(1));
    assert_eq!(told(next(&[vf(1), vf(0)])), "GPU 0000:41:00.0 cannot hold another vf-2: all 2 VFs are taken");
    for name in ["vf-0", "vf-", "vf-02", "vf-70000", "small", "vf-+2"] {
        let expected =
            format!("GPU {GPU} has no profile {name}; `vgpuctl profiles {GPU}` lists what it offers");
        let name = name.replace('+', "-");
        let expected = expected.replace('+', "-");
        assert_eq!(told(Sriov.next_name(gpu(), &profile(&name), &[])), expected);
    }
}

#[test]
fn what_cannot_be_asked_for() {
    let (fake, host) = machine(sriov_gpu());
    let before = fake.snapshot();
    assert_eq!(
        told(create(&host, "vf-9", 0)),
        "GPU 0000:41:00.0 can have 8 VFs and not 9; `vgpuctl profiles 0000:41:00.0` lists what it offers"
    );
    assert_eq!(
        told(create(&host, "vf-4", 4)),
        "Mechanism sriov cannot make VF 4 of GPU 0000:41:00.0; ask it for the next name"
    );
    let mdev = InstanceName::Mdev(crate::MdevUuid(uuid::Uuid::nil()));
    assert_eq!(
        told(Sriov.create(&host, gpu(), &profile("vf-1"), mdev)),
        "Mechanism sriov cannot make mediated device 00000000-0000-0000-0000-000000000000 of GPU 0000:41:00.0; \
         ask it for the next name"
    );
    let absent: PciAddress = "0000:99:00.0".parse().unwrap();
    assert_eq!(
        told(Sriov.create(&host, absent, &profile("vf-1"), vf(0))),
        "There is no PCI function 0000:99:00.0; `vgpuctl gpus` lists the GPUs of this host"
    );
    assert_eq!(fake.snapshot(), before);
}

#[test]
fn another_vf_count_is_refused_without_going_through_zero() {
    let (fake, host) = machine(sriov_gpu());
    create(&host, "vf-4", 0).unwrap();
    fake.hold("0000:41:02.0");
    let before = fake.snapshot();
    assert_eq!(
        told(create(&host, "vf-8", 5)),
        "GPU 0000:41:00.0 has 4 VFs enabled and 8 are needed: give up the slices of this GPU first, \
         for the number cannot change while one VF exists"
    );
    assert_eq!(
        told(Sriov.retire(&host, gpu())),
        "GPU 0000:41:00.0 is not empty: VF 0 (0000:41:02.0) must go first"
    );
    assert_eq!(fake.snapshot(), before);
}

#[test]
fn fewer_vfs_than_asked_for_are_undone() {
    let (fake, host) = machine(sriov_gpu());
    let before = fake.snapshot();
    fake.short_vfs(3);
    assert_eq!(
        told(create(&host, "vf-8", 0)),
        "GPU 0000:41:00.0 enabled 3 of the 8 VFs asked for; the kernel log says why (`dmesg`)"
    );
    assert_eq!(fake.snapshot(), before);
}

#[test]
fn what_the_kernel_says_to_a_vf_count() {
    let path = |host: &Host| host.path("sys/bus/pci/devices").join(GPU).join("sriov_numvfs");
    let cases = [
        (
            Errno::EBUSY,
            "VFs are enabled already, and their number changes only through 0, which drops every VF",
            "Device or resource busy (os error 16)",
        ),
        (
            Errno::ENOMEM,
            "too little MMIO space or too few bus numbers for the VFs; turn on SR-IOV and decoding above 4G in \
             the firmware, or boot with pci=realloc",
            "Cannot allocate memory (os error 12)",
        ),
        (Errno::EINVAL, "the GPU's driver refuses this number of VFs", "Invalid argument (os error 22)"),
        (
            Errno::EROFS,
            "sysfs is mounted read-only here; a container needs it writable",
            "Read-only file system (os error 30)",
        ),
        (Errno::EACCES, "vgpud must be root", "Permission denied (os error 13)"),
    ];
    for (errno, hint, cause) in cases {
        let (fake, host) = machine(sriov_gpu());
        fake.fail("sriov_numvfs", 0, errno);
        let path = path(&host);
        assert_eq!(
            told(create(&host, "vf-8", 0)),
            format!("Cannot write \"8\" to {}: {hint}\n{cause}", path.display())
        );
    }
    let (_fake, host) = machine(sriov_gpu().without_sriov_configure());
    let text = told(create(&host, "vf-8", 0));
    assert!(
        text.contains(
            ": no driver is bound to the GPU, or its driver does not implement SR-IOV through sysfs\n"
        ),
        "{text}"
    );
    // The capability can promise more than the driver allows.
    let (fake, host) = machine(sriov_gpu().driver_max_vfs(4));
    fake.set(&format!("sys/bus/pci/devices/{GPU}/sriov_totalvfs"), "8");
    let text = told(create(&host, "vf-8", 0));
    assert!(text.contains(": the GPU's driver allows fewer VFs\n"), "{text}");
}

#[test]
fn a_vf_that_is_gone_needs_no_destroying() {
    let (fake, host) = machine(sriov_gpu());
    let made = create(&host, "vf-4", 1).unwrap();
    fake.vanish(gpu());
    Sriov.destroy(&host, gpu(), vf(1)).unwrap();
    assert_eq!(instance::find(&host, gpu(), vf(1)).unwrap(), None);
    assert_eq!(told(made.reset(&host)), "GPU 0000:41:00.0 has no VF 1 (any more)");
}

#[test]
fn vfs_are_not_dropped_while_one_of_them_still_leaves_its_driver() {
    let (_fake, host) = machine(sriov_gpu());
    let instance = create(&host, "vf-4", 1).unwrap();
    assert!(instance::leaving(&host, gpu(), vf(1)).unwrap().is_empty());
    std::fs::remove_file(instance.sysfs.join("driver")).unwrap();
    std::fs::remove_dir_all(instance.sysfs.join("vfio-dev")).unwrap();
    assert_eq!(instance::find(&host, gpu(), vf(1)).unwrap(), None);
    assert_eq!(instance::leaving(&host, gpu(), vf(1)).unwrap().group, instance.nodes.group);
    assert!(matches!(Sriov.retire(&host, gpu()), Err(Error::InUse { .. })));
    std::fs::remove_file(instance.nodes.group.unwrap()).unwrap();
    Sriov.retire(&host, gpu()).unwrap();
}

#[test]
fn retiring_reads_back() {
    let (fake, host) = machine(sriov_gpu());
    create(&host, "vf-4", 1).unwrap();
    Sriov.destroy(&host, gpu(), vf(1)).unwrap();
    fake.ignore("sriov_numvfs", 0);
    assert_eq!(
        told(Sriov.retire(&host, gpu())),
        "GPU 0000:41:00.0 has 4 VFs, although the kernel took the request for no VFs; \
         the kernel log says why (`dmesg`)"
    );
}

#[test]
fn a_reset_is_judged_by_the_kernel_and_the_device() {
    let (fake, host) = machine(sriov_gpu());
    let made = create(&host, "vf-4", 1).unwrap();
    let done = ResetOutcome::Done { method: "flr".to_owned() };
    assert_eq!(made.reset(&host).unwrap(), done);
    assert_eq!(fake.writes().last().unwrap().1, "1");
    let reset = made.sysfs.join("reset");
    let cases = [
        (
            Errno::ENOTTY,
            ": none of the device's reset methods works; keep it out of use\nInappropriate ioctl for device (os error 25)",
        ),
        (
            Errno::ETIMEDOUT,
            ": the device did not come back from its reset; keep it out of use\nConnection timed out (os error 110)",
        ),
        (Errno::EIO, "\nInput/output error (os error 5)"),
    ];
    for (errno, text) in cases {
        fake.fail("reset", 0, errno);
        assert_eq!(told(made.reset(&host)), format!("Cannot write \"1\" to {}{text}", reset.display()));
    }
    fake.silence(made.address.unwrap());
    assert_eq!(
        told(made.reset(&host)),
        "0000:41:03.0 does not answer: its config space reads as ones; it needs a power cycle of the host"
    );
}

#[test]
fn a_vf_without_a_reset_says_so() {
    let (fake, host) = machine(sriov_gpu().vf_reset_method(""));
    let made = create(&host, "vf-4", 1).unwrap();
    let writes = fake.writes();
    assert_eq!(made.reset(&host).unwrap(), ResetOutcome::NotOffered);
    assert_eq!(fake.writes(), writes);
}

#[test]
fn a_vf_of_another_gpu_is_not_believed() {
    let (_fake, host) = machine(sriov_gpu());
    create(&host, "vf-4", 1).unwrap();
    let physfn = host.pci_device("0000:41:03.0".parse().unwrap()).join("physfn");
    std::fs::remove_file(&physfn).unwrap();
    std::os::unix::fs::symlink("../0000:42:00.0", &physfn).unwrap();
    assert_eq!(instance::find(&host, gpu(), vf(1)).unwrap(), None);
    assert_eq!(instance::list(&host, gpu()).unwrap(), []);
}

#[test]
fn why_a_gpu_cannot_be_cut() {
    let why = |gpu: FakeGpu| {
        let (_fake, host) = machine(gpu);
        uncuttable(&read_gpu(&host))
    };
    let no_mdev = |driver: &str| format!("its driver {driver} offers no mediated devices");
    assert_eq!(why(sriov_gpu()), None);
    assert_eq!(
        why(FakeGpu::new(GPU)),
        Some(format!(
            "GPU {GPU} cannot be cut: it has no SR-IOV capability, and no driver is bound to it that could offer \
             mediated devices."
        ))
    );
    let cases = [
        (
            FakeGpu::new(GPU).driver("xe").sriov(0),
            "its SR-IOV capability allows no VFs, which the GPU's driver or firmware decides",
            "xe",
        ),
        (
            FakeGpu::new(GPU).gim(8, 0),
            "its driver gim made no VFs of it when it was loaded, which vf_num of the module and the kernel log \
             (`dmesg`) explain, and its driver gim makes VFs when it is loaded, and not by sriov_numvfs",
            "gim",
        ),
        (
            FakeGpu::new(GPU).driver("nouveau").sriov(1),
            "its SR-IOV capability allows one VF, which is no share",
            "nouveau",
        ),
        (
            FakeGpu::new(GPU).driver("amdgpu").sriov(8),
            "its driver amdgpu does not implement sriov_numvfs",
            "amdgpu",
        ),
    ];
    for (gpu, sriov, driver) in cases {
        assert_eq!(why(gpu), Some(format!("GPU {GPU} cannot be cut: {sriov}, and {}.", no_mdev(driver))));
    }
    let (_fake, host) = machine(sriov_gpu());
    let unbound = Gpu { driver: None, ..read_gpu(&host) };
    assert_eq!(Sriov.unusable(&unbound).as_deref(), Some("no driver is bound to it that could enable VFs"));
    assert_eq!(Sriov.profiles(&unbound, &[]), []);
}
