//! Cutting on a real kernel: inventory, SR-IOV, mediated devices, binding, resets, events.

#![allow(clippy::unwrap_used)]

use std::{
    error::Error as _,
    fs,
    path::Path,
    time::{Duration, Instant},
};
use vgpud_config::GpuSelection;
use vgpud_mdev::{
    Error, Gpu, Host, Instance, InstanceName, MdevUuid, Mechanism, MechanismKind, Memory, PciAddress,
    ResetOutcome, VfIndex, instance, inventory, mechanism, mechanisms,
    uevent::{Action, Received, Uevent, UeventSocket, UeventSubject},
    uncuttable,
};

const MI300X: &str = "1002:74a1";
const FLEX170: &str = "8086:56c0";
const SIMMDEV: &str = "1234:51a1";
const RTX5070: &str = "10de:2f04";
const B580: &str = "8086:e20b";

fn host() -> Host {
    Host::default().with_patience(Duration::from_secs(20))
}

fn gpu(id: &str) -> Gpu {
    let gpus = inventory::gpus(&host(), &GpuSelection::default()).unwrap().gpus;
    gpus.into_iter().find(|gpu| gpu.id.to_string() == id).unwrap_or_else(|| panic!("no {id} here"))
}

fn sriov() -> &'static dyn Mechanism {
    mechanism(MechanismKind::Sriov)
}

fn mdev() -> &'static dyn Mechanism {
    mechanism(MechanismKind::Mdev)
}

fn vf(index: u16) -> InstanceName {
    InstanceName::Vf(VfIndex(index))
}

fn new_mdev() -> InstanceName {
    InstanceName::Mdev(MdevUuid(uuid::Uuid::new_v4()))
}

fn told<T: std::fmt::Debug>(result: Result<T, Error>) -> String {
    let error = result.unwrap_err();
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(&format!(": {error}"));
        cause = error.source();
    }
    text
}

struct Knob(String, &'static str);

impl Knob {
    fn turn(gpu: PciAddress, knob: &str, value: &str, after: &'static str) -> Self {
        let path = format!("/sys/kernel/debug/simgpu/{gpu}/{knob}");
        fs::write(&path, value).unwrap();
        Self(path, after)
    }
}

impl Drop for Knob {
    fn drop(&mut self) {
        let _ = fs::write(&self.0, self.1);
    }
}

fn assert_usable(made: &Instance) {
    assert!(made.nodes.group.as_ref().unwrap().starts_with("/dev/vfio/"), "{made:?}");
    let group = made.iommu_group.as_ref().unwrap();
    assert_eq!(group.members.len(), 1, "{made:?}");
    assert_eq!(made.nodes.cdev.is_some(), Path::new("/dev/iommu").try_exists().unwrap(), "{made:?}");
    fs::File::options().read(true).write(true).open(made.nodes.group.as_ref().unwrap()).unwrap();
}

#[test]
fn the_inventory_sees_what_the_gpus_are() {
    let gpus = inventory::gpus(&host(), &GpuSelection::default()).unwrap().gpus;
    for gpu in &gpus {
        eprintln!("{gpu:?}");
    }
    let mi300x = gpu(MI300X);
    assert_eq!(mi300x.class, 0x12_0000);
    assert_eq!(mi300x.driver.as_ref().unwrap().0, "simgpu");
    assert_eq!(mi300x.reset_methods, ["flr"]);
    assert_eq!(mi300x.iommu_group.as_ref().unwrap().members, [mi300x.address.to_string()]);
    let capability = mi300x.sriov.as_ref().unwrap();
    assert_eq!((capability.total, capability.enabled, capability.bound), (8, 0, 0));
    assert_eq!(capability.vf_aperture, Some(Memory::from_bytes(16 << 20)));
    let flex = gpu(FLEX170);
    assert_eq!(flex.sriov.as_ref().unwrap().total, 31);
    assert_eq!(flex.sriov.as_ref().unwrap().vf_aperture, Some(Memory::from_bytes(4 << 20)));
    let names: Vec<_> =
        sriov().profiles(&flex, &[]).into_iter().map(|profile| profile.name.to_string()).collect();
    assert_eq!(names, ["vf-1", "vf-2", "vf-4", "vf-8", "vf-16", "vf-31"]);
    let parent = gpu(SIMMDEV);
    let kinds: Vec<_> = mechanisms(&parent).into_iter().map(Mechanism::kind).collect();
    assert_eq!(kinds, [MechanismKind::Mdev]);
    let profiles = mdev().profiles(&parent, &[]);
    let sizes: Vec<_> = profiles
        .iter()
        .map(|profile| (profile.name.to_string(), profile.memory.unwrap().to_string(), profile.capacity))
        .collect();
    let size = |name: &str, memory: &str, count| (name.to_owned(), memory.to_owned(), count);
    assert_eq!(
        sizes,
        [
            size("simgpu_mdev-large", "64MiB", 4),
            size("simgpu_mdev-medium", "32MiB", 8),
            size("simgpu_mdev-small", "16MiB", 16)
        ]
    );
    for (id, why) in [(RTX5070, "allows one VF"), (B580, "has no SR-IOV capability")] {
        let gpu = gpu(id);
        assert!(uncuttable(&gpu).unwrap().contains(why), "{gpu:?}");
        assert!(mechanisms(&gpu).is_empty());
    }
}

#[test]
fn every_vf_of_a_gpu_is_made_reset_and_taken_back() {
    let (host, gpu) = (host(), gpu(MI300X).address);
    let profile = "vf-8".parse().unwrap();
    let begun = Instant::now();
    let made: Vec<_> = (0..8).map(|index| sriov().create(&host, gpu, &profile, vf(index)).unwrap()).collect();
    eprintln!("8 VFs in {:?}", begun.elapsed());
    for instance in &made {
        assert_usable(instance);
        assert_eq!(instance.driver.as_ref().unwrap().0, "vfio-pci");
        assert_eq!(sriov().create(&host, gpu, &profile, instance.name).unwrap(), *instance, "idempotent");
        assert_eq!(instance.reset(&host).unwrap(), ResetOutcome::Done { method: "flr".to_owned() });
    }
    assert_eq!(instance::list(&host, gpu).unwrap(), made);
    let address = made[3].address.unwrap();
    let text = told(inventory::gpu(&host, &GpuSelection::default(), address));
    assert_eq!(
        text,
        format!("{address} is not used as a GPU: it is a virtual function of {gpu}; name that GPU")
    );
    let text = told(sriov().create(&host, gpu, &"vf-4".parse().unwrap(), vf(0)));
    assert!(text.starts_with(&format!("GPU {gpu} has 8 VFs enabled and 4 are needed")), "{text}");
    assert!(told(sriov().retire(&host, gpu)).contains("is not empty: VF 0"));
    for instance in &made {
        sriov().destroy(&host, gpu, instance.name).unwrap();
        assert_eq!(instance::find(&host, gpu, instance.name).unwrap(), None);
        assert!(!instance.nodes.group.as_ref().unwrap().try_exists().unwrap());
    }
    sriov().retire(&host, gpu).unwrap();
    assert_eq!(fs::read_to_string(host.pci_device(gpu).join("sriov_drivers_autoprobe")).unwrap(), "1\n");
    assert_eq!(fs::read_to_string(host.pci_device(gpu).join("sriov_numvfs")).unwrap(), "0\n");
}

#[test]
fn vfs_whose_functions_are_not_on_their_pfs_device_number_are_found_by_links() {
    let (host, gpu) = (host(), gpu(FLEX170).address);
    let made = sriov().create(&host, gpu, &"vf-31".parse().unwrap(), vf(30)).unwrap();
    assert_usable(&made);
    sriov().destroy(&host, gpu, vf(30)).unwrap();
    sriov().retire(&host, gpu).unwrap();
}

#[test]
fn vfs_that_a_driver_took_by_itself_are_moved() {
    let (host, gpu) = (host(), gpu(MI300X).address);
    // As an operator may have left it: autoprobe on, VFs made by hand.
    fs::write(host.pci_device(gpu).join("sriov_numvfs"), "2").unwrap();
    let made = sriov().create(&host, gpu, &"vf-2".parse().unwrap(), vf(1)).unwrap();
    assert_usable(&made);
    sriov().destroy(&host, gpu, vf(1)).unwrap();
    sriov().retire(&host, gpu).unwrap();
}

#[test]
fn what_the_kernel_refuses_is_told_and_nothing_stays() {
    let (host, gpu) = (host(), gpu(MI300X).address);
    let create = || sriov().create(&host, gpu, &"vf-8".parse().unwrap(), vf(0));
    let numvfs = || fs::read_to_string(host.pci_device(gpu).join("sriov_numvfs")).unwrap();
    let knob = Knob::turn(gpu, "create_errno", "12", "0");
    let text = told(create());
    assert!(text.contains("too little MMIO space") && text.ends_with("(os error 12)"), "{text}");
    drop(knob);
    let knob = Knob::turn(gpu, "vf_short", "3", "0");
    assert!(told(create()).starts_with(&format!("GPU {gpu} enabled 5 of the 8 VFs asked for")));
    drop(knob);
    assert_eq!(numvfs(), "0\n");
    assert_eq!(fs::read_to_string(host.pci_device(gpu).join("sriov_drivers_autoprobe")).unwrap(), "1\n");
    let rtx = self::gpu(RTX5070).address;
    let text = told(sriov().create(&host, rtx, &"vf-1".parse().unwrap(), vf(0)));
    assert!(text.contains("its driver does not implement SR-IOV through sysfs"), "{text}");
    let b580 = self::gpu(B580).address;
    let text = told(sriov().create(&host, b580, &"vf-1".parse().unwrap(), vf(0)));
    assert_eq!(text, format!("GPU {b580} cannot be cut: it has no SR-IOV capability"));
}

#[test]
fn a_reset_that_fails_is_told() {
    let (host, gpu) = (host(), gpu(MI300X).address);
    let made = sriov().create(&host, gpu, &"vf-8".parse().unwrap(), vf(0)).unwrap();
    let knob = Knob::turn(gpu, "flr", "fail-fast", "clear");
    let text = told(made.reset(&host));
    eprintln!("{text}");
    assert!(text.contains("reset"), "{text}");
    drop(knob);
    assert!(matches!(made.reset(&host).unwrap(), ResetOutcome::Done { .. }));
    sriov().destroy(&host, gpu, vf(0)).unwrap();
    sriov().retire(&host, gpu).unwrap();
}

#[test]
fn a_vf_that_is_unplugged_is_no_instance_any_more() {
    let (host, gpu) = (host(), gpu(MI300X).address);
    let made = sriov().create(&host, gpu, &"vf-8".parse().unwrap(), vf(2)).unwrap();
    let socket = UeventSocket::open().unwrap();
    let knob = Knob::turn(gpu, "unplug", "2", "none");
    wait_for(&socket, Action::Remove, UeventSubject::Pci(made.address.unwrap()));
    assert_eq!(instance::find(&host, gpu, vf(2)).unwrap(), None);
    sriov().destroy(&host, gpu, vf(2)).unwrap();
    let impatient = Host::default().with_patience(Duration::from_millis(100));
    let text = told(sriov().create(&impatient, gpu, &"vf-8".parse().unwrap(), vf(2)));
    assert_eq!(text, format!("Waited 0.1 s for VF 2 of GPU {gpu}, in vain"));
    sriov().retire(&host, gpu).unwrap();
    drop(knob);
}

#[test]
fn mediated_devices_of_every_type() {
    let (host, gpu) = (host(), gpu(SIMMDEV));
    let address = gpu.address;
    for profile in mdev().profiles(&gpu, &[]) {
        let made: Vec<_> = (0..profile.available)
            .map(|_| mdev().create(&host, address, &profile.name, new_mdev()).unwrap())
            .collect();
        for instance in &made {
            assert_usable(instance);
            assert_eq!(instance.profile, profile.name);
            assert_eq!(
                mdev().create(&host, address, &profile.name, instance.name).unwrap(),
                *instance,
                "idempotent"
            );
            assert_eq!(instance.reset(&host).unwrap(), ResetOutcome::NotOffered);
        }
        assert_eq!(instance::list(&host, address).unwrap().len(), made.len());
        let text = told(mdev().create(&host, address, &profile.name, new_mdev()));
        let count = made.len();
        assert!(
            text.ends_with(&format!("it holds {count} of {}, and nothing more fits", profile.name)),
            "{text}"
        );
        for instance in &made {
            mdev().destroy(&host, address, instance.name).unwrap();
            mdev().destroy(&host, address, instance.name).unwrap();
        }
        mdev().retire(&host, address).unwrap();
    }
    assert_eq!(self::gpu(SIMMDEV), gpu, "as before");
    let knob = Knob::turn(address, "create_errno", "28", "0");
    let text = told(mdev().create(&host, address, &"simgpu_mdev-small".parse().unwrap(), new_mdev()));
    assert!(text.contains("no room left for an instance of this type"), "{text}");
    drop(knob);
    assert_eq!(self::gpu(SIMMDEV), gpu, "as before");
}

/// Of the device itself: that of its place in VFIO comes before it goes.
fn wait_for(socket: &UeventSocket, action: Action, subject: UeventSubject) {
    let is_it =
        |event: &Uevent| event.action == action && event.subject == subject && event.subsystem != "vfio-dev";
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        assert!(!left.is_zero(), "no {action:?} of {subject:?}");
        match socket.next(left).unwrap() {
            Some(Received::Event(event)) if is_it(&event) => return,
            Some(Received::Lost) => panic!("events lost"),
            _ => {}
        }
    }
}

#[test]
fn the_kernel_reports_vfs_and_mediated_devices() {
    let host = host();
    let socket = UeventSocket::open().unwrap();
    let pf = gpu(MI300X).address;
    let made = sriov().create(&host, pf, &"vf-8".parse().unwrap(), vf(0)).unwrap();
    let subject = UeventSubject::Pci(made.address.unwrap());
    wait_for(&socket, Action::Add, subject);
    wait_for(&socket, Action::Bind, subject);
    sriov().destroy(&host, pf, vf(0)).unwrap();
    wait_for(&socket, Action::Unbind, subject);
    sriov().retire(&host, pf).unwrap();
    wait_for(&socket, Action::Remove, subject);
    let parent = gpu(SIMMDEV).address;
    let name = new_mdev();
    let InstanceName::Mdev(uuid) = name else { unreachable!() };
    mdev().create(&host, parent, &"simgpu_mdev-small".parse().unwrap(), name).unwrap();
    wait_for(&socket, Action::Add, UeventSubject::Mdev(uuid));
    mdev().destroy(&host, parent, name).unwrap();
    wait_for(&socket, Action::Remove, UeventSubject::Mdev(uuid));
}

#[test]
fn lost_events_are_reported_as_lost() {
    let socket = UeventSocket::open().unwrap();
    let uevent = host().pci_device(gpu(B580).address).join("uevent");
    let mut lost = false;
    for _ in 0..40 {
        // Nobody reads meanwhile.
        for _ in 0..1000 {
            fs::write(&uevent, "change").unwrap();
        }
        while let Some(received) = socket.try_next().unwrap() {
            lost |= received == Received::Lost;
            if lost {
                break;
            }
        }
        if lost {
            break;
        }
        for _ in 0..8000 {
            fs::write(&uevent, "change").unwrap();
        }
    }
    assert!(lost);
}
