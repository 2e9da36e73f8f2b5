//! Whether KVM works here: the one module that talks to it.

use kvm_bindings::{KVM_API_VERSION, kvm_create_device, kvm_device_type_KVM_DEV_TYPE_VFIO};
use kvm_ioctls::Kvm;
use std::{ffi::CString, io, os::unix::ffi::OsStrExt};
use vgpud_mdev::Host;

/// How far KVM got.
#[derive(Debug)]
pub(crate) enum KvmState {
    /// It makes VMs and the VFIO device, by which it learns of a VM's VFIO groups.
    Works,
    Missing(io::Error),
    /// What opens under its name is no KVM of this API.
    WrongApi(i32),
    NoVm(io::Error),
    /// The kernel was built without CONFIG_KVM_VFIO.
    NoVfioDevice(io::Error),
}

/// Opens KVM and makes an empty VM, which is gone again at once.
pub(crate) fn examine(host: &Host) -> KvmState {
    let path = host.path("/dev/kvm");
    let Ok(path) = CString::new(path.as_os_str().as_bytes()) else {
        return KvmState::Missing(io::ErrorKind::InvalidInput.into());
    };
    let kvm = match Kvm::new_with_path(&path) {
        Ok(kvm) => kvm,
        Err(error) => return KvmState::Missing(error.into()),
    };
    let api = kvm.get_api_version();
    if u32::try_from(api) != Ok(KVM_API_VERSION) {
        return KvmState::WrongApi(api);
    }
    let vm = match kvm.create_vm() {
        Ok(vm) => vm,
        Err(error) => return KvmState::NoVm(error.into()),
    };
    // Not with KVM_CREATE_DEVICE_TEST: that makes no descriptor, and kvm-ioctls 0.25 would take the
    // 0 in `fd` for one and close standard input.
    let mut device = kvm_create_device { type_: kvm_device_type_KVM_DEV_TYPE_VFIO, fd: 0, flags: 0 };
    match vm.create_device(&mut device) {
        Ok(_) => KvmState::Works,
        Err(error) => KvmState::NoVfioDevice(error.into()),
    }
}
