//! Quoting the end of a log in an error.

use std::fs;
use std::path::Path;

const LINES: usize = 25;

/// The last lines of a log, indented; says so when there is nothing to quote.
pub(crate) fn tail(log: &Path) -> String {
    match fs::read(log) {
        Ok(bytes) => last_lines(&String::from_utf8_lossy(&bytes)),
        Err(error) => format!("    (the log could not be read: {error})"),
    }
}

/// The last lines of a text, indented and without terminal control codes.
pub(crate) fn last_lines(text: &str) -> String {
    let text: String = text.chars().filter(|c| *c == '\n' || *c == '\t' || !c.is_control()).collect();
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    if lines.is_empty() {
        return "    (nothing was written)".to_owned();
    }
    let (before, last) = lines.split_at(lines.len().saturating_sub(LINES));
    // A panic's reason stands above its long call trace.
    let reasons = before.iter().filter(|line| line.contains("Kernel panic"));
    reasons.chain(last).map(|line| format!("    {line}")).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_quoted_however_long_its_trace() {
        let trace = "trace\n".repeat(100);
        let quoted = last_lines(&format!("boot\nKernel panic - not syncing: why\n{trace}"));
        assert_eq!(quoted.lines().count(), LINES + 1);
        assert!(quoted.starts_with("    Kernel panic - not syncing: why\n"), "{quoted}");
    }

    #[test]
    fn control_codes_and_empty_lines_are_left_out() {
        assert_eq!(last_lines("a\r\n\n \n\u{1b}b\n"), "    a\n    b");
        assert_eq!(last_lines("\n"), "    (nothing was written)");
    }
}
