//! The two ways to a device: by its group and a container, by its cdev and an iommufd.

use super::{DeviceError, ioctl, ioctl::Dma};
use crate::{cdev_bind, node::Node};
use nix::fcntl::OFlag;
use std::{
    ffi::CString,
    fs::File,
    io,
    os::{fd::AsFd, unix::fs::OpenOptionsExt},
    path::Path,
};
use vfio_bindings::bindings::vfio::{VFIO_API_VERSION, VFIO_GROUP_FLAGS_VIABLE, VFIO_TYPE1v2_IOMMU};
use vgpud_mdev::Host;

/// What translates the device's memory accesses. Closing it takes all mappings back.
#[derive(Debug)]
pub(super) enum AddressSpace {
    Container { container: File, _group: File },
    Iommufd { iommufd: File, ioas: u32 },
}

impl AddressSpace {
    pub(super) fn map(&self, dma: Dma) -> io::Result<()> {
        match self {
            Self::Container { container, .. } => ioctl::map_type1(container, dma),
            Self::Iommufd { iommufd, ioas } => ioctl::map_ioas(iommufd, *ioas, dma),
        }
    }

    /// The number of bytes that were unmapped.
    pub(super) fn unmap(&self, dma: Dma) -> io::Result<u64> {
        match self {
            Self::Container { container, .. } => ioctl::unmap_type1(container, dma),
            Self::Iommufd { iommufd, ioas } => ioctl::unmap_ioas(iommufd, *ioas, dma),
        }
    }
}

/// Opens the device called `name`.
pub(super) fn open(host: &Host, node: &Node, name: &str) -> Result<(File, AddressSpace), DeviceError> {
    match node {
        Node::Group(path) => by_group(host, path, name),
        Node::Cdev(path) => by_cdev(host, path, name),
    }
}

fn by_group(host: &Host, node: &Path, name: &str) -> Result<(File, AddressSpace), DeviceError> {
    let refused = |what| refused(name, what);
    let group = open_node(node)?;
    let container = open_node(&host.vfio_nodes().join("vfio"))?;
    let api = ioctl::api_version(&container).map_err(refused("tell the VFIO version"))?;
    let type1 = ioctl::has_extension(&container, VFIO_TYPE1v2_IOMMU);
    if u32::try_from(api) != Ok(VFIO_API_VERSION) || !type1.map_err(refused("tell the IOMMU types"))? {
        return Err(DeviceError::NoType1 { api });
    }
    let flags = ioctl::group_flags(&group).map_err(refused("tell the state of the IOMMU group"))?;
    if flags & VFIO_GROUP_FLAGS_VIABLE == 0 {
        return Err(DeviceError::NotViable { device: name.to_owned() });
    }
    ioctl::join_container(&group, &container).map_err(refused("put the IOMMU group into a container"))?;
    ioctl::choose_iommu(&container, VFIO_TYPE1v2_IOMMU).map_err(refused("set up the IOMMU domain"))?;
    let c_name = CString::new(name).map_err(|_| DeviceError::NoName { sysfs: name.into() })?;
    let device = ioctl::group_device(&group, &c_name).map_err(refused("open the device file"))?;
    Ok((device, AddressSpace::Container { container, _group: group }))
}

fn by_cdev(host: &Host, node: &Path, name: &str) -> Result<(File, AddressSpace), DeviceError> {
    let refused = |what| refused(name, what);
    let device = open_node(node)?;
    let iommufd = open_node(&host.iommufd())?;
    cdev_bind::bind(&device, iommufd.as_fd()).map_err(|source| match cdev_bind::means_taken(&source) {
        true => DeviceError::InUse { node: node.to_owned() },
        false => refused("bind the cdev")(source),
    })?;
    let ioas = ioctl::alloc_ioas(&iommufd).map_err(refused("make an I/O address space"))?;
    ioctl::attach(&device, ioas).map_err(refused("attach the I/O address space"))?;
    Ok((device, AddressSpace::Iommufd { iommufd, ioas }))
}

pub(super) fn refused(device: &str, what: &'static str) -> impl FnOnce(io::Error) -> DeviceError {
    let device = device.to_owned();
    move |source| DeviceError::Refused { device, what, source }
}

fn open_node(node: &Path) -> Result<File, DeviceError> {
    let flags = OFlag::O_NOFOLLOW.bits();
    File::options().read(true).write(true).custom_flags(flags).open(node).map_err(|source| {
        match source.kind() {
            io::ErrorKind::ResourceBusy => DeviceError::InUse { node: node.to_owned() },
            _ => DeviceError::Open { node: node.to_owned(), source },
        }
    })
}
