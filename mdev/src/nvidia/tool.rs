//! Running one of NVIDIA's tools, which say what they did, and must end in time.

use crate::Error;
use nix::{
    sys::signal::{Signal, killpg},
    unistd::Pid,
};
use serde::{Deserialize, Serialize};
use std::{
    fmt,
    io::{self, Read},
    os::unix::process::CommandExt,
    path::Path,
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Mutex, PoisonError, mpsc},
    thread,
    time::Duration,
};
use vgpud_config::Shown;

/// Longest text that is kept of what a tool says. The longest list of `nvidia-smi` that is known, of the
/// profiles of an RTX PRO 6000, has some 3,000 bytes.
const LONGEST: u64 = 32 << 10;

/// What a tool says that it came to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Said {
    pub success: bool,
    /// All that it printed, as far as it is kept.
    pub words: String,
}

/// `said that all went well`, or `failed ("…")`.
impl fmt::Display for Said {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.success {
            return f.write_str("said that all went well");
        }
        match self.words.lines().rfind(|line| !line.trim().is_empty()) {
            Some(line) => write!(f, "failed ({})", Shown(line.trim())),
            None => f.write_str("failed without a word"),
        }
    }
}

/// One run at a time: `sriov-manage` gives the ids of a GPU to another driver for a moment, and gets no lock
/// of a GPU while a program such as `nvidia-smi` looks at it.
static RUNS: Mutex<()> = Mutex::new(());

/// Runs the tool as root's tools are run, and ends it where it takes longer than `within`.
///
/// # Errors
/// Where it cannot be run or does not end.
pub(crate) fn run(tool: &Path, arguments: &[String], within: Duration) -> Result<Said, Error> {
    let _alone = RUNS.lock().unwrap_or_else(PoisonError::into_inner);
    let failed = |source| Error::Run { program: tool.to_owned(), source };
    let (reader, writer) = io::pipe().map_err(failed)?;
    let mut command = Command::new(tool);
    command.args(arguments).env_clear();
    command.env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").env("LC_ALL", "C").current_dir("/");
    command.stdin(Stdio::null()).stdout(writer.try_clone().map_err(failed)?).stderr(writer);
    // What it starts ends with it.
    command.process_group(0);
    let child = command.spawn().map_err(failed)?;
    // It holds the pipe's other end.
    drop(command);
    let (sender, words) = mpsc::channel();
    thread::Builder::new().spawn(move || sender.send(listen(reader))).map_err(failed)?;
    let status = end(child, tool, within)?;
    // A program that the tool left behind may keep the pipe open; then its words are not waited for.
    let words = words.recv_timeout(Duration::from_secs(1)).unwrap_or_default();
    tracing::debug!(tool = %tool.display(), ?arguments, %status, words, "run");
    Ok(Said { success: status.success(), words })
}

/// The beginning of what is said; the rest is let through, so that nobody waits for a reader.
fn listen(mut pipe: io::PipeReader) -> String {
    let mut words = Vec::new();
    // What was read before an error counts.
    let _ = (&mut pipe).take(LONGEST).read_to_end(&mut words);
    thread::spawn(move || io::copy(&mut pipe, &mut io::sink()));
    String::from_utf8_lossy(&words).trim().to_owned()
}

fn end(mut child: Child, tool: &Path, within: Duration) -> Result<ExitStatus, Error> {
    let failed = |source| Error::Run { program: tool.to_owned(), source };
    let what = format!("{} to end (`device` under [timeouts] gives it more time)", tool.display());
    let ended = crate::wait::until(&what, within, || child.try_wait().map_err(failed));
    let Err(Error::TimedOut(_)) = &ended else { return ended };
    if let Ok(group) = i32::try_from(child.id()) {
        // Where it has just ended there is nothing to end.
        let _ = killpg(Pid::from_raw(group), Signal::SIGKILL);
    }
    // One that is stuck in the kernel stays; the deadline is what is told either way.
    let _ = crate::wait::until(&what, Duration::from_secs(1), || child.try_wait().map_err(failed));
    ended
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{fs, os::unix::fs::PermissionsExt, path::PathBuf};

    fn tool(folder: &Path, script: &str) -> PathBuf {
        let path = folder.join("sriov-manage");
        fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        path
    }

    fn arguments() -> [String; 2] {
        ["-e", "0000:41:00.0"].map(str::to_owned)
    }

    fn ran(script: &str, within: Duration) -> Result<Said, Error> {
        let folder = tempfile::tempdir().unwrap();
        run(&tool(folder.path(), script), &arguments(), within)
    }

    const LONG: Duration = Duration::from_secs(60);

    #[test]
    fn its_words_and_its_exit_code_are_told() {
        let turned = ran("echo \"$@ $LC_ALL\"; echo Cannot obtain unbindLock >&2; exit 3", LONG).unwrap();
        assert_eq!(turned.words, "-e 0000:41:00.0 C\nCannot obtain unbindLock");
        assert!(!turned.success);
        assert_eq!(turned.to_string(), "failed (Cannot obtain unbindLock)");
        let turned = ran("exit 0", LONG).unwrap();
        assert_eq!((turned.success, turned.words.as_str()), (true, ""));
    }

    #[test]
    fn much_that_it_says_neither_stops_it_nor_is_kept() {
        let turned = ran("yes | head -c 1000000", LONG).unwrap();
        assert!(turned.success);
        assert!(turned.words.len() <= 32 << 10, "{}", turned.words.len());
    }

    #[test]
    fn it_is_ended_with_all_that_it_started() {
        let folder = tempfile::tempdir().unwrap();
        let pid = folder.path().join("pid");
        let script = format!("sleep 600 & echo $! > {}; wait", pid.display());
        let told = run(&tool(folder.path(), &script), &arguments(), Duration::from_millis(500));
        assert!(matches!(told, Err(Error::TimedOut(_))), "{told:?}");
        let child = format!("/proc/{}/stat", fs::read_to_string(pid).unwrap().trim());
        let gone = crate::wait::until("its child to end", LONG, || {
            let stat = fs::read_to_string(&child).unwrap_or_default();
            Ok::<_, crate::wait::TimedOut>((stat.is_empty() || stat.contains(") Z ")).then_some(()))
        });
        gone.unwrap();
    }

    #[test]
    fn a_tool_that_is_not_there_is_named() {
        let told = run(Path::new("/nowhere/sriov-manage"), &arguments(), LONG);
        assert!(told.unwrap_err().to_string().contains("/nowhere/sriov-manage"));
    }
}
