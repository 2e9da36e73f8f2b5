//! Running vgpuctl with a deadline.

use std::{path::Path, process::Stdio, time::Duration};
use tokio::process::Command;

/// Far more than any command needs against a server that answers at once.
pub const DEADLINE: Duration = Duration::from_secs(60);

/// What a finished vgpuctl left.
#[derive(Debug)]
pub struct Finished {
    pub stdout: String,
    pub stderr: String,
    pub code: i32,
}

/// vgpuctl with nothing of this machine's environment.
pub fn command(socket: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_vgpuctl"));
    command.args(args).env_clear().env("VGPUD_SOCKET", socket).kill_on_drop(true);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Waits for the end of `command`.
pub async fn finish(mut command: Command) -> Finished {
    // Not `Command::output`, which replaces the stdout that a test has chosen.
    let child = command.spawn().expect("vgpuctl cannot be started");
    let output = tokio::time::timeout(DEADLINE, child.wait_with_output());
    let output = output.await.expect("vgpuctl does not end").expect("vgpuctl cannot be waited for");
    Finished {
        stdout: String::from_utf8(output.stdout).expect("stdout is text"),
        stderr: String::from_utf8(output.stderr).expect("stderr is text"),
        code: output.status.code().unwrap_or_else(|| panic!("vgpuctl was ended by {}", output.status)),
    }
}

/// Runs vgpuctl to its end.
pub async fn vgpuctl(socket: &Path, args: &[&str]) -> Finished {
    finish(command(socket, args)).await
}
