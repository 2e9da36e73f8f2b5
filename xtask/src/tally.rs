//! Counts tests as they report, and says at the end what became of them.

use std::fmt;

/// What became of the tests so far.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Tally {
    passed: u32,
    /// Counted as passed by libtest although they showed nothing.
    taken_off: u32,
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
    /// Names come from `test NAME ... OUTCOME`, the number of passed tests from the binary's last line
    /// (what a test's children write can break its own line). `SKIP NAME: REASON` is written by a test
    /// that found out while running that it cannot show (all of) it here; libtest counts it as passed, so
    /// one is taken off.
    pub fn read(&mut self, place: &str, line: &str) {
        if let Some((name, reason)) = line.strip_prefix(SKIP).and_then(|rest| rest.split_once(": ")) {
            self.skipped.push((format!("{place}: {name}"), reason.to_owned()));
            self.taken_off += 1;
            return;
        }
        if let Some(counts) = line.strip_prefix("test result: ") {
            self.passed += passed(counts).unwrap_or(0);
            return;
        }
        let Some((name, outcome)) = line.strip_prefix("test ").and_then(|rest| rest.rsplit_once(" ... "))
        else {
            return;
        };
        match outcome.trim().split_once(',').unwrap_or((outcome.trim(), "")) {
            ("FAILED", _) => self.fail(place, name),
            ("ignored", reason) => self.skipped.push((format!("{place}: {name}"), reason.trim().to_owned())),
            _ => {}
        }
    }

    /// How many passed and showed something.
    pub fn passed(&self) -> u32 {
        self.passed.saturating_sub(self.taken_off)
    }

    pub fn fail(&mut self, place: &str, name: &str) {
        self.failed.push(format!("{place}: {name}"));
    }

    pub fn add(&mut self, other: Self) {
        self.passed += other.passed;
        self.taken_off += other.taken_off;
        self.failed.extend(other.failed);
        self.skipped.extend(other.skipped);
    }
}

/// The number in `ok. 3 passed; …`.
fn passed(counts: &str) -> Option<u32> {
    let (before, _) = counts.split_once(" passed;")?;
    before.rsplit(' ').next()?.parse().ok()
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
        let (passed, failed, skipped) = (self.passed(), self.failed.len(), self.skipped.len());
        write!(f, "{passed} passed, {failed} failed, {skipped} skipped")
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
            "test config/src/x.rs - Y (line 3) ... ok",
            "test f - should panic ... ok",
            "test g ... what its child wrote",
            "test result: FAILED. 5 passed; 1 failed; 1 ignored; 0 measured; 0 filtered out",
            "SKIP e: /dev/kvm is absent",
        ] {
            tally.read("here", line);
        }
        assert_eq!(
            tally.to_string(),
            "failed  here: c\nskipped here: d: needs a card\nskipped here: e: /dev/kvm is absent\n4 passed, 1 failed, 2 skipped"
        );
    }
}
