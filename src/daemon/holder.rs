//! Processes whose end ends a lease.
//!
//! A process is watched by a pidfd (pidfd_open(2)), which is readable when it has ended and can
//! never mean a later process of the same number. Over a restart of the daemon the process is known
//! again by its start time.

use super::{
    message::{Message, Sender},
    readiness,
};
use crate::engine::{Generation, Holder, SliceId};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use std::{io, os::fd::OwnedFd, path::PathBuf};
use tokio::task::AbortHandle;
use vgpud_mdev::Host;

/// A holder and the handle by which it is watched.
#[derive(Debug)]
pub struct Watched {
    pub holder: Holder,
    handle: OwnedFd,
}

/// Why a process cannot be a holder.
#[derive(Debug, thiserror::Error)]
pub enum HolderError {
    #[error(
        "There is no process {pid} that could hold a lease; it has ended, or its number is of another PID namespace"
    )]
    NoSuchProcess { pid: u32 },
    #[error("Cannot watch process {pid}")]
    Watch {
        pid: u32,
        #[source]
        source: io::Error,
    },
    #[error("Cannot tell when process {pid} started, from {}", path.display())]
    StartTime { pid: u32, path: PathBuf },
}

impl Watched {
    /// Takes hold of a running process.
    ///
    /// # Errors
    /// Where there is no such process or it cannot be watched.
    pub fn open(host: &Host, pid: u32) -> Result<Self, HolderError> {
        let number = i32::try_from(pid).ok().and_then(Pid::from_raw);
        let number = number.ok_or(HolderError::NoSuchProcess { pid })?;
        let handle = pidfd_open(number, PidfdFlags::NONBLOCK).map_err(|errno| match errno {
            rustix::io::Errno::SRCH | rustix::io::Errno::INVAL => HolderError::NoSuchProcess { pid },
            errno => HolderError::Watch { pid, source: errno.into() },
        })?;
        // Read after the handle is there: were the number reused in between, the handle would be
        // of the process that is read.
        let started = started(host, pid)?;
        Ok(Self { holder: Holder { pid, started }, handle })
    }

    /// The same process as before, or none if it has ended.
    ///
    /// # Errors
    /// Where it is there and cannot be watched.
    pub fn reopen(host: &Host, holder: Holder) -> Result<Option<Self>, HolderError> {
        match Self::open(host, holder.pid) {
            Ok(watched) if watched.holder == holder => Ok(Some(watched)),
            Ok(_) | Err(HolderError::NoSuchProcess { .. } | HolderError::StartTime { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Tells the core when the process ends.
    ///
    /// # Errors
    /// Where the runtime cannot wait for the handle.
    pub fn watch(
        self,
        slice: SliceId,
        generation: Generation,
        core: Sender,
    ) -> Result<AbortHandle, HolderError> {
        let pid = self.holder.pid;
        let handle = readiness::readable(self.handle).map_err(|source| HolderError::Watch { pid, source })?;
        let task = tokio::spawn(async move {
            match handle.readable().await {
                Ok(_) => {
                    // Nobody to tell: the daemon stops, and looks again when it starts.
                    let _ = core.send(Message::HolderEnded { slice, generation });
                }
                Err(error) => tracing::error!(%slice, pid, %error, "cannot wait for the holder's end"),
            }
        });
        Ok(task.abort_handle())
    }
}

/// Field 22 of `/proc/PID/stat` (proc_pid_stat(5)): ticks after boot. The program's name, field 2,
/// may hold spaces and parentheses.
fn started(host: &Host, pid: u32) -> Result<u64, HolderError> {
    let path = host.path(format!("/proc/{pid}/stat"));
    let stat = std::fs::read(&path).unwrap_or_default();
    start_time(&stat).ok_or(HolderError::StartTime { pid, path })
}

pub(crate) fn start_time(stat: &[u8]) -> Option<u64> {
    // The name may also be no UTF-8.
    let text = String::from_utf8_lossy(stat);
    let (_, rest) = text.rsplit_once(')')?;
    rest.split_whitespace().nth(19)?.parse().ok()
}
