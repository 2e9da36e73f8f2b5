use super::*;
use crate::{
    DriverName, IommuGroup, MdevType, Memory,
    fake::{FakeGpu, FakeHost, FakeMdevType},
    instance,
};
use proptest::prelude::*;
use std::fs;

fn address(text: &str) -> PciAddress {
    text.parse().unwrap()
}

fn addresses(gpus: &[Gpu]) -> Vec<String> {
    gpus.iter().map(|gpu| gpu.address.to_string()).collect()
}

fn everything() -> FakeHost {
    let types = [FakeMdevType::new("sim-small", 1, "num_heads=1, framebuffer=16M")];
    FakeHost::machine()
        .pci_ids("1002  AMD\n\t74a1  Instinct MI300X\n")
        .gpu(FakeGpu::new("0000:41:00.0").sriov(8).numa_node(1).companion("0000:41:00.1"))
        .gpu(FakeGpu::new("0000:05:00.0").id("1d0f:0001").class(0x03_0000).mdev(4, &types))
        .gpu(FakeGpu::new("0000:06:00.0").id("8086:1572").class(0x02_0000).driver("i40e"))
        .build()
}

#[test]
fn gpus_are_told_from_other_functions_and_come_in_order() {
    let fake = everything();
    let host = fake.host();
    let gpus = gpus(&host, &GpuSelection::default()).unwrap().gpus;
    assert_eq!(addresses(&gpus), ["0000:05:00.0", "0000:41:00.0"]);
    let [mdev, sriov] = &gpus[..] else { panic!() };
    assert_eq!(
        *sriov,
        Gpu {
            address: address("0000:41:00.0"),
            id: "1002:74a1".parse().unwrap(),
            subsystem: Some("1002:0c34".parse().unwrap()),
            class: 0x12_0000,
            vendor_name: Some("AMD".to_owned()),
            device_name: Some("Instinct MI300X".to_owned()),
            numa_node: Some(1),
            driver: Some(DriverName("simgpu".to_owned())),
            iommu_group: Some(IommuGroup {
                number: sriov.iommu_group.as_ref().unwrap().number,
                members: vec!["0000:41:00.0".to_owned(), "0000:41:00.1".to_owned()],
            }),
            reset_methods: vec!["flr".to_owned(), "bus".to_owned()],
            sriov: Some(SriovCapability {
                total: 8,
                enabled: 0,
                bound: 0,
                vf_aperture: Some(Memory::from_bytes(16 << 20)),
            }),
            mdev_types: Vec::new(),
            xe: None,
            partitioning: None,
            nvidia: None,
            mig: None,
        }
    );
    assert_eq!((mdev.numa_node, &mdev.vendor_name, &mdev.sriov), (None, &None, &None));
    assert_eq!(
        mdev.mdev_types,
        [MdevType {
            id: "sim-small".parse().unwrap(),
            name: Some("sim small".to_owned()),
            description: Some("num_heads=1, framebuffer=16M".to_owned()),
            available: 4,
            existing: 0,
            memory: Some(Memory::from_bytes(16 << 20)),
            most: None,
        }]
    );
}

#[test]
fn the_operator_includes_and_excludes() {
    let fake = everything();
    let selection = GpuSelection {
        include: vec!["8086:1572".parse().unwrap()],
        exclude: vec![address("0000:41:00.0"), address("0000:77:00.0")],
    };
    let gpus = gpus(&fake.host(), &selection).unwrap().gpus;
    assert_eq!(addresses(&gpus), ["0000:05:00.0", "0000:06:00.0"]);
    let told = |text| gpu(&fake.host(), &selection, address(text)).unwrap_err().to_string();
    assert_eq!(
        told("0000:41:00.0"),
        "0000:41:00.0 is not used as a GPU: the settings exclude it; take it out of `exclude` in [gpus] to use it"
    );
    assert_eq!(
        told("0000:77:00.0"),
        "There is no PCI function 0000:77:00.0; `vgpuctl gpus` lists the GPUs of this host"
    );
}

#[test]
fn virtual_functions_and_strangers_are_no_gpus() {
    let fake = everything();
    let host = fake.host();
    host.write_attr(&host.path("sys/bus/pci/devices/0000:41:00.0/sriov_numvfs"), "8").unwrap();
    let selection = GpuSelection { include: vec!["1002:74b5".parse().unwrap()], ..GpuSelection::default() };
    assert_eq!(addresses(&gpus(&host, &selection).unwrap().gpus), ["0000:05:00.0", "0000:41:00.0"]);
    let told = |text| gpu(&host, &selection, address(text)).unwrap_err().to_string();
    assert_eq!(
        told("0000:41:02.0"),
        "0000:41:02.0 is not used as a GPU: it is a virtual function of 0000:41:00.0; name that GPU"
    );
    assert_eq!(
        told("0000:06:00.0"),
        "0000:06:00.0 is not used as a GPU: its class 020000 is neither display nor accelerator; \
         add \"8086:1572\" to `include` in [gpus] if it is a GPU"
    );
}

#[test]
fn a_host_without_pci_has_no_gpus() {
    let root = tempfile::tempdir().unwrap();
    assert_eq!(gpus(&Host::new(root.path()), &GpuSelection::default()).unwrap().gpus, []);
}

#[test]
fn a_gpu_that_goes_while_it_is_read_is_left_out() {
    let fake = everything();
    let host = fake.host();
    // What is left of a device in the moment of its removal: its link, and some of its attributes.
    let folder = host.pci_device(address("0000:41:00.0"));
    for name in ["vendor", "device", "class"] {
        fs::remove_file(folder.join(name)).unwrap();
        assert_eq!(addresses(&gpus(&host, &GpuSelection::default()).unwrap().gpus), ["0000:05:00.0"]);
    }
    fs::remove_dir_all(fs::canonicalize(&folder).unwrap()).unwrap();
    assert_eq!(addresses(&gpus(&host, &GpuSelection::default()).unwrap().gpus), ["0000:05:00.0"]);
}

#[test]
fn one_broken_gpu_does_not_hide_the_others_and_says_what_is_wrong() {
    let fake = everything();
    let host = fake.host();
    fake.set("sys/bus/pci/devices/0000:41:00.0/sriov_totalvfs", "eight");
    let Inventory { gpus, unreadable } = gpus(&host, &GpuSelection::default()).unwrap();
    assert_eq!(addresses(&gpus), ["0000:05:00.0"]);
    let path = host.pci_device(address("0000:41:00.0")).join("sriov_totalvfs");
    let wrong = format!("{} holds \"eight\", which is not a number of VFs", path.display());
    let unreadable: Vec<_> =
        unreadable.iter().map(|(address, error)| (*address, error.to_string())).collect();
    assert_eq!(unreadable, [(address("0000:41:00.0"), wrong.clone())]);
    let alone = gpu(&host, &GpuSelection::default(), address("0000:41:00.0"));
    assert_eq!(alone.unwrap_err().to_string(), wrong);
}

#[test]
fn a_driver_that_allows_fewer_vfs_does_not_make_them_larger() {
    let fake = FakeHost::machine().gpu(FakeGpu::new("0000:41:00.0").sriov(8).driver_max_vfs(4)).build();
    let gpu = gpu(&fake.host(), &GpuSelection::default(), address("0000:41:00.0")).unwrap();
    let capability = gpu.sriov.unwrap();
    assert_eq!((capability.total, capability.vf_aperture), (4, Some(Memory::from_bytes(16 << 20))));
}

#[test]
fn vfs_on_a_driver_are_counted() {
    let fake = everything();
    let host = fake.host();
    let gpu_address = address("0000:41:00.0");
    let name = crate::InstanceName::Vf(crate::VfIndex(3));
    let sriov = crate::mechanism(crate::MechanismKind::Sriov);
    sriov.create(&host, gpu_address, &"vf-4".parse().unwrap(), name).unwrap();
    let capability = gpu(&host, &GpuSelection::default(), gpu_address).unwrap().sriov.unwrap();
    assert_eq!((capability.total, capability.enabled, capability.bound), (8, 4, 1));
}

/// A kernel that takes every write and does nothing: a fake that obeys rules would choke on a tree
/// that breaks them.
#[derive(Debug)]
struct Deaf;

impl crate::attribute::Kernel for Deaf {
    fn write(&self, _: &std::path::Path, _: &str) -> std::io::Result<()> {
        Ok(())
    }

    fn pause(&self, _: std::time::Duration) {}
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// Whatever the attributes hold, the inventory and the mechanisms give a value or an error.
    #[test]
    fn no_content_of_sysfs_breaks_the_inventory(
        attributes in prop::collection::vec((0_usize..18, prop_oneof![
            "(0x)?[0-9a-fA-F]{0,20}\n?",
            "-?[0-9]{0,22}",
            "[ -~\n]{0,40}",
            prop::collection::vec(any::<u8>(), 0..40).prop_map(|bytes| String::from_utf8_lossy(&bytes).into_owned()),
        ]), 1..6)
    ) {
        const FILES: [&str; 18] = [
            "41:00.0/vendor", "41:00.0/device", "41:00.0/class", "41:00.0/numa_node", "41:00.0/reset_method",
            "41:00.0/subsystem_vendor", "41:00.0/subsystem_device", "41:00.0/sriov_totalvfs", "41:00.0/sriov_numvfs",
            "41:00.0/resource", "41:00.0/modalias", "41:00.0/virtfn0", "41:00.0/driver_override", "05:00.0/class",
            "05:00.0/mdev_supported_types/sim-small/available_instances",
            "05:00.0/mdev_supported_types/sim-small/description",
            "05:00.0/mdev_supported_types/sim-small/name",
            "05:00.0/mdev_supported_types/strange",
        ];
        let fake = everything();
        let host = fake.host();
        for (file, content) in &attributes {
            fake.set(&format!("sys/bus/pci/devices/0000:{}", FILES[*file]), content);
        }
        let host = host.with_kernel(std::sync::Arc::new(Deaf)).with_patience(std::time::Duration::ZERO);
        let selection = GpuSelection::default();
        for gpu in gpus(&host, &selection).unwrap().gpus {
            let _ = crate::uncuttable(&gpu);
            for mechanism in crate::mechanisms(&gpu) {
                for profile in mechanism.profiles(&gpu, &[]) {
                    let Ok(name) = mechanism.next_name(gpu.address, &profile.name, &[]) else { continue };
                    let _ = mechanism.create(&host, gpu.address, &profile.name, name);
                    let _ = instance::list(&host, gpu.address);
                    let _ = mechanism.destroy(&host, gpu.address, name);
                }
                let _ = mechanism.retire(&host, gpu.address);
            }
        }
    }
}
