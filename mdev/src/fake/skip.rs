//! A test that finds out that it cannot show anything on this machine.

use std::io::Write;

/// Says that the running test shows nothing, or not all, here, and why. The line goes past the test
/// harness's capture, which keeps back what passing tests print: `./x test` counts such a test as
/// skipped, with the reason.
///
/// # Panics
/// Where stdout cannot be written.
#[allow(clippy::expect_used)] // called by tests alone
pub fn skip(reason: impl std::fmt::Display) {
    let thread = std::thread::current();
    let name = thread.name().unwrap_or("a test");
    // A line of its own, whatever the harness is in the middle of; one write, so that it stays whole.
    let line = format!("\nSKIP {name}: {reason}\n");
    std::io::stdout().write_all(line.as_bytes()).expect("a stdout to write to");
}
