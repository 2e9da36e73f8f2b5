//! The VFIO node that a consumer gets: which one, and who may open it.
//!
//! A consumer gets exactly one node a device (Kata takes no more), and nobody else but root may open it:
//! its user, mode 0600, or its user and a group, mode 0660. Nodes are looked at without following symbolic
//! links, so that a planted link never redirects a change of owner.

use crate::Error;
use nix::{
    fcntl::{AT_FDCWD, AtFlags, OFlag, open},
    sys::stat::{FchmodatFlags, FileStat, Mode, SFlag, fchmodat, fstatat},
    unistd::{Gid, Uid, fchownat},
};
use std::{
    fmt, io,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
};
use vgpud_config::{Consumer, NodeKind};
use vgpud_mdev::{Host, VfioNodes};

/// One VFIO node of a device.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Node {
    /// `/dev/vfio/<group>`, opened together with the container `/dev/vfio/vfio`.
    Group(PathBuf),
    /// `/dev/vfio/devices/vfioN`, opened together with `/dev/iommu`.
    Cdev(PathBuf),
}

/// What can go wrong with a node.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    #[error("The device has no VFIO node; bind it to its VFIO driver first")]
    None,
    #[error(
        "The device has no group node below /dev/vfio; set node = \"cdev\" under [vfio], or use a kernel with VFIO groups"
    )]
    NoGroup,
    #[error(
        "The device has no cdev below /dev/vfio/devices; set node = \"group\" under [vfio], or use a kernel with iommufd and VFIO cdevs and load iommufd"
    )]
    NoCdev,
    #[error("{} is no VFIO node; one is /dev/vfio/<group> or /dev/vfio/devices/vfio<number>", path.display())]
    NotVfio { path: PathBuf },
    #[error("{} has vanished; the device was removed or lost its VFIO driver", path.display())]
    Vanished { path: PathBuf },
    #[error("{} is {kind}, not a character device; remove it and bind the device again", path.display())]
    NotADevice { path: PathBuf, kind: FileKind },
    #[error("Cannot look at {}; vgpud runs as root", path.display())]
    Look {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("Cannot give {} to {consumer}; vgpud runs as root", path.display())]
    Grant {
        path: PathBuf,
        consumer: Consumer,
        #[source]
        source: io::Error,
    },
    #[error(
        "{} belongs to {uid}:{gid} with mode {mode:04o} although it was set otherwise; look for a udev rule on it",
        path.display()
    )]
    Overruled { path: PathBuf, uid: u32, gid: u32, mode: u32 },
}

/// What stands where a device node should.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileKind {
    Symlink,
    Folder,
    File,
    Other,
}

impl fmt::Display for FileKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Symlink => "a symbolic link",
            Self::Folder => "a folder",
            Self::File => "a plain file",
            Self::Other => "a socket, pipe or block device",
        })
    }
}

impl Node {
    /// The node at `path`, told apart by its place below `/dev/vfio`.
    ///
    /// # Errors
    /// [`NodeError::NotVfio`] for a path that is neither; the container `/dev/vfio/vfio` is not.
    pub fn from_path(path: impl Into<PathBuf>) -> Result<Self, Error> {
        let path = path.into();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let parent = path.parent().unwrap_or(Path::new(""));
        let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        if parent.ends_with("dev/vfio/devices") && name.strip_prefix("vfio").is_some_and(digits) {
            Ok(Self::Cdev(path))
        } else if parent.ends_with("dev/vfio") && digits(name) {
            Ok(Self::Group(path))
        } else {
            Err(NodeError::NotVfio { path }.into())
        }
    }

    #[must_use]
    pub fn path(&self) -> &Path {
        match self {
            Self::Group(path) | Self::Cdev(path) => path,
        }
    }
}

impl fmt::Display for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.path().display().fmt(f)
    }
}

/// Which node to hand over: the one that the settings ask for; by default the cdev where the host
/// has one (runtime-rs of Kata opens devices through iommufd in any case), else the group.
///
/// # Errors
/// Where the kind that the settings ask for does not exist on this host, or what stands in its
/// place is no device.
pub fn choose(host: &Host, nodes: &VfioNodes, kind: NodeKind) -> Result<Node, Error> {
    let group = nodes.group.clone().map(Node::Group);
    let cdev = nodes.cdev.clone().map(Node::Cdev);
    let node = match kind {
        NodeKind::Auto => cdev.or(group).ok_or(NodeError::None)?,
        NodeKind::Group => group.ok_or(NodeError::NoGroup)?,
        NodeKind::Cdev => cdev.ok_or(NodeError::NoCdev)?,
    };
    look(host, node.path())?;
    Ok(node)
}

/// Lets one consumer, and nobody else but root, open the node. Handles that are open already stay
/// open: prove first that there are none ([`crate::holders::prove_free`]).
///
/// # Errors
/// Where the node is gone, is no device, or did not take the change.
pub fn grant(host: &Host, node: &Node, consumer: Consumer) -> Result<(), Error> {
    let path = node.path();
    look(host, path)?;
    let failed = |errno: nix::Error| NodeError::Grant { path: path.into(), consumer, source: errno.into() };
    let dir = folder(path).map_err(failed)?;
    let name = path.file_name().unwrap_or_default();
    let set_mode = |mode| {
        fchmodat(&dir, name, Mode::from_bits_truncate(mode), FchmodatFlags::NoFollowSymlink).map_err(failed)
    };
    // Narrow before it changes hands: the group of neither side must open the node in between.
    set_mode(0o600)?;
    let (uid, gid) = (Uid::from_raw(consumer.uid), Gid::from_raw(consumer.group()));
    fchownat(&dir, name, Some(uid), Some(gid), AtFlags::AT_SYMLINK_NOFOLLOW).map_err(failed)?;
    set_mode(consumer.mode())?;
    let now = look(host, path)?;
    let (uid, gid, mode) = (now.st_uid, now.st_gid, now.st_mode & 0o7777);
    if (uid, gid, mode) != (consumer.uid, consumer.group(), consumer.mode()) {
        return Err(NodeError::Overruled { path: path.into(), uid, gid, mode }.into());
    }
    Ok(())
}

/// Gives the node back to root, mode 0600. A node that is gone needs none of it.
///
/// # Errors
/// Where something else stands in its place or it did not take the change.
pub fn revoke(host: &Host, node: &Node) -> Result<(), Error> {
    match grant(host, node, Consumer::default()) {
        Err(Error::Node(NodeError::Vanished { .. })) => Ok(()),
        result => result,
    }
}

fn folder(path: &Path) -> nix::Result<OwnedFd> {
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    open(path.parent().unwrap_or(Path::new("/")), flags, Mode::empty())
}

/// The node itself, which must be a character device. In a test tree, where nobody can make
/// devices, a plain file plays one.
fn look(host: &Host, path: &Path) -> Result<FileStat, Error> {
    let stat = fstatat(AT_FDCWD, path, AtFlags::AT_SYMLINK_NOFOLLOW).map_err(|errno| match errno {
        nix::Error::ENOENT | nix::Error::ENOTDIR => NodeError::Vanished { path: path.into() },
        errno => NodeError::Look { path: path.into(), source: errno.into() },
    })?;
    let kind = match SFlag::from_bits_truncate(stat.st_mode & SFlag::S_IFMT.bits()) {
        SFlag::S_IFCHR => return Ok(stat),
        SFlag::S_IFREG if host.path("/") != Path::new("/") => return Ok(stat),
        SFlag::S_IFREG => FileKind::File,
        SFlag::S_IFLNK => FileKind::Symlink,
        SFlag::S_IFDIR => FileKind::Folder,
        _ => FileKind::Other,
    };
    Err(NodeError::NotADevice { path: path.into(), kind }.into())
}

#[cfg(test)]
mod tests;
