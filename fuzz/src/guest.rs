//! What QEMU and its guest say, and what the guest is told.

use crate::message;
use std::path::Path;

/// Divides QEMU's stderr from the guest's console.
const CONSOLE: &[u8] = b"\n### console\n";

/// An exit status in the first byte, QEMU's stderr, and the guest's console: how the VM ended.
pub fn qemu_output(data: &[u8]) {
    let Some((status, rest)) = data.split_first() else { return };
    let at = rest.windows(CONSOLE.len()).position(|window| window == CONSOLE).unwrap_or(rest.len());
    let (stderr, console) = (&rest[..at], rest.get(at + CONSOLE.len()..).unwrap_or_default());
    // Exit codes and signals, as wait(2) writes them.
    for status in [i32::from(*status) << 8, i32::from(*status & 0x7f)] {
        let outcome = vgpud_vmm::fuzzing::outcome(status, stderr, console);
        message::check_lines(&outcome.to_string());
        // The 16 KiB of stderr that are kept, were each byte spelled out.
        assert!(outcome.to_string().len() < 8 * (16 << 10));
    }
}

/// What `qemu --version` writes.
pub fn qemu_version(data: &[u8]) {
    let check = vgpud_vmm::fuzzing::qemu_version(Path::new("/usr/bin/qemu"), &crate::text(data));
    message::check(&check.found);
}

/// The guest's command line: parameters, then a word of its command a line.
pub fn kernel_line(data: &[u8]) {
    let text = crate::text(data);
    let mut lines = text.split('\n').map(str::to_owned);
    let parameters = lines.next().unwrap_or_default();
    let command: Vec<String> = lines.collect();
    match vgpud_vmm::fuzzing::kernel_line(&parameters, &command) {
        Ok((line, arguments)) => {
            assert!(line.len() <= 2047 && !line.contains('\0'));
            let wanted: Vec<_> = command.iter().map(|word| word.clone().into_bytes()).collect();
            assert_eq!(arguments, wanted, "init gets another command from {line:?}");
        }
        Err(error) => message::check_error(&error, ""),
    }
}
