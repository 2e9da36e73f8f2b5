//! Reading what QEMU and its guest say.

use std::io::{ErrorKind, Read};

/// Longest line that is kept whole.
const LONGEST_LINE: usize = 4096;
/// How much of QEMU's stderr is kept: its end, where the reason stands.
const KEPT: usize = 16 << 10;
/// How a panicking Linux kernel begins its last words (kernel/panic.c).
const PANIC: &str = "Kernel panic - not syncing";

/// Hands every piece that comes to `each`, until the end of the stream.
fn pieces(mut stream: impl Read, mut each: impl FnMut(&[u8])) {
    let mut buffer = [0; 4096];
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => return,
            Ok(length) => each(&buffer[..length]),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => {
                tracing::warn!(%error, "QEMU's output cannot be read any more");
                return;
            }
        }
    }
}

/// Streams the guest's console to `each` as it comes, and returns the line of a kernel panic.
pub(super) fn watch(stream: impl Read, mut each: impl FnMut(&[u8])) -> Option<String> {
    let mut line = Vec::new();
    let mut panic = None;
    let mut end_of_line = |line: &mut Vec<u8>| {
        let text = String::from_utf8_lossy(line);
        if let (None, Some(start)) = (&panic, text.find(PANIC)) {
            panic = Some(text[start..].trim_end().to_owned());
        }
        line.clear();
    };
    pieces(stream, |piece| {
        each(piece);
        for &byte in piece {
            if byte == b'\n' {
                end_of_line(&mut line);
            } else if line.len() < LONGEST_LINE {
                line.push(byte);
            }
        }
    });
    end_of_line(&mut line);
    panic
}

/// Collects the end of QEMU's stderr.
pub(super) fn collect(stream: impl Read) -> String {
    let mut text = Vec::new();
    pieces(stream, |piece| {
        text.extend_from_slice(piece);
        text.drain(..text.len().saturating_sub(KEPT));
    });
    String::from_utf8_lossy(&text).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_console_arrives_unchanged_and_a_panic_is_noticed() {
        let text =
            b"boot\r\n[ 1.2] Kernel panic - not syncing: Attempted to kill init! exitcode=0x00000100\r\nmore";
        let mut seen = Vec::new();
        let panic = watch(&text[..], |piece| seen.extend_from_slice(piece));
        assert_eq!(seen, text);
        let expected = "Kernel panic - not syncing: Attempted to kill init! exitcode=0x00000100";
        assert_eq!(panic.as_deref(), Some(expected));
        assert_eq!(watch(&b"all is well"[..], |_| {}), None);
    }

    #[test]
    fn the_end_of_stderr_is_kept() {
        let text = format!("{}the reason", "x".repeat(3 * KEPT));
        let kept = collect(text.as_bytes());
        assert_eq!(kept.len(), KEPT);
        assert!(kept.ends_with("xthe reason"));
    }
}
