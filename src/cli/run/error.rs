//! Why `run` fails.

use crate::cli::{error::Error, exit::Exit};
use std::io;

/// Why a micro-VM did not run, or its slice is not back.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    #[error("No kernel for the guest; give --kernel FILE, or set kernel under [run] in the settings")]
    NoKernel,
    #[error("Cannot listen for signals")]
    Signals(#[source] io::Error),
    #[error(
        "vgpud said nothing of the {what} of slice {slice}; look at `vgpuctl show {slice}` and vgpud's log"
    )]
    Untold { slice: String, what: &'static str },
    #[error("{name:?} of slice {slice} cannot be read: vgpud may be of another version")]
    Unreadable { slice: String, name: String },
    #[error("The micro-VM for slice {slice} did not run")]
    MicroVm {
        slice: String,
        #[source]
        source: vgpud_vmm::Error,
    },
    #[error("The thread that looks after QEMU ended early")]
    Thread(#[source] tokio::task::JoinError),
    #[error("QEMU ended with code {code}{}", words(stderr))]
    Qemu { code: i32, stderr: String },
    #[error("The guest's kernel panicked: {line}")]
    Panic { line: String },
    #[error("Slice {slice} is not back{holders}; see `vgpuctl show {slice}`")]
    NotBack {
        slice: String,
        holders: String,
        #[source]
        source: Box<Error>,
    },
}

fn words(stderr: &str) -> String {
    let stderr = stderr.trim();
    if stderr.is_empty() { " and said nothing".to_owned() } else { format!(" and said: {stderr}") }
}

impl RunError {
    /// Whatever fails in `run` is no answer of the guest.
    #[must_use]
    pub const fn exit(&self) -> Exit {
        Exit::RunFailed
    }

    /// A stable word for programs.
    #[must_use]
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::NoKernel => "NO_KERNEL",
            Self::Signals(_) | Self::Thread(_) => "RUNTIME",
            Self::Untold { .. } | Self::Unreadable { .. } => "INCOMPLETE_ANSWER",
            Self::MicroVm { .. } => "MICRO_VM",
            Self::Qemu { .. } => "QEMU",
            Self::Panic { .. } => "GUEST_PANIC",
            Self::NotBack { .. } => "NOT_TAKEN_BACK",
        }
    }
}
