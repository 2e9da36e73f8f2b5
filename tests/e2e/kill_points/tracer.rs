//! Runs vgpud, as it is, under ptrace(2): sees every call before the kernel executes it, and kills at
//! the one that was asked for. A process killed in such a stop never makes its call, so killing at
//! call n and at call n + 1 are the two sides of call n.
//!
//! All requests to a tracee have to come from the thread that traces it, and that thread waits for no
//! other children (`__WNOTHREAD`): each traced vgpud has a thread of its own.

use super::call::{Call, Entry, Maker, Places};
use nix::{
    errno::Errno,
    libc,
    sys::{
        ptrace::{self, Options},
        signal::{Signal, kill},
        wait::{WaitPidFlag, WaitStatus, waitpid},
    },
    unistd::Pid,
};
use std::{
    collections::HashMap,
    fs,
    process::{Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::{self, Receiver},
    },
    thread,
    time::Duration,
};

/// Whom to kill at a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Victim {
    Daemon,
    /// The device process that makes it, while vgpud lives.
    DeviceProcess,
}

/// The call to kill at.
#[derive(Clone, Debug)]
pub struct Point {
    pub call: Call,
    /// How many calls alike come before it. Not its place among all calls: how many pages of the
    /// ledger a transaction writes differs from run to run.
    pub before: usize,
    pub victim: Victim,
}

/// What a run came to.
#[derive(Debug, Default)]
pub struct Trace {
    pub calls: Vec<Call>,
    /// Whether it came to its point.
    pub killed: bool,
}

/// A vgpud that runs under the tracer.
#[derive(Debug)]
pub struct Traced {
    pid: Pid,
    dead: Arc<AtomicBool>,
    trace: Receiver<Trace>,
}

/// For the kernel to take a killed process apart, on a busy machine.
const END: Duration = Duration::from_secs(120);

impl Traced {
    /// Starts `vgpud`, a command without redirections, with its messages in the log.
    pub fn start(vgpud: &Command, places: &Places, point: Option<Point>) -> Self {
        // It waits to be traced before it becomes vgpud.
        let mut command = Command::new("sh");
        command.args(["-c", "kill -STOP $$; exec \"$@\"", "sh"]).arg(vgpud.get_program());
        command.args(vgpud.get_args());
        let log = fs::File::options().create(true).append(true).open(&places.log).unwrap();
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        let (places, dead) = (places.clone(), Arc::new(AtomicBool::new(false)));
        let (started, start) = mpsc::channel();
        let (ended, trace) = mpsc::channel();
        let end = Arc::clone(&dead);
        thread::spawn(move || {
            let mut tracer = Tracer::begin(&mut command, places, point);
            started.send(tracer.daemon).unwrap();
            tracer.follow(&end);
            // The test may have failed and gone meanwhile.
            let _ = ended.send(tracer.trace);
        });
        Self { pid: start.recv_timeout(END).expect("vgpud starts under the tracer"), dead, trace }
    }

    /// Whether vgpud, not only a device process, has come to its end.
    pub fn is_dead(&self) -> bool {
        self.dead.load(Ordering::Acquire)
    }

    pub fn signal(&self, signal: Signal) {
        if !self.is_dead() {
            // It may end right now.
            let _ = kill(self.pid, signal);
        }
    }

    /// What it did, once it and its device processes have ended.
    pub fn trace(self) -> Trace {
        self.trace.recv_timeout(END).expect("the end of the traced vgpud and its device processes")
    }
}

impl Drop for Traced {
    fn drop(&mut self) {
        self.signal(Signal::SIGKILL);
    }
}

struct Tracer {
    daemon: Pid,
    places: Places,
    point: Option<Point>,
    /// The process of each thread.
    processes: HashMap<Pid, Pid>,
    /// A thread of a device process that stays at its call until vgpud is dead, and by that ends too
    /// (`PR_SET_PDEATHSIG`): nothing that it would have done in between comes by chance.
    held: Option<Pid>,
    trace: Trace,
}

impl Tracer {
    fn begin(command: &mut Command, places: Places, point: Option<Point>) -> Self {
        // Never waited for by way of this handle: the loop below does.
        let daemon = Pid::from_raw(command.spawn().unwrap().id().cast_signed());
        let stopped = waitpid(daemon, Some(WaitPidFlag::WUNTRACED)).unwrap();
        assert_eq!(stopped, WaitStatus::Stopped(daemon, Signal::SIGSTOP));
        let options = Options::PTRACE_O_TRACESYSGOOD
            | Options::PTRACE_O_TRACECLONE
            | Options::PTRACE_O_TRACEFORK
            | Options::PTRACE_O_TRACEVFORK
            | Options::PTRACE_O_TRACEEXEC
            | Options::PTRACE_O_EXITKILL;
        ptrace::seize(daemon, options).unwrap();
        kill(daemon, Signal::SIGCONT).unwrap();
        Self { daemon, places, point, processes: HashMap::new(), held: None, trace: Trace::default() }
    }

    /// Until nothing that is traced is left.
    fn follow(&mut self, dead: &AtomicBool) {
        loop {
            let flags = WaitPidFlag::__WALL | WaitPidFlag::__WNOTHREAD;
            let (thread, signal) = match waitpid(None, Some(flags)) {
                Ok(WaitStatus::Exited(pid, _) | WaitStatus::Signaled(pid, ..)) => {
                    self.processes.remove(&pid);
                    if pid == self.daemon {
                        dead.store(true, Ordering::Release);
                        if let Some(thread) = self.held.take() {
                            go_on(thread, None);
                        }
                    }
                    continue;
                }
                Ok(WaitStatus::PtraceSyscall(thread)) => {
                    self.stopped(thread);
                    if self.held == Some(thread) {
                        continue;
                    }
                    (thread, None)
                }
                Ok(WaitStatus::PtraceEvent(thread, ..)) => (thread, None),
                Ok(WaitStatus::Stopped(thread, signal)) => (thread, Some(signal)),
                Ok(other) => unreachable!("waitpid without WNOHANG and WCONTINUED said {other:?}"),
                Err(Errno::EINTR) => continue,
                Err(Errno::ECHILD) => break,
                Err(error) => panic!("waitpid: {error}"),
            };
            go_on(thread, signal);
        }
    }

    /// A thread stands at the entry or the exit of a call.
    fn stopped(&mut self, thread: Pid) {
        // ESRCH: another thread's death took it along.
        let Ok(info) = ptrace::syscall_info(thread) else { return };
        if info.op != libc::PTRACE_SYSCALL_INFO_ENTRY {
            return;
        }
        let Ok(registers) = ptrace::getregs(thread) else { return };
        let process = self.process(thread);
        let by = if process == self.daemon { Maker::Daemon } else { Maker::Device };
        let entry = Entry {
            thread,
            number: registers.orig_rax.cast_signed(),
            arguments: [
                registers.rdi,
                registers.rsi,
                registers.rdx,
                registers.r10,
                registers.r8,
                registers.r9,
            ],
        };
        let Some(call) = entry.call(&self.places, by) else { return };
        if let Some(point) = self.point.as_mut().filter(|point| point.call == call) {
            if point.before == 0 {
                let victim = match point.victim {
                    Victim::Daemon => self.daemon,
                    Victim::DeviceProcess => process,
                };
                if victim != process {
                    self.held = Some(thread);
                }
                kill(victim, Signal::SIGKILL).unwrap();
                self.trace.killed = true;
                self.point = None;
            } else {
                point.before -= 1;
            }
        }
        self.trace.calls.push(call);
    }

    fn process(&mut self, thread: Pid) -> Pid {
        *self.processes.entry(thread).or_insert_with(|| {
            let status = fs::read_to_string(format!("/proc/{thread}/status")).unwrap();
            let line = status.lines().find_map(|line| line.strip_prefix("Tgid:")).unwrap();
            Pid::from_raw(line.trim().parse().unwrap())
        })
    }
}

/// Lets a stopped thread go on to its next stop.
fn go_on(thread: Pid, signal: Option<Signal>) {
    match ptrace::syscall(thread, signal) {
        // ESRCH: it was killed in its stop.
        Ok(()) | Err(Errno::ESRCH) => {}
        Err(error) => panic!("PTRACE_SYSCALL: {error}"),
    }
}
