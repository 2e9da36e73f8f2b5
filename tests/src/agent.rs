//! The harness's side of the command channel: a virtio-serial port with `tests/lab/host/agent` at
//! the other end. Orders and answers are lines.
//!
//! ```text
//! harness                     host
//!                             READY | FAILED what did not come up
//! RUN id                      runs jobs/id/run of the share, any number at once
//!                             DONE id exit-code
//! KILL id                     kills that job and all that it started; DONE follows
//! POWEROFF                    the host goes down
//! ```

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

use crate::error::{At, Error, Result};

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Answer {
    Ready,
    Failed(String),
    Done { id: u32, code: i32 },
}

impl Answer {
    fn parse(line: &str) -> Result<Self> {
        let bad = || Error::Protocol { line: line.to_owned() };
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        match word {
            "READY" if rest.is_empty() => Ok(Self::Ready),
            "FAILED" => Ok(Self::Failed(rest.trim().to_owned())),
            "DONE" => {
                let (id, code) = rest.split_once(' ').ok_or_else(bad)?;
                Ok(Self::Done { id: id.parse().map_err(|_| bad())?, code: code.parse().map_err(|_| bad())? })
            }
            _ => Err(bad()),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Order {
    Run(u32),
    Kill(u32),
    PowerOff,
}

impl std::fmt::Display for Order {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Run(id) => write!(f, "RUN {id}"),
            Self::Kill(id) => write!(f, "KILL {id}"),
            Self::PowerOff => write!(f, "POWEROFF -"),
        }
    }
}

/// What the host has said so far.
#[derive(Debug, Default)]
struct Heard {
    greeting: Option<Answer>,
    done: HashMap<u32, i32>,
    /// A line that was no answer; the channel is not to be trusted after it.
    broken: Option<String>,
}

/// The channel. A thread reads the answers until QEMU closes its end.
#[derive(Debug)]
pub(crate) struct Agent {
    stream: Mutex<UnixStream>,
    heard: Arc<(Mutex<Heard>, Condvar)>,
}

impl Agent {
    pub fn new(stream: UnixStream, socket: &Path) -> Result<Self> {
        let reader = stream.try_clone().at("open twice", socket)?;
        let heard = Arc::new((Mutex::new(Heard::default()), Condvar::new()));
        let listener = Arc::clone(&heard);
        thread::spawn(move || listen(reader, &listener));
        Ok(Self { stream: Mutex::new(stream), heard })
    }

    /// Sends an order. That QEMU is gone is no error here: whoever waits for the answer looks at
    /// QEMU too and has more to say about it.
    pub fn send(&self, order: Order) {
        let mut stream = lock(&self.stream);
        let _ = stream.write_all(format!("{order}\n").as_bytes());
    }

    pub fn greeting(&self) -> Result<Option<Answer>> {
        let heard = lock(&self.heard.0);
        heard.check()?;
        Ok(heard.greeting.clone())
    }

    /// The exit code of a job that has ended; waits a moment for it.
    pub fn done(&self, id: u32, moment: std::time::Duration) -> Result<Option<i32>> {
        let (heard, news) = &*self.heard;
        let mut heard = lock(heard);
        if !heard.done.contains_key(&id) {
            heard = news.wait_timeout(heard, moment).unwrap_or_else(PoisonError::into_inner).0;
        }
        heard.check()?;
        Ok(heard.done.remove(&id))
    }
}

impl Heard {
    fn take(&mut self, line: &str) {
        match Answer::parse(line) {
            Ok(Answer::Done { id, code }) => {
                self.done.insert(id, code);
            }
            Ok(greeting) => self.greeting = Some(greeting),
            Err(_) => self.broken = Some(line.to_owned()),
        }
    }

    fn check(&self) -> Result<()> {
        match &self.broken {
            Some(line) => Err(Error::Protocol { line: line.clone() }),
            None => Ok(()),
        }
    }
}

fn listen(stream: UnixStream, heard: &(Mutex<Heard>, Condvar)) {
    for line in BufReader::new(stream).lines() {
        let Ok(line) = line else { break };
        lock(&heard.0).take(line.trim_end());
        heard.1.notify_all();
    }
}

/// A panic of another thread leaves nothing half done in these values.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
