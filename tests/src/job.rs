//! A program to run in the lab host, and what came of it.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::error::{Error, Result};
use crate::log_file::last_lines;

/// Enough for anything but a micro-VM's boot on a busy machine.
const DEADLINE: Duration = Duration::from_secs(120);

/// A program with its arguments, surroundings and deadline.
#[derive(Debug, Clone)]
pub struct Job {
    argv: Vec<String>,
    env: BTreeMap<String, String>,
    folder: String,
    pub(crate) deadline: Duration,
}

impl Job {
    /// `argv` is a program, looked up in the host's PATH, and its arguments; no shell reads them.
    pub fn new<I, S>(argv: I) -> Self
    where
        I: IntoIterator<Item = S>,
        S: Into<String>,
    {
        Self {
            argv: argv.into_iter().map(Into::into).collect(),
            env: BTreeMap::new(),
            folder: "/".to_owned(),
            deadline: DEADLINE,
        }
    }

    /// A bash script; `set -eu -o pipefail` holds.
    #[must_use]
    pub fn script(text: &str) -> Self {
        Self::new(["bash", "-eu", "-o", "pipefail", "-c", text])
    }

    #[must_use]
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.env.insert(name.to_owned(), value.to_owned());
        self
    }

    /// The working folder in the host; / when not set.
    #[must_use]
    pub fn folder(mut self, folder: &str) -> Self {
        folder.clone_into(&mut self.folder);
        self
    }

    /// The job is killed when it takes longer; 120 s when not set.
    #[must_use]
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// The command as a person would type it.
    #[must_use]
    pub fn command(&self) -> String {
        self.argv.iter().map(|word| quote(word)).collect::<Vec<_>>().join(" ")
    }

    /// The shell script that the agent runs.
    pub(crate) fn to_script(&self) -> String {
        let env: String =
            self.env.iter().map(|(name, value)| format!("export {name}={}\n", quote(value))).collect();
        format!("#!/bin/sh\n{env}cd {} || exit 126\nexec {}\n", quote(&self.folder), self.command())
    }
}

/// `word` so that a shell reads it as one word and nothing in it.
fn quote(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=,@+%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    Stdout,
    Stderr,
}

/// What a job left.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Output {
    pub command: String,
    /// As a shell has it: 128 plus the signal for a program that was killed.
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
    pub took: Duration,
}

impl Output {
    /// The output of a job that must not fail.
    ///
    /// # Errors
    /// [`Error::Job`] with the end of both streams when the exit code is not 0.
    pub fn success(self) -> Result<Self> {
        if self.code == 0 {
            return Ok(self);
        }
        Err(Error::Job {
            code: self.code,
            stdout: last_lines(&self.stdout),
            stderr: last_lines(&self.stderr),
            command: self.command,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_reach_the_program_as_they_are() {
        let job = Job::new(["echo", "a b", "it's", "$HOME", "", "x=1"]);
        assert_eq!(job.command(), r"echo 'a b' 'it'\''s' '$HOME' '' x=1");
    }

    #[test]
    fn the_script_sets_env_and_folder_and_then_becomes_the_program() {
        let script = Job::new(["true"]).env("A", "b c").folder("/tmp").to_script();
        assert_eq!(script, "#!/bin/sh\nexport A='b c'\ncd /tmp || exit 126\nexec true\n");
    }

    #[test]
    fn a_real_shell_agrees() {
        let script = Job::new(["printf", "%s|", "a b", "it's", "$HOME", "", "\"\\"]).to_script();
        let output = std::process::Command::new("sh").args(["-c", &script]).output().unwrap();
        assert_eq!(String::from_utf8(output.stdout).unwrap(), "a b|it's|$HOME||\"\\|");
    }

    #[test]
    fn failure_carries_the_end_of_both_streams() {
        let output = Output {
            command: "x".to_owned(),
            code: 2,
            stdout: "out\n".to_owned(),
            stderr: "err\n".to_owned(),
            took: Duration::ZERO,
        };
        let text = output.success().unwrap_err().to_string();
        assert!(text.contains("'x' ended with 2") && text.contains("out") && text.contains("err"), "{text}");
    }
}
