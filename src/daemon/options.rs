//! The daemon's command line.

use clap::{Parser, ValueEnum};
use std::path::PathBuf;

/// Cuts GPUs into slices and hands each one to a micro-VM through VFIO.
#[derive(Clone, Debug, Parser)]
#[command(name = "vgpud", version, about)]
pub struct Options {
    /// Settings file; drop-ins are read from the folder of the same name with `.d` behind it
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Folder to take for the host's root (for tests: needs no root rights)
    #[arg(long, value_name = "FOLDER")]
    pub root: Option<PathBuf>,
    /// Unix socket of the API, instead of the settings' own
    #[arg(long, value_name = "PATH")]
    pub socket: Option<PathBuf>,
    /// Folder of the ledger, instead of the settings' own
    #[arg(long, value_name = "FOLDER")]
    pub state_dir: Option<PathBuf>,
    /// Form of the log on standard error; what is logged follows VGPUD_LOG, such as `debug`
    #[arg(long, value_enum, default_value_t = LogFormat::Text)]
    pub log: LogFormat,
    /// Only checks the settings, and says what is wrong with them
    #[arg(long)]
    pub check_config: bool,
}

/// Form of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people and the journal
    Text,
    /// One JSON object a line
    Json,
}

/// Where the settings are by default.
pub const CONFIG: &str = "/etc/vgpud/vgpud.toml";
