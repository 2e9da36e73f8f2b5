//! The command line of the guest's kernel, and the guest's command behind it.
//!
//! The kernel splits it at white space, takes double quotes around a whole word as a way to keep
//! white space, and knows no way to write a double quote itself (lib/cmdline.c, `next_arg`). What
//! stands behind `--` becomes the arguments of init (init/main.c, `set_init_arg`), up to a second
//! `--`, where it silently stops. A line that is too long is silently cut.

use super::VmError;
use crate::Error;
use std::fmt;

/// `COMMAND_LINE_SIZE` of x86, less its NUL.
const LONGEST: usize = 2047;
/// `CONFIG_INIT_ENV_ARG_LIMIT`; the kernel panics beyond.
const MOST_ARGUMENTS: usize = 32;
/// The console that QEMU streams; a panic ends the VM instead of hanging it; no boot messages.
const DEFAULTS: &str = "console=ttyS0 panic=-1 quiet";

/// The guest kernel's command line: parameters, and behind `--` the arguments of the guest's init.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KernelLine(String);

impl KernelLine {
    /// Console on ttyS0, a reset on panic, no boot messages, then `parameters` (kernel syntax, may
    /// be empty; what is said twice counts the second time), then the guest's `command` (may be
    /// empty).
    ///
    /// # Errors
    /// Where the kernel cannot hand an argument to init as it is: the error names it and says why.
    pub fn new(parameters: &str, command: &[String]) -> Result<Self, Error> {
        let mut line = DEFAULTS.to_owned();
        self::parameters(parameters)
            .map_err(|why| VmError::Parameters { parameters: parameters.to_owned(), why })?;
        if !parameters.trim().is_empty() {
            line.push(' ');
            line.push_str(parameters.trim());
        }
        for (position, argument) in command.iter().enumerate() {
            let refused = |why| VmError::Argument { argument: argument.clone(), why };
            if position == MOST_ARGUMENTS {
                return Err(refused("the kernel hands at most 32 arguments to init").into());
            }
            line.push_str(if position == 0 { " -- " } else { " " });
            line.push_str(&quoted(argument).map_err(refused)?);
        }
        if line.len() > LONGEST {
            return Err(VmError::TooLong { length: line.len() }.into());
        }
        Ok(Self(line))
    }
}

/// Whether the kernel's reading of the parameters ends where they do, or why not.
fn parameters(text: &str) -> Result<(), &'static str> {
    if text.contains('\0') {
        return Err("a NUL ends the kernel's command line");
    }
    let (mut quoted, mut word) = (false, Vec::new());
    for byte in text.bytes().chain([b' ']) {
        quoted ^= byte == b'"';
        if quoted || !is_space(byte) {
            word.push(byte);
            continue;
        }
        if [&b"--"[..], b"\"--\""].contains(&word.as_slice()) {
            return Err("what follows -- is the guest's command and is given apart from the parameters");
        }
        word.clear();
    }
    match quoted {
        true => Err("a double quote is not closed, and would take the guest's command in"),
        false => Ok(()),
    }
}

/// The kernel's isspace() works on bytes and counts 0xa0, Latin-1's no-break space, which is also
/// the last byte of many UTF-8 characters.
fn is_space(byte: u8) -> bool {
    byte.is_ascii_whitespace() || byte == 0x0b || byte == 0xa0
}

/// One argument as the kernel must read it, or why it cannot.
fn quoted(argument: &str) -> Result<String, &'static str> {
    if argument == "--" {
        return Err("the kernel ends init's arguments there");
    }
    if argument.contains('"') {
        return Err("the kernel's command line has no way to write a double quote");
    }
    if argument.contains('\0') {
        return Err("a NUL ends the kernel's command line");
    }
    Ok(if argument.is_empty() || argument.bytes().any(is_space) {
        format!("\"{argument}\"")
    } else {
        argument.to_owned()
    })
}

impl fmt::Display for KernelLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What the kernel makes of a line: the steps of `next_arg` and `parse_args`, on the words
/// behind the first `--`, with `param=value` put together again as init gets it.
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) fn arguments_of_init(line: &str) -> Vec<Vec<u8>> {
    let space = |byte: u8| (9..=13).contains(&byte) || byte == 32 || byte == 160;
    let (mut rest, mut behind, mut found) = (line.as_bytes(), false, Vec::new());
    loop {
        while rest.first().is_some_and(|&byte| space(byte)) {
            rest = &rest[1..];
        }
        if rest.is_empty() {
            return found;
        }
        let whole = rest[0] == b'"';
        let text = &rest[usize::from(whole)..];
        let (mut quote, mut equals, mut end) = (whole, 0, 0);
        while end < text.len() && (quote || !space(text[end])) {
            if equals == 0 && text[end] == b'=' {
                equals = end;
            }
            quote ^= text[end] == b'"';
            end += 1;
        }
        let mut word = text[..end].to_vec();
        if equals != 0 && word.get(equals + 1) == Some(&b'"') {
            word.remove(equals + 1);
        }
        if whole && word.last() == Some(&b'"') {
            word.pop();
        }
        rest = &text[end..];
        match (behind, word == b"--") {
            (true, true) => return found,
            (false, true) => behind = true,
            (true, false) => found.push(word),
            (false, false) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn words(text: &[&str]) -> Vec<String> {
        text.iter().map(|&word| word.to_owned()).collect()
    }

    fn line(parameters: &str, command: &[&str]) -> String {
        KernelLine::new(parameters, &words(command)).unwrap().to_string()
    }

    fn refusal(parameters: &str, command: &[&str]) -> String {
        KernelLine::new(parameters, &words(command)).unwrap_err().to_string()
    }

    #[test]
    fn parameters_come_first_and_the_command_behind_dashes() {
        assert_eq!(line("", &[]), "console=ttyS0 panic=-1 quiet");
        assert_eq!(line(" secret=A  loglevel=7 ", &[]), "console=ttyS0 panic=-1 quiet secret=A  loglevel=7");
        assert_eq!(
            line("x=1", &["sh", "-c", "echo hello; exit 3", ""]),
            "console=ttyS0 panic=-1 quiet x=1 -- sh -c \"echo hello; exit 3\" \"\""
        );
    }

    #[test]
    fn what_the_kernel_cannot_carry_is_refused() {
        assert_eq!(
            refusal("", &["echo", "say \"hi\""]),
            "The guest's command cannot hold \"say \\\"hi\\\"\": the kernel's command line has no way to write a double quote"
        );
        assert!(refusal("", &["a", "--", "b"]).contains("ends init's arguments there"));
        assert!(refusal("", &["a\0b"]).contains("NUL"));
        for parameters in ["a -- b", "--", "a \"--\"", "a\u{b}--"] {
            assert!(refusal(parameters, &[]).contains("apart from the parameters"), "{parameters}");
        }
        assert_eq!(
            refusal("dyndbg=\"file x", &["sh"]),
            "The kernel's parameters cannot be \"dyndbg=\\\"file x\": a double quote is not closed, and would take \
             the guest's command in"
        );
        assert!(refusal("a\0b", &["sh"]).contains("NUL"));
        assert!(refusal("", &["x"; 33]).contains("at most 32"));
        assert!(refusal("", &[&"x".repeat(2100)]).contains("2132 bytes long"));
        line("", &["x"; 32]);
        line("", &[&"x".repeat(LONGEST - DEFAULTS.len() - 4)]);
    }

    #[test]
    fn a_byte_that_the_kernel_takes_for_a_space_is_quoted() {
        assert!(line("", &["voilà"]).ends_with("-- \"voilà\""));
    }

    proptest! {
        #[test]
        fn init_gets_the_command_as_it_was_given(command in prop::collection::vec("[ -~\t\nà=\u{a0}-]{0,12}", 0..20)) {
            match KernelLine::new("quiet nosuch=\"a b\"", &command) {
                Ok(line) => {
                    let wanted: Vec<_> = command.iter().map(|word| word.clone().into_bytes()).collect();
                    prop_assert_eq!(arguments_of_init(&line.to_string()), wanted);
                }
                Err(_) => prop_assert!(command.iter().any(|word| word == "--" || word.contains('"'))),
            }
        }
    }
}
