//! A program that runs in a lab host.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::agent::Order;
use crate::error::{At, Error, Result};
use crate::host::Host;
use crate::job::{Job, Output, Stream};
use crate::log_file;
use crate::wait::poll;

/// For a killed program's end to be reported.
const MOMENT: Duration = Duration::from_secs(15);
/// How often a program's output is looked at.
const GLANCE: Duration = Duration::from_millis(30);

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

impl<'host> Running<'host> {
    /// The agent is to be told after this: it wants the files to be there.
    pub(crate) fn new(host: &'host Host, job: Job, id: u32, folder: &Path) -> Result<Self> {
        Ok(Self {
            host,
            job,
            id,
            begun: Instant::now(),
            stdout: Tail::new(folder.join("stdout"))?,
            stderr: Tail::new(folder.join("stderr"))?,
            ended: false,
        })
    }

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

    /// Kills the program and all that it started, and waits until it is gone.
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
    file: File,
    bytes: Vec<u8>,
    /// How many bytes have been handed on as lines.
    passed: usize,
}

impl Tail {
    /// Makes the file, empty.
    fn new(path: PathBuf) -> Result<Self> {
        File::create(&path).at("create", &path)?;
        Ok(Self { file: File::open(&path).at("open", &path)?, path, bytes: Vec::new(), passed: 0 })
    }

    fn read(&mut self) -> Result<()> {
        self.file.read_to_end(&mut self.bytes).at("read", &self.path)?;
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

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Write;

    use super::*;

    #[test]
    fn lines_are_handed_on_once_and_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("stdout");
        let mut tail = Tail::new(path.clone()).unwrap();
        let mut file = fs::OpenOptions::new().append(true).open(path).unwrap();
        let mut lines = Vec::new();
        for (text, last) in [("a\nb", false), ("c\n\nd", false), ("", true)] {
            file.write_all(text.as_bytes()).unwrap();
            tail.pass_on(last, |line| lines.push(line.to_owned())).unwrap();
        }
        assert_eq!(lines, ["a", "bc", "", "d"]);
        assert_eq!(tail.text(), "a\nbc\n\nd");
    }
}
