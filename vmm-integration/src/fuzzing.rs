//! Private readers of outside bytes, for the crate in `fuzz/`.

use crate::{
    Error,
    device::{
        Region,
        process::{ProcessError, Report},
    },
    doctor::{Check, qemu},
    holders,
    micro_vm::{Outcome, kernel_line, outcome_of},
};
use std::{os::unix::process::ExitStatusExt, path::Path, process::ExitStatus};
use vfio_bindings::bindings::vfio::vfio_region_info;

/// Of the answer to VFIO_DEVICE_GET_REGION_INFO: the structure and what follows it.
#[must_use]
pub fn region(answer: &[u8]) -> Option<Region> {
    let word = |at: usize| Some(u32::from_ne_bytes(answer.get(at..at + 4)?.try_into().ok()?));
    let long = |at: usize| Some(u64::from_ne_bytes(answer.get(at..at + 8)?.try_into().ok()?));
    let info = vfio_region_info {
        argsz: word(0)?,
        flags: word(4)?,
        index: word(8)?,
        cap_offset: word(12)?,
        size: long(16)?,
        offset: long(24)?,
    };
    Some(Region::new(&info, answer))
}

/// A report of the process that works on a device.
///
/// # Errors
/// Where it is none.
///
/// # Panics
/// Where what was read is written otherwise.
pub fn report(line: &str) -> Result<(), ProcessError> {
    let report = Report::read(line)?;
    let again = Report::read(&serde_json::to_string(&report).unwrap_or_default());
    assert!(again.is_ok_and(|again| again == report), "written otherwise: {report:?}");
    Ok(())
}

/// How a VM ended, whose QEMU ended with `status` (as of wait(2)).
#[must_use]
pub fn outcome(status: i32, stderr: &[u8], console: &[u8]) -> Outcome {
    outcome_of(ExitStatus::from_raw(status), stderr, console)
}

/// Of what `qemu --version` says.
#[must_use]
pub fn qemu_version(program: &Path, said: &str) -> Check {
    qemu::judge(program, said)
}

/// The line, and what the guest's init gets for arguments of it.
///
/// # Errors
/// As [`kernel_line::KernelLine::new`].
pub fn kernel_line(parameters: &str, command: &[String]) -> Result<(String, Vec<Vec<u8>>), Error> {
    let line = kernel_line::KernelLine::new(parameters, command)?.to_string();
    let arguments = kernel_line::arguments_of_init(&line);
    Ok((line, arguments))
}

/// Of `/proc/PID/comm`.
#[must_use]
pub fn program(comm: &[u8]) -> String {
    holders::program(comm)
}
