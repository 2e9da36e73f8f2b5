//! Text from outside as messages show it: whatever it holds, it cannot move the cursor of whoever
//! reads the message, make it look like another one, or fill the screen.

use std::fmt::{self, Write};

/// As much of a value as a message repeats, in characters.
const LONGEST: usize = 100;

/// A value in quotes.
#[derive(Clone, Copy, Debug)]
pub struct Quoted<'a>(pub &'a str);

/// A value without quotes.
#[derive(Clone, Copy, Debug)]
pub struct Shown<'a>(pub &'a str);

/// The beginning that is shown, and what stands for the rest.
fn cut(text: &str) -> (&str, &'static str) {
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => (&text[..end], "…"),
        None => (text, ""),
    }
}

/// What a terminal acts upon: controls, and Unicode's marks of writing direction (UAX #9).
fn acts(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

fn write_escaped(out: &mut impl Write, text: &str, kept: &[char]) -> fmt::Result {
    text.chars().try_for_each(|c| match acts(c) && !kept.contains(&c) {
        true => write!(out, "{}", c.escape_debug()),
        false => out.write_char(c),
    })
}

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (start, rest) = cut(self.0);
        write!(f, "{start:?}{rest}")
    }
}

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (start, rest) = cut(self.0);
        write_escaped(f, start, &[])?;
        f.write_str(rest)
    }
}

/// The whole text, its lines as they are.
#[must_use]
pub fn printable(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    // A String takes everything.
    let _ = write_escaped(&mut shown, text, &['\n']);
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_terminal_acts_upon_is_spelled_out() {
        let text = "a\u{1b}[2J\u{202e}b\u{9b}\r\n\u{7f}é";
        assert_eq!(Shown(text).to_string(), "a\\u{1b}[2J\\u{202e}b\\u{9b}\\r\\n\\u{7f}é");
        assert_eq!(Quoted("\"\u{1b}\u{202e}").to_string(), "\"\\\"\\u{1b}\\u{202e}\"");
        // The first and last of each run of the marks of direction.
        for mark in "\u{61c}\u{200e}\u{200f}\u{202a}\u{202e}\u{2066}\u{2069}".chars() {
            let spelled = format!("\\u{{{:x}}}", u32::from(mark));
            assert_eq!(printable(&mark.to_string()), spelled);
            assert_eq!(Quoted(&mark.to_string()).to_string(), format!("\"{spelled}\""));
        }
        assert_eq!(printable("QEMU: no\r\n  \u{1b}c\n"), "QEMU: no\\r\n  \\u{1b}c\n");
    }

    #[test]
    fn a_long_value_is_cut_between_two_characters() {
        let text = "é".repeat(LONGEST + 1);
        assert_eq!(Shown(&text).to_string(), format!("{}…", "é".repeat(LONGEST)));
        assert_eq!(Quoted(&text[2..]).to_string(), format!("{:?}", "é".repeat(LONGEST)));
    }
}
