//! Showing that something goes on: a spinner with the elapsed time on a terminal, else one line on
//! stderr for each change.

use super::session::Session;
use indicatif::{ProgressBar, ProgressStyle};
use std::{
    io::{self, IsTerminal as _, Write as _},
    time::Duration,
};
use vgpud_config::printable;

/// A display that is gone when it is dropped.
#[derive(Debug)]
pub struct Progress {
    spinner: Option<ProgressBar>,
    has_lines: bool,
    told: String,
}

impl Progress {
    /// A display that says `text` first, on a terminal only.
    #[must_use]
    pub fn start(session: &Session, text: impl Into<String>) -> Self {
        let spinner = (!session.is_quiet() && io::stderr().is_terminal()).then(|| {
            let spinner = ProgressBar::new_spinner().with_message(text.into());
            if let Ok(style) = ProgressStyle::with_template("{spinner} {msg} ({elapsed})") {
                spinner.set_style(style);
            }
            spinner.enable_steady_tick(Duration::from_millis(100));
            spinner
        });
        Self { has_lines: spinner.is_none() && session.has_notes(), spinner, told: String::new() }
    }

    /// Something changed.
    pub fn tell(&mut self, text: &str) {
        if self.told == text {
            return;
        }
        text.clone_into(&mut self.told);
        let text = printable(text);
        if let Some(spinner) = &self.spinner {
            spinner.set_message(text);
        } else if self.has_lines {
            let _ = writeln!(io::stderr(), "{text}");
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(spinner) = &self.spinner {
            spinner.finish_and_clear();
        }
    }
}
