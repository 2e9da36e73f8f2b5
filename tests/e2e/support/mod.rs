//! What the tests inside a lab host share: the daemon under test with its command line, and the
//! knobs of the simulated GPUs. Everything here acts on the real kernel of the lab host.

// Each suite uses its part, and a test may panic.
#![allow(dead_code, unused_imports, clippy::unwrap_used, clippy::expect_used)]

mod daemon;
mod leftovers;
mod sim_gpu;

pub use daemon::{Daemon, Output, Running, program, signal};
pub use leftovers::assert_nothing_left;
pub use sim_gpu::{Model, SimGpu};

use std::time::{Duration, Instant};

/// Polls until `ready` returns something.
///
/// # Panics
/// When `what` did not come within `limit`.
pub fn wait_for<T>(what: &str, limit: Duration, mut ready: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(found) = ready() {
            return found;
        }
        assert!(Instant::now() < deadline, "waited {} s for {what}, in vain", limit.as_secs());
        #[allow(clippy::disallowed_methods)] // the one sleep of the suites
        std::thread::sleep(Duration::from_millis(50));
    }
}
