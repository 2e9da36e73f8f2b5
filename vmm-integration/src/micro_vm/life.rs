//! QEMU from its start to its end.

use crate::Error;
use std::time::Duration;

/// How a micro-VM ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The guest powered off: its command succeeded.
    PoweredOff,
    /// The guest's command ended with this code (1 to 127).
    GuestExit(u8),
    /// The guest's kernel panicked; the line that said so.
    GuestPanic { line: String },
    /// It ended because [`RunningVm::stop`] asked.
    Stopped,
    /// A signal ended QEMU, sent by somebody else.
    Killed { signal: i32 },
    /// QEMU gave up, with its own words.
    Failed { code: i32, stderr: String },
}

/// A QEMU that runs. Shared by reference: one thread may wait while another stops it. Dropping it
/// asks QEMU to end.
#[derive(Debug)]
pub struct RunningVm {}

impl RunningVm {
    #[must_use]
    pub fn pid(&self) -> u32 {
        todo!()
    }

    /// Waits for the end, at most `within` where given; none when that time is up.
    ///
    /// # Errors
    /// Where the process cannot be waited for.
    pub fn wait(&self, _within: Option<Duration>) -> Result<Option<Outcome>, Error> {
        todo!()
    }

    /// Asks QEMU to end (SIGTERM), and kills it when it has not within `patience`; never by SIGKILL
    /// in its first 5 s, which wedges a vGPU whose host plug-in is just starting.
    ///
    /// # Errors
    /// Where it outlives SIGKILL, as a process does that the kernel keeps busy.
    pub fn stop(&self, _patience: Duration) -> Result<Outcome, Error> {
        todo!()
    }
}
