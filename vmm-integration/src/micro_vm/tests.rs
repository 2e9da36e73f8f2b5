use super::*;
use crate::Error;
use std::{
    fs,
    path::Path,
    sync::{Arc, Mutex},
};
use tempfile::TempDir;
use vgpud_mdev::Host;

pub(super) const UUID: &str = "c2177883-f1bb-47f0-914d-32a22e3a8804";

/// A host that can run a micro-VM whose QEMU is a script.
pub(super) struct Tree {
    dir: TempDir,
    pub host: Host,
    pub vm: MicroVm,
}

impl Tree {
    /// The script behaves as `name` says.
    pub fn new(name: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let host = Host::new(dir.path());
        let all = "CapEff:\t000001ffffffffff\n";
        for (file, text) in [
            ("/dev/kvm", ""),
            ("/dev/iommu", ""),
            ("/dev/vfio/vfio", ""),
            ("/dev/vfio/12", ""),
            ("/dev/vfio/devices/vfio3", ""),
            ("/boot/vmlinuz", "k"),
            ("/boot/initrd", "i"),
            ("/proc/self/status", all),
        ] {
            let path = host.path(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let vm = MicroVm {
            name: name.into(),
            uuid: UUID.parse().unwrap(),
            qemu: Path::new(env!("CARGO_MANIFEST_DIR")).join("src/micro_vm/testdata/fake-qemu"),
            machine: Machine::MicroVm,
            accelerator: Accelerator::Kvm,
            memory: Memory::from_bytes(512 << 20),
            kernel: host.path("/boot/vmlinuz"),
            initrd: Some(host.path("/boot/initrd")),
            kernel_line: KernelLine::new("secret=A", &["sh".into(), "-c".into(), "exit 3".into()]).unwrap(),
            device: HostDevice {
                address: Some("0000:41:02.0".parse().unwrap()),
                sysfs: "/sys/bus/pci/devices/0000:41:02.0".into(),
                node: Node::Group(host.path("/dev/vfio/12")),
            },
            input: ConsoleInput::Closed,
        };
        Self { dir, host, vm }
    }

    fn refusal(&self) -> String {
        self.vm.check(&self.host).unwrap_err().to_string()
    }

    /// Runs to the end; what came on the console, and how it ended.
    pub fn run(&self) -> (String, Outcome) {
        let said = Arc::new(Mutex::new(Vec::new()));
        let sink = Arc::clone(&said);
        let vm =
            self.vm.spawn(&self.host, move |piece| sink.lock().unwrap().extend_from_slice(piece)).unwrap();
        let outcome = vm.wait(None).unwrap().unwrap();
        let said = String::from_utf8(said.lock().unwrap().clone()).unwrap();
        (said, outcome)
    }
}

/// A description without a host: what a command line is made of.
fn golden() -> MicroVm {
    MicroVm {
        qemu: "qemu-system-x86_64".into(),
        kernel: "/boot/vmlinuz".into(),
        initrd: None,
        device: HostDevice {
            address: Some("0000:41:02.0".parse().unwrap()),
            sysfs: "/sys/bus/pci/devices/0000:41:02.0".into(),
            node: Node::Group("/dev/vfio/12".into()),
        },
        ..Tree::new("s17").vm
    }
}

const HEAD: &str = "qemu-system-x86_64 -name s17 -uuid c2177883-f1bb-47f0-914d-32a22e3a8804 ";
const MIDDLE: &str = "-m 512M -no-user-config -nodefaults -no-reboot -display none \
    -sandbox on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny \
    -chardev stdio,id=console,signal=off -serial chardev:console -kernel /boot/vmlinuz ";
const TAIL: &str = "-append console=ttyS0 panic=-1 quiet secret=A -- sh -c \"exit 3\" \
    -device isa-debug-exit,iobase=0x501,iosize=0x1 ";

fn line(vm: &MicroVm) -> String {
    let words: Vec<_> = vm.command_line().iter().map(|word| word.to_str().unwrap().to_owned()).collect();
    words.join(" ")
}

#[test]
fn a_function_by_group_on_a_microvm() {
    let board = "-machine microvm,pcie=on,acpi=on,rtc=on,pit=off -accel kvm -cpu host ";
    let device = "-device vfio-pci,id=slice,host=0000:41:02.0";
    assert_eq!(line(&golden()), format!("{HEAD}{board}{MIDDLE}{TAIL}{device}"));
}

#[test]
fn a_function_by_cdev_on_q35_with_an_initrd() {
    let mut vm = golden();
    vm.machine = Machine::Q35;
    vm.initrd = Some("/boot/initrd".into());
    vm.device.node = Node::Cdev("/dev/vfio/devices/vfio3".into());
    let board = "-machine q35 -accel kvm -cpu host ";
    let device = "-object iommufd,id=iommufd0 -device pcie-root-port,id=slice-port,bus=pcie.0,chassis=1,slot=1 \
        -device vfio-pci,id=slice,host=0000:41:02.0,iommufd=iommufd0,bus=slice-port";
    assert_eq!(line(&vm), format!("{HEAD}{board}{MIDDLE}-initrd /boot/initrd {TAIL}{device}"));
}

#[test]
fn a_mediated_device_by_group_and_by_cdev() {
    let mut vm = golden();
    vm.device.address = None;
    vm.device.sysfs = format!("/sys/bus/mdev/devices/{UUID}").into();
    let device = format!("-device vfio-pci,id=slice,sysfsdev=/sys/bus/mdev/devices/{UUID}");
    assert!(line(&vm).ends_with(&format!("{TAIL}{device}")), "{}", line(&vm));
    vm.device.node = Node::Cdev("/dev/vfio/devices/vfio3".into());
    let with_iommufd = format!("{TAIL}-object iommufd,id=iommufd0 {device},iommufd=iommufd0");
    assert!(line(&vm).ends_with(&with_iommufd), "{}", line(&vm));
}

#[test]
fn software_emulation_odd_memory_a_terminal_and_commas() {
    let mut vm = golden();
    vm.accelerator = Accelerator::Tcg;
    vm.memory = Memory::from_bytes((64 << 20) + 1);
    vm.input = ConsoleInput::Inherited;
    vm.name = "a,b".into();
    let line = line(&vm);
    for part in [
        " -machine q35 -accel tcg -cpu max -m 65537K ",
        ",bus=slice-port",
        "stdio,id=console,signal=on",
        "-name a,,b ",
    ] {
        assert!(line.contains(part), "{part} in {line}");
    }
}

#[test]
fn a_ready_host_passes() {
    let mut tree = Tree::new("x");
    tree.vm.check(&tree.host).unwrap();
    tree.vm.device.node = Node::Cdev(tree.host.path("/dev/vfio/devices/vfio3"));
    tree.vm.check(&tree.host).unwrap();
}

#[test]
fn each_missing_thing_is_named_with_the_way_out() {
    type Break = fn(&mut Tree);
    let remove = |tree: &Tree, path: &str| fs::remove_file(tree.host.path(path)).unwrap();
    let cases: [(&str, Break); 9] = [
        ("install QEMU (Debian: apt install qemu-system-x86)", |tree| tree.vm.qemu = "no-such-qemu".into()),
        ("install QEMU", |tree| tree.vm.qemu = tree.dir.path().join("boot/vmlinuz")),
        ("load kvm_intel or kvm_amd, or ask for software emulation", |_| {}),
        ("Cannot read the guest's kernel", |tree| tree.vm.kernel = "/nowhere".into()),
        ("Cannot read the guest's initrd", |tree| tree.vm.initrd = Some(tree.dir.path().into())),
        ("lost its VFIO driver", |_| {}),
        ("vfio_iommu_type1", |_| {}),
        ("load iommufd", |tree| tree.vm.device.node = Node::Cdev(tree.host.path("/dev/vfio/devices/vfio3"))),
        ("LimitMEMLOCK=infinity", |tree| tree.vm.memory = Memory::from_bytes(1 << 62)),
    ];
    let gone = [
        None,
        None,
        Some("/dev/kvm"),
        None,
        None,
        Some("/dev/vfio/12"),
        Some("/dev/vfio/vfio"),
        Some("/dev/iommu"),
        Some("/proc/self/status"),
    ];
    for ((expected, broken), gone) in cases.into_iter().zip(gone) {
        let mut tree = Tree::new("x");
        broken(&mut tree);
        if let Some(path) = gone {
            remove(&tree, path);
        }
        if expected.starts_with("Limit") && nix_unlimited() {
            vgpud_mdev::fake::skip(
                "the hard memory lock limit here is unlimited, so the refusal of a low one is not shown",
            );
            continue;
        }
        let refusal = tree.refusal();
        assert!(refusal.contains(expected), "{expected} in {refusal}");
    }
}

fn nix_unlimited() -> bool {
    use nix::sys::resource::{RLIM_INFINITY, Resource, getrlimit};
    getrlimit(Resource::RLIMIT_MEMLOCK).unwrap().1 == RLIM_INFINITY
}

#[test]
fn software_emulation_needs_no_kvm() {
    let mut tree = Tree::new("x");
    fs::remove_file(tree.host.path("/dev/kvm")).unwrap();
    tree.vm.accelerator = Accelerator::Tcg;
    tree.vm.check(&tree.host).unwrap();
}

#[test]
fn a_program_is_looked_up_in_the_path() {
    let found = check::find_program(Path::new("sh"), Some(OsStr::new("/nowhere:/bin"))).unwrap();
    assert_eq!(found, Path::new("/bin/sh"));
    let error: Error = check::find_program(Path::new("sh"), None).unwrap_err().into();
    assert!(error.to_string().starts_with("There is no program sh;"), "{error}");
}
