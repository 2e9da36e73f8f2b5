//! All attempts on a running vgpud, and what was let through.

use super::{Argument, Attempt, Expected, Ground, Outcome, Trespasser, attempts, lookout_attempts, threads};
use crate::error::Result;
use nix::libc as c;
use std::fmt;

/// What came of the attempts on one or more processes.
#[derive(Clone, Debug, Default)]
pub struct Report {
    pub tried: usize,
    /// Each with what was to be and what was.
    pub let_through: Vec<String>,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sandbox: {} forbidden actions tried, {} let through", self.tried, self.let_through.len())
    }
}

/// Tries everything that a process survives, then that it does what it may, so that it is the walls
/// that answered; last, in each other thread, one attempt for each wall.
///
/// # Errors
/// Where the process cannot be steered.
pub fn survived(process: u32, ground: &Ground, report: &mut Report) -> Result<Vec<String>> {
    let mut main = Trespasser::seize(process)?;
    let mut broken = Vec::new();
    let mut ground = ground.clone();
    let mut may = |what: &str, call: i64, arguments: &[Argument]| -> Result<Option<i32>> {
        match main.call(call, arguments)? {
            Outcome::Returned(value) => Ok(i32::try_from(value).ok()),
            outcome => {
                broken.push(format!("{what}: {outcome:?}"));
                Ok(None)
            }
        }
    };
    let open = |file: &str, flags: i32| [c::AT_FDCWD.into(), Argument::text(file), flags.into(), 0.into()];
    ground.unix_socket =
        may("make a Unix socket", c::SYS_socket, &[c::AF_UNIX.into(), c::SOCK_STREAM.into(), 0.into()])?;
    let ledger = ground.state.join("ledger.db");
    may("write the ledger", c::SYS_openat, &open(&ledger.to_string_lossy(), c::O_RDWR))?;
    may("read the user database", c::SYS_openat, &open("/etc/passwd", c::O_RDONLY))?;
    may("read devices", c::SYS_openat, &open("/proc/self/status", c::O_RDONLY))?;
    may("know itself", c::SYS_getpid, &[])?;
    let survivable = |attempt: &Attempt| attempt.expected != Expected::Death;
    for attempt in attempts(&ground).into_iter().filter(survivable) {
        let outcome = main.call(attempt.call, &attempt.arguments)?;
        report.judge(&attempt, outcome);
        if (attempt.call, outcome) == (c::SYS_execve, Outcome::Returned(0)) {
            // By now it is another program.
            return Ok(broken);
        }
    }
    drop(main);
    for thread in threads(process)?.into_iter().filter(|thread| *thread != process) {
        let seized = Trespasser::seize(thread);
        // Threads that wait for blocking work end by themselves.
        if seized.is_err() && !threads(process)?.contains(&thread) {
            continue;
        }
        let mut thread = seized?;
        for what in ["make ", "ask for a keyring", "raise capabilities"] {
            let found = attempts(&ground).into_iter().find(|attempt| attempt.what.starts_with(what));
            if let Some(attempt) = found {
                report.judge(&attempt, thread.call(attempt.call, &attempt.arguments)?);
            }
        }
    }
    Ok(broken)
}

/// The attempts that end the daemon, to be made each on a new one by [`try_one`].
#[must_use]
pub fn deadly_attempts(ground: &Ground) -> Vec<Attempt> {
    attempts(ground).into_iter().filter(|attempt| attempt.expected == Expected::Death).collect()
}

/// Makes one attempt on a process's first thread.
///
/// # Errors
/// Where the process cannot be steered.
pub fn try_one(process: u32, attempt: &Attempt, report: &mut Report) -> Result<()> {
    let outcome = Trespasser::seize(process)?.call(attempt.call, &attempt.arguments)?;
    report.judge(attempt, outcome);
    Ok(())
}

/// Tries everything on the lookout, its end last.
///
/// # Errors
/// Where the process cannot be steered.
pub fn lookout(process: u32, ground: &Ground, report: &mut Report) -> Result<()> {
    let mut main = Trespasser::seize(process)?;
    for attempt in lookout_attempts(ground) {
        report.judge(&attempt, main.call(attempt.call, &attempt.arguments)?);
    }
    Ok(())
}

impl Report {
    fn judge(&mut self, attempt: &Attempt, outcome: Outcome) {
        self.tried += 1;
        if !attempt.expected.is(outcome) {
            self.let_through.push(format!("{}: {outcome:?} and not {:?}", attempt.what, attempt.expected));
        }
    }
}
