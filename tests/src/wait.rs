//! The one place that sleeps: polling with a deadline that says what it waited for.

use std::thread;
use std::time::{Duration, Instant};

use crate::error::{Error, Result};

const INTERVAL: Duration = Duration::from_millis(20);

/// Calls `ready` until it gives a value.
///
/// # Errors
/// Whatever `ready` fails with, or [`Error::Deadline`] with `what` after `limit`.
pub fn poll<T>(what: &str, limit: Duration, mut ready: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    let begun = Instant::now();
    loop {
        if let Some(value) = ready()? {
            return Ok(value);
        }
        if begun.elapsed() >= limit {
            return Err(Error::Deadline { what: what.to_owned(), limit, tail: String::new() });
        }
        #[expect(clippy::disallowed_methods, reason = "this is the helper that all waits use")]
        thread::sleep(INTERVAL);
    }
}
