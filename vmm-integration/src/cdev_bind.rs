//! Binding a VFIO cdev to an iommufd: the trial that takes the place of a group's on kernels
//! without group nodes (kernel: include/uapi/linux/vfio.h).

#![allow(unsafe_code)]

use nix::errno::Errno;
use std::{
    fs::File,
    io,
    os::fd::{AsFd, AsRawFd, BorrowedFd},
};

/// `struct vfio_device_bind_iommufd`.
#[repr(C)]
struct BindIommufd {
    argsz: u32,
    flags: u32,
    iommufd: i32,
    out_devid: u32,
}

// VFIO_DEVICE_BIND_IOMMUFD is _IO(VFIO_TYPE, VFIO_BASE + 18).
nix::ioctl_readwrite_bad!(bind_iommufd, nix::request_code_none!(b';', 118), BindIommufd);

/// Binds `cdev` to `iommufd`. It stays bound until `cdev` is closed.
///
/// # Errors
/// The kernel's: EBUSY while the device's group is open or another driver owns the IOMMU group,
/// EINVAL while the device is bound through another handle.
pub(crate) fn bind(cdev: &File, iommufd: BorrowedFd<'_>) -> io::Result<()> {
    let mut request = BindIommufd { argsz: 16, flags: 0, iommufd: iommufd.as_raw_fd(), out_devid: 0 };
    const { assert!(size_of::<BindIommufd>() == 16) };
    // SAFETY: `request` has the layout and size (16 bytes, as argsz says) of the structure that the
    // kernel reads and writes, and it outlives the call; both descriptors are borrowed and open.
    unsafe { bind_iommufd(cdev.as_fd().as_raw_fd(), &raw mut request) }?;
    Ok(())
}

/// Whether a refusal to bind means that somebody else has the device: EBUSY, or EINVAL where it is
/// bound through another handle (kernel: drivers/vfio/vfio_main.c, `vfio_df_open`).
pub(crate) fn means_taken(error: &io::Error) -> bool {
    matches!(error.raw_os_error().map(Errno::from_raw), Some(Errno::EBUSY | Errno::EINVAL))
}
