//! Makes a running process make system calls, by ptrace(2), and sees what comes of them: a test of
//! what the process may do that needs no help from its program. For x86-64.
//!
//! A thread is stopped inside a call that it waits in. Its registers are set to another call, one
//! instruction is stepped, and the registers are put back. The thread goes on as if nothing had been.

mod attempts;
mod report;
mod scene;

pub use attempts::{Attempt, Expected, Ground};
use attempts::{attempts, lookout_attempts};
pub use report::{Report, deadly_attempts, lookout, survived, try_one};
pub use scene::{Scene, child, excess, landlock, status};

use crate::{
    error::{At, Result},
    wait::poll,
};
use nix::{
    errno::Errno,
    libc::user_regs_struct,
    sys::{
        ptrace,
        signal::Signal,
        wait::{Id, WaitPidFlag, WaitStatus, waitid, waitpid},
    },
    unistd::Pid,
};
use std::{fs::File, os::unix::fs::FileExt, path::PathBuf, time::Duration};

const LIMIT: Duration = Duration::from_secs(60);
/// The instruction `syscall`.
const SYSCALL: [u8; 2] = [0x0f, 0x05];
/// Arguments lie this far below the stack's end, beyond what the thread may use without moving it.
const BELOW: u64 = 4096;

/// An argument of a call.
#[derive(Clone, Debug)]
pub enum Argument {
    Number(i64),
    /// Bytes that the argument points to.
    Bytes(Vec<u8>),
}

impl Argument {
    /// A text that ends with zero, as the kernel takes paths.
    #[must_use]
    pub fn text(text: impl AsRef<std::ffi::OsStr>) -> Self {
        let mut bytes = text.as_ref().as_encoded_bytes().to_vec();
        bytes.push(0);
        Self::Bytes(bytes)
    }
}

impl From<i32> for Argument {
    fn from(number: i32) -> Self {
        Self::Number(number.into())
    }
}

impl From<i64> for Argument {
    fn from(number: i64) -> Self {
        Self::Number(number)
    }
}

/// What came of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Returned(i64),
    Failed(Errno),
    /// The kernel ended the process.
    Killed(Signal),
}

/// One stopped thread. It goes on when this is dropped.
#[derive(Debug)]
pub struct Trespasser {
    thread: Pid,
    memory: File,
    before: user_regs_struct,
    dead: bool,
}

fn traced<T>(what: &'static str, result: nix::Result<T>) -> Result<T> {
    result.map_err(std::io::Error::from).at(what, "a thread of another process")
}

impl Trespasser {
    /// Stops a thread, which waits in some call.
    ///
    /// # Errors
    /// Where it cannot be traced, or does not wait anywhere.
    pub fn seize(thread: u32) -> Result<Self> {
        let path = PathBuf::from(format!("/proc/{thread}/mem"));
        let memory = File::options().read(true).write(true).open(&path).at("open", &path)?;
        let thread = Pid::from_raw(thread.cast_signed());
        traced("trace", ptrace::seize(thread, ptrace::Options::empty()))?;
        poll("a thread to wait in a call", LIMIT, || {
            traced("interrupt", ptrace::interrupt(thread))?;
            let stopped = stop(thread)?;
            let before = traced("look into", ptrace::getregs(thread))?;
            let mut code = [0; 2];
            let inside = memory.read_exact_at(&mut code, before.rip - 2).is_ok() && code == SYSCALL;
            if stopped != Outcome::Returned(0) || !inside || before.orig_rax == u64::MAX {
                traced("let go on", ptrace::cont(thread, None))?;
                return Ok(None);
            }
            Ok(Some(before))
        })
        .map(|before| Self { thread, memory, before, dead: false })
    }

    /// Lets the thread make a call.
    ///
    /// # Errors
    /// Where the thread cannot be steered; what the call comes to is an outcome.
    pub fn call(&mut self, number: i64, arguments: &[Argument]) -> Result<Outcome> {
        let mut place = (self.before.rsp - BELOW) & !0xf;
        let mut values = [0_u64; 6];
        for (value, argument) in values.iter_mut().zip(arguments) {
            *value = match argument {
                Argument::Number(number) => number.cast_unsigned(),
                Argument::Bytes(bytes) => {
                    self.memory.write_all_at(bytes, place).at("write into", "another process")?;
                    let here = place;
                    place += (bytes.len() as u64).next_multiple_of(16);
                    here
                }
            };
        }
        let [rdi, rsi, rdx, r10, r8, r9] = values;
        let registers = user_regs_struct {
            rip: self.before.rip - 2,
            rax: number.cast_unsigned(),
            // No call that would have to be begun again.
            orig_rax: u64::MAX,
            rdi,
            rsi,
            rdx,
            r10,
            r8,
            r9,
            ..self.before
        };
        traced("steer", ptrace::setregs(self.thread, registers))?;
        traced("step", ptrace::step(self.thread, None))?;
        match stop(self.thread)? {
            killed @ Outcome::Killed(_) => {
                self.dead = true;
                Ok(killed)
            }
            _ => {
                let value = traced("look into", ptrace::getregs(self.thread))?.rax.cast_signed();
                // Errors are the last page of numbers (linux/err.h).
                Ok(match i32::try_from(value) {
                    Ok(error @ -4095..=-1) => Outcome::Failed(Errno::from_raw(-error)),
                    _ => Outcome::Returned(value),
                })
            }
        }
    }
}

/// Waits until the thread stops, or its process ends, which is left for its parent to see.
fn stop(thread: Pid) -> Result<Outcome> {
    let any = WaitPidFlag::WEXITED | WaitPidFlag::WSTOPPED | WaitPidFlag::__WALL | WaitPidFlag::WNOHANG;
    poll("a traced thread to stop", LIMIT, || {
        match traced("wait for", waitid(Id::Pid(thread), any | WaitPidFlag::WNOWAIT))? {
            WaitStatus::StillAlive => Ok(None),
            WaitStatus::Signaled(_, signal, _) => Ok(Some(Outcome::Killed(signal))),
            WaitStatus::Exited(..) => Ok(Some(Outcome::Killed(Signal::SIGKILL))),
            _ => {
                let flags = WaitPidFlag::__WALL | WaitPidFlag::WNOHANG;
                traced("wait for", waitpid(thread, Some(flags)))?;
                Ok(Some(Outcome::Returned(0)))
            }
        }
    })
}

impl Drop for Trespasser {
    fn drop(&mut self) {
        if !self.dead {
            // Where it is gone meanwhile there is nothing to put back.
            let _ = ptrace::setregs(self.thread, self.before);
            let _ = ptrace::detach(self.thread, None);
        }
    }
}

/// The threads of a process.
///
/// # Errors
/// Where it is gone.
pub fn threads(process: u32) -> Result<Vec<u32>> {
    let path = PathBuf::from(format!("/proc/{process}/task"));
    let entries = std::fs::read_dir(&path).at("read", &path)?;
    let names = entries.map(|entry| Ok(entry.at("read", &path)?.file_name()));
    names.map(|name: Result<_>| Ok(name?.to_string_lossy().parse().unwrap_or_default())).collect()
}
