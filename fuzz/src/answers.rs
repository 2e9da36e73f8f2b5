//! vgpud's answers, as vgpuctl reads them.

use crate::message;

/// A message, read as each answer and as the details of an error.
pub fn daemon_answer(data: &[u8]) {
    for shown in vgpud::fuzzing::answers(data) {
        message::check_lines(&shown);
    }
}
