//! vgpud and vgpuctl, as a user runs them.

use super::wait_for;
use serde_json::Value;
use std::{
    fs::{self, File},
    os::unix::process::ExitStatusExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

/// Where `./x test` puts the project's programs.
const PROGRAMS: &str = "/usr/local/bin";

/// Parameters of each guest's kernel. Every wake-up of a guest costs an emulated CPU milliseconds, so that a dozen
/// idle guests would fill it; and what guards hardware is of no use here.
const GUEST: &str = "tsc=reliable nowatchdog mitigations=off init_on_alloc=0";

/// A program of the project in the lab host.
pub fn program(name: &str) -> PathBuf {
    Path::new(PROGRAMS).join(name)
}

/// What a command came to.
#[derive(Debug, Clone)]
pub struct Output {
    pub command: String,
    /// As a shell has it: 128 plus the signal for a program that was killed.
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Output {
    pub fn of(command: &mut Command) -> Self {
        let words = format!("{command:?}");
        let output = command.stdin(Stdio::null()).output().unwrap_or_else(|error| panic!("{words}: {error}"));
        Self::from_parts(words, output.status, &output.stdout, &output.stderr)
    }

    fn from_parts(command: String, status: std::process::ExitStatus, out: &[u8], err: &[u8]) -> Self {
        let code = status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0));
        let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
        Self { command, code, stdout: text(out), stderr: text(err) }
    }

    /// Its standard output, where it succeeded.
    #[track_caller]
    pub fn success(self) -> String {
        assert_eq!(self.code, 0, "{self:#?}");
        self.stdout
    }

    /// Its messages, where it failed.
    #[track_caller]
    pub fn failure(self) -> String {
        assert_ne!(self.code, 0, "{self:#?}");
        self.stderr
    }

    /// Fails, with messages that hold every one of `texts`.
    #[track_caller]
    pub fn fails_with(self, texts: &[&str]) {
        let all = format!("{self:#?}");
        let messages = self.failure();
        for text in texts {
            assert!(messages.contains(text), "no {text:?} in the messages of {all}");
        }
    }
}

/// A vgpud of its own: settings, socket and ledger in a folder that goes with it.
#[derive(Debug)]
pub struct Daemon {
    child: Option<Child>,
    folder: tempfile::TempDir,
    state_dir: PathBuf,
}

impl Daemon {
    /// Starts vgpud and waits until it serves.
    #[track_caller]
    pub fn start() -> Self {
        Self::start_with("")
    }

    /// The same with more settings.
    #[track_caller]
    pub fn start_with(settings: &str) -> Self {
        let mut daemon = Self::prepared(settings);
        daemon.start_again();
        daemon
    }

    /// Settings and folder, and no process yet.
    pub fn prepared(settings: &str) -> Self {
        let folder = tempfile::Builder::new().prefix("vgpud-").tempdir_in("/run").unwrap();
        let state_dir = folder.path().join("state");
        Self::with_state_dir(folder, state_dir, settings)
    }

    /// Starts one whose ledger is in a folder that was there before and stays.
    #[track_caller]
    pub fn start_on(state_dir: &Path, settings: &str) -> Self {
        let folder = tempfile::Builder::new().prefix("vgpud-").tempdir_in("/run").unwrap();
        let mut daemon = Self::with_state_dir(folder, state_dir.to_owned(), settings);
        daemon.start_again();
        daemon
    }

    fn with_state_dir(folder: tempfile::TempDir, state_dir: PathBuf, settings: &str) -> Self {
        let (at, state) = (folder.path().display(), state_dir.display());
        let text = format!(
            "[daemon]\nsocket = \"{at}/vgpud.sock\"\nstate_dir = \"{state}\"\n\
             [run]\nkernel = \"/lab/vm/vmlinuz\"\ninitrd = \"/lab/vm/initrd\"\nmemory = \"192MiB\"\n{settings}\n"
        );
        fs::write(folder.path().join("vgpud.toml"), text).unwrap();
        Self { child: None, folder, state_dir }
    }

    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub fn settings(&self) -> PathBuf {
        self.folder().join("vgpud.toml")
    }

    pub fn socket(&self) -> PathBuf {
        self.folder().join("vgpud.sock")
    }

    pub fn state_dir(&self) -> PathBuf {
        self.state_dir.clone()
    }

    pub fn log(&self) -> String {
        fs::read_to_string(self.folder().join("log")).unwrap_or_default()
    }

    pub fn pid(&self) -> u32 {
        self.child.as_ref().expect("vgpud runs").id()
    }

    /// `vgpud` with this daemon's settings.
    pub fn vgpud(&self) -> Command {
        let mut command = Command::new(program("vgpud"));
        command.arg("--config").arg(self.settings());
        command
    }

    /// Starts it on the ledger that is there, and waits until it serves.
    #[track_caller]
    pub fn start_again(&mut self) {
        let log = File::options().create(true).append(true).open(self.folder().join("log")).unwrap();
        let child = self.vgpud().stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn().unwrap();
        self.child = Some(child);
        wait_for("vgpud to serve", Duration::from_secs(60), || {
            let ended = self.child.as_mut().unwrap().try_wait().unwrap();
            assert!(ended.is_none(), "vgpud ended: {}", self.log());
            (self.ctl("status").code == 0).then_some(())
        });
    }

    /// Lets it run when the test is over.
    pub fn leave_running(self) {
        // Neither killed nor its folder removed.
        std::mem::forget(self);
    }

    /// SIGKILL, as a crash.
    pub fn kill(&mut self) {
        let mut child = self.child.take().expect("vgpud runs");
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// SIGTERM, as systemd does; it must end well within the deadline.
    #[track_caller]
    pub fn stop(&mut self) {
        let mut child = self.child.take().expect("vgpud runs");
        Output::of(Command::new("kill").arg(child.id().to_string())).success();
        let status = wait_for("vgpud to stop", Duration::from_secs(60), || child.try_wait().unwrap());
        assert!(status.success(), "vgpud ended with {status}: {}", self.log());
    }

    /// `vgpuctl`, quiet, with this daemon's settings.
    pub fn vgpuctl(&self) -> Command {
        let mut command = Command::new(program("vgpuctl"));
        command.arg("--config").arg(self.settings()).arg("--quiet");
        command
    }

    /// Runs vgpuctl; `words` are split at spaces.
    pub fn ctl(&self, words: &str) -> Output {
        Output::of(self.vgpuctl().args(words.split_whitespace()))
    }

    /// What vgpuctl prints, where it must succeed.
    #[track_caller]
    pub fn ok(&self, words: &str) -> String {
        self.ctl(words).success()
    }

    /// The same as JSON.
    #[track_caller]
    pub fn json(&self, words: &str) -> Value {
        let text = self.ok(&format!("--output json {words}"));
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{words}: {error} in {text}"))
    }

    /// Creates slices and returns their ids.
    #[track_caller]
    pub fn create(&self, words: &str) -> Vec<String> {
        let created = self.json(&format!("create {words}"));
        let slices = created["slices"].as_array().expect("slices");
        slices.iter().map(|slice| slice["id"].as_str().expect("id").to_owned()).collect()
    }

    /// One slice as JSON.
    #[track_caller]
    pub fn slice(&self, id: &str) -> Value {
        self.json(&format!("show {id}"))["slice"].take()
    }

    #[track_caller]
    pub fn phase(&self, id: &str) -> String {
        self.slice(id)["phase"].as_str().expect("phase").to_owned()
    }

    #[track_caller]
    pub fn wait_for_phase(&self, id: &str, phase: &str, limit: Duration) {
        wait_for(&format!("{id} to be {phase}"), limit, || (self.phase(id) == phase).then_some(()));
    }

    /// Starts `vgpuctl run`, which says what it does; `words` are its arguments, split at spaces.
    pub fn run(&self, words: &str) -> Running {
        let console = tempfile::NamedTempFile::new_in(self.folder()).unwrap();
        let messages = tempfile::NamedTempFile::new_in(self.folder()).unwrap();
        let child = Command::new(program("vgpuctl"))
            .arg("--config")
            .arg(self.settings())
            .args(["run", "--append", GUEST])
            .args(words.split_whitespace())
            .stdin(Stdio::null())
            .stdout(console.reopen().unwrap())
            .stderr(messages.reopen().unwrap())
            .spawn()
            .unwrap();
        Running { command: format!("vgpuctl run {words}"), child, console, messages }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
        if std::thread::panicking() {
            eprintln!("--- vgpud's log\n{}", self.log());
            super::leftovers::clear();
        }
    }
}

/// `vgpuctl run` under way.
#[derive(Debug)]
pub struct Running {
    command: String,
    child: Child,
    console: tempfile::NamedTempFile,
    messages: tempfile::NamedTempFile,
}

/// The longest that a micro-VM may take on a busy machine, all under emulation.
const VM_LIMIT: Duration = Duration::from_secs(600);

impl Running {
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Whether it has not ended yet.
    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// The guest's console so far.
    pub fn console(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.console.path()).unwrap()).into_owned()
    }

    /// Waits until the guest's console holds `text`.
    #[track_caller]
    pub fn wait_for(&mut self, text: &str) {
        wait_for(&format!("{text:?} on the console of {}", self.command), VM_LIMIT, || {
            let found = self.console().contains(text);
            if !found && let Some(status) = self.child.try_wait().unwrap() {
                panic!(
                    "{} ended with {status} before {text:?}:\n{}\n{}",
                    self.command,
                    self.console(),
                    self.said()
                );
            }
            found.then_some(())
        });
    }

    fn said(&self) -> String {
        fs::read_to_string(self.messages.path()).unwrap_or_default()
    }

    /// The process of its micro-VM.
    #[track_caller]
    pub fn qemu(&self) -> u32 {
        wait_for(&format!("QEMU of {}", self.command), VM_LIMIT, || {
            let children = format!("/proc/{0}/task", self.pid());
            let tasks = fs::read_dir(children).ok()?;
            let pids = tasks.filter_map(|task| fs::read_to_string(task.ok()?.path().join("children")).ok());
            let pids: Vec<u32> = pids
                .flat_map(|text| {
                    text.split_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<_>>()
                })
                .collect();
            pids.into_iter().find(|pid| {
                fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|comm| comm.starts_with("qemu"))
            })
        })
    }

    /// Waits for its end.
    #[track_caller]
    pub fn wait(mut self) -> Output {
        let status =
            wait_for(&format!("the end of {}", self.command), VM_LIMIT, || self.child.try_wait().unwrap());
        let (stdout, stderr) = (self.console(), self.said());
        Output::from_parts(self.command.clone(), status, stdout.as_bytes(), stderr.as_bytes())
    }

    /// Lets it run when the test is over.
    pub fn leave_running(self) {
        std::mem::forget(self);
    }

    /// Sends it a signal (`TERM`, `KILL`).
    pub fn signal(&self, name: &str) {
        signal(self.pid(), name);
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.child.try_wait().is_ok_and(|status| status.is_none()) {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// Sends a process a signal.
pub fn signal(pid: u32, name: &str) {
    Output::of(Command::new("kill").args([format!("-{name}"), pid.to_string()])).success();
}
