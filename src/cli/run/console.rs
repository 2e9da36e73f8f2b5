//! The guest's console on stdout.

use crate::cli::{error::Error, output};
use tokio::sync::oneshot;

/// Writes every piece to stdout as it comes; after a failure it drops the rest, and tells once.
#[derive(Debug)]
pub struct Console {
    failure: Option<oneshot::Sender<Error>>,
}

impl Console {
    /// A console, and where its failure arrives. Nothing arrives where it never fails.
    #[must_use]
    pub fn new() -> (Self, oneshot::Receiver<Error>) {
        let (failure, failed) = oneshot::channel();
        (Self { failure: Some(failure) }, failed)
    }

    /// One piece.
    pub fn write(&mut self, bytes: &[u8]) {
        if self.failure.is_none() {
            return;
        }
        if let Err(error) = output::write_stdout(bytes)
            && let Some(failure) = self.failure.take()
        {
            // Nobody waits any more where the micro-VM has ended.
            let _ = failure.send(error);
        }
    }
}
