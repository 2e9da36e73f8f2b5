//! What must be there before QEMU is started, so that a person reads what is missing instead of
//! QEMU's view of it.

use super::{Accelerator, MicroVm, VmError};
use crate::{Error, memory_lock::LockLimit, node::Node};
use nix::{
    errno::Errno,
    unistd::{AccessFlags, eaccess},
};
use std::{
    env,
    ffi::OsStr,
    fs::File,
    io,
    path::{Path, PathBuf},
};
use vgpud_mdev::Host;

impl MicroVm {
    /// Whether this host can run it: QEMU, KVM, kernel, initrd, the nodes and the memory lock limit.
    /// Opens nothing of the device.
    ///
    /// # Errors
    /// [`VmError`] with what is missing and how to get it.
    pub fn check(&self, host: &Host) -> Result<(), Error> {
        find_program(&self.qemu, env::var_os("PATH").as_deref())?;
        if self.accelerator == Accelerator::Kvm {
            kvm_opens(&host.path("/dev/kvm"))?;
        }
        guest_file("kernel", &self.kernel)?;
        if let Some(initrd) = &self.initrd {
            guest_file("initrd", initrd)?;
        }
        let (beside, module) = match self.device.node {
            Node::Group(_) => ("/dev/vfio/vfio", "load vfio and vfio_iommu_type1 (modprobe)"),
            Node::Cdev(_) => ("/dev/iommu", "load iommufd (modprobe), or use the group node"),
        };
        node_opens(self.device.node.path(), "the device was removed or lost its VFIO driver")?;
        node_opens(&host.path(beside), module)?;
        let pid = std::process::id();
        let limit = LockLimit::of_this_process(host).map_err(|source| VmError::Wait { pid, source })?;
        if let Some(limit) = limit.short_of(self.memory) {
            return Err(VmError::MemoryLock { memory: self.memory, limit }.into());
        }
        Ok(())
    }
}

/// The program, looked up in `path` where it is a bare name.
pub(crate) fn find_program(program: &Path, path: Option<&OsStr>) -> Result<PathBuf, VmError> {
    let runs = |file: &PathBuf| file.is_file() && eaccess(file, AccessFlags::X_OK).is_ok();
    let found = if program.components().count() > 1 {
        Some(program.to_owned()).filter(runs)
    } else {
        env::split_paths(path.unwrap_or_default()).map(|dir| dir.join(program)).find(runs)
    };
    found.ok_or_else(|| VmError::NoQemu { program: program.to_owned() })
}

fn kvm_opens(path: &Path) -> Result<(), VmError> {
    File::options().read(true).write(true).open(path).map(drop).map_err(|source| {
        let hint = match source.kind() {
            io::ErrorKind::PermissionDenied => "run as root or join the group that owns it (kvm)",
            io::ErrorKind::NotFound => {
                "turn on virtualisation (VT-x, AMD-V) in the firmware and load kvm_intel or kvm_amd, or ask for software emulation by name"
            }
            _ => "load kvm_intel or kvm_amd and look into the kernel's log",
        };
        VmError::NoKvm { path: path.to_owned(), hint, source }
    })
}

fn guest_file(what: &'static str, path: &Path) -> Result<(), VmError> {
    let failed = |source| VmError::GuestFile { what, path: path.to_owned(), source };
    let metadata = File::open(path).and_then(|file| file.metadata()).map_err(failed)?;
    if metadata.is_file() { Ok(()) } else { Err(failed(io::ErrorKind::IsADirectory.into())) }
}

/// Whether this user may open a node. It is not opened: a group opens once at a time.
fn node_opens(path: &Path, missing: &'static str) -> Result<(), VmError> {
    eaccess(path, AccessFlags::R_OK | AccessFlags::W_OK).map_err(|errno| {
        let hint = match errno {
            Errno::ENOENT | Errno::ENODEV => missing,
            _ => "it belongs to another user: run as that user or as root",
        };
        VmError::Node { path: path.to_owned(), hint, source: errno.into() }
    })
}
