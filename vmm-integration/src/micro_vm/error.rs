//! Why a micro-VM cannot run.

use std::{io, path::PathBuf};
use vgpud_config::Quoted;
use vgpud_mdev::Memory;

/// Why a micro-VM cannot be started or stopped.
#[derive(Debug, thiserror::Error)]
pub enum VmError {
    #[error("There is no program {}; install QEMU (Debian: apt install qemu-system-x86) or set qemu under [run]", program.display())]
    NoQemu { program: PathBuf },
    #[error("{} cannot be opened, so there is no KVM; {hint}", path.display())]
    NoKvm {
        path: PathBuf,
        hint: &'static str,
        #[source]
        source: io::Error,
    },
    #[error("Cannot read the guest's {what} {}", path.display())]
    GuestFile {
        what: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("Cannot open {} for the micro-VM; {hint}", path.display())]
    Node {
        path: PathBuf,
        hint: &'static str,
        #[source]
        source: io::Error,
    },
    #[error(
        "The device pins the guest's {memory}, and this process may lock {limit} only; raise its memory lock limit (systemd: LimitMEMLOCK=infinity, shell: ulimit -l)"
    )]
    MemoryLock { memory: Memory, limit: Memory },
    #[error("The guest's command cannot hold {}: {why}", Quoted(argument))]
    Argument { argument: String, why: &'static str },
    #[error("The kernel's parameters cannot be {}: {why}", Quoted(parameters))]
    Parameters { parameters: String, why: &'static str },
    #[error(
        "The kernel command line is {length} bytes long, and the kernel reads 2047; shorten the command or put it into the initrd"
    )]
    TooLong { length: usize },
    #[error("Cannot start {}", program.display())]
    Start {
        program: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("Cannot wait for QEMU, process {pid}")]
    Wait {
        pid: u32,
        #[source]
        source: io::Error,
    },
    #[error(
        "QEMU, process {pid}, did not end {seconds} s after SIGKILL; the kernel keeps it, see its stack in /proc/{pid}/stack"
    )]
    Undying { pid: u32, seconds: u64 },
}
