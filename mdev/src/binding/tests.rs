use super::*;
use crate::fake::{FakeGpu, FakeHost, Machine};

const VF: &str = "0000:41:02.0";

/// A host whose one GPU has one VF, on the driver that takes it by itself, if any.
fn host_with_vf(machine: Machine) -> (FakeHost, Host, PciAddress) {
    let gpu = FakeGpu::new("0000:41:00.0").sriov(8);
    let fake = machine.gpu(gpu).build();
    let host = fake.host();
    host.write_attr(&host.path("sys/bus/pci/devices/0000:41:00.0/sriov_numvfs"), "1").unwrap();
    (fake, host, VF.parse().unwrap())
}

fn driver(host: &Host, vf: PciAddress) -> Option<String> {
    device::driver(&host.pci_device(vf)).unwrap().map(|driver| driver.0)
}

#[test]
fn the_most_specific_vfio_driver_is_chosen_in_either_spelling() {
    let alias = "alias vfio_pci:v00001002d000074B5sv*sd*bc*sc*i* gim_vfio_pci";
    for name in ["gim-vfio-pci", "gim_vfio_pci"] {
        let (_fake, host, vf) = host_with_vf(FakeHost::machine().alias(alias).vfio_driver(name));
        to_vfio(&host, vf).unwrap();
        assert_eq!(driver(&host, vf).as_deref(), Some(name));
    }
}

#[test]
fn a_missing_module_is_named_with_the_way_to_load_it() {
    let (fake, host, vf) = host_with_vf(FakeHost::machine().without_vfio());
    let before = fake.snapshot();
    assert_eq!(
        to_vfio(&host, vf).unwrap_err().to_string(),
        "There is no VFIO driver vfio-pci in this kernel; load it with `modprobe vfio-pci`"
    );
    assert_eq!(fake.snapshot(), before);
    let alias = "alias vfio_pci:v00001002d000074B5sv*sd*bc*sc*i* gim_vfio_pci";
    let (_fake, host, vf) = host_with_vf(FakeHost::machine().alias(alias));
    assert_eq!(
        to_vfio(&host, vf).unwrap_err().to_string(),
        "There is no VFIO driver gim-vfio-pci in this kernel; load it with `modprobe gim-vfio-pci`"
    );
}

#[test]
fn a_host_without_module_aliases_uses_vfio_pci() {
    let (_fake, host, vf) = host_with_vf(FakeHost::machine());
    std::fs::remove_file(host.module_aliases("6.12.0-fake")).unwrap();
    to_vfio(&host, vf).unwrap();
    assert_eq!(driver(&host, vf).as_deref(), Some("vfio-pci"));
}

#[test]
fn without_an_iommu_the_driver_refuses() {
    let (fake, host, vf) = host_with_vf(FakeHost::machine().without_iommu());
    let before = fake.snapshot();
    let expected = format!(
        "Cannot write \"{VF}\" to {}: the driver refuses the device; vfio-pci does so where no IOMMU is on \
         (turn it on in the firmware, and on Intel boot with intel_iommu=on)",
        host.pci_drivers().join("vfio-pci/bind").display()
    );
    assert_eq!(to_vfio(&host, vf).unwrap_err().to_string(), expected);
    assert_eq!(fake.snapshot(), before);
}

#[test]
fn a_vf_comes_from_another_driver_and_back_to_none() {
    let (_fake, host, vf) = host_with_vf(FakeHost::machine().driver("amdgpu", &["1002:74b5"]));
    assert_eq!(driver(&host, vf).as_deref(), Some("amdgpu"));
    from_vfio(&host, vf).unwrap();
    assert_eq!(driver(&host, vf).as_deref(), Some("amdgpu"), "not a VFIO driver's device");
    to_vfio(&host, vf).unwrap();
    assert_eq!(driver(&host, vf).as_deref(), Some("vfio-pci"));
    from_vfio(&host, vf).unwrap();
    assert_eq!(driver(&host, vf), None);
    let now = attribute::read(&host.pci_device(vf).join("driver_override")).unwrap();
    assert_eq!(now.as_deref(), Some("(null)"));
}

#[test]
fn a_vf_that_a_vendors_driver_hands_to_vfio_is_left_alone() {
    let (fake, host, vf) = host_with_vf(FakeHost::machine().driver("nvidia", &["1002:74b5"]));
    fake.set(&format!("sys/bus/pci/devices/{VF}/vfio-dev/vfio7/dev"), "511:7");
    let group = device::iommu_group(&host, &host.pci_device(vf)).unwrap().unwrap();
    fake.set(&format!("dev/vfio/{}", group.number), "");
    let writes = fake.writes();
    to_vfio(&host, vf).unwrap();
    assert_eq!(driver(&host, vf).as_deref(), Some("nvidia"));
    assert_eq!(fake.writes(), writes);
}

#[test]
fn a_device_that_is_bound_again_by_somebody_is_reported() {
    let (fake, host, vf) = host_with_vf(FakeHost::machine());
    to_vfio(&host, vf).unwrap();
    fake.ignore("unbind", 0);
    assert_eq!(
        from_vfio(&host, vf).unwrap_err().to_string(),
        "0000:41:02.0 is on driver vfio-pci, although the kernel took the request for being off driver vfio-pci; \
         something binds it again: look for a udev rule"
    );
}
