//! `vgpud vfs`: runs NVIDIA's tools for the daemon that started it.

use super::{StartError, vf_process};
use clap::Args;
use rustix::thread::set_no_new_privs;
use std::{
    io,
    os::{fd::AsFd, unix::net::UnixStream},
    path::PathBuf,
};
use vgpud_config::NvidiaSettings;
use vgpud_mdev::Host;

/// Carries out, on its standard input, orders to turn all VFs of a GPU on or off, and to read or change its MIG.
#[derive(Clone, Debug, Args)]
pub struct VfCommand {
    /// NVIDIA's tool that turns VFs on and off
    #[arg(long, value_name = "PATH")]
    sriov_manage: PathBuf,
    /// NVIDIA's tool that tells of MIG and changes it
    #[arg(long, value_name = "PATH")]
    nvidia_smi: PathBuf,
    /// Folder to take for the host's root
    #[arg(long, value_name = "FOLDER")]
    root: Option<PathBuf>,
}

impl VfCommand {
    /// Works until the daemon is gone.
    ///
    /// # Errors
    /// Where nobody takes its answers.
    pub fn run(&self) -> Result<(), StartError> {
        let tools =
            NvidiaSettings { sriov_manage: self.sriov_manage.clone(), nvidia_smi: self.nvidia_smi.clone() };
        let host = self.root.as_ref().map_or_else(Host::default, Host::new).with_nvidia(&tools);
        // Named in lists of processes, whatever name the program was started under.
        nix::sys::prctl::set_name(c"vgpud-vfs").map_err(|errno| StartError::Vfs(errno.into()))?;
        set_no_new_privs(true).map_err(|errno| StartError::Vfs(errno.into()))?;
        let stream = io::stdin().as_fd().try_clone_to_owned().map_err(StartError::Vfs)?;
        vf_process::serve(&host, UnixStream::from(stream)).map_err(StartError::Vfs)
    }
}
