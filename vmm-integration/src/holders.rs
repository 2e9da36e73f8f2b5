//! Who holds a VFIO node open. "Free" is judged by open handles and by a trial open, never by what
//! a VMM or a container runtime says.
//!
//! What proves that a device is free (kernel: drivers/vfio/group.c, device_cdev.c, vfio_main.c):
//!
//! - **Opening the group node** is exclusive: `vfio_group_fops_open` fails with EBUSY while the
//!   group is open, or while a cdev of the group is bound to an iommufd (`cdev_device_open_cnt`).
//!   Device handles and mapped BARs keep a reference to their group's file, so they count too,
//!   whoever holds them: a process in another PID namespace, a message in flight, KVM. The trial
//!   touches nothing on the device.
//! - **Opening the cdev node** proves nothing: the kernel lets anybody open it and refuses only the
//!   later `VFIO_DEVICE_BIND_IOMMUFD`. A cdev that is open but not yet bound is seen in
//!   `/proc/*/fd` alone.
//! - So both are asked: `/proc` for handles of either node, by a [`Lookout`], then the group node. On a kernel
//!   without group nodes (`CONFIG_VFIO_GROUP` off) the trial is a real bind to a fresh iommufd,
//!   which opens the device and makes vfio-pci reset it: only ever done on a device whose lease
//!   has ended, and which is reset next anyway.

use crate::{Error, cdev_bind, lookout::LookoutError};
use nix::{
    errno::Errno,
    fcntl::OFlag,
    sys::statfs::{FUSE_SUPER_MAGIC, statfs},
};
use serde::{Deserialize, Serialize};
use std::{
    fmt,
    fs::{self, File},
    io,
    os::{
        fd::AsFd,
        unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt},
    },
    path::{Path, PathBuf},
    time::Duration,
};
use vgpud_config::Shown;
use vgpud_mdev::{Host, VfioNodes, wait};

/// A process that holds a node open.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    pub pid: u32,
    /// Its program's name (`/proc/PID/comm`).
    pub program: String,
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "process {} ({})", self.pid, self.program)
    }
}

/// Why a device is not known to be free.
#[derive(Debug, thiserror::Error)]
pub enum HoldError {
    #[error("{} is held by {}; end it, and the device is free", node.display(), list(holders))]
    Held { node: PathBuf, holders: Vec<Holder> },
    #[error(
        "{} is in use, and no process that vgpud sees has it open; look in other PID namespaces, end the VM that uses it, or reboot",
        node.display()
    )]
    HeldUnseen { node: PathBuf },
    #[error("{} has vanished; the device was removed or lost its VFIO driver", node.display())]
    Vanished { node: PathBuf },
    #[error("The device has no VFIO node, so nothing shows whether it is in use; bind it to its VFIO driver")]
    NoNode,
    #[error("Cannot see the open files in {}; vgpud needs root and CAP_SYS_PTRACE", path.display())]
    Proc {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    /// No answer from the process that looks, or what it found in its way.
    #[error("Cannot learn who holds {}", node.display())]
    Lookout {
        node: PathBuf,
        #[source]
        source: LookoutError,
    },
    #[error("Cannot try to open {} to prove that it is free", node.display())]
    Trial {
        node: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("Waited {} s for every process to close the device; it stays taken", within.as_secs_f32())]
    StillHeld {
        within: Duration,
        #[source]
        source: Box<HoldError>,
    },
}

fn list(holders: &[Holder]) -> String {
    holders.iter().map(Holder::to_string).collect::<Vec<_>>().join(", ")
}

/// Whoever looks for holders: a [`Host`] does it in this process, a
/// [`LookoutProcess`](crate::lookout::LookoutProcess) has another look.
pub trait Lookout: fmt::Debug + Send + Sync {
    /// As [`holders`].
    ///
    /// # Errors
    /// Where it cannot be told.
    fn holders(&self, nodes: &VfioNodes) -> Result<Vec<Holder>, Error>;
}

impl Lookout for Host {
    fn holders(&self, nodes: &VfioNodes) -> Result<Vec<Holder>, Error> {
        holders(self, nodes)
    }
}

/// The processes that hold one of `nodes` open, from `/proc/*/fd`, in order of pid. A node is known
/// by its device number, so a handle opened under another name or in a container counts.
///
/// # Errors
/// Where /proc cannot be read: a process that may not be looked into is an error, since it could be
/// a holder. A process that ends meanwhile is left out.
pub fn holders(host: &Host, nodes: &VfioNodes) -> Result<Vec<Holder>, Error> {
    let mut wanted = Vec::new();
    for node in present(nodes) {
        match fs::metadata(node) {
            Ok(metadata) => wanted.push(Identity::of(&metadata)),
            Err(source) if source.kind() == io::ErrorKind::NotFound => {}
            Err(source) => return Err(HoldError::Trial { node: node.clone(), source }.into()),
        }
    }
    let proc = host.path("/proc");
    let blind = |path: &Path, source| HoldError::Proc { path: path.into(), source };
    let mut found = Vec::new();
    for entry in fs::read_dir(&proc).map_err(|source| blind(&proc, source))? {
        let entry = entry.map_err(|source| blind(&proc, source))?;
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        let fds = entry.path().join("fd");
        if holds(&fds, &wanted).map_err(|source| blind(&fds, source))? {
            let comm = fs::read(entry.path().join("comm")).unwrap_or_default();
            found.push(Holder { pid, program: program(&comm) });
        }
    }
    found.sort_by_key(|holder| holder.pid);
    Ok(found)
}

/// A program's name out of `/proc/PID/comm`, which is empty when it ends.
pub(crate) fn program(comm: &[u8]) -> String {
    match String::from_utf8_lossy(comm).trim_end() {
        "" => "ending".to_owned(),
        // A process gives itself any name.
        name => Shown(name).to_string(),
    }
}

/// Proves that nobody holds the device, as the module's description says.
///
/// # Errors
/// [`HoldError`] naming the holders.
pub fn prove_free(host: &Host, lookout: &dyn Lookout, nodes: &VfioNodes) -> Result<(), Error> {
    let node = present(nodes).next().ok_or(HoldError::NoNode)?;
    let holders = lookout.holders(nodes)?;
    if !holders.is_empty() {
        return Err(HoldError::Held { node: node.clone(), holders }.into());
    }
    try_open(host, nodes).map_err(|trial| trial.into_error(lookout, nodes))
}

/// The trial alone, for a process that does not see into others.
///
/// # Errors
/// The kernel's, on the node: EBUSY where the device is held, by whom is not looked for.
pub(crate) fn opens_alone(host: &Host, nodes: &VfioNodes) -> Result<(), Trial> {
    try_open(host, nodes)
}

/// Waits until nobody holds the device (a VMM's exit and the release of its devices are not one
/// moment).
///
/// # Errors
/// [`HoldError::StillHeld`] after `within`, its source naming the holders; other failures at once.
pub fn wait_free(host: &Host, nodes: &VfioNodes, within: Duration) -> Result<(), Error> {
    let mut last = None;
    let waited =
        wait::until("every process to close the device", within, || match prove_free(host, host, nodes) {
            Ok(()) => Ok(Some(())),
            Err(Error::Hold(held @ (HoldError::Held { .. } | HoldError::HeldUnseen { .. }))) => {
                last = Some(held);
                Ok(None)
            }
            Err(other) => Err(Waited::Failed(other)),
        });
    match (waited, last) {
        (Ok(()), _) => Ok(()),
        (Err(Waited::Failed(error)), _) => Err(error),
        (Err(Waited::Late), Some(held)) => {
            Err(HoldError::StillHeld { within, source: Box::new(held) }.into())
        }
        (Err(Waited::Late), None) => Err(HoldError::NoNode.into()),
    }
}

enum Waited {
    Late,
    Failed(Error),
}

impl From<wait::TimedOut> for Waited {
    fn from(_: wait::TimedOut) -> Self {
        Self::Late
    }
}

/// The nodes that there are, the group first.
fn present(nodes: &VfioNodes) -> impl Iterator<Item = &PathBuf> {
    nodes.group.iter().chain(&nodes.cdev)
}

/// What makes two open handles handles of one node.
#[derive(PartialEq, Eq)]
enum Identity {
    /// A character device, by its number.
    Device(u64),
    /// A plain file of a test tree.
    File(u64, u64),
}

impl Identity {
    fn of(metadata: &fs::Metadata) -> Self {
        if metadata.file_type().is_char_device() {
            Self::Device(metadata.rdev())
        } else {
            Self::File(metadata.dev(), metadata.ino())
        }
    }
}

/// Whether one of the handles in a process's `fd` folder is of a wanted node. The links there lead
/// to the open file itself, whatever its name is by now.
fn holds(fds: &Path, wanted: &[Identity]) -> io::Result<bool> {
    let entries = match fs::read_dir(fds) {
        Ok(entries) => entries,
        Err(error) if ended(&error) => return Ok(false),
        Err(error) => return Err(error),
    };
    for entry in entries {
        let fd = match entry {
            Ok(entry) => entry.path(),
            Err(error) if ended(&error) => continue,
            Err(error) => return Err(error),
        };
        // Sockets, pipes and the like have no path and are no nodes.
        let named = fs::read_link(&fd).map(|link| link.is_absolute());
        let look = |named: bool| named.then(|| fs::metadata(&fd)).transpose();
        let metadata = match named.and_then(look) {
            Ok(Some(metadata)) => metadata,
            Ok(None) => continue,
            Err(error) if ended(&error) || is_no_node(&fd, &error) => continue,
            Err(error) => return Err(error),
        };
        if wanted.contains(&Identity::of(&metadata)) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The process or the handle is gone: ENOENT, or ESRCH from a process that ends while it is read.
fn ended(error: &io::Error) -> bool {
    matches!(error.raw_os_error().map(Errno::from_raw), Some(Errno::ENOENT | Errno::ESRCH))
}

/// Whether an open file that cannot be looked at is no device node all the same. Else any user could
/// keep every device from being proved free.
fn is_no_node(fd: &Path, error: &io::Error) -> bool {
    match error.raw_os_error().map(Errno::from_raw) {
        // A server of a network file system forgot it; nodes of devices are on none.
        Some(Errno::ESTALE) => true,
        // A FUSE mount of a user hides its files from root too (kernel: fuse_allow_current_process), and
        // says what it likes of them; such a mount has `nodev`.
        _ => statfs(fd).is_ok_and(|found| found.filesystem_type() == FUSE_SUPER_MAGIC),
    }
}

/// A trial that failed: on which node, and the kernel's error.
#[derive(Debug, thiserror::Error)]
#[error("{} does not open for one alone", node.display())]
pub(crate) struct Trial {
    node: PathBuf,
    #[source]
    source: io::Error,
}

impl Trial {
    fn into_error(self, lookout: &dyn Lookout, nodes: &VfioNodes) -> Error {
        let Self { node, source } = self;
        match source.raw_os_error().map(Errno::from_raw) {
            // Somebody came between the look into /proc and the trial, or cannot be seen there.
            Some(Errno::EBUSY) => match lookout.holders(nodes) {
                Ok(holders) if holders.is_empty() => HoldError::HeldUnseen { node }.into(),
                Ok(holders) => HoldError::Held { node, holders }.into(),
                Err(error) => error,
            },
            Some(Errno::ENOENT | Errno::ENODEV | Errno::ENXIO) => HoldError::Vanished { node }.into(),
            _ => HoldError::Trial { node, source }.into(),
        }
    }
}

fn try_open(host: &Host, nodes: &VfioNodes) -> Result<(), Trial> {
    let open = |node: &Path| {
        let flags = (OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK).bits();
        File::options().read(true).write(true).custom_flags(flags).open(node)
    };
    let failed = |node: &Path| {
        let node = node.to_owned();
        move |source| Trial { node, source }
    };
    if let Some(group) = &nodes.group {
        return open(group).map(drop).map_err(failed(group));
    }
    let Some(cdev) = &nodes.cdev else { return Ok(()) };
    let device = open(cdev).map_err(failed(cdev))?;
    if !device.metadata().map_err(failed(cdev))?.file_type().is_char_device() {
        return Ok(()); // A test tree's plain file cannot be bound.
    }
    let iommu = host.path("/dev/iommu");
    let iommufd = open(&iommu).map_err(failed(&iommu))?;
    cdev_bind::bind(&device, iommufd.as_fd()).map_err(|source| {
        // A device that is bound through another handle answers EINVAL (vfio_df_open).
        let taken = source.raw_os_error() == Some(Errno::EINVAL as i32);
        let source = if taken { io::Error::from(Errno::EBUSY) } else { source };
        Trial { node: cdev.clone(), source }
    })
}

#[cfg(test)]
mod tests;
