//! Exit codes of vgpuctl. `vgpuctl --help` and `vgpuctl run --help` document them.

use std::process::ExitCode;

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// 0.
    Success,
    /// 1: a negative answer: a failed check, or a request that this host or its present state refuses.
    Negative,
    /// 2: a wrong command line, or an error.
    Trouble,
    /// 124: the lease's time was up, as with timeout(1).
    TimeIsUp,
    /// 125: `run` failed before or beside the guest, as with container tools.
    RunFailed,
    /// The guest command's own code, 0 to 255.
    Guest(u8),
    /// 128 + N: the micro-VM was ended by signal N.
    Signal(u8),
}

impl Exit {
    /// The number that the shell sees.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::Success => 0,
            Self::Negative => 1,
            Self::Trouble => 2,
            Self::TimeIsUp => 124,
            Self::RunFailed => 125,
            Self::Guest(code) => code,
            Self::Signal(number) => 128_u8.saturating_add(number),
        }
    }

    /// The graver of two ends of a command that went on after a failure.
    #[must_use]
    pub const fn worse(self, other: Self) -> Self {
        if other.code() > self.code() { other } else { self }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

/// Shown at the end of `vgpuctl --help`.
pub const HELP: &str = "\
Exit codes:
  0    done
  1    a negative answer: a failed check, or a request that this host or its present state
       refuses (nothing so large, nothing free, slice in use or busy)
  2    a wrong command line, or an error: no such slice, vgpud not running, no permission
  run passes the guest command's code through; see `vgpuctl run --help`

Data goes to stdout, messages to stderr. With --output json, stdout is JSON with a \"version\",
and an error is one JSON object on stderr.";
