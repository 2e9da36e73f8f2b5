//! What stands around a vgpud whose sandbox is tried.

use super::Ground;
use crate::error::{At, Result};
use std::{
    fs,
    os::{
        linux::net::SocketAddrExt,
        unix::net::{SocketAddr, UnixListener},
    },
    path::{Path, PathBuf},
    process::{Child, Command},
};

/// A process that is none of vgpud's, an abstract socket that somebody else listens at, and a folder
/// that vgpud has no business in.
#[derive(Debug)]
pub struct Scene {
    bystander: Child,
    _listening: UnixListener,
    listener: Vec<u8>,
    outside: PathBuf,
}

const SECRET: &str = "precious";

impl Scene {
    /// Sets it up below a folder.
    ///
    /// # Errors
    /// Where the system does not let it.
    pub fn set(folder: &Path) -> Result<Self> {
        let outside = folder.join("outside");
        fs::create_dir(&outside).at("make", &outside)?;
        fs::write(outside.join("secret"), SECRET).at("write", &outside)?;
        let listener = format!("vgpud-test-{}-{}", std::process::id(), folder.display()).into_bytes();
        let listening = SocketAddr::from_abstract_name(&listener)
            .and_then(|address| UnixListener::bind_addr(&address))
            .at("listen at", "an abstract socket")?;
        let bystander = Command::new("sleep").arg("3600").spawn().at("start", "sleep")?;
        Ok(Self { bystander, _listening: listening, listener, outside })
    }

    /// For a vgpud with this state folder, on a kernel with this ABI of Landlock (0: none).
    #[must_use]
    pub fn ground(&self, state: &Path, landlock: i32) -> Ground {
        Ground {
            outside: self.outside.clone(),
            state: state.to_owned(),
            bystander: self.bystander.id(),
            listener: self.listener.clone(),
            landlock,
            unix_socket: None,
        }
    }

    /// What is no longer as it was set up.
    ///
    /// # Errors
    /// Where it cannot be looked at.
    pub fn harm(&mut self) -> Result<Vec<String>> {
        let mut harm = Vec::new();
        if let Some(status) = self.bystander.try_wait().at("wait for", "sleep")? {
            harm.push(format!("another process was ended: {status}"));
        }
        let names: Vec<_> = fs::read_dir(&self.outside)
            .at("read", &self.outside)?
            .filter_map(|entry| Some(entry.ok()?.file_name()))
            .collect();
        if names != ["secret"] {
            harm.push(format!("a folder outside has now {names:?}"));
        }
        if !fs::read(self.outside.join("secret")).is_ok_and(|bytes| bytes == SECRET.as_bytes()) {
            harm.push("a file outside was written".to_owned());
        }
        Ok(harm)
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        // It may have been ended by what was tried.
        let _ = self.bystander.kill();
        let _ = self.bystander.wait();
    }
}

/// A line of `/proc/PID/status`, proc_pid_status(5).
///
/// # Errors
/// Where the process is gone.
pub fn status(process: u32, key: &str) -> Result<String> {
    let path = PathBuf::from(format!("/proc/{process}/status"));
    let text = fs::read_to_string(&path).at("read", &path)?;
    let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(":\t"));
    Ok(line.unwrap_or_default().to_owned())
}

/// Where a process or thread has more than these capabilities, could have more than `bounding` after an
/// exec, or is not under seccomp.
///
/// # Errors
/// Where it is gone.
pub fn excess(process: u32, capabilities: u64, bounding: u64) -> Result<Vec<String>> {
    let mut excess = Vec::new();
    let wanted = [("NoNewPrivs", "1"), ("Seccomp", "2")];
    for (key, wanted) in wanted {
        let found = status(process, key)?;
        if found != wanted {
            excess.push(format!("{key} of {process} is {found} and not {wanted}"));
        }
    }
    let sets = [("CapEff", capabilities), ("CapPrm", capabilities), ("CapBnd", bounding)];
    for (key, allowed) in sets.into_iter().chain([("CapInh", 0), ("CapAmb", 0)]) {
        let found = status(process, key)?;
        if u64::from_str_radix(&found, 16).is_ok_and(|found| found & !allowed == 0) {
            continue;
        }
        excess.push(format!("{key} of {process} is {found}"));
    }
    Ok(excess)
}

/// The child of a process's first thread that has this name (`/proc/PID/comm`).
#[must_use]
pub fn child(process: u32, name: &str) -> Option<u32> {
    let threads = super::threads(process).ok()?;
    let children = threads
        .into_iter()
        .filter_map(|thread| fs::read_to_string(format!("/proc/{process}/task/{thread}/children")).ok());
    let pids: Vec<u32> = children
        .flat_map(|pids| pids.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
        .filter_map(|pid| pid.parse().ok())
        .collect();
    let named =
        |pid: &u32| fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|comm| comm.trim_end() == name);
    pids.into_iter().find(named)
}

/// Landlock's ABI in what `vgpuctl status` says of the sandbox.
#[must_use]
pub fn landlock(said: &str) -> Option<i32> {
    said.strip_prefix("landlock ABI ")?.split(',').next()?.parse().ok()
}
