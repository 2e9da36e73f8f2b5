//! `vgpuctl run SLICE … [-- COMMAND]`: a micro-VM that owns the slice, from lease to release.
//!
//! ```text
//! plan (options, settings) -> lease -> QEMU -> its end -> release -> what happened
//! ```
//!
//! The lease names this process as its holder, so that vgpud takes the slice back even where
//! vgpuctl is killed; QEMU is asked to end when vgpuctl dies. On every other path vgpuctl itself
//! ends the micro-VM first and releases the lease then. A lease that `--owner` had before is used
//! and kept. When the time of its lease is up, vgpuctl ends the micro-VM politely.

mod console;
mod ending;
mod error;
mod guest;
mod lease;
mod limit;
mod plan;
mod signals;

pub use error::RunError;

use super::{
    error::{Error, tell},
    exit::Exit,
    lease_time::LeaseTime,
    session::Session,
};
use clap::{Args, ValueEnum};
use ending::{Ended, Ending};
use lease::Held;
use plan::Plan;
use signals::Signals;
use std::path::PathBuf;
use vgpud_config::{Memory, NodeKind, Owner};

/// Start a micro-VM that owns a slice, show its console, take the slice back when it ends
///
/// The slice is leased, QEMU runs with the slice's VFIO node, and the guest's console goes to stdout.
/// COMMAND reaches the guest's init as its arguments; init runs it and powers off.
/// SIGINT and SIGTERM end the micro-VM politely.
#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub struct RunArgs {
    /// The slice, ready or leased to --owner
    slice: String,
    /// The guest's kernel; default: `kernel` under [run] in the settings
    #[arg(long, value_name = "FILE")]
    kernel: Option<PathBuf>,
    /// The guest's initrd; default: `initrd` under [run] in the settings
    #[arg(long, value_name = "FILE")]
    initrd: Option<PathBuf>,
    /// More parameters for the guest's kernel
    #[arg(
        long,
        value_name = "PARAMETERS",
        default_value = "",
        hide_default_value = true,
        allow_hyphen_values = true
    )]
    append: String,
    /// The guest's memory, such as 2GiB; default: `memory` under [run], 512MiB
    #[arg(long)]
    memory: Option<Memory>,
    /// QEMU's program; default: `qemu` under [run], qemu-system-x86_64
    #[arg(long, value_name = "PROGRAM")]
    qemu: Option<PathBuf>,
    /// The board: q35 for guest drivers that insist on a PC
    #[arg(long, value_enum, default_value_t = MachineArg::Microvm)]
    machine: MachineArg,
    /// Who executes the guest; tcg is slow and no boundary between tenants
    #[arg(long, value_enum, default_value_t = AcceleratorArg::Kvm)]
    accelerator: AcceleratorArg,
    /// The VFIO node to use; default: the one that vgpud hands over
    #[arg(long, value_enum)]
    node: Option<NodeArg>,
    /// Lease the slice as this owner, or use the lease that it has; default: vgpuctl-run@PID
    #[arg(long)]
    owner: Option<Owner>,
    /// End the micro-VM and the lease after this time, such as 2h or 90min; a lease that --owner has
    /// keeps its own
    #[arg(long = "for", value_name = "TIME")]
    time: Option<LeaseTime>,
    /// Connect stdin to the guest's console
    #[arg(short, long)]
    interactive: bool,
    /// A command for the guest
    #[arg(last = true, value_name = "COMMAND")]
    command: Vec<String>,
}

const HELP: &str = "\
Exit codes:
  0-127   the guest command's own code (127 for every higher one); 0 where the guest powered off
  124     the time of the lease was up, and vgpuctl made the micro-VM end
  125     vgpuctl failed: no such slice, refused, QEMU or the guest's kernel gave up, the slice
          could not be taken back
  128+N   signal N ended the micro-VM, or made vgpuctl end it
  2       also a wrong command line; then nothing was done

Example:
  vgpuctl run s17 --kernel vmlinuz --initrd guest.img --memory 2GiB -- /bin/check --all";

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum MachineArg {
    Microvm,
    Q35,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum AcceleratorArg {
    Kvm,
    Tcg,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum NodeArg {
    Auto,
    Group,
    Cdev,
}

impl From<NodeArg> for NodeKind {
    fn from(node: NodeArg) -> Self {
        match node {
            NodeArg::Auto => Self::Auto,
            NodeArg::Group => Self::Group,
            NodeArg::Cdev => Self::Cdev,
        }
    }
}

/// Runs it.
///
/// # Errors
/// Where the micro-VM could not run or the slice could not be taken back.
pub async fn execute(session: &Session, args: &RunArgs) -> Result<Exit, Error> {
    let plan = Plan::new(args, &session.settings()?.run)?;
    let client = session.connect().await?;
    // From here on a signal must not end this process before the slice is back.
    let mut signals = Signals::new()?;
    let held = Held::take(session, &client, &plan).await?;
    let ended = match signals.pending() {
        Some(signal) => Ok(Ended::before_start(signal)),
        None => guest::run(session, &plan, held.slice(), &mut signals).await,
    };
    if let Ok(ended) = &ended {
        session.note(&format!("{}: {}", plan.slice, ended.sentence()));
    }
    let returned = held.give_back(session).await;
    match (ended, returned) {
        (Ok(ended), Ok(returned)) => {
            let exit = ended.exit();
            ending::tell(&Ending::new(&plan, &ended, returned), session.format());
            ended.into_result().map(|()| exit)
        }
        (Ok(_), Err(failure)) => Err(failure),
        (Err(failure), Ok(_)) => Err(failure),
        (Err(failure), Err(also)) => {
            tell(&also.to_report(Some(Exit::RunFailed)), session.format());
            Err(failure)
        }
    }
}
