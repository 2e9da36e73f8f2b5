//! How a micro-VM ended, told from what QEMU left behind.

use nix::sys::signal::Signal;
use std::{fmt, os::unix::process::ExitStatusExt, process::ExitStatus};
use vgpud_config::printable;

/// How a micro-VM ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The guest powered off: its command succeeded.
    PoweredOff,
    /// The guest's command ended with this code (1 to 127).
    GuestExit(u8),
    /// The guest's kernel panicked; the line that said so.
    GuestPanic { line: String },
    /// It ended because [`super::RunningVm::stop`] asked.
    Stopped,
    /// A signal ended QEMU, sent by somebody else.
    Killed { signal: i32 },
    /// QEMU gave up or crashed (`code` is then 128 and the signal, as shells say it), with its own
    /// words.
    Failed { code: i32, stderr: String },
}

/// Signals that a program brings upon itself.
const CRASHES: [Signal; 6] =
    [Signal::SIGILL, Signal::SIGABRT, Signal::SIGBUS, Signal::SIGFPE, Signal::SIGSEGV, Signal::SIGSYS];

/// Whether `stop` was called before the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum StopAsked {
    Yes,
    No,
}

impl Outcome {
    /// Judges an ended QEMU:
    ///
    /// | exit | otherwise | outcome |
    /// | --- | --- | --- |
    /// | 0 or a signal, after `stop` | | `Stopped` |
    /// | a signal of a crash (SIGABRT, SIGSEGV, SIGSYS of its sandbox, …) | | `Failed` |
    /// | any other signal | | `Killed` |
    /// | 0 | stderr says "terminating on signal N" | `Killed` |
    /// | 0 | the console showed a kernel panic (`panic=-1` resets, `-no-reboot` ends) | `GuestPanic` |
    /// | 0 | | `PoweredOff` |
    /// | 1 | nothing but warnings on stderr: the guest wrote 0 to the exit port | `PoweredOff` |
    /// | odd, from 3 | the guest wrote `code` | `GuestExit` |
    /// | any other | | `Failed` |
    pub(super) fn judge(
        status: ExitStatus,
        stderr: &str,
        panic: Option<String>,
        stop_asked: StopAsked,
    ) -> Self {
        let words = &*printable(stderr.trim());
        let failed = |code| Self::Failed { code, stderr: words.to_owned() };
        let code = match (status.code(), status.signal(), stop_asked) {
            (_, Some(_), StopAsked::Yes) | (Some(0), _, StopAsked::Yes) => return Self::Stopped,
            (_, Some(signal), StopAsked::No) if CRASHES.map(|crash| crash as i32).contains(&signal) => {
                return failed(128 + signal);
            }
            (_, Some(signal), StopAsked::No) => return Self::Killed { signal },
            (code, None, _) => code.unwrap_or_default(),
        };
        match (code, panic, terminating_signal(words)) {
            (0, _, Some(signal)) => Self::Killed { signal },
            (0, Some(line), None) => Self::GuestPanic { line: printable(&line) },
            (0, None, None) => Self::PoweredOff,
            (1, _, _) if words.lines().all(is_remark) => Self::PoweredOff,
            (3..=255, _, _) if code & 1 == 1 => Self::GuestExit(u8::try_from(code >> 1).unwrap_or(u8::MAX)),
            _ => failed(code),
        }
    }
}

/// Whether a line of QEMU's stderr is no error (QEMU: util/error-report.c).
fn is_remark(line: &str) -> bool {
    line.contains(": warning: ") || line.contains(": info: ")
}

/// The signal in QEMU's farewell `qemu-system-x86_64: terminating on signal 15 from pid 7 (sh)`.
fn terminating_signal(stderr: &str) -> Option<i32> {
    let (_, rest) = stderr.split_once("terminating on signal ")?;
    rest.split(|letter: char| !letter.is_ascii_digit()).next()?.parse().ok()
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PoweredOff => f.write_str("the guest powered off"),
            Self::GuestExit(code) => write!(f, "the guest's command ended with exit code {code}"),
            Self::GuestPanic { line } => write!(f, "the guest's kernel panicked: {line}"),
            Self::Stopped => f.write_str("stopped as asked"),
            Self::Killed { signal } => write!(f, "QEMU was ended by signal {signal}"),
            Self::Failed { code, stderr } if stderr.is_empty() => {
                write!(f, "QEMU failed with exit code {code} and said nothing")
            }
            Self::Failed { code, stderr } => write!(f, "QEMU failed with exit code {code}: {stderr}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judge(status: ExitStatus, stderr: &str, panic: Option<&str>, asked: StopAsked) -> Outcome {
        Outcome::judge(status, stderr, panic.map(str::to_owned), asked)
    }

    fn exit(code: i32) -> ExitStatus {
        ExitStatus::from_raw(code << 8)
    }

    const FAREWELL: &str = "qemu-system-x86_64: terminating on signal 15 from pid 7 (sh)\n";

    #[test]
    fn every_end_has_its_name() {
        use StopAsked::{No, Yes};
        let signal = |signal| ExitStatus::from_raw(signal);
        let failed = |code, stderr: &str| Outcome::Failed { code, stderr: stderr.into() };
        let panic = "Kernel panic - not syncing: x";
        for (status, stderr, console, asked, expected) in [
            (exit(0), "", None, No, Outcome::PoweredOff),
            (exit(0), "qemu: warning: x\n", None, No, Outcome::PoweredOff),
            (exit(0), "", None, Yes, Outcome::Stopped),
            (exit(0), FAREWELL, None, Yes, Outcome::Stopped),
            (exit(0), FAREWELL, None, No, Outcome::Killed { signal: 15 }),
            (exit(0), "", Some(panic), No, Outcome::GuestPanic { line: panic.into() }),
            (exit(1), "", None, No, Outcome::PoweredOff),
            (exit(1), "qemu: warning: x\nqemu: info: y\n", None, No, Outcome::PoweredOff),
            (exit(1), "qemu: warning: x\nqemu: no\n", None, No, failed(1, "qemu: warning: x\nqemu: no")),
            (exit(1), "qemu: no\n", None, No, failed(1, "qemu: no")),
            (exit(1), "qemu: no\n", None, Yes, failed(1, "qemu: no")),
            (exit(2), "", None, No, failed(2, "")),
            (exit(3), "", None, No, Outcome::GuestExit(1)),
            (exit(255), "", Some(panic), No, Outcome::GuestExit(127)),
            (exit(254), "", None, No, failed(254, "")),
            (signal(9), "", None, No, Outcome::Killed { signal: 9 }),
            (signal(9), "", None, Yes, Outcome::Stopped),
            (signal(6), "KVM: entry failed\n", None, No, failed(134, "KVM: entry failed")),
            (signal(31), "", None, No, failed(159, "")),
        ] {
            assert_eq!(judge(status, stderr, console, asked), expected, "{status} {stderr:?} {asked:?}");
        }
    }
}
