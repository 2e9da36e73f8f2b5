//! Why the daemon does not start, or ends.

use super::{folder, sandbox::SandboxError};
use crate::ledger;
use std::{io, path::PathBuf};
use vgpud_config::SettingsError;
use vgpud_mdev as mdev;

/// Each names what was wrong and the way out.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("vgpud must run as root, for it changes devices; use sudo, or systemctl start vgpud")]
    NotRoot,
    #[error(transparent)]
    Settings(#[from] SettingsError),
    #[error("The CDI settings cannot be used")]
    Cdi(#[source] vgpud_kata::cdi::Error),
    #[error("Another vgpud runs already on {}: process {pid}; stop it first, or give this one its own --state-dir and --socket", path.display())]
    AlreadyRunning { path: PathBuf, pid: String },
    #[error("Cannot lock {}; vgpud writes to its state folder: make room there and make it writable, or set another state_dir under [daemon]", path.display())]
    Lock {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("Cannot use the lock {}: {why}; remove it when no vgpud runs, and start again", path.display())]
    PlantedLock { path: PathBuf, why: &'static str },
    #[error("Cannot look at the folder {}; see what stands in the way, or set another under [daemon]", path.display())]
    Folder {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("{} is not safe for vgpud's {of}: {why}; {}", path.display(), of.way_out())]
    OpenFolder { path: PathBuf, of: folder::Use, why: String },
    #[error(transparent)]
    Ledger(#[from] ledger::Error),
    #[error("Cannot read which GPUs this host has")]
    Inventory(#[source] mdev::Error),
    #[error("Cannot tell in which folder the settings {} are; give their whole path with --config", path.display())]
    SettingsPath {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("Cannot serve at {}; make its folder writable for root, or set another socket under [daemon]", path.display())]
    Socket {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("{} is there and no socket; remove it, or set another socket under [daemon]", path.display())]
    NotASocket { path: PathBuf },
    #[error("Something serves at {} already, without the lock of this state folder; end it, or give another --socket", path.display())]
    SocketTaken { path: PathBuf },
    #[error(
        "Cannot give up the rights that vgpud does not need; mend it, or set sandbox = \"off\" under [daemon]"
    )]
    Sandbox(#[source] SandboxError),
    #[error("Nobody takes the report of the work on a device")]
    Device(#[source] io::Error),
    #[error("The process that looks for holders of devices does not work")]
    Lookout(#[source] io::Error),
    #[error("The process that turns the VFs of NVIDIA's GPUs on and off does not work")]
    Vfs(#[source] io::Error),
    #[error(
        "The process vgpud-lookout has ended, without which nothing is proved free; vgpud ends with it and has to be started again, which systemd does by itself"
    )]
    LookoutEnded,
    #[error("Cannot set up the daemon's tasks")]
    Runtime(#[source] io::Error),
    #[error("The API server broke down")]
    Server(#[source] tonic::transport::Error),
    #[error("The daemon's core broke down; its log says why")]
    Core,
}
