//! QEMU from its start to its end.
//!
//! One thread starts QEMU, waits for its end and reaps it. It is the same thread all along because
//! the kernel sends the parent-death signal when the *thread* that started the child ends. Two
//! more read its console and its stderr. QEMU is reaped under the lock under which it is signalled,
//! so that no signal ever reaches a stranger that got its process number.

use super::{ConsoleInput, MicroVm, Outcome, VmError, check, console, outcome::StopAsked};
use crate::Error;
use nix::{
    errno::Errno,
    sys::{
        prctl::set_pdeathsig,
        resource::{Resource, getrlimit, setrlimit},
        signal::{Signal, kill},
        wait::{Id, WaitPidFlag, waitid},
    },
    unistd::{Pid, getppid},
};
use std::{
    env, io,
    os::unix::process::CommandExt,
    path::Path,
    process::{Child, Command, Stdio},
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        mpsc::{self, Receiver},
    },
    thread,
    time::{Duration, Instant},
};
use vgpud_mdev::Host;

/// A VMM is not killed while it starts (NVIDIA's vGPU plug-in wedges its VF for good).
const STARTING: Duration = Duration::from_secs(5);
/// How long SIGKILL may take: the kernel unpins the guest's memory and resets the device.
const DYING: Duration = Duration::from_secs(30);
/// How long the ends of the output may come after QEMU's own end, where a child of it still has them.
const DRAINING: Duration = Duration::from_secs(2);

/// A QEMU that runs. Shared by reference: one thread may wait while another stops it. Dropping it
/// asks QEMU to end.
#[derive(Debug)]
pub struct RunningVm {
    pid: u32,
    started: Instant,
    starting: Duration,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    ended: Condvar,
}

#[derive(Clone, Debug)]
enum State {
    Running(StopAsked),
    Ended(Result<Outcome, Errno>),
}

impl MicroVm {
    /// Checks, then starts QEMU. `console` gets every piece of the guest's serial console as it
    /// comes, on a thread of its own. QEMU is asked to end (SIGTERM) when this process dies, and
    /// gets the highest memory lock limit that this process may give.
    ///
    /// # Errors
    /// Those of [`Self::check`], and where QEMU cannot be started. What QEMU finds wrong after that
    /// is an [`Outcome::Failed`].
    pub fn spawn(
        &self,
        host: &Host,
        console: impl FnMut(&[u8]) + Send + 'static,
    ) -> Result<RunningVm, Error> {
        self.check(host)?;
        let program = check::find_program(&self.qemu, env::var_os("PATH").as_deref())?;
        let mut command = Command::new(&program);
        command.args(&self.command_line()[1..]).stdout(Stdio::piped()).stderr(Stdio::piped());
        match self.input {
            ConsoleInput::Closed => command.stdin(Stdio::null()).process_group(0),
            ConsoleInput::Inherited => command.stdin(Stdio::inherit()),
        };
        prepare(&mut command);
        start(command, &program, console)
    }
}

/// What the new process does to itself before it becomes QEMU.
#[allow(unsafe_code)]
fn prepare(command: &mut Command) {
    let parent = Pid::this();
    let before_exec = move || {
        set_pdeathsig(Signal::SIGTERM)?;
        if getppid() != parent {
            // The parent died before the signal was arranged.
            return Err(io::Error::from(Errno::ESRCH));
        }
        let (_, hard) = getrlimit(Resource::RLIMIT_MEMLOCK)?;
        setrlimit(Resource::RLIMIT_MEMLOCK, hard, hard)?;
        Ok(())
    };
    // SAFETY: between fork and exec only async-signal-safe calls are allowed. The closure makes four
    // system calls (prctl, getppid, getrlimit, setrlimit), allocates nothing and takes no lock; the
    // errors it builds are bare numbers.
    unsafe { command.pre_exec(before_exec) };
}

fn start(
    mut command: Command,
    program: &Path,
    console: impl FnMut(&[u8]) + Send + 'static,
) -> Result<RunningVm, Error> {
    let failed = |source| VmError::Start { program: program.to_owned(), source };
    let shared = Arc::new(Shared { state: Mutex::new(State::Running(StopAsked::No)), ended: Condvar::new() });
    let (tell, told) = mpsc::channel();
    let theirs = Arc::clone(&shared);
    let live = move || {
        let started = command.spawn().and_then(|mut child| match read_outputs(&mut child, console) {
            Ok(outputs) => Ok((child, outputs)),
            Err(error) => {
                // Only where the system has no threads left. It has not opened the device yet.
                child.kill().and_then(|()| child.wait())?;
                Err(error)
            }
        });
        match started {
            Ok((child, outputs)) => {
                let _ = tell.send(Ok(child.id()));
                theirs.live(child, &outputs);
            }
            Err(error) => drop(tell.send(Err(error))),
        }
    };
    thread::Builder::new().name("qemu".into()).spawn(live).map_err(failed)?;
    let pid = told.recv().unwrap_or_else(|_| Err(io::ErrorKind::BrokenPipe.into())).map_err(failed)?;
    Ok(RunningVm { pid, started: Instant::now(), starting: STARTING, shared })
}

/// The results of the threads that read QEMU's outputs.
struct Outputs {
    panic: Receiver<Option<String>>,
    stderr: Receiver<String>,
}

fn read_outputs(child: &mut Child, each: impl FnMut(&[u8]) + Send + 'static) -> io::Result<Outputs> {
    let missing = || io::Error::from(io::ErrorKind::BrokenPipe);
    let stdout = child.stdout.take().ok_or_else(missing)?;
    let stderr = child.stderr.take().ok_or_else(missing)?;
    Ok(Outputs {
        panic: in_thread("qemu-console", move || console::watch(stdout, each))?,
        stderr: in_thread("qemu-stderr", move || console::collect(stderr))?,
    })
}

fn in_thread<T: Send + 'static>(
    name: &str,
    work: impl FnOnce() -> T + Send + 'static,
) -> io::Result<Receiver<T>> {
    let (tell, told) = mpsc::channel();
    thread::Builder::new().name(name.into()).spawn(move || drop(tell.send(work())))?;
    Ok(told)
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for QEMU's end and says how it ended.
    fn live(&self, mut child: Child, outputs: &Outputs) {
        let pid = process(child.id());
        let ended = loop {
            match waitid(Id::Pid(pid), WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT) {
                Err(Errno::EINTR) => {}
                other => break other.map(drop),
            }
        };
        let panic = outputs.panic.recv_timeout(DRAINING).unwrap_or_default();
        let stderr = outputs.stderr.recv_timeout(DRAINING).unwrap_or_default();
        let mut state = self.lock();
        let asked = match *state {
            State::Running(asked) => asked,
            State::Ended(_) => StopAsked::No,
        };
        let number = |error: io::Error| Errno::from_raw(error.raw_os_error().unwrap_or_default());
        let status = ended.and_then(|()| child.wait().map_err(number));
        *state = State::Ended(status.map(|status| Outcome::judge(status, &stderr, panic, asked)));
        self.ended.notify_all();
    }
}

fn process(pid: u32) -> Pid {
    // The kernel's process numbers fit (PID_MAX_LIMIT is 2^22).
    Pid::from_raw(i32::try_from(pid).unwrap_or(i32::MAX))
}

impl RunningVm {
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Waits for the end, at most `within` where given; none when that time is up.
    ///
    /// # Errors
    /// Where the process cannot be waited for.
    pub fn wait(&self, within: Option<Duration>) -> Result<Option<Outcome>, Error> {
        let running = |state: &mut State| matches!(state, State::Running(_));
        let guard = self.shared.lock();
        let state = match within {
            None => self.shared.ended.wait_while(guard, running).unwrap_or_else(PoisonError::into_inner),
            Some(within) => {
                let waited = self.shared.ended.wait_timeout_while(guard, within, running);
                waited.unwrap_or_else(PoisonError::into_inner).0
            }
        };
        match &*state {
            State::Running(_) => Ok(None),
            State::Ended(Ok(outcome)) => Ok(Some(outcome.clone())),
            State::Ended(Err(errno)) => Err(VmError::Wait { pid: self.pid, source: (*errno).into() }.into()),
        }
    }

    /// Asks QEMU to end (SIGTERM), and kills it when it has not within `patience`; never by SIGKILL
    /// in its first 5 s, which wedges a vGPU whose host plug-in is just starting.
    ///
    /// # Errors
    /// Where it outlives SIGKILL, as a process does that the kernel keeps busy.
    pub fn stop(&self, patience: Duration) -> Result<Outcome, Error> {
        self.signal(Signal::SIGTERM)?;
        let patience = patience.max(self.starting.saturating_sub(self.started.elapsed()));
        if let Some(outcome) = self.wait(Some(patience))? {
            return Ok(outcome);
        }
        tracing::warn!(pid = self.pid, "QEMU did not end when asked and is killed");
        self.signal(Signal::SIGKILL)?;
        let undying = VmError::Undying { pid: self.pid, seconds: DYING.as_secs() };
        self.wait(Some(DYING))?.ok_or_else(|| undying.into())
    }

    /// Sends a signal unless QEMU has ended.
    fn signal(&self, signal: Signal) -> Result<(), Error> {
        let mut state = self.shared.lock();
        if let State::Running(asked) = &mut *state {
            *asked = StopAsked::Yes;
            kill(process(self.pid), signal)
                .map_err(|errno| VmError::Wait { pid: self.pid, source: errno.into() })?;
        }
        Ok(())
    }
}

impl Drop for RunningVm {
    fn drop(&mut self) {
        if let Err(error) = self.signal(Signal::SIGTERM) {
            tracing::warn!(pid = self.pid, %error, "QEMU could not be asked to end");
        }
    }
}

#[cfg(test)]
mod tests;
