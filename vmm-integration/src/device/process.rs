//! Work on a device in a process of its own, with a deadline.
//!
//! A reset can hang in the kernel for a minute and more, an access to a device that is gone ends the
//! process (SIGBUS), and code that speaks to hardware can panic. So the daemon starts its own
//! program again (`vgpud device …`), reads what it reports line by line, and kills it when the
//! deadline passes. A process that hangs in the kernel dies only when the kernel returns; until then
//! it holds the device, and the slice is not usable.
//!
//! The reports are JSON, one to a line; the last one is the answer.

use super::DeviceError;
use crate::{
    Error, node,
    preflight::{self, Check, Level},
    scrub::{self, Evidence, Stage, Subject},
};
use nix::sys::{
    prctl::{set_name, set_pdeathsig},
    signal::Signal,
};
use serde::{Deserialize, Serialize};
use std::{
    ffi::OsString,
    fmt,
    io::{self, BufRead, BufReader, Read, Write},
    path::PathBuf,
    process::{Child, Command, ExitStatus, Stdio},
    sync::mpsc::{self, Receiver, RecvTimeoutError},
    thread,
    time::{Duration, Instant},
};
use vgpud_config::{NodeKind, Quoted};
use vgpud_mdev::{Host, Instance, InstanceName, PciAddress, instance, wait};

/// A report has some hundreds of bytes.
const LONGEST_LINE: u64 = 256 << 10;

/// Work on one instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Job {
    pub task: Task,
    pub gpu: PciAddress,
    pub name: InstanceName,
    pub node: NodeKind,
    /// Bytes of device memory that its owner had, where the mechanism says.
    pub memory: Option<u64>,
}

/// What to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Task {
    Scrub,
    Preflight(Level),
}

/// How the process is started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceProcess {
    /// A program that understands `device …`: vgpud itself.
    pub program: PathBuf,
    /// Folder to take for the host's root; none for the real one.
    pub root: Option<PathBuf>,
    /// Whether it is to give up its rights, as whoever starts it did.
    pub confined: bool,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum ProcessError {
    #[error("Cannot start {} to work on the device", program.display())]
    Start {
        program: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("Waited {} s for {stage}, in vain; the process is killed, and holds the device until the kernel lets it end", within.as_secs_f32())]
    Late { stage: Stage, within: Duration },
    #[error(
        "The process that worked on the device ended with {status} at {stage}; its messages are in the log"
    )]
    Died { stage: Stage, status: ExitStatus },
    #[error(
        "The process that worked on the device said {}; its program and this one must be of one version",
        Quoted(line)
    )]
    Garbled { line: String },
    /// What the process itself found in the way, with its causes.
    #[error("{why}")]
    Failed { stage: Stage, why: String },
}

/// What a preflight came to.
#[derive(Debug)]
pub struct Preflight {
    /// As many as were made.
    pub checks: Vec<Check>,
    /// Whether that is all of them.
    pub ended: Result<(), ProcessError>,
}

/// One line from the process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "report")]
pub(crate) enum Report {
    Stage {
        stage: Stage,
    },
    Check(Check),
    Evidence(Evidence),
    /// All checks were made.
    Checked,
    Failed {
        why: String,
    },
}

impl Job {
    /// The arguments after `vgpud device`, with the work's word first.
    #[must_use]
    pub fn arguments(&self) -> Vec<OsString> {
        let mut words: Vec<String> = match self.task {
            Task::Scrub => vec!["scrub".into()],
            Task::Preflight(level) => vec!["preflight".into(), format!("--level={level}")],
        };
        words.push(format!("--gpu={}", self.gpu));
        words.push(match self.name {
            InstanceName::Vf(index) => format!("--vf={}", index.0),
            InstanceName::Mdev(uuid) => format!("--mdev={uuid}"),
            InstanceName::Whole => "--whole".to_owned(),
        });
        let node = match self.node {
            NodeKind::Auto => "auto",
            NodeKind::Group => "group",
            NodeKind::Cdev => "cdev",
        };
        words.push(format!("--node={node}"));
        words.extend(self.memory.map(|bytes| format!("--memory={bytes}")));
        words.into_iter().map(OsString::from).collect()
    }

    fn instance(&self, host: &Host) -> Result<Instance, vgpud_mdev::Error> {
        let gone = vgpud_mdev::Error::NoSuchInstance { gpu: self.gpu, name: self.name };
        instance::find(host, self.gpu, self.name)?.ok_or(gone)
    }

    fn subject(&self, host: &Host, instance: &Instance) -> Result<Subject, Error> {
        let node = node::choose(host, &instance.nodes, self.node)?;
        Ok(Subject { instance: instance.clone(), node, memory: self.memory })
    }
}

/// In the process: gives it its name, and lets it end with the one that started it, for nobody else wants its answer.
///
/// # Errors
/// Where the kernel refuses.
pub fn end_with_parent() -> io::Result<()> {
    set_pdeathsig(Signal::SIGKILL)?;
    // What is named as the holder of a device, whatever name the program was started under.
    Ok(set_name(c"vgpud-device")?)
}

/// How reports are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// All of them, for the process that waits.
    Json,
    /// What was found, for people.
    Text,
}

/// In the process: does the work and reports to `out`.
///
/// # Errors
/// Where `out` takes nothing more: nobody waits for the answer.
pub fn serve(host: &Host, job: &Job, form: Form, out: &mut impl Write) -> io::Result<()> {
    let mut lost = None;
    let mut say = |report: &Report| {
        let line = match form {
            Form::Json => serde_json::to_string(report).map_err(io::Error::other),
            Form::Text => Ok(report.text()),
        };
        if let Err(error) = line.and_then(|line| writeln!(out, "{line}").and_then(|()| out.flush())) {
            lost.get_or_insert(error);
        }
    };
    let last = match work(host, job, &mut say) {
        Ok(last) => last,
        Err(error) => Report::Failed { why: preflight::chain(&error) },
    };
    say(&last);
    lost.map_or(Ok(()), Err)
}

/// What keeps the process from its work.
#[derive(Debug, thiserror::Error)]
enum WorkError {
    #[error(transparent)]
    Instance(#[from] vgpud_mdev::Error),
    #[error(transparent)]
    Node(#[from] Error),
    #[error(transparent)]
    Device(#[from] DeviceError),
}

fn work(host: &Host, job: &Job, say: &mut dyn FnMut(&Report)) -> Result<Report, WorkError> {
    let instance = job.instance(host)?;
    let subject = job.subject(host, &instance);
    match job.task {
        Task::Scrub => {
            let evidence = scrub::scrub(host, &subject?, |stage| say(&Report::Stage { stage }))?;
            Ok(Report::Evidence(evidence))
        }
        Task::Preflight(level) => {
            let say = std::cell::RefCell::new(say);
            let at = |stage| say.borrow_mut()(&Report::Stage { stage });
            let made = |check| say.borrow_mut()(&Report::Check(check));
            preflight::preflight(host, &instance, subject, level, at, made);
            Ok(Report::Checked)
        }
    }
}

impl DeviceWork for DeviceProcess {
    fn scrub(&self, job: &Job, deadline: Duration) -> Result<Evidence, ProcessError> {
        match self.run(job, deadline, |_| {})? {
            Report::Evidence(evidence) => Ok(evidence),
            other => Err(other.unexpected()),
        }
    }

    fn preflight(&self, job: &Job, deadline: Duration) -> Preflight {
        let mut checks = Vec::new();
        let ended = self.run(job, deadline, |check| checks.push(check)).and_then(|last| match last {
            Report::Checked => Ok(()),
            other => Err(other.unexpected()),
        });
        Preflight { checks, ended }
    }
}

impl DeviceProcess {
    /// The process's last report.
    fn run(
        &self,
        job: &Job,
        deadline: Duration,
        mut made: impl FnMut(Check),
    ) -> Result<Report, ProcessError> {
        let mut running = Running::start(self, job, deadline)?;
        let mut last = None;
        while let Some(line) = running.next()? {
            match Report::read(&line) {
                Ok(Report::Stage { stage }) => running.stage = stage,
                Ok(Report::Check(check)) => made(check),
                Ok(Report::Failed { why }) => {
                    last = Some(Err(ProcessError::Failed { stage: running.stage, why }));
                }
                other => last = Some(other),
            }
        }
        let status = running.wait()?;
        match last {
            Some(result) if status.success() => result,
            _ => Err(ProcessError::Died { stage: running.stage, status }),
        }
    }
}

/// Whoever works on devices: a process of its own, or in tests something that plays one.
pub trait DeviceWork: fmt::Debug + Send + Sync {
    /// Scrubs an instance that nobody holds, within `deadline`.
    ///
    /// # Errors
    /// [`ProcessError`] where there is no evidence.
    fn scrub(&self, job: &Job, deadline: Duration) -> Result<Evidence, ProcessError>;

    /// Checks an instance that nobody holds, within `deadline`.
    fn preflight(&self, job: &Job, deadline: Duration) -> Preflight;
}

impl Report {
    pub(crate) fn read(line: &str) -> Result<Self, ProcessError> {
        serde_json::from_str(line).map_err(|_| ProcessError::Garbled { line: line.to_owned() })
    }

    fn text(&self) -> String {
        match self {
            Self::Stage { stage } => format!("waits for {stage}"),
            Self::Check(check) => check.to_string(),
            Self::Evidence(evidence) => evidence.to_string(),
            Self::Checked => "all checks were made".to_owned(),
            Self::Failed { why } => why.clone(),
        }
    }

    fn unexpected(self) -> ProcessError {
        ProcessError::Garbled { line: serde_json::to_string(&self).unwrap_or_default() }
    }
}

/// The process and what comes from it.
struct Running {
    child: Option<Child>,
    lines: Receiver<String>,
    stage: Stage,
    begun: Instant,
    within: Duration,
}

impl Running {
    fn start(process: &DeviceProcess, job: &Job, within: Duration) -> Result<Self, ProcessError> {
        let begun = Instant::now();
        let mut command = Command::new(&process.program);
        command.arg("device").args(job.arguments()).arg("--json");
        if let Some(root) = &process.root {
            command.arg("--root").arg(root);
        }
        if process.confined {
            command.arg("--confine");
        }
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        let failed = |source| ProcessError::Start { program: process.program.clone(), source };
        let mut child = command.spawn().map_err(failed)?;
        let (sender, lines) = mpsc::channel();
        let mut stdout = child.stdout.take().map(BufReader::new);
        let running = Self { child: Some(child), lines, stage: Stage::Start, begun, within };
        let read =
            move || std::iter::from_fn(|| next_line(stdout.as_mut()?)).try_for_each(|line| sender.send(line));
        // When the thread cannot start, `running` is dropped, which kills the process.
        thread::Builder::new().name("device-reports".into()).spawn(read).map_err(failed)?;
        Ok(running)
    }

    fn left(&self) -> Duration {
        self.within.saturating_sub(self.begun.elapsed())
    }

    fn late(&self) -> ProcessError {
        ProcessError::Late { stage: self.stage, within: self.within }
    }

    /// The next line; none when its output has ended.
    fn next(&self) -> Result<Option<String>, ProcessError> {
        match self.lines.recv_timeout(self.left()) {
            Ok(line) => Ok(Some(line)),
            Err(RecvTimeoutError::Disconnected) => Ok(None),
            Err(RecvTimeoutError::Timeout) => Err(self.late()),
        }
    }

    /// Its end, which comes after that of its output: the kernel closes the device in between.
    fn wait(&mut self) -> Result<ExitStatus, ProcessError> {
        let (left, late) = (self.left(), self.late());
        let Some(child) = &mut self.child else { return Err(late) };
        let status = wait::until("the process to end", left, || child.try_wait().map_err(Waited::Failed));
        match status {
            Ok(status) => {
                self.child = None;
                Ok(status)
            }
            Err(Waited::Late) => Err(late),
            Err(Waited::Failed(source)) => {
                Err(ProcessError::Failed { stage: self.stage, why: source.to_string() })
            }
        }
    }
}

/// The next line; none at the end. One that is too long is cut, and so is no report.
fn next_line(from: &mut impl BufRead) -> Option<String> {
    let mut line = Vec::new();
    from.take(LONGEST_LINE).read_until(b'\n', &mut line).ok()?;
    if line.len() as u64 == LONGEST_LINE && !line.ends_with(b"\n") {
        from.skip_until(b'\n').ok()?;
    }
    let text = String::from_utf8_lossy(&line);
    (!line.is_empty()).then(|| text.trim_end_matches('\n').to_owned())
}

enum Waited {
    Late,
    Failed(io::Error),
}

impl From<wait::TimedOut> for Waited {
    fn from(_: wait::TimedOut) -> Self {
        Self::Late
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let Some(mut child) = self.child.take() else { return };
        if let Err(error) = child.kill() {
            tracing::error!(%error, pid = child.id(), "cannot kill the process that works on a device");
        }
        // It may hang in the kernel: somebody else waits for it.
        let reap = move || match child.wait() {
            Ok(status) => tracing::info!(%status, "a process that was late with a device has ended"),
            Err(error) => tracing::error!(%error, "cannot wait for the process that works on a device"),
        };
        if let Err(error) = thread::Builder::new().name("device-reaper".into()).spawn(reap) {
            tracing::error!(%error, "nobody waits for the process that works on a device");
        }
    }
}

#[cfg(test)]
mod tests;
