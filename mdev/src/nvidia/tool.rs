//! Running NVIDIA's tools, which say what they did, and must end in time.
//!
//! One runs at a time for each GPU, and GPUs do not wait for one another here (runs of `sriov-manage` do,
//! [`line`](super::line)). One that is not over in time is killed with all that it started. What the kernel holds
//! (state D) cannot be: then nothing more is run for that GPU until it is let go, so that at most one for each
//! GPU is stuck.

use crate::{Error, PciAddress, wait};
use nix::{
    errno::Errno,
    fcntl::{FcntlArg, OFlag, fcntl},
    sys::signal::{Signal, killpg},
    unistd::Pid,
};
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    fmt,
    io::{self, ErrorKind, Read},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, SystemTime},
};
use vgpud_config::Shown;

/// Longest text that is kept of what a tool says. The longest list of `nvidia-smi` that is known, of the
/// profiles of an RTX PRO 6000, has some 3,000 bytes.
const LONGEST: usize = 32 << 10;

/// How long what was killed may take to be gone.
pub(super) const DYING: Duration = Duration::from_secs(1);

/// Between two looks at what is stuck.
const STUCK_PAUSE: Duration = Duration::from_millis(100);

/// What a tool says that it came to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Said {
    pub success: bool,
    /// All that it printed, as far as it is kept.
    pub words: String,
}

/// `said that all went well`, or `failed ("…")`.
impl fmt::Display for Said {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.success {
            return f.write_str("said that all went well");
        }
        match self.words.lines().rfind(|line| !line.trim().is_empty()) {
            Some(line) => write!(f, "failed ({})", Shown(line.trim())),
            None => f.write_str("failed without a word"),
        }
    }
}

/// A run that SIGKILL does not end.
#[derive(Clone, Debug, thiserror::Error)]
#[error(
    "{}, run for GPU {gpu} as process group {group}, has been stuck in the kernel since {} and cannot be killed; \
     until it ends, no tool of NVIDIA's is run for this GPU; the kernel log says why (`dmesg`), and a restart of \
     the host may be the only way out",
    program.display(),
    humantime::format_rfc3339_seconds(*since)
)]
struct Stuck {
    gpu: PciAddress,
    program: PathBuf,
    group: u32,
    since: SystemTime,
}

/// The runs of this process: at most one for each GPU.
#[derive(Debug)]
pub struct Tools {
    state: Mutex<State>,
    ended: Condvar,
    kill: fn(Pid),
}

#[derive(Debug, Default)]
struct State {
    runs: BTreeMap<PciAddress, Run>,
    /// No more is begun.
    closed: bool,
}

#[derive(Clone, Debug)]
enum Run {
    Going(PathBuf),
    Stuck(Stuck),
}

impl Default for Tools {
    fn default() -> Self {
        // Where it has just ended there is nothing to kill.
        let kill = |group| {
            let _ = killpg(group, Signal::SIGKILL);
        };
        Self { state: Mutex::default(), ended: Condvar::new(), kill }
    }
}

impl Tools {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins no more runs, and waits for those that are under way, each of which has a deadline. What is stuck
    /// is not waited for.
    pub fn close(&self) {
        let mut state = self.state();
        state.closed = true;
        let going = |state: &mut State| state.runs.values().any(|run| matches!(run, Run::Going(_)));
        drop(self.ended.wait_while(state, going));
    }

    /// Runs the tool for a GPU as root's tools are run, and ends it where it takes longer than `within`. One that
    /// runs for the same GPU is waited for before, for as long.
    ///
    /// # Errors
    /// Where it cannot be run or does not end, and at once where one for this GPU is stuck.
    pub(crate) fn run(
        self: &Arc<Self>,
        gpu: PciAddress,
        tool: &Path,
        arguments: &[String],
        within: Duration,
    ) -> Result<Said, Error> {
        let failed = |source| Error::Run { program: tool.to_owned(), source };
        let seat = self.take_seat(gpu, tool, within)?;
        let since = SystemTime::now();
        let mut process = Process::start(tool, arguments).map_err(failed)?;
        let what = format!("{} to end (`device` under [timeouts] gives it more time)", tool.display());
        let ended = wait::until(&what, within, || process.ended().map_err(failed));
        let status = match ended {
            Ok(status) => status,
            Err(Error::TimedOut(late)) => {
                (self.kill)(process.group());
                let gone = wait::until(&what, DYING, || process.gone().map_err(failed));
                let Err(Error::TimedOut(_)) = gone else { return Err(gone.err().unwrap_or(late.into())) };
                let (program, group) = (tool.to_owned(), process.child.id());
                let stuck = Stuck { gpu, program, group, since };
                tracing::error!(%gpu, "{stuck}");
                seat.keep_for(process, &stuck).map_err(failed)?;
                return Err(failed(io::Error::other(stuck)));
            }
            Err(error) => return Err(error),
        };
        let words = process.words.text();
        tracing::debug!(%gpu, tool = %tool.display(), ?arguments, %status, words, "run");
        Ok(Said { success: status.success(), words })
    }

    fn take_seat(self: &Arc<Self>, gpu: PciAddress, tool: &Path, within: Duration) -> Result<Seat, Error> {
        let going = |state: &mut State| matches!(state.runs.get(&gpu), Some(Run::Going(_))) && !state.closed;
        let waited = self.ended.wait_timeout_while(self.state(), within, going);
        let (mut state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        let refused = |source| Err(Error::Run { program: tool.to_owned(), source });
        if state.closed {
            return refused(io::Error::other("vgpud has ended"));
        }
        match state.runs.get(&gpu) {
            Some(Run::Stuck(stuck)) => refused(io::Error::other(stuck.clone())),
            Some(Run::Going(other)) => {
                let what = format!("{}, which runs for GPU {gpu}, to end", other.display());
                Err(wait::TimedOut { what, within }.into())
            }
            None => {
                state.runs.insert(gpu, Run::Going(tool.to_owned()));
                Ok(Seat { tools: Arc::clone(self), gpu })
            }
        }
    }
}

/// The right to run a tool for a GPU, until it is dropped.
#[derive(Debug)]
struct Seat {
    tools: Arc<Tools>,
    gpu: PciAddress,
}

impl Seat {
    /// Keeps it for what is stuck until that has ended and was reaped.
    fn keep_for(self, mut process: Process, stuck: &Stuck) -> io::Result<()> {
        self.tools.state().runs.insert(self.gpu, Run::Stuck(stuck.clone()));
        self.tools.ended.notify_all();
        let group = stuck.group;
        thread::Builder::new().name(format!("stuck-{}", self.gpu)).spawn(move || {
            let seat = self;
            // As long as the kernel has it; one that cannot be looked at is over.
            while let Ok(None) = process.gone() {
                wait::rest(STUCK_PAUSE);
            }
            tracing::info!(gpu = %seat.gpu, group, "what was stuck has ended");
        })?;
        Ok(())
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.tools.state().runs.remove(&self.gpu);
        self.tools.ended.notify_all();
    }
}

/// A tool that was started, with all that it starts.
#[derive(Debug)]
struct Process {
    child: Child,
    words: Words,
}

impl Process {
    fn start(tool: &Path, arguments: &[String]) -> io::Result<Self> {
        let (reader, writer) = io::pipe()?;
        fcntl(&reader, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
        let mut command = Command::new(tool);
        command.args(arguments).env_clear();
        command.env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").env("LC_ALL", "C").current_dir("/");
        command.stdin(Stdio::null()).stdout(writer.try_clone()?).stderr(writer);
        // What it starts ends with it.
        command.process_group(0);
        // The command holds the pipe's other end, and goes.
        Ok(Self { child: command.spawn()?, words: Words::of(reader) })
    }

    fn group(&self) -> Pid {
        Pid::from_raw(self.child.id().cast_signed())
    }

    /// Its status when it has ended. What it left behind is not waited for.
    fn ended(&mut self) -> io::Result<Option<ExitStatus>> {
        // In this order: what it wrote last is there when it has ended.
        let status = self.child.try_wait()?;
        self.words.take();
        Ok(status)
    }

    /// Whether it was reaped and nothing that it started is there: nobody has the pipe's other end or is in its
    /// group. In the group alone there may be a dead one that nobody reaps, and at the pipe a service.
    fn gone(&mut self) -> io::Result<Option<()>> {
        let is_reaped = self.ended()?.is_some();
        let is_alone = || self.words.is_over || killpg(self.group(), None) == Err(Errno::ESRCH);
        Ok((is_reaped && is_alone()).then_some(()))
    }
}

/// What a tool says: the beginning is kept, and the rest let through, so that it does not wait for a reader.
#[derive(Debug)]
struct Words {
    pipe: io::PipeReader,
    kept: Vec<u8>,
    /// Nobody is left to say anything.
    is_over: bool,
}

impl Words {
    const fn of(pipe: io::PipeReader) -> Self {
        Self { pipe, kept: Vec::new(), is_over: false }
    }

    /// Takes what is there, and no more than a pipe holds some times over.
    fn take(&mut self) {
        let mut part = [0; 16 << 10];
        for _ in 0..64 {
            match self.pipe.read(&mut part) {
                Ok(0) => self.is_over = true,
                Ok(count) => {
                    let room = LONGEST - self.kept.len();
                    self.kept.extend_from_slice(&part[..count.min(room)]);
                    continue;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                // Nothing now; what was read before another error counts.
                Err(_) => {}
            }
            break;
        }
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.kept).trim().to_owned()
    }
}

#[cfg(test)]
mod tests;
