//! Checks of the machine: who asks, IOMMU, KVM, memory.

use super::Check;
use crate::{
    iommu::{self, CpuVendor},
    kvm::{self, KvmState},
    memory_lock::LockLimit,
};
use nix::unistd::Uid;
use std::io;
use vgpud_mdev::{Host, Memory, attribute};

pub(super) fn root() -> Check {
    let user = Uid::effective();
    if user.is_root() {
        return Check::pass("root", "runs as root");
    }
    let found = format!("runs as user {user}, who does not see what vgpud as root sees");
    Check::fail("root", found, "run vgpuctl doctor as root")
}

pub(super) fn iommu(host: &Host) -> Check {
    const NAME: &str = "iommu";
    let (units, groups) = match (iommu::units(host), iommu::real_groups(host)) {
        (Ok(units), Ok(groups)) => (units, groups),
        (Err(error), _) | (_, Err(error)) => return Check::unreadable(NAME, &error),
    };
    if groups > 0 {
        let units = if units.is_empty() { String::new() } else { format!(" ({})", units.join(", ")) };
        return Check::pass(NAME, format!("works{units}; groups: {groups}"));
    }
    let cpu = CpuVendor::of(host);
    let line = attribute::read(&host.path("/proc/cmdline")).ok().flatten().unwrap_or_default();
    let said: Vec<_> = line.split_whitespace().filter(|word| word.contains("iommu")).collect();
    let said = match said.as_slice() {
        [] => "nothing of it".to_owned(),
        words => words.join(" "),
    };
    if let [_, ..] = units.as_slice() {
        let found =
            format!("{} is there but has no groups; the kernel command line says {said}", units.join(", "));
        return Check::fail(
            NAME,
            found,
            "take iommu=off and the like from the kernel command line and reboot",
        );
    }
    let found = format!("off, on a machine with {cpu} processors; the kernel command line says {said}");
    Check::fail(NAME, found, cpu.iommu_mend())
}

pub(super) fn kvm(host: &Host) -> Check {
    const NAME: &str = "kvm";
    let module = match CpuVendor::of(host) {
        CpuVendor::Intel => "VT-x in the firmware (BIOS) and load kvm_intel (modprobe)",
        CpuVendor::Amd => "SVM (AMD-V) in the firmware (BIOS) and load kvm_amd (modprobe)",
        CpuVendor::Other => "virtualisation in the firmware (BIOS) and load its KVM module (modprobe)",
    };
    let path = host.path("/dev/kvm");
    let path = path.display();
    match kvm::examine(host) {
        KvmState::Works => Check::pass(NAME, "makes VMs and their VFIO device (API 12)"),
        KvmState::Missing(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            let mend = "run as root or join the group that owns it (kvm)";
            Check::fail(NAME, format!("{path} may not be opened by this user"), mend)
        }
        KvmState::Missing(error) => {
            let mend = format!("turn on {module}; in a VM, turn on nested virtualisation for it");
            Check::fail(NAME, format!("{path} does not open: {error}"), mend)
        }
        KvmState::WrongApi(api) => {
            let found = format!("{path} answers with API {api} instead of 12");
            Check::fail(NAME, found, "remove what stands there and load the kernel's own KVM module")
        }
        KvmState::NoVm(error) => {
            let mend = format!("end other hypervisors, turn on {module}, and look into the kernel's log");
            Check::fail(NAME, format!("it makes no VM: {error}"), mend)
        }
        KvmState::NoVfioDevice(error) => {
            let mend = "use a kernel with CONFIG_KVM_VFIO, which vendors' vGPU drivers need";
            Check::fail(NAME, format!("it has no VFIO device: {error}"), mend)
        }
    }
}

pub(super) fn memory_lock(host: &Host, guest: Memory) -> Check {
    const NAME: &str = "memory-lock";
    match LockLimit::of_this_process(host) {
        Err(error) => Check::unreadable(NAME, &error),
        Ok(limit) => match limit.short_of(guest) {
            None => Check::pass(NAME, format!("allows a micro-VM of {guest}")),
            Some(limit) => {
                let found = format!(
                    "this process may lock {limit}, and a micro-VM of {guest} is locked with all its memory"
                );
                let mend = "raise the limit: ulimit -l unlimited, LimitMEMLOCK=infinity in a systemd unit, or memlock in /etc/security/limits.conf";
                Check::fail(NAME, found, mend)
            }
        },
    }
}
