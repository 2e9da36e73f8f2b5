//! Says what is being done: a spinner with the time on a terminal, plain lines with a heartbeat
//! elsewhere (CI logs), so that nobody stares at silence. Everything goes to stderr.

use std::io::{IsTerminal, stderr};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

/// How often a step in progress is mentioned where there is no terminal.
const HEARTBEAT: Duration = Duration::from_secs(15);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    Terminal,
    Lines,
    Quiet,
}

impl Progress {
    /// Spinners when stderr is a terminal, lines otherwise.
    #[must_use]
    pub fn detect() -> Self {
        if stderr().is_terminal() { Self::Terminal } else { Self::Lines }
    }

    /// A step begins; it ends with [`Step::done`], and failed when it is dropped before.
    pub fn step(self, name: impl Into<String>) -> Step {
        let name = name.into();
        let show = match self {
            Self::Terminal => Show::Spinner(spinner(&name)),
            Self::Lines => {
                eprintln!("lab: {name} ...");
                Show::Lines { _heartbeat: heartbeat(name.clone()) }
            }
            Self::Quiet => Show::Nothing,
        };
        Step { name, begun: Instant::now(), show, done: false }
    }

    /// One line that stays.
    pub fn say(self, line: &str) {
        if self != Self::Quiet {
            eprintln!("lab: {line}");
        }
    }
}

#[derive(Debug)]
enum Show {
    Spinner(ProgressBar),
    /// Dropping the sender ends the heartbeat.
    Lines {
        _heartbeat: Sender<()>,
    },
    Nothing,
}

/// One step in progress.
#[derive(Debug)]
#[must_use = "a step that is dropped counts as failed; call done()"]
pub struct Step {
    name: String,
    begun: Instant,
    show: Show,
    done: bool,
}

impl Step {
    /// What the step is doing or waiting for right now.
    pub fn note(&self, note: &str) {
        match &self.show {
            Show::Spinner(bar) => bar.set_message(format!("{}: {note}", self.name)),
            Show::Lines { .. } => eprintln!("lab: {}: {note}", self.name),
            Show::Nothing => {}
        }
    }

    /// Ends the step well.
    pub fn done(mut self) {
        self.done = true;
        self.end(&format!("{} ({:.1} s)", self.name, self.begun.elapsed().as_secs_f32()));
    }

    fn end(&mut self, line: &str) {
        match std::mem::replace(&mut self.show, Show::Nothing) {
            Show::Spinner(bar) => {
                bar.finish_and_clear();
                eprintln!("lab: {line}");
            }
            Show::Lines { .. } => eprintln!("lab: {line}"),
            Show::Nothing => {}
        }
    }
}

impl Drop for Step {
    fn drop(&mut self) {
        if !self.done {
            let line = format!("{}: failed after {:.1} s", self.name, self.begun.elapsed().as_secs_f32());
            self.end(&line);
        }
    }
}

fn spinner(name: &str) -> ProgressBar {
    let bar = ProgressBar::new_spinner().with_message(name.to_owned());
    if let Ok(style) = ProgressStyle::with_template("{spinner} lab: {msg} ({elapsed})") {
        bar.set_style(style);
    }
    bar.enable_steady_tick(Duration::from_millis(120));
    bar
}

fn heartbeat(name: String) -> Sender<()> {
    let (sender, receiver) = channel();
    let begun = Instant::now();
    thread::spawn(move || {
        while receiver.recv_timeout(HEARTBEAT) == Err(RecvTimeoutError::Timeout) {
            eprintln!("lab: {name} ... {} s", begun.elapsed().as_secs());
        }
    });
    sender
}
