//! Runs an ordinary Rust test binary inside a lab host and reads its results.

use std::path::Path;
use std::time::Duration;

use crate::error::Result;
use crate::host::Host;
use crate::job::{Job, Stream};

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TestOutcome {
    Passed,
    Failed,
    /// With the reason of `#[ignore = "..."]`, or empty.
    Skipped(String),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TestResult {
    pub name: String,
    pub outcome: TestOutcome,
}

/// What a test binary reported.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TestReport {
    pub results: Vec<TestResult>,
    /// A test that had begun when the binary ended: it aborted, or was killed.
    pub unfinished: Option<String>,
    /// The binary's exit code: 0, 101 when a test failed.
    pub code: i32,
    /// Everything that it wrote, both streams as they came.
    pub text: String,
}

impl TestReport {
    /// Whether every test that ran passed and the binary said so.
    #[must_use]
    pub fn success(&self) -> bool {
        self.code == 0
            && self.unfinished.is_none()
            && !self.results.iter().any(|result| result.outcome == TestOutcome::Failed)
    }

    fn read_line(&mut self, line: &str) {
        if let Some((name, outcome)) = parse(line) {
            match outcome {
                Some(outcome) => self.results.push(TestResult { name, outcome }),
                None => self.unfinished = Some(name),
            }
        }
    }
}

/// Which tests of a binary are run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Length {
    /// Those without `#[ignore]`.
    Default,
    /// All of them.
    Long,
}

/// Runs the tests of `binary` whose names contain one of `filters` (none: all), one after the other,
/// and hands on each line when it comes. The binary is built on the machine for its own glibc, at most
/// as new as the host's (Debian 13).
///
/// # Errors
/// The binary could not be copied, the host went down, or it took longer than `deadline`.
pub fn run_test_binary(
    host: &Host,
    binary: &Path,
    filters: &[&str],
    length: Length,
    deadline: Duration,
    mut line: impl FnMut(Stream, &str),
) -> Result<TestReport> {
    let program = host.install(binary)?;
    // One at a time: a lab host is one machine with one set of GPUs.
    let mut argv = vec![program.as_str(), "--test-threads=1", "--color=never"];
    if length == Length::Long {
        argv.push("--include-ignored");
    }
    argv.extend(filters);
    let job = Job::new(argv).env("RUST_BACKTRACE", "1").deadline(deadline);
    let mut report = TestReport::default();
    let output = host.run_streaming(&job, |stream, text| {
        if stream == Stream::Stdout {
            report.read_line(text);
        }
        report.text.push_str(text);
        report.text.push('\n');
        line(stream, text);
    })?;
    report.code = output.code;
    Ok(report)
}

/// Reads `test NAME ... OUTCOME`; no outcome: the test had begun and nothing came after it.
fn parse(line: &str) -> Option<(String, Option<TestOutcome>)> {
    let (name, outcome) = line.strip_prefix("test ")?.split_once(" ... ")?;
    // `#[should_panic]` tests have a mark behind the name.
    let name = name.trim_end_matches(" - should panic").to_owned();
    let outcome = match outcome.trim() {
        "ok" => Some(TestOutcome::Passed),
        "FAILED" => Some(TestOutcome::Failed),
        other => other
            .strip_prefix("ignored")
            .map(|reason| TestOutcome::Skipped(reason.trim_start_matches([',', ' ']).to_owned())),
    };
    Some((name, outcome))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_libtest() {
        let outcome = |line| parse(line).map(|(_, outcome)| outcome);
        assert_eq!(outcome("test a::b ... ok"), Some(Some(TestOutcome::Passed)));
        assert_eq!(outcome("test a ... FAILED"), Some(Some(TestOutcome::Failed)));
        assert_eq!(
            outcome("test a ... ignored, needs a card"),
            Some(Some(TestOutcome::Skipped("needs a card".to_owned())))
        );
        assert_eq!(outcome("test a ... ignored"), Some(Some(TestOutcome::Skipped(String::new()))));
        assert_eq!(outcome("test a ... "), Some(None));
        assert_eq!(outcome("test result: ok. 3 passed; 0 failed"), None);
        assert_eq!(outcome("running 3 tests"), None);
        assert_eq!(parse("test x - should panic ... ok").unwrap().0, "x");
    }

    #[test]
    fn a_binary_that_ends_within_a_test_did_not_succeed() {
        let mut report = TestReport::default();
        report.read_line("test a ... ok");
        assert!(report.success());
        report.read_line("test b ... ");
        assert_eq!(report.unfinished.as_deref(), Some("b"));
        assert!(!report.success());
    }
}
