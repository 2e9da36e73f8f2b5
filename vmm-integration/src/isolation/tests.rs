use super::*;
use std::{fs, os::unix::fs::symlink};
use tempfile::TempDir;
use vgpud_mdev::{IommuGroup, MdevUuid, VfIndex, VfioNodes};

const VF: &str = "0000:41:02.0";

/// A host with one VF in IOMMU group 7.
struct Tree {
    _dir: TempDir,
    host: Host,
}

impl Tree {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let tree = Self { host: Host::new(dir.path()), _dir: dir };
        tree.device(VF, Some("vfio-pci"), "0x030000");
        tree
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.host.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// A PCI function in group 7.
    fn device(&self, name: &str, driver: Option<&str>, class: &str) {
        self.write(&format!("/sys/bus/pci/devices/{name}/class"), &format!("{class}\n"));
        let device = self.host.path(format!("/sys/bus/pci/devices/{name}"));
        let group = self.host.path("/sys/kernel/iommu_groups/7");
        fs::create_dir_all(group.join("devices")).unwrap();
        symlink(&group, device.join("iommu_group")).unwrap();
        symlink(&device, group.join("devices").join(name)).unwrap();
        if let Some(driver) = driver {
            symlink(self.host.pci_drivers().join(driver), device.join("driver")).unwrap();
        }
    }

    fn instance(&self) -> Instance {
        Instance {
            gpu: "0000:41:00.0".parse().unwrap(),
            name: InstanceName::Vf(VfIndex(0)),
            sysfs: self.host.pci_device(VF.parse().unwrap()),
            address: Some(VF.parse().unwrap()),
            profile: "vf-8".parse().unwrap(),
            driver: None,
            iommu_group: Some(IommuGroup { number: 7, members: vec![VF.into()] }),
            nodes: VfioNodes::default(),
        }
    }

    fn refusal(&self) -> String {
        check_group(&self.host, &self.instance()).unwrap_err().to_string()
    }
}

#[test]
fn a_group_of_its_own_isolates() {
    let tree = Tree::new();
    check_group(&tree.host, &tree.instance()).unwrap();
}

#[test]
fn members_that_do_no_dma_of_their_own_are_no_strangers() {
    let tree = Tree::new();
    tree.device("0000:41:00.1", None, "0x040300");
    tree.device("0000:40:00.0", Some("pcieport"), "0x060400");
    tree.device("0000:40:01.0", Some("someport"), "0x060400");
    tree.device("0000:41:02.1", Some("vfio-pci"), "0x030000");
    tree.device("0000:41:02.2", Some("pci-stub"), "0x030000");
    tree.device("0000:41:02.3", Some("nvidia"), "0x030000");
    fs::create_dir_all(tree.host.path("/sys/bus/pci/devices/0000:41:02.3/vfio-dev/vfio4")).unwrap();
    check_group(&tree.host, &tree.instance()).unwrap();
}

#[test]
fn strangers_are_named_with_their_drivers() {
    let tree = Tree::new();
    tree.device("0000:41:00.1", Some("snd_hda_intel"), "0x040300");
    tree.device("0000:00:1f.0", Some("lpc_ich"), "0x060100");
    assert_eq!(
        tree.refusal(),
        "IOMMU group 7 of 0000:41:02.0 also holds 0000:00:1f.0 (lpc_ich), 0000:41:00.1 (snd_hda_intel); \
         unbind them or bind them to vfio-pci, or move the card to another slot"
    );
}

#[test]
fn without_an_iommu_the_vendor_decides_the_hint() {
    let tree = Tree::new();
    fs::remove_dir_all(tree.host.path("/sys/kernel")).unwrap();
    fs::remove_file(tree.instance().sysfs.join("iommu_group")).unwrap();
    for (vendor, hint) in [("GenuineIntel", "intel_iommu=on"), ("AuthenticAMD", "AMD-Vi"), ("x", "BIOS")] {
        tree.write("/proc/cpuinfo", &format!("processor\t: 0\nvendor_id\t: {vendor}\nmodel\t\t: 1\n"));
        let refusal = tree.refusal();
        assert!(refusal.starts_with("0000:41:02.0 has no IOMMU group, as this host's IOMMU is off; "));
        assert!(refusal.contains(hint), "{refusal}");
    }
    fs::create_dir_all(tree.host.path("/sys/class/iommu/dmar0")).unwrap();
    assert!(tree.refusal().contains("although the host has an IOMMU"), "{}", tree.refusal());
}

#[test]
fn no_iommu_mode_is_refused_for_functions_and_normal_for_mediated_devices() {
    let tree = Tree::new();
    tree.write("/sys/kernel/iommu_groups/7/name", "vfio-noiommu\n");
    assert!(tree.refusal().contains("no-IOMMU mode"), "{}", tree.refusal());
    let uuid: MdevUuid = "c2177883-f1bb-47f0-914d-32a22e3a8804".parse().unwrap();
    let sysfs = tree.host.mdev_device(uuid);
    fs::create_dir_all(&sysfs).unwrap();
    symlink(tree.host.path("/sys/kernel/iommu_groups/7"), sysfs.join("iommu_group")).unwrap();
    let mdev = Instance { name: InstanceName::Mdev(uuid), sysfs, address: None, ..tree.instance() };
    check_group(&tree.host, &mdev).unwrap();
}

#[test]
fn the_physical_function_of_virtual_functions_is_never_handed_over() {
    let tree = Tree::new();
    tree.write(&format!("/sys/bus/pci/devices/{VF}/sriov_numvfs"), "0\n");
    check_group(&tree.host, &tree.instance()).unwrap();
    tree.write(&format!("/sys/bus/pci/devices/{VF}/sriov_numvfs"), "4\n");
    assert!(tree.refusal().contains("is the physical function"), "{}", tree.refusal());
}
