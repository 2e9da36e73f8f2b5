//! A micro-VM that owns one slice: QEMU's command line and its life.
//!
//! ```text
//! MicroVm --check--> host is ready --spawn--> RunningVm --wait/stop--> Outcome
//! ```
//!
//! What the guest is told and how it answers:
//!
//! - The guest's command stands after `--` on the kernel's command line, so the kernel hands it to
//!   the guest's init as its arguments.
//! - Init runs it and powers off. Exit code 0 is a plain power-off; 1 to 127 is written as one byte
//!   to I/O port 0x501 (QEMU's isa-debug-exit, which ends QEMU with `code << 1 | 1`); higher codes
//!   do not fit, init sends 127 for them.

mod error;
mod kernel_line;
mod life;

pub use error::VmError;
pub use kernel_line::KernelLine;
pub use life::{Outcome, RunningVm};

use crate::{Error, node::Node};
use std::path::PathBuf;
use uuid::Uuid;
use vgpud_mdev::{Host, Memory, PciAddress};

/// The board that QEMU plays.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Machine {
    /// QEMU's `microvm` with PCIe: starts fastest, one bus without hot-plug.
    #[default]
    MicroVm,
    /// `q35`, the slice behind a PCIe root port of its own: for GPUs whose guest driver insists on
    /// a PC with PCIe links.
    Q35,
}

/// Who executes the guest. Software emulation is never chosen silently: it is some ten times
/// slower and is no boundary between tenants.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Accelerator {
    #[default]
    Kvm,
    Tcg,
}

/// What the guest's console reads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ConsoleInput {
    /// Nothing; QEMU gets a process group of its own, so that a terminal's Ctrl-C reaches the
    /// caller only.
    #[default]
    Closed,
    /// The caller's standard input.
    Inherited,
}

/// The device that the micro-VM owns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostDevice {
    /// A VF's address; none for a mediated device.
    pub address: Option<PciAddress>,
    /// Its folder in sysfs.
    pub sysfs: PathBuf,
    /// The node through which it is opened.
    pub node: Node,
}

/// A micro-VM to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MicroVm {
    /// Shown in process lists (`-name`): the slice's id.
    pub name: String,
    /// NVIDIA's vGPU manager reads it from QEMU's command line; stable per VM. For a mediated
    /// device, its own UUID.
    pub uuid: Uuid,
    /// QEMU's program, looked up in PATH where it has no slash.
    pub qemu: PathBuf,
    pub machine: Machine,
    pub accelerator: Accelerator,
    pub memory: Memory,
    pub kernel: PathBuf,
    pub initrd: Option<PathBuf>,
    pub kernel_line: KernelLine,
    pub device: HostDevice,
    pub input: ConsoleInput,
}

impl MicroVm {
    /// Whether this host can run it: QEMU, KVM, kernel, initrd, the nodes and the memory lock limit.
    ///
    /// # Errors
    /// [`VmError`] with what is missing and how to get it.
    pub fn check(&self, _host: &Host) -> Result<(), Error> {
        todo!()
    }

    /// QEMU's arguments, its program first.
    #[must_use]
    pub fn command_line(&self) -> Vec<std::ffi::OsString> {
        todo!()
    }

    /// Checks, then starts QEMU. `console` gets every piece of the guest's serial console as it
    /// comes, on a thread of its own. QEMU is asked to end when this process dies.
    ///
    /// # Errors
    /// Those of [`Self::check`], and where QEMU cannot be started.
    pub fn spawn(
        &self,
        _host: &Host,
        _console: impl FnMut(&[u8]) + Send + 'static,
    ) -> Result<RunningVm, Error> {
        todo!()
    }
}
