//! What the tests inside a lab host share: the daemon under test with its command line, and the
//! knobs of the simulated GPUs. Everything here acts on the real kernel of the lab host.

// Each suite uses its part, and a test may panic.
#![allow(dead_code, unused_imports, unused_macros, clippy::unwrap_used, clippy::expect_used)]

mod daemon;
mod leftovers;
pub mod pf_driver;
pub mod restart;
mod sim_gpu;
mod tenant;

pub use daemon::{Daemon, Output, Running, program, signal};
pub use leftovers::{assert_nothing_left, entries};
pub use sim_gpu::{Model, SimGpu, Turned};
pub use tenant::Tenant;

use std::time::{Duration, Instant};

/// Says something that is shown of a test that passes, too: `eprintln!` would be kept back.
macro_rules! tell {
    ($($words:tt)*) => {
        std::io::Write::write_all(&mut std::io::stderr(), format!("{}\n", format_args!($($words)*)).as_bytes())
            .unwrap()
    };
}
pub(crate) use tell;

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
