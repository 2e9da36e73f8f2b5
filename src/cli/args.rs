//! The command line as data: nothing here touches the system.

use super::{
    apply::ApplyArgs, create::CreateArgs, destroy::DestroyArgs, doctor::DoctorArgs, events::EventsArgs, exit,
    exit::Exit, extend::ExtendArgs, generate::GenerateArgs, gpus::GpusArgs, history::HistoryArgs,
    layout::LayoutArgs, lease::LeaseArgs, ledger::LedgerArgs, plan::PlanArgs, profiles::ProfilesArgs,
    quarantine::QuarantineArgs, release::ReleaseArgs, run::RunArgs, show::ShowArgs, slices::SlicesArgs,
    status::StatusArgs, verify::VerifyArgs,
};
use clap::{Args, Parser, Subcommand, ValueEnum};
use std::path::PathBuf;

/// Cuts GPUs into slices and hands each one to a micro-VM.
#[derive(Debug, Parser)]
#[command(name = "vgpuctl", version, max_term_width = 100, after_help = exit::HELP)]
pub struct Cli {
    #[command(flatten)]
    pub globals: Globals,
    #[command(subcommand)]
    pub command: Command,
}

/// Options of every command.
#[derive(Clone, Debug, Args)]
pub struct Globals {
    /// Unix socket of vgpud; default: `socket` in the settings, /run/vgpud/vgpud.sock
    #[arg(
        long,
        global = true,
        env = "VGPUD_SOCKET",
        hide_env_values = true,
        value_name = "PATH",
        help_heading = "Global options"
    )]
    pub socket: Option<PathBuf>,
    /// Settings file, read with the drop-ins beside it; default: /etc/vgpud/vgpud.toml
    #[arg(long, global = true, value_name = "FILE", help_heading = "Global options")]
    pub config: Option<PathBuf>,
    /// Root folder of the host to look at
    #[arg(long, global = true, value_name = "DIR", default_value = "/", hide = true)]
    pub root: PathBuf,
    /// Tables for people or JSON for programs
    #[arg(long, global = true, value_enum, default_value_t = OutputFormat::Table, help_heading = "Global options")]
    pub output: OutputFormat,
    /// No progress and no notes on stderr, only errors
    #[arg(short, long, global = true, help_heading = "Global options")]
    pub quiet: bool,
}

/// The form of what a command prints.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum OutputFormat {
    Table,
    Json,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    Gpus(GpusArgs),
    Profiles(ProfilesArgs),
    Create(CreateArgs),
    Slices(SlicesArgs),
    Show(ShowArgs),
    Lease(LeaseArgs),
    Extend(ExtendArgs),
    Release(ReleaseArgs),
    Verify(VerifyArgs),
    Destroy(DestroyArgs),
    Run(RunArgs),
    Plan(PlanArgs),
    Apply(ApplyArgs),
    Layout(LayoutArgs),
    Events(EventsArgs),
    History(HistoryArgs),
    Quarantine(QuarantineArgs),
    Status(StatusArgs),
    Doctor(DoctorArgs),
    Ledger(LedgerArgs),
    #[command(hide = true)]
    Generate(GenerateArgs),
}

impl Command {
    /// The exit of a failure, where it is not a refusal: `run` keeps 1 and 2 for the guest.
    #[must_use]
    pub const fn exit_of_trouble(&self) -> Option<Exit> {
        match self {
            Self::Run(_) => Some(Exit::RunFailed),
            Self::Gpus(_)
            | Self::Profiles(_)
            | Self::Create(_)
            | Self::Slices(_)
            | Self::Show(_)
            | Self::Lease(_)
            | Self::Extend(_)
            | Self::Release(_)
            | Self::Verify(_)
            | Self::Destroy(_)
            | Self::Plan(_)
            | Self::Apply(_)
            | Self::Layout(_)
            | Self::Events(_)
            | Self::History(_)
            | Self::Quarantine(_)
            | Self::Status(_)
            | Self::Doctor(_)
            | Self::Ledger(_)
            | Self::Generate(_) => None,
        }
    }
}
