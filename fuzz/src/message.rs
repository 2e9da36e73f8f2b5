//! What every message to people must be.

use std::error::Error;

/// More than any message needs in bytes, whatever the value that it repeats.
const LONGEST: usize = 1500;

/// One line of bounded length that changes nothing on a terminal.
pub fn check(text: &str) {
    check_lines(text);
    assert!(!text.contains('\n'), "has several lines: {text:?}");
    assert!(text.len() <= LONGEST, "{} bytes long: {text:?}", text.len());
}

/// Lines that change nothing on a terminal.
pub fn check_lines(text: &str) {
    let harmful = |c: &char| (c.is_control() && *c != '\n') || reorders(*c);
    assert_eq!(text.chars().find(harmful), None, "{text:?}");
}

/// Unicode's controls of writing direction, by which a text can be made to look like another
/// (UAX #9).
fn reorders(c: char) -> bool {
    matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// An error and its causes; `value` was refused, and is named where it is plain and short.
pub fn check_error(error: &dyn Error, value: &str) {
    let mut next = Some(error);
    let mut all = String::new();
    while let Some(cause) = next {
        let text = cause.to_string();
        check(&text);
        all.push_str(&text);
        next = cause.source();
    }
    let plain = value.bytes().all(|byte| byte.is_ascii_graphic() && !b"\"\\'".contains(&byte));
    if plain && value.len() <= 60 {
        assert!(all.contains(value), "{value:?} is not named: {all}");
    }
}
