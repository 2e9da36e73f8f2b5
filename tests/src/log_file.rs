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
    let text: String = text
        .chars()
        .filter(|c| *c == '\n' || *c == '\t' || !c.is_control())
        .collect();
    let lines: Vec<&str> = text
        .lines()
        .filter(|line| !line.trim().is_empty())
        .collect();
    if lines.is_empty() {
        return "    (nothing was written)".to_owned();
    }
    lines[lines.len().saturating_sub(LINES)..]
        .iter()
        .map(|line| format!("    {line}"))
        .collect::<Vec<_>>()
        .join("\n")
}
