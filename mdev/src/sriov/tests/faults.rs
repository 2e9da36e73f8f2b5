//! A fault at every write leaves nothing behind.

use super::*;

/// Creates VF 1 of four with a fault at its first write, its second and so on, until it has no such write.
fn at_every_write(
    machine: &Machine,
    prepare: impl Fn(&Host),
    plant: impl Fn(&FakeHost, usize),
) -> Vec<String> {
    let mut told_at = Vec::new();
    loop {
        let (fake, host) = build(machine);
        prepare(&host);
        let before = fake.snapshot();
        plant(&fake, told_at.len());
        match create(&host, "vf-4", 1) {
            Ok(_) => return told_at,
            Err(error) => {
                assert!(!matches!(error, Error::Undo { .. }), "{error}");
                let after = fake.snapshot();
                assert_eq!(after, before, "after a fault at write {}: {error}", told_at.len());
                told_at.push(error.to_string());
            }
        }
    }
}

#[test]
fn a_fault_at_any_write_leaves_nothing_behind() {
    let fresh = FakeHost::machine().gpu(sriov_gpu());
    let eio = |fake: &FakeHost, n| fake.fail("", n, Errno::EIO);
    assert_eq!(at_every_write(&fresh, |_| {}, eio).len(), 4, "autoprobe, count, override, bind");
    let second = |host: &Host| drop(create(host, "vf-4", 0).unwrap());
    assert_eq!(at_every_write(&fresh, second, eio).len(), 2, "override, bind");
    let native = FakeHost::machine().gpu(sriov_gpu()).driver("amdgpu", &["1002:74b5"]);
    let operators = |host: &Host| {
        host.write_attr(&host.pci_device(gpu()).join("sriov_numvfs"), "4").unwrap();
    };
    assert_eq!(at_every_write(&native, operators, eio).len(), 3, "override, unbind, bind");
}

#[test]
fn a_write_that_lies_is_found_out_and_leaves_nothing_behind() {
    let machine = FakeHost::machine().gpu(sriov_gpu());
    let lies = at_every_write(&machine, |_| {}, |fake, n| fake.ignore("", n));
    assert_eq!(
        lies,
        [
            "sriov_drivers_autoprobe of GPU 0000:41:00.0 reads 1, although the kernel took the request for 0; \
             something else sets it",
            "GPU 0000:41:00.0 enabled 0 of the 4 VFs asked for; the kernel log says why (`dmesg`)",
            "0000:41:03.0 has no override, although the kernel took the request for override vfio-pci; \
             something else sets it: look for driverctl",
            "0000:41:03.0 is on no driver, although the kernel took the request for driver vfio-pci; \
             the kernel log says why (`dmesg`)",
        ]
    );
}

#[test]
fn an_undo_that_fails_is_told_with_its_cause() {
    let (fake, host) = machine(sriov_gpu());
    fake.fail("bind", 0, Errno::EINVAL);
    fake.fail("sriov_numvfs", 1, Errno::EIO);
    let numvfs = host.pci_device(gpu()).join("sriov_numvfs");
    let bind = host.pci_drivers().join("vfio-pci/bind");
    assert_eq!(
        told(create(&host, "vf-4", 0)),
        format!(
            "0000:41:00.0 is left half set up, because it could not be taken back after a failure \
             (Cannot write \"0\" to {})\n\
             Cannot write \"0000:41:02.0\" to {}: the driver refuses the device; vfio-pci does so where no IOMMU \
             is on (turn it on in the firmware, and on Intel boot with intel_iommu=on)\n\
             Invalid argument (os error 22)",
            numvfs.display(),
            bind.display()
        )
    );
}

#[test]
fn a_gpu_that_vanishes_at_any_write_is_no_half_done_work() {
    for n in 0.. {
        let (fake, host) = machine(sriov_gpu());
        fake.vanish_at("", n, gpu());
        match create(&host, "vf-4", 1) {
            Ok(_) => return assert_eq!(n, 4),
            Err(error) => {
                assert!(matches!(error, Error::Write { .. }), "{error}");
                assert_eq!(instance::list(&host, gpu()).unwrap(), []);
                Sriov.destroy(&host, gpu(), vf(1)).unwrap();
            }
        }
    }
}

#[test]
fn what_comes_late_is_waited_for_and_what_never_comes_is_undone() {
    let (fake, host) = machine(sriov_gpu());
    fake.delay(5);
    assert!(create(&host, "vf-4", 1).unwrap().nodes.group.is_some());
    let (fake, host) = machine(sriov_gpu());
    let before = fake.snapshot();
    fake.delay(1000);
    assert_eq!(told(create(&host, "vf-4", 1)), "Waited 0.2 s for VF 1 of GPU 0000:41:00.0, in vain");
    assert_eq!(fake.snapshot(), before);
    let (fake, host) = machine(sriov_gpu());
    create(&host, "vf-4", 0).unwrap();
    let before = fake.snapshot();
    fake.delay(1000);
    let expected = format!(
        "Waited 0.2 s for the VFIO node of 0000:41:03.0 under {}, in vain",
        host.vfio_nodes().display()
    );
    assert_eq!(told(create(&host, "vf-4", 1)), expected);
    assert_eq!(fake.snapshot(), before);
}

#[test]
fn destroying_is_finished_by_asking_again() {
    for n in 0.. {
        let (fake, host) = machine(sriov_gpu());
        create(&host, "vf-4", 1).unwrap();
        fake.fail("", n, Errno::EIO);
        if Sriov.destroy(&host, gpu(), vf(1)).is_ok() {
            return assert_eq!(n, 2, "unbind, override");
        }
        Sriov.destroy(&host, gpu(), vf(1)).unwrap();
        assert_eq!(instance::find(&host, gpu(), vf(1)).unwrap(), None);
        let overridden = host.pci_device("0000:41:03.0".parse().unwrap()).join("driver_override");
        assert_eq!(attribute::read(&overridden).unwrap().as_deref(), Some("(null)"));
        Sriov.retire(&host, gpu()).unwrap();
    }
}
