//! Runs one program of the set-up: output into a log, a deadline, and nothing outlives the harness.
//!
//! Odd but meant: every program is started through `setpriv --pdeathsig KILL` (it dies with the
//! thread that waits for it, however the harness ends) and `unshare --mount --pid --kill-child` (so
//! do all of its descendants, and its mounts vanish with it). Both are in util-linux, which Debian
//! always has. That needs root.

use std::fs::File;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use crate::error::{At, Error, Result};
use crate::log_file;
use crate::wait::poll;

/// `program`, made to die with the harness.
pub(crate) fn tied(program: impl AsRef<std::ffi::OsStr>) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "--"]).arg(program);
    command
}

/// `program` in mount and PID namespaces of its own.
pub(crate) fn contained(program: &str) -> Command {
    let mut command = tied("unshare");
    command
        .args(["--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "--"])
        .arg(program)
        .env("LC_ALL", "C");
    command
}

/// Runs `command` for `step` to its end, its output in `log`.
///
/// # Errors
/// It could not be started, ended with a failure, or did not end within `limit`; then it is killed.
pub(crate) fn run(command: &mut Command, step: &str, log: &Path, limit: Duration) -> Result<()> {
    let output = File::create(log).at("create", log)?;
    let errors = output.try_clone().at("open twice", log)?;
    let mut child = command.stdin(Stdio::null()).stdout(output).stderr(errors).spawn().map_err(|source| {
        Error::Spawn {
            program: command.get_program().to_string_lossy().into_owned(),
            step: step.to_owned(),
            source,
        }
    })?;
    let status = match end_of(&mut child, step, limit) {
        Ok(status) => status,
        Err(error) => {
            // Best effort: the error that matters is already in hand.
            let _ = child.kill();
            let _ = child.wait();
            return Err(match error {
                Error::Deadline { what, limit, .. } => {
                    Error::Deadline { what, limit, tail: log_file::tail(log) }
                }
                other => other,
            });
        }
    };
    if status.success() {
        Ok(())
    } else {
        Err(Error::Step { step: step.to_owned(), status, log: log.to_owned(), tail: log_file::tail(log) })
    }
}

fn end_of(child: &mut Child, step: &str, limit: Duration) -> Result<ExitStatus> {
    poll(&format!("the end of {step}"), limit, || {
        child.try_wait().map_err(|source| Error::Spawn {
            program: "wait()".to_owned(),
            step: step.to_owned(),
            source,
        })
    })
}
