//! The person's terminal while a host's console has it.

use std::io::stdin;

use nix::sys::termios::{SetArg, Termios, tcgetattr, tcsetattr};

/// Restores the terminal's settings when dropped: QEMU does so when it ends by itself, but not when
/// it is killed.
#[derive(Debug)]
pub(crate) struct Restore(Option<Termios>);

impl Restore {
    /// Remembers the settings of stdin, if it is a terminal.
    pub fn new() -> Self {
        Self(tcgetattr(stdin()).ok())
    }
}

impl Drop for Restore {
    fn drop(&mut self) {
        if let Some(settings) = &self.0 {
            // Nothing can be done about a terminal that is gone.
            let _ = tcsetattr(stdin(), SetArg::TCSANOW, settings);
        }
    }
}

/// Rows and columns of the terminal at stdin, asked of stty (std has no call for it); 24 by 80 where there is none.
pub(crate) fn size() -> (u16, u16) {
    console_size().unwrap_or((24, 80))
}

fn console_size() -> Option<(u16, u16)> {
    let output =
        std::process::Command::new("stty").arg("size").stdin(std::process::Stdio::inherit()).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let (rows, columns) = text.trim().split_once(' ')?;
    let (rows, columns) = (rows.parse().ok()?, columns.parse().ok()?);
    (rows > 0 && columns > 0).then_some((rows, columns))
}
