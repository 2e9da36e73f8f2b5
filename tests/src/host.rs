//! A running lab host: programs in it, files to and from it, and its end.
//!
//! Every wait has a deadline and looks at QEMU too, so a host that panics, hangs or is killed ends
//! in an error with the last lines of its console, never in a hang. The host dies with this process
//! (see [`crate::qemu`]).
//!
//! Files of a run: `runs/ID/` in the cache has `console.log`, the agent's socket and, until the host
//! is dropped, `share/`, which the host sees as /mnt/host. The newest logs stay.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use crate::accelerator::Accelerator;
use crate::agent::{Agent, Answer, Order};
use crate::cache::{Cache, remove, try_lock};
use crate::error::{At, Error, Result};
use crate::job::{Job, Output, Stream};
use crate::log_file;
use crate::progress::Progress;
use crate::qemu::{self, Images, Process, RunFiles};
use crate::spec::{Console, HostSpec};
use crate::terminal;
use crate::wait::poll;

/// Where the host sees its share.
pub const SHARE: &str = "/mnt/host";

const SHUTDOWN_LIMIT: Duration = Duration::from_secs(30);
/// For a killed job to be reported, and for QEMU to connect and to end.
const MOMENT: Duration = Duration::from_secs(15);
/// How often a running job's output is looked at.
const GLANCE: Duration = Duration::from_millis(30);
/// How many runs' logs stay.
const KEPT_RUNS: usize = 30;

/// A host that is up. Dropping it kills it; [`Host::shutdown`] is the clean end.
#[derive(Debug)]
pub struct Host {
    process: Mutex<Process>,
    agent: Agent,
    files: RunFiles,
    next_job: AtomicU32,
    /// Locked while the run is alive, so that others do not remove it.
    _lock: File,
    _terminal: Option<terminal::Restore>,
}

impl Host {
    pub(crate) fn boot(
        cache: &Cache,
        images: &Images<'_>,
        spec: &HostSpec,
        modules: &str,
        accelerator: &Accelerator,
        progress: Progress,
    ) -> Result<Self> {
        remove_old_runs(&cache.runs())?;
        let (files, lock) = new_run(&cache.runs())?;
        let step = progress.step(format!(
            "lab host ({} VFIO, {}, {})",
            spec.vfio,
            if spec.gpus.is_empty() { "no GPU".to_owned() } else { spec.gpus.join(" ") },
            match accelerator {
                Accelerator::Kvm => "KVM",
                Accelerator::Emulation { .. } => "software emulation",
            }
        ));
        let listener = UnixListener::bind(&files.socket).at("listen at", &files.socket)?;
        listener.set_nonblocking(true).at("set up", &files.socket)?;
        let terminal = (spec.console == Console::Terminal).then(terminal::Restore::new);
        let command = qemu::host(images, &files, spec, modules, accelerator);
        let mut process = Process::start(command, spec.console)?;
        let connected = poll("QEMU to connect to the agent's socket", MOMENT, || match listener.accept() {
            Ok((stream, _)) => Ok(Some(stream)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock && !process.ended() => Ok(None),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Err(down("starting", &files.console)),
            Err(error) => Err(error).at("accept at", &files.socket),
        });
        let agent = connected.and_then(|stream| {
            stream.set_nonblocking(false).at("set up", &files.socket)?;
            Agent::new(stream, &files.socket)
        });
        let agent = match agent {
            Ok(agent) => agent,
            Err(error) => {
                process.kill();
                return Err(error);
            }
        };
        let host = Self {
            process: Mutex::new(process),
            agent,
            files,
            next_job: AtomicU32::new(1),
            _lock: lock,
            _terminal: terminal,
        };
        host.wait_until_up(spec.boot_limit)?;
        step.done();
        Ok(host)
    }

    fn wait_until_up(&self, limit: Duration) -> Result<()> {
        let greeting = poll("the lab host to come up", limit, || {
            let greeting = self.agent.greeting()?;
            if greeting.is_none() && self.process().ended() {
                return Err(self.down("coming up"));
            }
            Ok(greeting)
        });
        match greeting {
            Ok(Answer::Failed(trouble)) => Err(Error::HostTrouble {
                trouble,
                console: self.files.console.clone(),
                tail: log_file::tail(&self.files.console),
            }),
            Ok(_) => Ok(()),
            Err(error) => Err(self.with_console(error)),
        }
    }

    /// The folder that the host sees as [`SHARE`].
    #[must_use]
    pub fn share(&self) -> &Path {
        &self.files.share
    }

    /// The log of the host's console.
    #[must_use]
    pub fn console(&self) -> &Path {
        &self.files.console
    }

    /// Puts a program into the host's `/mnt/host/bin` and returns its path there.
    ///
    /// # Errors
    /// The file could not be copied.
    pub fn install(&self, program: &Path) -> Result<String> {
        let name = program.file_name().unwrap_or_default();
        let target = self.share().join("bin").join(name);
        fs::copy(program, &target).at("copy into the share", program)?;
        Ok(format!("{SHARE}/bin/{}", name.to_string_lossy()))
    }

    /// Runs a program to its end. A bad exit code is no error here; see [`Output::success`].
    ///
    /// # Errors
    /// The job's deadline passed (the job is killed), or the host went down.
    pub fn run(&self, job: &Job) -> Result<Output> {
        self.run_streaming(job, |_, _| {})
    }

    /// Runs a program to its end and hands on each line when it comes.
    ///
    /// # Errors
    /// Like [`Host::run`].
    pub fn run_streaming(&self, job: &Job, line: impl FnMut(Stream, &str)) -> Result<Output> {
        self.start(job)?.wait_streaming(line)
    }

    /// Starts a program and lets it run; any number can at once.
    ///
    /// # Errors
    /// The job's files could not be written.
    pub fn start(&self, job: &Job) -> Result<Running<'_>> {
        let id = self.next_job.fetch_add(1, Ordering::Relaxed);
        let folder = self.share().join("jobs").join(id.to_string());
        fs::create_dir_all(&folder).at("create", &folder)?;
        let script = folder.join("run");
        fs::write(&script, job.to_script()).at("write", script)?;
        for stream in ["stdout", "stderr"] {
            let path = folder.join(stream);
            File::create(&path).at("create", path)?;
        }
        self.agent.send(Order::Run(id));
        Ok(Running {
            host: self,
            job: job.clone(),
            id,
            begun: Instant::now(),
            stdout: Tail::new(folder.join("stdout")),
            stderr: Tail::new(folder.join("stderr")),
            ended: false,
        })
    }

    /// Waits, without a deadline, until the host goes down by itself: a person is at its console.
    ///
    /// # Errors
    /// Never now; kept fallible like every other wait.
    pub fn wait_for_end(self) -> Result<()> {
        poll("the lab host's end", Duration::MAX, || Ok(self.process().ended().then_some(())))
    }

    /// Powers the host off.
    ///
    /// # Errors
    /// It did not go down in time; it is killed then.
    pub fn shutdown(self) -> Result<()> {
        self.agent.send(Order::PowerOff);
        poll("the lab host to power off", SHUTDOWN_LIMIT, || Ok(self.process().ended().then_some(())))
            .map_err(|error| self.with_console(error))
    }

    fn process(&self) -> MutexGuard<'_, Process> {
        self.process.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn down(&self, doing: &str) -> Error {
        down(doing, &self.files.console)
    }

    /// Adds the console's end to an error that has nothing else to show.
    fn with_console(&self, error: Error) -> Error {
        match error {
            Error::Deadline { what, limit, tail } if tail.is_empty() => Error::Deadline {
                what,
                limit,
                tail: format!(
                    "  console ({}):\n{}",
                    self.files.console.display(),
                    log_file::tail(&self.files.console)
                ),
            },
            other => other,
        }
    }
}

fn down(doing: &str, console: &Path) -> Error {
    Error::HostDown { doing: doing.to_owned(), console: console.to_owned(), tail: log_file::tail(console) }
}

impl Drop for Host {
    fn drop(&mut self) {
        let process = self.process.get_mut().unwrap_or_else(PoisonError::into_inner);
        process.kill();
        // The share must not be removed under a QEMU that still writes to it. What is left behind
        // when this fails is removed with the run.
        let _ = poll("QEMU's end", MOMENT, || Ok(process.ended().then_some(())));
        let _ = remove(&self.files.share);
    }
}

/// A program that runs in the host. Dropping it kills the program.
#[derive(Debug)]
pub struct Running<'host> {
    host: &'host Host,
    job: Job,
    id: u32,
    begun: Instant,
    stdout: Tail,
    stderr: Tail,
    ended: bool,
}

impl Running<'_> {
    /// Waits for the end.
    ///
    /// # Errors
    /// Like [`Host::run`].
    pub fn wait(self) -> Result<Output> {
        self.wait_streaming(|_, _| {})
    }

    /// Waits for the end and hands on each line when it comes.
    ///
    /// # Errors
    /// Like [`Host::run`].
    pub fn wait_streaming(mut self, mut line: impl FnMut(Stream, &str)) -> Result<Output> {
        loop {
            let code = self.host.agent.done(self.id, GLANCE)?;
            let last = code.is_some();
            self.stdout.pass_on(last, |text| line(Stream::Stdout, text))?;
            self.stderr.pass_on(last, |text| line(Stream::Stderr, text))?;
            if let Some(code) = code {
                self.ended = true;
                return Ok(Output {
                    command: self.job.command(),
                    code,
                    stdout: self.stdout.text(),
                    stderr: self.stderr.text(),
                    took: self.begun.elapsed(),
                });
            }
            if self.host.process().ended() {
                self.ended = true;
                return Err(self.host.down(&format!("running '{}'", self.job.command())));
            }
            if self.begun.elapsed() > self.job.deadline {
                return Err(self.too_late());
            }
        }
    }

    /// What the program has written to stdout so far.
    ///
    /// # Errors
    /// The share could not be read.
    pub fn stdout(&mut self) -> Result<String> {
        self.stdout.read()?;
        Ok(self.stdout.text())
    }

    /// What the program has written to stderr so far.
    ///
    /// # Errors
    /// The share could not be read.
    pub fn stderr(&mut self) -> Result<String> {
        self.stderr.read()?;
        Ok(self.stderr.text())
    }

    /// Kills the program and all of its session, and waits until it is gone.
    ///
    /// # Errors
    /// The agent did not report its end.
    pub fn kill(mut self) -> Result<Output> {
        self.host.agent.send(Order::Kill(self.id));
        self.job.deadline = self.begun.elapsed() + MOMENT;
        self.wait()
    }

    fn too_late(&mut self) -> Error {
        self.host.agent.send(Order::Kill(self.id));
        let reported = poll("the killed job's end", MOMENT, || self.host.agent.done(self.id, GLANCE));
        self.ended = true;
        let mut tail = format!(
            "  stdout:\n{}\n  stderr:\n{}\n  console ({}):\n{}",
            log_file::last_lines(&self.stdout.text()),
            log_file::last_lines(&self.stderr.text()),
            self.host.console().display(),
            log_file::tail(self.host.console())
        );
        if reported.is_err() {
            tail.push_str("\n  and the host does not answer any more");
        }
        Error::Deadline {
            what: format!("'{}' in the lab host", self.job.command()),
            limit: self.job.deadline,
            tail,
        }
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        if !self.ended {
            self.host.agent.send(Order::Kill(self.id));
        }
    }
}

/// A file that grows, read as it does.
#[derive(Debug)]
struct Tail {
    path: PathBuf,
    file: Option<File>,
    bytes: Vec<u8>,
    /// How many bytes have been handed on as lines.
    passed: usize,
}

impl Tail {
    fn new(path: PathBuf) -> Self {
        Self { path, file: None, bytes: Vec::new(), passed: 0 }
    }

    fn read(&mut self) -> Result<()> {
        let file = match &mut self.file {
            Some(file) => file,
            none => none.insert(File::open(&self.path).at("open", &self.path)?),
        };
        file.read_to_end(&mut self.bytes).at("read", &self.path)?;
        Ok(())
    }

    /// Reads on and hands on whole lines; at the end also what has no end of line.
    fn pass_on(&mut self, last: bool, mut line: impl FnMut(&str)) -> Result<()> {
        self.read()?;
        while let Some(length) = self.bytes[self.passed..].iter().position(|byte| *byte == b'\n') {
            let end = self.passed + length;
            line(&String::from_utf8_lossy(&self.bytes[self.passed..end]));
            self.passed = end + 1;
        }
        if last && self.passed < self.bytes.len() {
            line(&String::from_utf8_lossy(&self.bytes[self.passed..]));
            self.passed = self.bytes.len();
        }
        Ok(())
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes).into_owned()
    }
}

/// A fresh folder for a run, and the lock that says it is alive.
fn new_run(runs: &Path) -> Result<(RunFiles, File)> {
    static NEXT: AtomicU32 = AtomicU32::new(1);
    let folder = runs.join(format!("{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed)));
    remove(&folder)?;
    fs::create_dir(&folder).at("create", &folder)?;
    let lock = folder.join("lock");
    let lock = File::create(&lock).at("create", lock)?;
    lock.lock_shared().at("lock", &folder)?;
    let share = folder.join("share");
    for part in ["bin", "jobs"] {
        let path = share.join(part);
        fs::create_dir_all(&path).at("create", path)?;
    }
    let files = RunFiles { share, socket: folder.join("agent"), console: folder.join("console.log") };
    File::create(&files.console).at("create", &files.console)?;
    Ok((files, lock))
}

/// Removes the oldest runs that are over, and the shares of all that are.
fn remove_old_runs(runs: &Path) -> Result<()> {
    let mut over = Vec::new();
    for entry in fs::read_dir(runs).at("list", runs)? {
        let folder = entry.at("list", runs)?.path();
        // A run without a lock is being made, or was interrupted in that very moment.
        let Ok(lock) = File::open(folder.join("lock")) else {
            continue;
        };
        if try_lock(&lock, &folder)? {
            let age = fs::metadata(&folder)
                .and_then(|metadata| metadata.modified())
                .unwrap_or(SystemTime::UNIX_EPOCH);
            over.push((age, folder));
        }
    }
    over.sort_by_key(|(age, _)| std::cmp::Reverse(*age));
    for (number, (_, folder)) in over.into_iter().enumerate() {
        if number < KEPT_RUNS {
            remove(&folder.join("share"))?;
        } else {
            remove(&folder)?;
        }
    }
    Ok(())
}
