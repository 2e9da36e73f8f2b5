//! What can go wrong in vgpuctl, and how it is told: `error: …` with its chain of causes, or one
//! JSON object. The one place that maps failures to exit codes.

use super::{
    args::OutputFormat,
    connection::ConnectError,
    exit::Exit,
    output::{self, Document},
    run::RunError,
};
use crate::{api, failure::Failure, ledger};
use prost::Message as _;
use serde::Serialize;
use std::{error::Error as _, io, io::Write as _, path::PathBuf, time::Duration};
use tonic::Code;
use vgpud_config::{Quoted, import::ImportError, printable};

/// A failure of one command.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Connect(#[from] ConnectError),
    #[error("{}", .0.failure.message)]
    Daemon(Box<DaemonError>),
    #[error(
        "vgpud did not answer within {} while it was asked to {asked}; it may still do so: see `vgpuctl events`",
        humantime::format_duration(*.waited)
    )]
    Silent { asked: &'static str, waited: Duration },
    #[error(
        "vgpud ended its answer before it was complete (asked to {asked}); look at `vgpuctl slices` and its log"
    )]
    Incomplete { asked: &'static str },
    #[error("vgpud ended the stream of events after number {last}; it stopped or was restarted")]
    EventsEnded { last: u64 },
    #[error("There is no {what} {}; {list}", Quoted(name))]
    NoSuch { what: &'static str, name: String, list: &'static str, hint: Option<String> },
    #[error(
        "Profile {profile} on {gpu} has {has}, which is not what was asked for; leave the profile or the amounts away, or name another GPU"
    )]
    Disagree { profile: String, gpu: String, has: String },
    #[error(transparent)]
    Settings(#[from] vgpud_config::SettingsError),
    #[error("There is no settings file {}", path.display())]
    NoSettings { path: PathBuf },
    #[error(
        "{removals} slices would end, and nobody can be asked here whether they may; look at `vgpuctl plan`, and say --yes"
    )]
    Unconfirmed { removals: usize },
    #[error("Cannot read the answer")]
    Input(#[source] io::Error),
    #[error("Cannot read {}", path.display())]
    ReadFile {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("Cannot write {}, which must not exist before", path.display())]
    WriteFile {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("{} cannot be taken over", path.display())]
    Import {
        path: PathBuf,
        #[source]
        source: Box<ImportError>,
    },
    #[error("Cannot write the output")]
    Output(#[source] io::Error),
    #[error("Cannot turn the answer into JSON")]
    Json(#[source] serde_json::Error),
    #[error("Cannot start the program's event loop")]
    Runtime(#[source] io::Error),
    #[error(transparent)]
    Ledger(#[from] ledger::Error),
    #[error(transparent)]
    Backup(#[from] ledger::BackupError),
    #[error(transparent)]
    Run(#[from] RunError),
}

/// A refusal or failure that vgpud reported.
#[derive(Clone, Debug, PartialEq)]
pub struct DaemonError {
    pub code: Code,
    pub failure: api::Failure,
    pub hint: Option<String>,
}

/// An error as programs read it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Report {
    /// A stable word: vgpud's own, such as `NO_CAPACITY`, or one of this program.
    pub reason: String,
    pub message: String,
    /// From the outermost.
    pub causes: Vec<String>,
    pub hint: Option<String>,
    pub exit_code: u8,
}

#[derive(Serialize)]
struct ErrorDocument<'a> {
    error: &'a Report,
}

impl From<tonic::Status> for Error {
    fn from(status: tonic::Status) -> Self {
        Self::Daemon(Box::new(DaemonError::from_status(&status)))
    }
}

impl DaemonError {
    /// Reads the [`api::Failure`] in the status's details; without one (a broken connection, a
    /// program that is no vgpud) the status speaks for itself.
    fn from_status(status: &tonic::Status) -> Self {
        let code = status.code();
        let told = (!status.details().is_empty()).then(|| api::Failure::decode(status.details()).ok());
        if let Some(failure) = told.flatten().filter(|failure| !failure.message.is_empty()) {
            return Self { code, failure, hint: None };
        }
        // Only a status that was made on this side has a source.
        if status.source().is_some() {
            let (reason, message) =
                ("CONNECTION_LOST".to_owned(), "The connection to vgpud broke".to_owned());
            let failure = api::Failure { reason, message, causes: chain(status.source()) };
            let hint =
                Some("vgpud has stopped, or what listens there is no vgpud; see `vgpuctl status`".to_owned());
            return Self { code: Code::Unavailable, failure, hint };
        }
        let (reason, message) = (reason_of(code).to_owned(), plain_message(status));
        Self { code, failure: api::Failure { reason, message, causes: Vec::new() }, hint: None }
    }
}

fn plain_message(status: &tonic::Status) -> String {
    if status.message().is_empty() {
        return format!("vgpud answered {:?} and said nothing more; its log has the reason", status.code());
    }
    status.message().to_owned()
}

fn chain(mut source: Option<&(dyn std::error::Error + 'static)>) -> Vec<String> {
    let mut causes = Vec::new();
    while let Some(error) = source {
        causes.push(error.to_string());
        source = error.source();
    }
    // Some libraries repeat their source's text.
    causes.dedup();
    causes
}

/// A request that another state or another host would grant is a negative answer; the rest is an
/// error.
const fn exit_of(code: Code) -> Exit {
    match code {
        Code::Ok => Exit::Success,
        Code::FailedPrecondition
        | Code::ResourceExhausted
        | Code::AlreadyExists
        | Code::Aborted
        | Code::OutOfRange => Exit::Negative,
        Code::Cancelled
        | Code::Unknown
        | Code::InvalidArgument
        | Code::DeadlineExceeded
        | Code::NotFound
        | Code::PermissionDenied
        | Code::Unimplemented
        | Code::Internal
        | Code::Unavailable
        | Code::DataLoss
        | Code::Unauthenticated => Exit::Trouble,
    }
}

const fn reason_of(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}

impl Error {
    /// Whether vgpud says that something named in the request does not exist, or cannot.
    #[must_use]
    pub fn is_about_a_name(&self) -> bool {
        matches!(self, Self::Daemon(daemon) if matches!(daemon.code, Code::NotFound | Code::InvalidArgument))
    }

    /// Whether vgpud says that the lease is over, or that another one has begun.
    #[must_use]
    pub fn says_lease_has_ended(&self) -> bool {
        let over = |reason: &str| matches!(reason, "NOT_LEASED" | "OTHER_LEASE");
        matches!(self, Self::Daemon(daemon) if over(&daemon.failure.reason))
    }

    /// The same failure with a way out, unless its text names that already.
    #[must_use]
    pub fn with_hint(mut self, hint: Option<String>) -> Self {
        if let Self::Daemon(daemon) = &mut self {
            daemon.hint = hint.or_else(|| daemon.hint.take());
        }
        self
    }

    /// The exit code of a command that ends with this.
    #[must_use]
    pub fn exit(&self) -> Exit {
        match self {
            Self::Daemon(daemon) => exit_of(daemon.code),
            Self::Run(error) => error.exit(),
            Self::Connect(_)
            | Self::Silent { .. }
            | Self::Incomplete { .. }
            | Self::EventsEnded { .. }
            | Self::NoSuch { .. }
            | Self::Disagree { .. }
            | Self::Settings(_)
            | Self::NoSettings { .. }
            | Self::Unconfirmed { .. }
            | Self::Input(_)
            | Self::ReadFile { .. }
            | Self::WriteFile { .. }
            | Self::Import { .. }
            | Self::Output(_)
            | Self::Json(_)
            | Self::Ledger(_)
            | Self::Backup(_)
            | Self::Runtime(_) => Exit::Trouble,
        }
    }

    fn reason(&self) -> &str {
        match self {
            Self::Daemon(daemon) => &daemon.failure.reason,
            Self::Connect(error) => error.reason(),
            Self::Silent { .. } => "NO_ANSWER",
            Self::Incomplete { .. } => "INCOMPLETE_ANSWER",
            Self::EventsEnded { .. } => "EVENTS_ENDED",
            Self::NoSuch { .. } => "NOT_FOUND",
            Self::Disagree { .. } => "PROFILE_DISAGREES",
            Self::Settings(_) | Self::NoSettings { .. } => "SETTINGS",
            Self::Unconfirmed { .. } => "UNCONFIRMED",
            Self::Input(_) => "INPUT",
            Self::ReadFile { .. } => "CANNOT_READ",
            Self::WriteFile { .. } => "CANNOT_WRITE",
            Self::Import { .. } => "CANNOT_IMPORT",
            Self::Output(_) | Self::Json(_) => "OUTPUT",
            Self::Runtime(_) => "RUNTIME",
            Self::Ledger(error) => Failure::from(error).reason,
            Self::Backup(ledger::BackupError::Exists { .. }) => "BACKUP_EXISTS",
            Self::Backup(_) => "BACKUP_FAILED",
            Self::Run(error) => error.reason(),
        }
    }

    /// The failure in the form of a report. `trouble`: the exit of a command that keeps the usual
    /// codes for something else.
    #[must_use]
    pub fn to_report(&self, trouble: Option<Exit>) -> Report {
        let (causes, hint) = match self {
            Self::Daemon(daemon) => (daemon.failure.causes.clone(), daemon.hint.clone()),
            Self::NoSuch { hint, .. } => (Vec::new(), hint.clone()),
            Self::Connect(error) => (chain(self.source()), Some(error.hint())),
            // What stands behind it is a failure with a report of its own.
            Self::Run(RunError::NotBack { source, .. }) => {
                let behind = source.to_report(None);
                (std::iter::once(behind.message).chain(behind.causes).collect(), behind.hint)
            }
            Self::EventsEnded { last } => (Vec::new(), Some(format!("go on later with --after {last}"))),
            Self::Silent { .. }
            | Self::Incomplete { .. }
            | Self::Disagree { .. }
            | Self::Settings(_)
            | Self::NoSettings { .. }
            | Self::Unconfirmed { .. }
            | Self::Input(_)
            | Self::ReadFile { .. }
            | Self::WriteFile { .. }
            | Self::Import { .. }
            | Self::Output(_)
            | Self::Json(_)
            | Self::Runtime(_)
            | Self::Ledger(_)
            | Self::Backup(_)
            | Self::Run(_) => (chain(self.source()), None),
        };
        let exit_code = trouble.unwrap_or_else(|| self.exit()).code();
        Report { reason: self.reason().to_owned(), message: self.to_string(), causes, hint, exit_code }
    }
}

/// A failure that vgpud tells of as part of an answer, with its code of gRPC.
#[must_use]
pub fn told_by_vgpud(code: i32, failure: api::Failure) -> Report {
    let code = Code::from_i32(code);
    Error::Daemon(Box::new(DaemonError { code, failure, hint: None })).to_report(None)
}

impl Report {
    /// The message and its causes in one line.
    #[must_use]
    pub fn line(&self) -> String {
        let parts: Vec<&str> =
            std::iter::once(&self.message).chain(&self.causes).map(String::as_str).collect();
        parts.join(": ")
    }

    /// Lines for people, without a newline at the end.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = format!("error: {}", indented(&self.message, "       "));
        for cause in &self.causes {
            text += &format!("\n  caused by: {}", indented(cause, "             "));
        }
        if let Some(hint) = &self.hint {
            text += &format!("\n  hint: {}", indented(hint, "        "));
        }
        text
    }
}

/// Keeps the lines of a message below one another (QEMU's own errors can have several).
fn indented(message: &str, by: &str) -> String {
    printable(message.trim_end()).replace('\n', &format!("\n{by}"))
}

/// Tells the failure and returns the exit that goes with it. A reader that left is no failure.
pub fn report(error: &Error, format: OutputFormat, trouble: Option<Exit>) -> Exit {
    if matches!(error, Error::Output(source) if source.kind() == io::ErrorKind::BrokenPipe) {
        return Exit::Success;
    }
    tell(&error.to_report(trouble), format);
    trouble.unwrap_or_else(|| error.exit())
}

/// Writes a report to stderr. Nobody can be told where stderr itself is gone.
pub fn tell(report: &Report, format: OutputFormat) {
    let text = match format {
        OutputFormat::Table => report.text(),
        OutputFormat::Json => {
            output::json(&ErrorDocument { error: report }).unwrap_or_else(|_| report.text())
        }
    };
    let _ = writeln!(io::stderr(), "{text}");
}

impl Document for ErrorDocument<'_> {
    fn text(&self) -> String {
        self.error.text()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broken_connection_is_told_as_such() {
        let status = tonic::Status::from_error(Box::new(io::Error::from(io::ErrorKind::ConnectionReset)));
        let report = Error::from(status).to_report(None);
        assert_eq!((report.reason.as_str(), report.exit_code), ("CONNECTION_LOST", 2));
        let expected = "\
error: The connection to vgpud broke
  caused by: connection reset
  hint: vgpud has stopped, or what listens there is no vgpud; see `vgpuctl status`";
        assert_eq!(report.text(), expected);
    }

    #[test]
    fn details_that_are_no_failure_leave_the_status_to_speak() {
        let status = tonic::Status::with_details(Code::Internal, "odd", vec![0xff, 0xff].into());
        assert_eq!(Error::from(status).to_report(None).text(), "error: odd");
    }

    #[test]
    fn the_lines_of_a_message_stay_below_one_another() {
        let error = Error::Run(RunError::Qemu { code: 1, stderr: "first\nsecond\n".to_owned() });
        let text = error.to_report(Some(Exit::RunFailed)).text();
        assert_eq!(text, "error: QEMU ended with code 1 and said: first\n       second");
    }
}
