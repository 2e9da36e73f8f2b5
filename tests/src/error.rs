//! What can go wrong with the lab.

use std::io;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::time::Duration;

/// Each message is one sentence; the cause, where there is one, is the error's source.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    #[error("could not {action} {}", path.display())]
    File { action: &'static str, path: PathBuf, source: io::Error },
    #[error("could not start {program}, needed for {step}")]
    Spawn { program: String, step: String, source: io::Error },
    #[error("{step} failed ({status}); its output is in {}:\n{tail}", log.display())]
    Step { step: String, status: ExitStatus, log: PathBuf, tail: String },
    #[error("gave up after {} s waiting for {what}{}", limit.as_secs(), quote(tail))]
    Deadline {
        what: String,
        limit: Duration,
        /// The last lines that may explain it; empty where there are none.
        tail: String,
    },
    #[error("setting up the lab needs root: mounts, chroot and device nodes are made; run it with sudo")]
    NotRoot,
    #[error("setting up the lab needs Debian or a system that installs with apt-get; {missing} is not there")]
    NotDebian { missing: &'static str },
    #[error(
        "no apt source of this machine serves Debian's main archive; looked at {looked_at}; add one, as Debian's installer does"
    )]
    NoArchive { looked_at: String },
    #[error("no home for the cache: set XDG_CACHE_HOME or HOME")]
    NoHome,
    #[error("the lab host went down while {doing}; its console is in {}:\n{tail}", console.display())]
    HostDown { doing: String, console: PathBuf, tail: String },
    #[error("the lab host came up without what was asked ({trouble}); its console is in {}:\n{tail}", console.display())]
    HostTrouble { trouble: String, console: PathBuf, tail: String },
    #[error("'{command}' ended with {code} in the lab host\nstdout: {stdout}\nstderr: {stderr}")]
    Job { command: String, code: i32, stdout: String, stderr: String },
    #[error("the agent in the lab host answered '{line}', which is no answer of its protocol")]
    Protocol { line: String },
}

fn quote(tail: &str) -> String {
    if tail.is_empty() { String::new() } else { format!(":\n{tail}") }
}

pub type Result<T> = std::result::Result<T, Error>;

/// Adds the path and the action to an I/O error.
pub(crate) trait At<T> {
    fn at(self, action: &'static str, path: impl Into<PathBuf>) -> Result<T>;
}

impl<T> At<T> for io::Result<T> {
    fn at(self, action: &'static str, path: impl Into<PathBuf>) -> Result<T> {
        self.map_err(|source| Error::File { action, path: path.into(), source })
    }
}
