//! What an errno means when a certain attribute is written.
//!
//! Sources: kernel drivers/pci/iov.c (`sriov_numvfs_store`), drivers/base/bus.c (`bind_store`),
//! drivers/vfio/mdev (`mdev_device_create`, `remove_store`), drivers/pci/pci.c
//! (`pci_reset_function`), Documentation/ABI/testing/sysfs-driver-intel-xe-sriov.

use nix::errno::Errno;
use std::{io, path::Path};

/// Empty, or an explanation that starts with a colon.
pub(super) fn hint(path: &Path, error: &io::Error) -> String {
    let attribute = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let errno = Errno::from_raw(error.raw_os_error().unwrap_or(0));
    let text = of_attribute(attribute, errno).or_else(|| of_any(errno));
    text.map_or_else(String::new, |text| format!(": {text}"))
}

fn of_attribute(attribute: &str, errno: Errno) -> Option<&'static str> {
    Some(match (attribute, errno) {
        ("sriov_numvfs", Errno::EBUSY) => {
            "VFs are enabled already, and their number changes only through 0, which drops every VF"
        }
        ("sriov_numvfs", Errno::ENOENT) => {
            "no driver is bound to the GPU, or its driver does not implement SR-IOV through sysfs"
        }
        ("sriov_numvfs", Errno::ERANGE) => "the GPU's driver allows fewer VFs",
        ("sriov_numvfs", Errno::ENOMEM) => {
            "too little MMIO space or too few bus numbers for the VFs; turn on SR-IOV and decoding above 4G \
             in the firmware, or boot with pci=realloc"
        }
        ("sriov_numvfs", Errno::EINVAL) => "the GPU's driver refuses this number of VFs",
        ("sriov_numvfs", Errno::EPERM) => "the GPU's driver forbids VFs now; is vgpud root?",
        ("sriov_numvfs", Errno::EUCLEAN) => {
            "the GPU's driver finds shares of VFs left over from before; put them to 0, or load the driver again"
        }
        ("exec_quantum_ms" | "preempt_timeout_us" | "vram_quota", Errno::EPERM) => {
            "this GPU or its firmware does not allow that, or the kernel is locked down; \
             mechanism = \"sriov\" in the settings of this GPU does without"
        }
        ("exec_quantum_ms" | "preempt_timeout_us" | "vram_quota", Errno::EOPNOTSUPP) => {
            "the GPU's driver does not let this function be changed; \
             mechanism = \"sriov\" in the settings of this GPU does without"
        }
        ("exec_quantum_ms" | "preempt_timeout_us" | "vram_quota", Errno::EIO) => {
            "the GPU's firmware refuses; the kernel log says why (`dmesg`)"
        }
        ("exec_quantum_ms" | "preempt_timeout_us" | "vram_quota", Errno::EINVAL) => {
            "the GPU's driver takes no such value"
        }
        ("vram_quota", Errno::ENOSPC | Errno::ENOMEM | Errno::EDQUOT) => {
            "the GPU has not so much memory left; something on the host may use it"
        }
        ("restore_auto_provisioning", Errno::EBUSY) => "VFs are enabled still",
        ("bind", Errno::EINVAL) => {
            "the driver refuses the device; vfio-pci does so where no IOMMU is on \
             (turn it on in the firmware, and on Intel boot with intel_iommu=on)"
        }
        ("bind", Errno::ENODEV) => "the driver does not take this device, or the device is gone",
        ("bind", Errno::EBUSY) => "the device is on another driver, or something holds its resources",
        ("bind", Errno::EAGAIN) => "the driver waits for another driver",
        ("unbind", Errno::ENODEV) => "the device is not on this driver any more",
        ("create", Errno::ENOSPC | Errno::EUSERS | Errno::ENOMEM) => {
            "the GPU has no room left for an instance of this type"
        }
        ("create", Errno::EEXIST) => "a mediated device of that UUID exists already",
        ("create", Errno::EINVAL) => "the GPU's driver refuses this type now, or the UUID is wrong",
        ("create", Errno::EIO | Errno::EPERM) => {
            "the GPU's driver cannot create this type in its present mode"
        }
        ("create", Errno::ENODEV) => "the GPU is going away",
        ("remove", Errno::EBUSY | Errno::EAGAIN) => "something still holds the device; end its VM first",
        ("remove", Errno::ENODEV) => "the device is being removed already",
        ("reset", Errno::ENOTTY) => "none of the device's reset methods works; keep it out of use",
        ("reset", Errno::EAGAIN | Errno::EBUSY) => "something holds the device; end its VM first",
        ("reset", Errno::ETIMEDOUT) => "the device did not come back from its reset; keep it out of use",
        ("current_vgpu_type", Errno::EIO | Errno::EINVAL) => {
            "NVIDIA's driver refuses this type on this GPU now; the kernel log says why (`dmesg`, NVRM)"
        }
        ("current_vgpu_type", Errno::EBUSY | Errno::EPERM) => {
            "something still holds the vGPU; end its VM first"
        }
        ("driver_override", Errno::EINVAL) => "the kernel takes no such driver name",
        _ => return None,
    })
}

fn of_any(errno: Errno) -> Option<&'static str> {
    Some(match errno {
        Errno::EACCES | Errno::EPERM => "vgpud must be root",
        Errno::EROFS => "sysfs is mounted read-only here; a container needs it writable",
        Errno::ENOENT => "the attribute is not there: the device is gone, or its driver lacks it",
        Errno::ENODEV => "the device is gone",
        _ => return None,
    })
}
