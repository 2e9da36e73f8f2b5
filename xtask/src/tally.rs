//! Counts tests as they report, and says at the end what became of them.

use std::fmt;

/// What became of the tests so far.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Tally {
    pub passed: u32,
    /// Names with where they ran.
    pub failed: Vec<String>,
    /// Names with the reason.
    pub skipped: Vec<(String, String)>,
}

/// What a test that cannot run on this machine writes, past the test harness's capture.
const SKIP: &str = "SKIP ";

impl Tally {
    /// Reads one line of a libtest binary's output; `place` says where it ran.
    ///
    /// Two kinds count: `test NAME ... OUTCOME`, and `SKIP NAME: REASON` from a test that found out
    /// while running that it cannot show anything here (libtest counts such a test as passed, so one
    /// is taken off).
    pub fn read(&mut self, place: &str, line: &str) {
        if let Some((name, reason)) = line.strip_prefix(SKIP).and_then(|rest| rest.split_once(": ")) {
            self.skipped.push((format!("{place}: {name}"), reason.to_owned()));
            self.passed = self.passed.saturating_sub(1);
            return;
        }
        let Some((name, outcome)) = line.strip_prefix("test ").and_then(|rest| rest.rsplit_once(" ... "))
        else {
            return;
        };
        match outcome.trim().split_once(',').unwrap_or((outcome.trim(), "")) {
            ("ok", _) => self.passed += 1,
            ("FAILED", _) => self.fail(place, name),
            ("ignored", reason) => self.skipped.push((format!("{place}: {name}"), reason.trim().to_owned())),
            _ => {}
        }
    }

    pub fn fail(&mut self, place: &str, name: &str) {
        self.failed.push(format!("{place}: {name}"));
    }

    pub fn add(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed.extend(other.failed);
        self.skipped.extend(other.skipped);
    }
}

impl fmt::Display for Tally {
    /// The failed and the skipped by name, then the one line that counts them.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for name in &self.failed {
            writeln!(f, "failed  {name}")?;
        }
        for (name, reason) in &self.skipped {
            let reason = if reason.is_empty() { "no reason given" } else { reason };
            writeln!(f, "skipped {name}: {reason}")?;
        }
        let Self { passed, failed, skipped } = self;
        write!(f, "{passed} passed, {} failed, {} skipped", failed.len(), skipped.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_what_libtest_prints() {
        let mut tally = Tally::default();
        for line in [
            "running 4 tests",
            "test a::b ... ok",
            "test c ... FAILED",
            "test d ... ignored, needs a card",
            "test e ... ok",
            "SKIP e: /dev/kvm is absent",
            "test config/src/x.rs - Y (line 3) ... ok",
            "test f - should panic ... ok",
            "test result: FAILED. 3 passed; 1 failed; 1 ignored; 0 measured; 0 filtered out",
        ] {
            tally.read("here", line);
        }
        assert_eq!(
            tally.to_string(),
            "failed  here: c\nskipped here: d: needs a card\nskipped here: e: /dev/kvm is absent\n3 passed, 1 failed, 2 skipped"
        );
    }
}
