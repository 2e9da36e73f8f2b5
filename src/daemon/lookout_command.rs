//! `vgpud lookout`: sees what the daemon that started it may not.

use super::{StartError, sandbox};
use clap::Args;
use std::{
    io,
    os::{fd::AsFd, unix::net::UnixStream},
    path::PathBuf,
};
use vgpud_mdev::Host;
use vgpud_vmm::lookout;

/// Answers, on its standard input, which processes hold a device and what is in its config space.
#[derive(Clone, Debug, Args)]
pub struct LookoutCommand {
    /// Folder to take for the host's root
    #[arg(long, value_name = "FOLDER")]
    root: Option<PathBuf>,
}

impl LookoutCommand {
    /// Answers until the daemon is gone.
    ///
    /// # Errors
    /// Where it cannot confine itself or nobody takes its answers.
    pub fn run(&self) -> Result<(), StartError> {
        let host = self.root.as_ref().map_or_else(Host::default, Host::new);
        // Named in lists of processes, whatever name the program was started under.
        nix::sys::prctl::set_name(c"vgpud-lookout").map_err(|errno| StartError::Lookout(errno.into()))?;
        let stream = io::stdin().as_fd().try_clone_to_owned().map_err(StartError::Lookout)?;
        sandbox::enter(sandbox::Process::Lookout).map_err(StartError::Sandbox)?;
        lookout::serve(&host, UnixStream::from(stream)).map_err(StartError::Lookout)
    }
}
