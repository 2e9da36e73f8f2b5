//! How a micro-VM ended, and what vgpuctl makes of it.

use super::{RunError, lease::Returned, plan::Plan, signals::EndSignal};
use crate::cli::{args::OutputFormat, error::Error, exit::Exit, output};
use nix::sys::signal::Signal;
use serde::Serialize;
use std::io::{self, Write as _};
use vgpud_vmm::micro_vm::Outcome;

/// Who ended the micro-VM.
#[derive(Debug)]
pub enum Cause {
    /// Guest, QEMU or somebody else.
    Itself,
    /// vgpuctl, asked by a signal.
    Signal(EndSignal),
    /// vgpuctl, because the lease's time was up.
    TimeIsUp,
    /// vgpuctl, because stdout cannot be written.
    Console(Error),
}

/// The end of a micro-VM.
#[derive(Debug)]
pub struct Ended {
    pub outcome: Outcome,
    pub cause: Cause,
}

impl Ended {
    /// A signal came before QEMU was started.
    #[must_use]
    pub const fn before_start(signal: EndSignal) -> Self {
        Self { outcome: Outcome::Stopped, cause: Cause::Signal(signal) }
    }

    /// What happened, for people.
    #[must_use]
    pub fn sentence(&self) -> String {
        match (&self.outcome, &self.cause) {
            (Outcome::PoweredOff, _) => "the guest powered off".into(),
            (Outcome::GuestExit(code), _) => format!("the guest's command ended with code {code}"),
            (Outcome::GuestPanic { .. }, _) => "the guest's kernel panicked".into(),
            (Outcome::Stopped, Cause::Signal(signal)) => format!("stopped on {signal}"),
            (Outcome::Stopped, Cause::Console(_)) => "stopped, nobody reads its console".into(),
            (Outcome::Stopped, Cause::TimeIsUp) => "stopped, the time of its lease is up".into(),
            (Outcome::Stopped, Cause::Itself) => "stopped".into(),
            (Outcome::Killed { signal }, _) => {
                format!("QEMU was killed by signal {signal}{}", name_of(*signal))
            }
            (Outcome::Failed { code, .. }, _) => format!("QEMU gave up with code {code}"),
        }
    }

    /// The exit code where nothing else fails.
    #[must_use]
    pub fn exit(&self) -> Exit {
        match (&self.outcome, &self.cause) {
            (Outcome::PoweredOff, _) => Exit::Success,
            (Outcome::GuestExit(code), _) => Exit::Guest(*code),
            (Outcome::Stopped, Cause::Signal(signal)) => Exit::Signal(signal.number()),
            (Outcome::Stopped, Cause::TimeIsUp) => Exit::TimeIsUp,
            (Outcome::Stopped, Cause::Console(_) | Cause::Itself) => Exit::Success,
            (Outcome::Killed { signal }, _) => Exit::Signal(u8::try_from(*signal).unwrap_or(u8::MAX)),
            (Outcome::GuestPanic { .. } | Outcome::Failed { .. }, _) => Exit::RunFailed,
        }
    }

    /// The end as a failure, where it is one: QEMU or the guest's kernel gave up, or stdout could
    /// not be written.
    ///
    /// # Errors
    /// That failure.
    pub fn into_result(self) -> Result<(), Error> {
        match (self.outcome, self.cause) {
            (Outcome::Failed { code, stderr }, _) => Err(RunError::Qemu { code, stderr }.into()),
            (Outcome::GuestPanic { line }, _) => Err(RunError::Panic { line }.into()),
            (_, Cause::Console(error)) => Err(error),
            (
                Outcome::PoweredOff | Outcome::GuestExit(_) | Outcome::Stopped | Outcome::Killed { .. },
                Cause::Itself | Cause::Signal(_) | Cause::TimeIsUp,
            ) => Ok(()),
        }
    }
}

fn name_of(signal: i32) -> String {
    Signal::try_from(signal).map_or_else(|_| String::new(), |signal| format!(" ({signal})"))
}

/// What a program learns of a run.
#[derive(Debug, Serialize)]
pub struct Ending<'a> {
    run: Body<'a>,
}

#[derive(Debug, Serialize)]
struct Body<'a> {
    slice: &'a str,
    owner: &'a str,
    /// `powered-off`, `exited`, `panicked`, `stopped`, `killed`, `failed`.
    outcome: &'static str,
    exit_code: u8,
    /// Whether the lease was released, or kept because it was there before.
    lease: Returned,
}

impl<'a> Ending<'a> {
    #[must_use]
    pub fn new(plan: &'a Plan, ended: &Ended, lease: Returned) -> Self {
        let outcome = match ended.outcome {
            Outcome::PoweredOff => "powered-off",
            Outcome::GuestExit(_) => "exited",
            Outcome::GuestPanic { .. } => "panicked",
            Outcome::Stopped => "stopped",
            Outcome::Killed { .. } => "killed",
            Outcome::Failed { .. } => "failed",
        };
        let exit_code = ended.exit().code();
        Self { run: Body { slice: &plan.slice, owner: plan.owner(), outcome, exit_code, lease } }
    }
}

/// Tells programs on stderr, since stdout is the guest's console. People were told by notes.
pub fn tell(ending: &Ending<'_>, format: OutputFormat) {
    if format == OutputFormat::Json
        && let Ok(json) = output::json(ending)
    {
        // Nobody can be told where stderr itself is gone.
        let _ = writeln!(io::stderr(), "{json}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ended(outcome: Outcome, cause: Cause) -> Ended {
        Ended { outcome, cause }
    }

    #[test]
    fn each_end_has_its_code_and_its_sentence() {
        let table = [
            (ended(Outcome::PoweredOff, Cause::Itself), 0, "the guest powered off"),
            (ended(Outcome::GuestExit(7), Cause::Itself), 7, "the guest's command ended with code 7"),
            (ended(Outcome::Stopped, Cause::Signal(EndSignal::Interrupt)), 130, "stopped on SIGINT"),
            (ended(Outcome::Stopped, Cause::TimeIsUp), 124, "stopped, the time of its lease is up"),
            (Ended::before_start(EndSignal::Terminate), 143, "stopped on SIGTERM"),
            (
                ended(Outcome::Killed { signal: 9 }, Cause::Itself),
                137,
                "QEMU was killed by signal 9 (SIGKILL)",
            ),
        ];
        for (ended, code, sentence) in table {
            assert_eq!((ended.exit().code(), ended.sentence().as_str()), (code, sentence));
            assert!(ended.into_result().is_ok(), "{sentence}");
        }
    }

    #[test]
    fn what_qemu_said_is_told() {
        let stderr = "qemu: -device vfio-pci: group 7 is busy\n".to_owned();
        let ended = ended(Outcome::Failed { code: 1, stderr }, Cause::Itself);
        assert_eq!(ended.exit(), Exit::RunFailed);
        let error = ended.into_result().unwrap_err();
        assert_eq!(
            error.to_report(Some(Exit::RunFailed)).text(),
            "error: QEMU ended with code 1 and said: qemu: -device vfio-pci: group 7 is busy"
        );
    }
}
