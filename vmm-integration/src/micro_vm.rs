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

mod check;
mod console;
mod error;
pub(crate) mod kernel_line;
mod life;
mod outcome;

pub(crate) use check::find_program;
pub use error::VmError;
pub use kernel_line::KernelLine;
pub use life::RunningVm;
pub use outcome::Outcome;

/// How a VM ended, told from all that its QEMU left behind.
#[cfg(feature = "fuzzing")]
pub(crate) fn outcome_of(status: std::process::ExitStatus, stderr: &[u8], console: &[u8]) -> Outcome {
    let panic = console::watch(console, |_| {});
    Outcome::judge(status, &console::collect(stderr), panic, outcome::StopAsked::No)
}

use crate::node::Node;
use std::{
    ffi::{OsStr, OsString},
    os::unix::ffi::{OsStrExt, OsStringExt},
    path::PathBuf,
};
use uuid::Uuid;
use vgpud_mdev::{Memory, PciAddress};

/// Where the guest reports the exit code of its command, one byte.
pub const EXIT_PORT: u16 = 0x501;

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
/// slower and is no boundary between tenants. It plays a [`Machine::Q35`] whatever is asked for.
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
    /// QEMU's arguments, its program first.
    ///
    /// A PCI function is named by address (`host=`), which QEMU documents first and shows in its
    /// messages; a mediated device has none and is named by its folder (`sysfsdev=`). With a cdev,
    /// QEMU finds the node by itself from either, once an iommufd is given.
    #[must_use]
    pub fn command_line(&self) -> Vec<OsString> {
        let mut line = Line(vec![self.qemu.clone().into()]);
        let board = self.board();
        let machine = match (board, self.accelerator) {
            // KVM tells its guests the time and has a timer for them (kvm-clock, TSC deadline). The PIT, which they
            // need without that, would wake QEMU some 36 times a second (QEMU, docs/system/i386/microvm.rst).
            (Machine::MicroVm, Accelerator::Kvm) => "microvm,pcie=on,acpi=on,rtc=on,pit=off",
            (Machine::MicroVm, Accelerator::Tcg) => "microvm,pcie=on,acpi=on,rtc=on",
            (Machine::Q35, _) => "q35",
        };
        let (accelerator, processor) = match self.accelerator {
            Accelerator::Kvm => ("kvm", "host"),
            Accelerator::Tcg => ("tcg", "max"),
        };
        line.add("-name", escaped(&self.name)).add("-uuid", self.uuid.to_string());
        line.add("-machine", machine).add("-accel", accelerator).add("-cpu", processor);
        line.add("-m", size(self.memory));
        line.flag("-no-user-config").flag("-nodefaults").flag("-no-reboot").add("-display", "none");
        // What libvirt denies: a guest that breaks into QEMU starts no programs from there.
        line.add("-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny");
        let signals = match self.input {
            ConsoleInput::Closed => "off",
            ConsoleInput::Inherited => "on",
        };
        line.add("-chardev", format!("stdio,id=console,signal={signals}")).add("-serial", "chardev:console");
        line.add("-kernel", &self.kernel);
        if let Some(initrd) = &self.initrd {
            line.add("-initrd", initrd);
        }
        line.add("-append", self.kernel_line.to_string());
        line.add("-device", format!("isa-debug-exit,iobase={EXIT_PORT:#x},iosize=0x1"));
        let mut device = OsString::from("vfio-pci,id=slice,");
        match self.device.address {
            Some(address) => device.push(format!("host={address}")),
            None => {
                device.push("sysfsdev=");
                device.push(escaped(&self.device.sysfs));
            }
        }
        if let Node::Cdev(_) = self.device.node {
            line.add("-object", "iommufd,id=iommufd0");
            device.push(",iommufd=iommufd0");
        }
        if board == Machine::Q35 {
            line.add("-device", "pcie-root-port,id=slice-port,bus=pcie.0,chassis=1,slot=1");
            device.push(",bus=slice-port");
        }
        line.add("-device", device);
        line.0
    }
}

impl MicroVm {
    /// Under software emulation always a PC: `microvm` has no clock beside PIT and TSC, and a kernel
    /// that cannot measure one by the other on a busy machine hangs at boot. KVM tells its guest.
    fn board(&self) -> Machine {
        match self.accelerator {
            Accelerator::Kvm => self.machine,
            Accelerator::Tcg => Machine::Q35,
        }
    }
}

/// Arguments in the making.
struct Line(Vec<OsString>);

impl Line {
    fn flag(&mut self, flag: &str) -> &mut Self {
        self.0.push(flag.into());
        self
    }

    fn add(&mut self, option: &str, value: impl Into<OsString>) -> &mut Self {
        self.flag(option).0.push(value.into());
        self
    }
}

/// A value among QEMU's comma-separated ones: a comma is written twice.
fn escaped(value: impl AsRef<OsStr>) -> OsString {
    let bytes = value.as_ref().as_bytes();
    let commas = |byte: &u8| if *byte == b',' { vec![b',', b','] } else { vec![*byte] };
    OsString::from_vec(bytes.iter().flat_map(commas).collect())
}

/// In QEMU's units, rounded up to a KiB.
fn size(memory: Memory) -> String {
    let bytes = memory.bytes();
    if bytes.is_multiple_of(1 << 20) {
        format!("{}M", bytes >> 20)
    } else {
        format!("{}K", bytes.div_ceil(1 << 10))
    }
}

#[cfg(test)]
mod tests;
