//! A running lab host: programs in it, files to and from it, and its end.
//!
//! Every wait has a deadline and looks at QEMU too, so a host that panics, hangs or is killed ends
//! in an error with the last lines of its console, never in a hang. The host dies with this process
//! (see [`crate::qemu`]).

use std::fs;
use std::io;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::accelerator::Accelerator;
use crate::agent::{Agent, Answer, Order};
use crate::cache::{Cache, remove};
use crate::error::{At, Error, Result};
use crate::job::{Job, Output, Stream};
use crate::log_file;
use crate::progress::Progress;
use crate::qemu::{self, Images, Process};
use crate::run_folder::RunFolder;
use crate::running::Running;
use crate::spec::{Console, HostSpec};
use crate::terminal;
use crate::wait::poll;

/// Where the host sees its share.
pub const SHARE: &str = "/mnt/host";
/// Where the host sees the disk that outlives it ([`HostSpec::disk`]).
pub const DISK: &str = "/mnt/disk";

const SHUTDOWN_LIMIT: Duration = Duration::from_secs(30);
/// For QEMU to connect and to end.
const MOMENT: Duration = Duration::from_secs(15);

/// A host that is up. Dropping it kills it; [`Host::shutdown`] is the clean end.
#[derive(Debug)]
pub struct Host {
    process: Mutex<Process>,
    pub(crate) agent: Agent,
    files: RunFolder,
    next_job: AtomicU32,
    _terminal: Option<terminal::Restore>,
}

impl Host {
    pub(crate) fn boot(
        cache: &Cache,
        images: &Images<'_>,
        spec: &HostSpec,
        accelerator: &Accelerator,
        progress: Progress,
    ) -> Result<Self> {
        let files = RunFolder::new(&cache.runs())?;
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
        let command = qemu::host(images, &files, spec, accelerator);
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
        let running = Running::new(self, job.clone(), id, &folder)?;
        self.agent.send(Order::Run(id));
        Ok(running)
    }

    /// Waits, without a deadline, until the host goes down by itself: a person is at its console.
    ///
    /// # Errors
    /// None is known.
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

    /// Ends it at once, as when the power fails: what its kernel has not written to a disk is lost.
    /// What it has written is there for the next host: QEMU's own writes outlive it.
    ///
    /// # Errors
    /// QEMU did not end.
    pub fn cut_power(self) -> Result<()> {
        self.process().kill();
        poll("QEMU's end", MOMENT, || Ok(self.process().ended().then_some(())))
    }

    pub(crate) fn process(&self) -> MutexGuard<'_, Process> {
        self.process.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn down(&self, doing: &str) -> Error {
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
