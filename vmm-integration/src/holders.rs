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
//! - So both are asked: `/proc` for handles of either node, then the group node. On a kernel
//!   without group nodes (`CONFIG_VFIO_GROUP` off) the trial is a real bind to a fresh iommufd,
//!   which opens the device and makes vfio-pci reset it: only ever done on a device whose lease
//!   has ended, and which is reset next anyway.

use crate::Error;
use std::{fmt, io, path::PathBuf, time::Duration};
use vgpud_mdev::{Host, VfioNodes};

/// A process that holds a node open.
#[derive(Clone, Debug, PartialEq, Eq)]
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

/// The processes that hold one of `nodes` open, from `/proc/*/fd`, in order of pid. A node is known
/// by its device number, so a handle opened under another name or in a container counts.
///
/// # Errors
/// Where /proc cannot be read: a process that may not be looked into is an error, since it could be
/// a holder. A process that ends meanwhile is left out.
pub fn holders(_host: &Host, _nodes: &VfioNodes) -> Result<Vec<Holder>, Error> {
    todo!()
}

/// Proves that nobody holds the device, as the module's description says.
///
/// # Errors
/// [`HoldError`] naming the holders.
pub fn prove_free(_host: &Host, _nodes: &VfioNodes) -> Result<(), Error> {
    todo!()
}

/// Waits until nobody holds the device (a VMM's exit and the release of its devices are not one
/// moment).
///
/// # Errors
/// [`HoldError::StillHeld`] after `within`, its source naming the holders; other failures at once.
pub fn wait_free(_host: &Host, _nodes: &VfioNodes, _within: Duration) -> Result<(), Error> {
    todo!()
}
