use super::*;
use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};
use tempfile::TempDir;
use vgpud_config::{Memory, NodeKind};

const PF: &str = "/sys/bus/pci/devices/0000:41:00.0";

fn testdata(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src/doctor/testdata").join(name)
}

/// A host that is ready, to break one thing at a time.
struct Tree {
    _dir: TempDir,
    host: Host,
    settings: Settings,
}

impl Tree {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut settings = Settings::default();
        settings.run.qemu = testdata("qemu-10");
        let tree = Self { host: Host::new(dir.path()), _dir: dir, settings };
        for (file, text) in [
            ("/proc/cpuinfo", "processor\t: 0\nvendor_id\t: GenuineIntel\n"),
            ("/proc/cmdline", "quiet intel_iommu=on\n"),
            ("/proc/self/status", "CapEff:\t000001ffffffffff\n"),
            ("/proc/sys/kernel/osrelease", "6.12.1-test\n"),
            ("/sys/class/iommu/dmar0/x", ""),
            ("/sys/kernel/iommu_groups/5/devices/x", ""),
            ("/sys/module/vfio/x", ""),
            ("/sys/module/vfio_pci/x", ""),
            ("/sys/module/vfio_iommu_type1/parameters/allow_unsafe_interrupts", "N\n"),
            ("/sys/class/vfio-dev/vfio0/x", ""),
            ("/dev/vfio/vfio", ""),
            ("/dev/vfio/devices/vfio0", ""),
            ("/dev/iommu", ""),
            ("/dev/kvm", ""),
        ] {
            tree.write(file, text);
        }
        for (file, text) in [
            ("vendor", "0x1002\n"),
            ("device", "0x74a1\n"),
            ("class", "0x120000\n"),
            ("numa_node", "-1\n"),
            ("sriov_totalvfs", "8\n"),
            ("sriov_numvfs", "0\n"),
        ] {
            tree.write(&format!("{PF}/{file}"), text);
        }
        tree.link(PF, "driver", "/sys/bus/pci/drivers/gim");
        tree.link(PF, "iommu_group", "/sys/kernel/iommu_groups/5");
        tree
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.host.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn link(&self, device: &str, name: &str, target: &str) {
        let link = self.host.path(device).join(name);
        if link.is_symlink() {
            fs::remove_file(&link).unwrap();
        }
        symlink(self.host.path(target), link).unwrap();
    }

    fn remove(&self, path: &str) {
        let path = self.host.path(path);
        if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) }.unwrap();
    }

    /// The checks of one name.
    fn checks(&self, name: &str) -> Vec<Check> {
        examine(&self.host, &self.settings).into_iter().filter(|check| check.name == name).collect()
    }

    fn check(&self, name: &str) -> Check {
        let checks = self.checks(name);
        assert_eq!(checks.len(), 1, "{checks:?}");
        checks.into_iter().next().unwrap()
    }
}

#[track_caller]
fn expect(check: &Check, verdict: &str, found: &str, told: &str) {
    let (is, text) = match &check.verdict {
        Verdict::Pass => ("pass", ""),
        Verdict::Warn { mend } => ("warn", mend.as_str()),
        Verdict::Fail { mend } => ("fail", mend.as_str()),
        Verdict::Skip { reason } => ("skip", reason.as_str()),
    };
    assert!(is == verdict && check.found.contains(found) && text.contains(told), "{check:?}");
}

#[test]
fn a_ready_host_passes_all_that_a_tree_can_show() {
    let tree = Tree::new();
    // A tree has no KVM, and the user may be anybody.
    let names = ["kvm", "root"];
    let checks = examine(&tree.host, &tree.settings);
    for check in checks.iter().filter(|check| !names.contains(&check.name)) {
        assert_eq!(check.verdict, Verdict::Pass, "{check:?}");
    }
    let order: Vec<_> = checks.iter().map(|check| check.name).collect();
    assert_eq!(
        order,
        [
            "root",
            "iommu",
            "interrupts",
            "vfio-modules",
            "vfio-container",
            "vfio-cdev",
            "kvm",
            "memory-lock",
            "qemu",
            "gpus",
            "gpu",
            "isolation",
        ]
    );
}

#[test]
fn every_check_that_does_not_pass_says_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    for check in examine(&Host::new(dir.path()), &Settings::default()) {
        match &check.verdict {
            Verdict::Pass => assert!(["root", "memory-lock", "qemu"].contains(&check.name), "{check:?}"),
            Verdict::Warn { mend: told } | Verdict::Fail { mend: told } | Verdict::Skip { reason: told } => {
                assert!(told.len() > 10 && !check.found.is_empty(), "{check:?}");
            }
        }
    }
}

#[test]
fn the_json_form_is_flat() {
    let check = Check::warn("qemu", "old", "install");
    let json = serde_json::to_value(&check).unwrap();
    let expected = serde_json::json!({"name": "qemu", "found": "old", "verdict": "warn", "mend": "install"});
    assert_eq!(json, expected);
}

#[test]
fn an_iommu_that_is_off_is_mended_by_processor() {
    let tree = Tree::new();
    expect(&tree.check("iommu"), "pass", "works (dmar0); groups: 1", "");
    tree.remove("/sys/class/iommu");
    tree.remove("/sys/kernel/iommu_groups");
    expect(
        &tree.check("iommu"),
        "fail",
        "off, on a machine with Intel processors; the kernel command line says intel_iommu=on",
        "VT-d",
    );
    tree.write("/proc/cpuinfo", "vendor_id\t: AuthenticAMD\n");
    tree.write("/proc/cmdline", "quiet\n");
    expect(
        &tree.check("iommu"),
        "fail",
        "AMD processors; the kernel command line says nothing of it",
        "AMD-Vi",
    );
    tree.write("/sys/class/iommu/ivhd0/x", "");
    expect(&tree.check("iommu"), "fail", "ivhd0 is there but has no groups", "iommu=off");
    tree.write("/sys/kernel/iommu_groups/0/name", "vfio-noiommu\n");
    expect(&tree.check("iommu"), "fail", "has no groups", "iommu=off");
}

#[test]
fn unsafe_interrupts_are_a_warning() {
    let tree = Tree::new();
    tree.write("/sys/module/iommufd/parameters/allow_unsafe_interrupts", "Y\n");
    expect(&tree.check("interrupts"), "warn", "of iommufd is Y", "interrupt remapping");
    tree.remove("/sys/module");
    expect(&tree.check("interrupts"), "skip", "no VFIO back-end", "vfio_iommu_type1");
}

#[test]
fn modules_are_loaded_built_in_loadable_or_missing() {
    let tree = Tree::new();
    tree.remove("/sys/module");
    expect(
        &tree.check("vfio-modules"),
        "fail",
        "kernel 6.12.1-test has no vfio, vfio_pci, vfio_iommu_type1",
        "Debian",
    );
    tree.write("/lib/modules/6.12.1-test/modules.builtin", "kernel/drivers/vfio/vfio.ko\n");
    tree.write(
        "/lib/modules/6.12.1-test/modules.dep",
        "kernel/drivers/vfio/pci/vfio-pci.ko.xz: kernel/drivers/vfio/vfio.ko.xz\nkernel/drivers/vfio/vfio_iommu_type1.ko.zst:\n",
    );
    expect(
        &tree.check("vfio-modules"),
        "warn",
        "vfio_pci, vfio_iommu_type1 can be loaded",
        "modprobe -a vfio_pci vfio_iommu_type1;",
    );
    tree.write("/sys/module/vfio_pci/x", "");
    tree.write("/sys/module/vfio_iommu_type1/x", "");
    expect(&tree.check("vfio-modules"), "pass", "vfio, vfio_pci, vfio_iommu_type1 are loaded", "");
}

#[test]
fn cdevs_are_needed_only_where_the_settings_ask_for_them() {
    let mut tree = Tree::new();
    tree.remove("/dev/vfio/devices");
    expect(
        &tree.check("vfio-cdev"),
        "warn",
        "no device has a cdev, of those on VFIO drivers: 1",
        "CONFIG_VFIO_DEVICE_CDEV",
    );
    tree.remove("/sys/class/vfio-dev");
    expect(&tree.check("vfio-cdev"), "skip", "/dev/iommu is there", "once one is on a VFIO driver");
    tree.remove("/dev/iommu");
    expect(&tree.check("vfio-cdev"), "warn", "runtime-rs", "load iommufd");
    tree.settings.vfio.node = NodeKind::Cdev;
    expect(&tree.check("vfio-cdev"), "fail", "/dev/iommu is not there", "set node = \"group\"");
    tree.remove("/dev/vfio/vfio");
    expect(&tree.check("vfio-container"), "fail", "is not there", "load vfio");
}

#[test]
fn a_consumer_that_is_not_root_needs_a_right_to_the_iommufd() {
    let mut tree = Tree::new();
    tree.settings.vfio.user = "qemu".parse().unwrap();
    let mode = |tree: &Tree, mode| {
        let path = tree.host.path("/dev/iommu");
        let mode = std::os::unix::fs::PermissionsExt::from_mode(mode);
        fs::set_permissions(path, mode).unwrap();
    };
    mode(&tree, 0o600);
    expect(&tree.check("vfio-cdev"), "warn", "has mode 0600 and group", "udev rule");
    mode(&tree, 0o640);
    expect(&tree.check("vfio-cdev"), "warn", "has mode 0640 and group", "udev rule");
    expect(
        &tree.check("vfio-cdev"),
        "warn",
        "leases go to qemu, who has to read and write it",
        "node = \"group\"",
    );
    mode(&tree, 0o666);
    expect(&tree.check("vfio-cdev"), "pass", "cdevs: 1", "");
    mode(&tree, 0o600);
    tree.settings.vfio.node = NodeKind::Group;
    expect(&tree.check("vfio-cdev"), "pass", "cdevs: 1", "");
}

#[test]
fn a_right_to_the_iommufd_is_no_matter_where_no_device_has_a_cdev() {
    let mut tree = Tree::new();
    tree.settings.vfio.user = "qemu".parse().unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    fs::set_permissions(tree.host.path("/dev/iommu"), mode).unwrap();
    tree.remove("/dev/vfio/devices");
    expect(&tree.check("vfio-cdev"), "warn", "no device has a cdev", "CONFIG_VFIO_DEVICE_CDEV");
    tree.settings.vfio.node = NodeKind::Cdev;
    expect(&tree.check("vfio-cdev"), "fail", "no device has a cdev", "set node = \"group\"");
    // One may have, once it is on a VFIO driver.
    tree.remove("/sys/class/vfio-dev");
    expect(&tree.check("vfio-cdev"), "warn", "has mode 0600", "udev rule");
}

#[test]
fn what_is_no_kvm_is_told_apart_from_none() {
    let tree = Tree::new();
    expect(&tree.check("kvm"), "fail", "answers with API -1", "KVM module");
    tree.remove("/dev/kvm");
    expect(&tree.check("kvm"), "fail", "does not open", "VT-x");
}

#[test]
fn this_machine_s_kvm_works_where_it_has_one() {
    let host = Host::default();
    if fs::File::options().read(true).write(true).open(host.path("/dev/kvm")).is_err() {
        vgpud_mdev::fake::skip("this machine has no KVM");
        return;
    }
    let check = machine::kvm(&host);
    // A kernel without the VFIO device is one of the answers; a wrong API is not.
    assert!(check.verdict == Verdict::Pass || check.found.contains("no VFIO device"), "{check:?}");
    // Its examination closes nothing that it did not open.
    nix::fcntl::fcntl(std::io::stdin(), nix::fcntl::FcntlArg::F_GETFD).unwrap();
}

#[test]
fn a_micro_vm_that_cannot_be_locked_is_a_failure() {
    use nix::sys::resource::{RLIM_INFINITY, Resource, getrlimit};
    let mut tree = Tree::new();
    tree.settings.run.memory = Memory::from_bytes(1 << 62);
    expect(&tree.check("memory-lock"), "pass", "allows a micro-VM of 4194304TiB", "");
    if getrlimit(Resource::RLIMIT_MEMLOCK).unwrap().1 == RLIM_INFINITY {
        vgpud_mdev::fake::skip(
            "the hard memory lock limit here is unlimited, so the refusal of a low one is not shown",
        );
        return;
    }
    tree.remove("/proc/self/status");
    expect(&tree.check("memory-lock"), "fail", "this process may lock", "LimitMEMLOCK=infinity");
}

#[test]
fn qemu_is_judged_by_its_version() {
    expect(&qemu::qemu(&testdata("qemu-10")), "pass", "QEMU emulator version 10.0.2 (Debian 1:10.0.2)", "");
    expect(&qemu::qemu(&testdata("qemu-7")), "warn", "version 7.2.9", "node = \"group\"");
    expect(&qemu::qemu(Path::new("/bin/true")), "fail", "for its version", "[run]");
    expect(&qemu::qemu(Path::new("no-such-qemu")), "warn", "there is no program no-such-qemu", "apt install");
}

#[test]
fn gpus_are_found_and_each_says_how_it_can_be_cut() {
    let tree = Tree::new();
    expect(&tree.check("gpus"), "pass", "1 of 1 GPUs can be cut", "");
    expect(
        &tree.check("gpu"),
        "pass",
        "0000:41:00.0 (1002:74a1) is on driver gim; sriov into vf-1 (1 of 1 free)",
        "",
    );
    tree.link(PF, "driver", "/sys/bus/pci/drivers/amdgpu");
    expect(&tree.check("gpu"), "warn", "amdgpu does not implement sriov_numvfs", "(GIM)");
    expect(&tree.check("gpus"), "fail", "none of 1 GPUs can be cut", "below");
    tree.remove(PF);
    expect(&tree.check("gpus"), "fail", "no GPU", "[gpus] include");
    assert_eq!(tree.checks("gpu"), []);
}

#[test]
fn gpus_that_cannot_be_read_are_not_said_to_be_missing() {
    let tree = Tree::new();
    tree.write(&format!("{PF}/sriov_totalvfs"), "eight\n");
    let found = "1 PCI functions cannot be read, and no GPU was found among the others";
    expect(&tree.check("gpus"), "fail", found, "below");
    expect(&tree.check("gpu"), "fail", "holds \"eight\"", "");
}

#[test]
fn a_gpu_s_group_foretells_those_of_its_slices() {
    let tree = Tree::new();
    expect(&tree.check("isolation"), "pass", "shares IOMMU group 5 with nothing in use", "");
    let audio = "/sys/bus/pci/devices/0000:41:00.1";
    tree.write(&format!("{audio}/class"), "0x040300\n");
    tree.link(audio, "driver", "/sys/bus/pci/drivers/snd_hda_intel");
    tree.link("/sys/kernel/iommu_groups/5/devices", "0000:41:00.1", audio);
    expect(&tree.check("isolation"), "warn", "with 0000:41:00.1 (snd_hda_intel); its", "ACS in the firmware");
    let config = tree.host.path(PF).join("config");
    std::fs::write(config, vgpud_mdev::fake::function(0, 0x80, None).0).unwrap();
    let found =
        "(snd_hda_intel), since 0000:41:00.0 is on one card with them and has no access control (ACS); its";
    expect(&tree.check("isolation"), "warn", found, "no other slot");
    let port = "/sys/devices/pci0000:40/0000:40:01.1";
    tree.link("/sys/kernel/iommu_groups/5/devices", "0000:41:00.0", PF);
    std::fs::create_dir_all(tree.host.path(port)).unwrap();
    std::fs::rename(tree.host.path(PF), tree.host.path(port).join("0000:41:00.0")).unwrap();
    tree.link("/sys/bus/pci/devices", "0000:41:00.0", &format!("{port}/0000:41:00.0"));
    tree.link("/sys/bus/pci/devices", "0000:40:01.1", port);
    tree.link(port, "iommu_group", "/sys/kernel/iommu_groups/5");
    std::fs::write(tree.host.path(port).join("config"), vgpud_mdev::fake::function(4, 1, None).0).unwrap();
    let found = "virtual functions of 0000:41:00.0 will share IOMMU group 5 with 0000:41:00.0 (gim), 0000:41:00.1 \
                 (snd_hda_intel), since PCIe port 0000:40:01.1 above it has no access control (ACS)";
    expect(&tree.check("isolation"), "fail", found, "turn on ACS");
    tree.remove(&format!("{PF}/iommu_group"));
    expect(&tree.check("isolation"), "fail", "has no IOMMU group, so its virtual functions", "IOMMU above");
}

#[test]
fn each_slice_s_group_is_checked() {
    let tree = Tree::new();
    let vf = "/sys/bus/pci/devices/0000:41:02.0";
    tree.write(&format!("{PF}/sriov_numvfs"), "1\n");
    tree.write(&format!("{vf}/class"), "0x120000\n");
    tree.write(&format!("{vf}/vfio-dev/vfio0/x"), "");
    tree.link(PF, "virtfn0", vf);
    tree.link(vf, "physfn", PF);
    tree.link(vf, "driver", "/sys/bus/pci/drivers/vfio-pci");
    tree.write("/sys/kernel/iommu_groups/9/devices/x", "");
    tree.link(vf, "iommu_group", "/sys/kernel/iommu_groups/9");
    tree.link("/sys/kernel/iommu_groups/9/devices", "0000:41:02.0", vf);
    expect(&tree.check("isolation"), "pass", "isolated slices of 0000:41:00.0: 1", "");
    tree.link("/sys/kernel/iommu_groups/9/devices", "0000:41:00.0", PF);
    expect(&tree.check("isolation"), "fail", "also holds 0000:41:00.0 (gim)", "unbind them");
}
