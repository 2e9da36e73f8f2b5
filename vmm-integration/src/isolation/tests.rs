use super::*;
use std::{fs, os::unix::fs::symlink};
use tempfile::TempDir;
use vgpud_mdev::{ConfigSpace, IommuGroup, MdevUuid, VfIndex, VfioNodes, fake::function};

const VF: &str = "0000:41:02.0";

/// PCIe types.
const ENDPOINT: u8 = 0;
const ROOT_PORT: u8 = 4;
const UPSTREAM_PORT: u8 = 5;
const DOWNSTREAM_PORT: u8 = 6;

/// Capability and control register of a port that keeps devices apart.
const COMPLETE: Option<(u16, u16)> = Some((0x1f, 0x1d));

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

    /// Puts the VF below these bridges, the uppermost first: their addresses, groups and config spaces.
    /// Group 7 has a stranger.
    fn way(&self, bridges: &[(&str, u32, ConfigSpace)]) {
        let mut folder = self.host.path("/sys/devices/pci0000:40");
        for (name, group, config) in bridges {
            folder.push(name);
            fs::create_dir_all(&folder).unwrap();
            symlink(&folder, self.host.pci_devices().join(name)).unwrap();
            let group = self.host.path(format!("/sys/kernel/iommu_groups/{group}"));
            symlink(group, folder.join("iommu_group")).unwrap();
            fs::write(folder.join("config"), &config.0).unwrap();
        }
        let link = self.instance().sysfs;
        fs::rename(&link, folder.join(VF)).unwrap();
        symlink(folder.join(VF), &link).unwrap();
        self.device("0000:41:00.0", Some("gim"), "0x120000");
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

const UNEXPLAINED: &str = "IOMMU group 7 of 0000:41:02.0 also holds 0000:41:00.0 (gim); \
    unbind them or bind them to vfio-pci, or move the card to another slot";

#[test]
fn a_port_without_access_control_is_named() {
    let tree = Tree::new();
    tree.way(&[("0000:40:01.1", 7, function(ROOT_PORT, 1, None))]);
    assert_eq!(
        tree.refusal(),
        "IOMMU group 7 of 0000:41:02.0 also holds 0000:41:00.0 (gim), since PCIe port 0000:40:01.1 above it has \
         no access control (ACS); turn on ACS in the firmware (BIOS), move the card to a slot whose port has it, \
         or unbind what the host can spare or bind it to vfio-pci; pcie_acs_override is no way out, as it isolates nothing"
    );
}

#[test]
fn access_control_that_is_turned_off_is_named_by_what_is_off() {
    let tree = Tree::new();
    tree.way(&[("0000:40:01.1", 7, function(ROOT_PORT, 0x81, Some((0x1f, 0x11))))]);
    let why = "since PCIe port 0000:40:01.1 above it has access control (ACS) without P2P Request Redirect, \
               P2P Completion Redirect; take disable_acs_redir and config_acs from the kernel command line";
    assert!(tree.refusal().contains(why), "{}", tree.refusal());
}

/// Of a switch below a port that has it, the port that leads down; below one that lacks it, that one.
#[test]
fn the_uppermost_port_of_the_group_that_lacks_access_control_is_the_cause() {
    for (root, root_group, named) in [(COMPLETE, 2, "0000:42:00.0"), (None, 7, "0000:40:01.1")] {
        let tree = Tree::new();
        tree.way(&[
            ("0000:40:01.1", root_group, function(ROOT_PORT, 1, root)),
            ("0000:41:00.5", root_group, function(UPSTREAM_PORT, 1, None)),
            ("0000:42:00.0", 7, function(DOWNSTREAM_PORT, 1, None)),
        ]);
        let why = format!("since PCIe port {named} above it has no access control (ACS)");
        assert!(tree.refusal().contains(&why), "{}", tree.refusal());
    }
}

#[test]
fn nothing_is_said_of_a_cause_that_is_not_seen() {
    let no_acs = function(ROOT_PORT, 1, None);
    let shown = |bytes: usize| ConfigSpace(no_acs.0[..bytes].to_vec());
    let bridge = function(7, 1, None);
    for ways in [
        // To others than root.
        vec![("0000:40:01.1", 7, shown(64))],
        vec![("0000:40:01.1", 7, shown(256))],
        vec![("0000:40:01.1", 7, ConfigSpace(vec![0xff; 4096]))],
        // The kernel knows this chip: it parts what is below.
        vec![("0000:40:01.1", 2, no_acs.clone())],
        vec![("0000:40:01.1", 7, function(ROOT_PORT, 1, COMPLETE))],
        // A bridge to PCI, which parts nothing, whatever is below.
        vec![("0000:40:01.1", 7, bridge), ("0000:42:00.0", 7, no_acs.clone())],
    ] {
        let tree = Tree::new();
        tree.way(&ways);
        assert_eq!(tree.refusal(), UNEXPLAINED, "{ways:x?}");
    }
    let tree = Tree::new();
    tree.way(&[("0000:40:01.1", 7, no_acs.clone())]);
    fs::remove_file(tree.host.pci_devices().join("0000:40:01.1/config")).unwrap();
    assert_eq!(tree.refusal(), UNEXPLAINED, "gone");
    fs::create_dir(tree.host.pci_devices().join("0000:40:01.1/config")).unwrap();
    assert_eq!(tree.refusal(), UNEXPLAINED, "unreadable");
}

#[test]
fn functions_of_one_card_without_access_control_are_named() {
    let tree = Tree::new();
    let gpu = tree.instance().sysfs;
    let strangers = || strangers(&tree.host, &gpu, Some(VF)).unwrap().unwrap();
    let config = |of: ConfigSpace| fs::write(gpu.join("config"), of.0).unwrap();
    tree.device("0000:41:02.1", Some("snd_hda_intel"), "0x040300");
    config(function(ENDPOINT, 0x80, None));
    assert_eq!(
        strangers().to_string(),
        "0000:41:02.1 (snd_hda_intel), since 0000:41:02.0 is on one card with them and has no access control (ACS)"
    );
    assert!(strangers().mend().contains("no other slot"));
    for of in [function(ENDPOINT, 0, None), function(ENDPOINT, 0x80, COMPLETE), function(9, 0x80, None)] {
        config(of);
        assert_eq!(strangers().cause, None);
    }
    config(function(ENDPOINT, 0x80, None));
    fs::create_dir(gpu.join("physfn")).unwrap();
    assert_eq!(strangers().cause, None, "of a VF");
    fs::remove_dir(gpu.join("physfn")).unwrap();
    tree.device("0000:41:03.0", Some("xhci_hcd"), "0x0c0330");
    assert_eq!(strangers().cause, None, "another card is in the group too");
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
