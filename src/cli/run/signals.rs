//! Signals that ask vgpuctl to end.

use super::RunError;
use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll, Waker},
};
use tokio::signal::unix::{Signal, SignalKind, signal};

/// A request to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndSignal {
    Interrupt,
    Terminate,
    Hangup,
}

impl EndSignal {
    /// The kernel's number.
    #[must_use]
    pub const fn number(self) -> u8 {
        match self {
            Self::Hangup => 1,
            Self::Interrupt => 2,
            Self::Terminate => 15,
        }
    }
}

impl fmt::Display for EndSignal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Hangup => "SIGHUP",
            Self::Interrupt => "SIGINT",
            Self::Terminate => "SIGTERM",
        })
    }
}

/// From its creation on, these signals no longer end the process by themselves.
#[derive(Debug)]
pub struct Signals {
    streams: [(EndSignal, Signal); 3],
}

impl Signals {
    /// Starts to listen.
    ///
    /// # Errors
    /// Where the system refuses.
    pub fn new() -> Result<Self, RunError> {
        let listen = |kind| signal(kind).map_err(RunError::Signals);
        Ok(Self {
            streams: [
                (EndSignal::Interrupt, listen(SignalKind::interrupt())?),
                (EndSignal::Terminate, listen(SignalKind::terminate())?),
                (EndSignal::Hangup, listen(SignalKind::hangup())?),
            ],
        })
    }

    /// One that has come already.
    pub fn pending(&mut self) -> Option<EndSignal> {
        match self.poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(signal) => Some(signal),
            Poll::Pending => None,
        }
    }

    /// The next one. Losing the future loses no signal.
    pub async fn next(&mut self) -> EndSignal {
        std::future::poll_fn(|context| self.poll(context)).await
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<EndSignal> {
        for (name, stream) in &mut self.streams {
            if Pin::new(stream).get_mut().poll_recv(context).is_ready() {
                return Poll::Ready(*name);
            }
        }
        Poll::Pending
    }
}
