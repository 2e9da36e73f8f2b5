//! Requests to VFIO and iommufd, one function each (kernel: include/uapi/linux/vfio.h, iommufd.h).
//!
//! Structures and numbers are those of the `vfio-bindings` crate. The requests themselves are made
//! here and not by `vfio-ioctls`, whose `reset` and region accesses lose the kernel's error and
//! whose destructors can panic.

#![allow(unsafe_code)]

use std::{
    ffi::{CStr, c_char, c_int, c_ulong},
    fs::File,
    io,
    os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd},
};
use vfio_bindings::bindings::vfio::{
    VFIO_DEVICE_FEATURE_GET, VFIO_DEVICE_FEATURE_MIGRATION, VFIO_DEVICE_FEATURE_PROBE,
    VFIO_DMA_MAP_FLAG_READ, VFIO_DMA_MAP_FLAG_WRITE, vfio_device_attach_iommufd_pt, vfio_device_info,
    vfio_group_status, vfio_iommu_type1_dma_map, vfio_iommu_type1_dma_unmap, vfio_irq_info, vfio_region_info,
};

/// `VFIO_TYPE`, which is also `IOMMUFD_TYPE`.
const VFIO: u8 = b';';

/// Of a region's description with its capabilities, in bytes; the longest known have some hundreds.
const LONGEST_ANSWER: u32 = 1 << 20;

macro_rules! request {
    ($number:expr) => {
        nix::request_code_none!(VFIO, $number)
    };
}

nix::ioctl_none_bad!(get_api_version, request!(100));
nix::ioctl_write_int_bad!(check_extension, request!(101));
nix::ioctl_write_int_bad!(set_iommu, request!(102));
nix::ioctl_readwrite_bad!(group_get_status, request!(103), vfio_group_status);
nix::ioctl_write_ptr_bad!(group_set_container, request!(104), RawFd);
nix::ioctl_write_ptr_bad!(group_get_device_fd, request!(106), c_char);
nix::ioctl_readwrite_bad!(device_get_info, request!(107), vfio_device_info);
nix::ioctl_readwrite_bad!(device_get_region_info, request!(108), vfio_region_info);
nix::ioctl_readwrite_bad!(device_get_irq_info, request!(109), vfio_irq_info);
nix::ioctl_write_ptr_bad!(device_set_irqs, request!(110), IrqSet);
nix::ioctl_none_bad!(device_reset, request!(111));
nix::ioctl_readwrite_bad!(iommu_map_dma, request!(113), vfio_iommu_type1_dma_map);
nix::ioctl_readwrite_bad!(iommu_unmap_dma, request!(114), vfio_iommu_type1_dma_unmap);
nix::ioctl_readwrite_bad!(device_feature, request!(117), Feature);
nix::ioctl_readwrite_bad!(attach_iommufd_pt, request!(119), vfio_device_attach_iommufd_pt);
nix::ioctl_readwrite_bad!(ioas_alloc, request!(0x81), IoasAlloc);
nix::ioctl_readwrite_bad!(ioas_map, request!(0x85), IoasMap);
nix::ioctl_readwrite_bad!(ioas_unmap, request!(0x86), IoasUnmap);

/// `struct vfio_irq_set` with room for one value.
#[repr(C)]
pub(super) struct IrqSet {
    argsz: u32,
    flags: u32,
    index: u32,
    start: u32,
    count: u32,
    data: i32,
}

/// `struct vfio_device_feature` with room for `struct vfio_device_feature_migration`.
#[repr(C)]
pub(super) struct Feature {
    argsz: u32,
    flags: u32,
    data: u64,
}

/// `struct iommu_ioas_alloc`.
#[repr(C)]
pub(super) struct IoasAlloc {
    size: u32,
    flags: u32,
    id: u32,
}

/// `struct iommu_ioas_map`.
#[repr(C)]
pub(super) struct IoasMap {
    size: u32,
    flags: u32,
    ioas: u32,
    reserved: u32,
    address: u64,
    length: u64,
    iova: u64,
}

/// `struct iommu_ioas_unmap`.
#[repr(C)]
pub(super) struct IoasUnmap {
    size: u32,
    ioas: u32,
    iova: u64,
    length: u64,
}

/// `IOMMU_IOAS_MAP_FIXED_IOVA`, `_WRITEABLE` and `_READABLE`.
const FIXED_READ_WRITE: u32 = 7;

/// `argsz` of a structure.
#[allow(clippy::cast_possible_truncation)] // the structures have less than 100 bytes
const fn size<T>() -> u32 {
    size_of::<T>() as u32
}

pub(super) fn api_version(container: &File) -> io::Result<i32> {
    // SAFETY: the request takes no argument, and the descriptor is open.
    Ok(unsafe { get_api_version(container.as_raw_fd()) }?)
}

pub(super) fn has_extension(container: &File, extension: u32) -> io::Result<bool> {
    // SAFETY: the request takes its argument by value, and the descriptor is open.
    Ok(unsafe { check_extension(container.as_raw_fd(), extension.cast_signed()) }? != 0)
}

pub(super) fn choose_iommu(container: &File, kind: u32) -> io::Result<()> {
    // SAFETY: the request takes its argument by value, and the descriptor is open.
    unsafe { set_iommu(container.as_raw_fd(), kind.cast_signed()) }?;
    Ok(())
}

/// The group's `VFIO_GROUP_FLAGS_*`.
pub(super) fn group_flags(group: &File) -> io::Result<u32> {
    let mut status = vfio_group_status { argsz: size::<vfio_group_status>(), flags: 0 };
    // SAFETY: `status` is the structure of this request, says its own size, and outlives the call.
    unsafe { group_get_status(group.as_raw_fd(), &raw mut status) }?;
    Ok(status.flags)
}

pub(super) fn join_container(group: &File, container: &File) -> io::Result<()> {
    let container = container.as_raw_fd();
    // SAFETY: the request reads one descriptor number, which outlives the call and is open.
    unsafe { group_set_container(group.as_raw_fd(), &raw const container) }?;
    Ok(())
}

/// Opens the device called `name` of the group.
pub(super) fn group_device(group: &File, name: &CStr) -> io::Result<File> {
    // SAFETY: the request reads a string that ends with NUL and outlives the call.
    let fd = unsafe { group_get_device_fd(group.as_raw_fd(), name.as_ptr()) }?;
    // SAFETY: the kernel has just made this descriptor, and nobody else has it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) }.into())
}

pub(super) fn info(device: &File) -> io::Result<vfio_device_info> {
    let mut info = vfio_device_info { argsz: size::<vfio_device_info>(), ..Default::default() };
    // SAFETY: `info` is the structure of this request, says its own size, and outlives the call.
    unsafe { device_get_info(device.as_raw_fd(), &raw mut info) }?;
    Ok(info)
}

/// A region and the bytes of its capabilities, from the start of the structure on, to which
/// `cap_offset` refers.
pub(super) fn region_info(device: &File, index: u32) -> io::Result<(vfio_region_info, Vec<u8>)> {
    let mut info = vfio_region_info { argsz: size::<vfio_region_info>(), index, ..Default::default() };
    // SAFETY: `info` is the structure of this request, says its own size, and outlives the call.
    unsafe { device_get_region_info(device.as_raw_fd(), &raw mut info) }?;
    // The kernel answers with the size that it needs for the capabilities too.
    let wanted = info.argsz;
    if wanted <= size::<vfio_region_info>() {
        return Ok((info, Vec::new()));
    }
    if wanted > LONGEST_ANSWER {
        let text = format!("the driver tells of {wanted} bytes of capabilities of region {index}");
        return Err(io::Error::new(io::ErrorKind::InvalidData, text));
    }
    let count = (wanted as usize).div_ceil(size_of::<vfio_region_info>());
    let mut room = vec![vfio_region_info::default(); count];
    let Some(first) = room.first_mut() else { return Ok((info, Vec::new())) };
    *first = vfio_region_info { argsz: wanted, index, ..Default::default() };
    // SAFETY: `room` begins with the structure of this request, is at least as long as its argsz
    // says, and outlives the call.
    unsafe { device_get_region_info(device.as_raw_fd(), room.as_mut_ptr()) }?;
    // SAFETY: `room` is initialised memory of that many bytes, and any bytes are valid as u8.
    let bytes = unsafe { std::slice::from_raw_parts(room.as_ptr().cast::<u8>(), wanted as usize) };
    Ok((room.first().copied().unwrap_or(info), bytes.to_vec()))
}

/// How many interrupts of the kind `index` the device has.
pub(super) fn interrupts(device: &File, index: u32) -> io::Result<u32> {
    let mut info = vfio_irq_info { argsz: size::<vfio_irq_info>(), index, ..Default::default() };
    // SAFETY: `info` is the structure of this request, says its own size, and outlives the call.
    unsafe { device_get_irq_info(device.as_raw_fd(), &raw mut info) }?;
    Ok(info.count)
}

/// Changes interrupt 0 of the kind `index`, or with `count` 0 all of them.
pub(super) fn set_interrupt(device: &File, index: u32, flags: u32, count: u32, data: i32) -> io::Result<()> {
    let set = IrqSet { argsz: size::<IrqSet>(), flags, index, start: 0, count, data };
    // SAFETY: `set` has the layout of the structure of this request, with room for one value, which
    // is all that the callers' flags and count make the kernel read; it outlives the call.
    unsafe { device_set_irqs(device.as_raw_fd(), &raw const set) }?;
    Ok(())
}

pub(super) fn reset(device: &File) -> io::Result<()> {
    // SAFETY: the request takes no argument, and the descriptor is open.
    unsafe { device_reset(device.as_raw_fd()) }?;
    Ok(())
}

/// Whether the device's state can be moved to another host (migration protocol v2).
pub(super) fn can_migrate(device: &File) -> io::Result<()> {
    let flags = VFIO_DEVICE_FEATURE_PROBE | VFIO_DEVICE_FEATURE_GET | VFIO_DEVICE_FEATURE_MIGRATION;
    let mut feature = Feature { argsz: size::<Feature>(), flags, data: 0 };
    // SAFETY: `feature` has the layout of the structure of this request with room for this
    // feature's data, says its own size, and outlives the call.
    unsafe { device_feature(device.as_raw_fd(), &raw mut feature) }?;
    Ok(())
}

pub(super) fn attach(device: &File, ioas: u32) -> io::Result<()> {
    // Without the field `pasid`, which kernels before 6.15 do not know.
    let mut request = vfio_device_attach_iommufd_pt { argsz: 12, pt_id: ioas, ..Default::default() };
    // SAFETY: `request` is the structure of this request, no shorter than it says, and outlives the
    // call.
    unsafe { attach_iommufd_pt(device.as_raw_fd(), &raw mut request) }?;
    Ok(())
}

pub(super) fn alloc_ioas(iommufd: &File) -> io::Result<u32> {
    let mut request = IoasAlloc { size: size::<IoasAlloc>(), flags: 0, id: 0 };
    // SAFETY: `request` has the layout and size of the structure of this request and outlives the
    // call.
    unsafe { ioas_alloc(iommufd.as_raw_fd(), &raw mut request) }?;
    Ok(request.id)
}

/// Memory of this process that a device may read and write, and where it sees it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Dma {
    pub address: u64,
    pub length: u64,
    pub iova: u64,
}

/// The caller keeps the memory mapped until it is unmapped again or the container is closed: the
/// kernel checks the address and pins the pages.
pub(super) fn map_type1(container: &File, dma: Dma) -> io::Result<()> {
    let mut request = vfio_iommu_type1_dma_map {
        argsz: size::<vfio_iommu_type1_dma_map>(),
        flags: VFIO_DMA_MAP_FLAG_READ | VFIO_DMA_MAP_FLAG_WRITE,
        vaddr: dma.address,
        iova: dma.iova,
        size: dma.length,
    };
    // SAFETY: `request` is the structure of this request, says its own size, and outlives the call.
    unsafe { iommu_map_dma(container.as_raw_fd(), &raw mut request) }?;
    Ok(())
}

/// The number of bytes that were unmapped.
pub(super) fn unmap_type1(container: &File, dma: Dma) -> io::Result<u64> {
    let mut request = vfio_iommu_type1_dma_unmap {
        argsz: size::<vfio_iommu_type1_dma_unmap>(),
        iova: dma.iova,
        size: dma.length,
        ..Default::default()
    };
    // SAFETY: `request` is the structure of this request, says its own size, and outlives the call.
    unsafe { iommu_unmap_dma(container.as_raw_fd(), &raw mut request) }?;
    Ok(request.size)
}

/// As [`map_type1`], in an I/O address space of an iommufd.
pub(super) fn map_ioas(iommufd: &File, ioas: u32, dma: Dma) -> io::Result<()> {
    let Dma { address, length, iova } = dma;
    let (size, flags) = (size::<IoasMap>(), FIXED_READ_WRITE);
    let mut request = IoasMap { size, flags, ioas, reserved: 0, address, length, iova };
    // SAFETY: `request` has the layout and size of the structure of this request and outlives the
    // call.
    unsafe { ioas_map(iommufd.as_raw_fd(), &raw mut request) }?;
    Ok(())
}

pub(super) fn unmap_ioas(iommufd: &File, ioas: u32, dma: Dma) -> io::Result<u64> {
    let mut request = IoasUnmap { size: size::<IoasUnmap>(), ioas, iova: dma.iova, length: dma.length };
    // SAFETY: `request` has the layout and size of the structure of this request and outlives the
    // call.
    unsafe { ioas_unmap(iommufd.as_raw_fd(), &raw mut request) }?;
    Ok(request.length)
}

const _: () = {
    assert!(size_of::<c_ulong>() == 8, "the structures above are those of 64-bit kernels");
    assert!(size_of::<IrqSet>() == 24 && size_of::<Feature>() == 16 && size_of::<c_int>() == 4);
    assert!(size_of::<IoasAlloc>() == 12 && size_of::<IoasMap>() == 40 && size_of::<IoasUnmap>() == 24);
};

/// The descriptor as VFIO wants an eventfd: by number, in a signed word.
pub(super) fn raw(fd: BorrowedFd<'_>) -> i32 {
    fd.as_raw_fd()
}
