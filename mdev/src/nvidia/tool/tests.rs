use super::*;
use std::{fs, os::unix::fs::PermissionsExt, time::Instant};

const GPU: &str = "0000:41:00.0";
const SECOND: &str = "0000:42:00.0";
const LONG: Duration = Duration::from_secs(60);
const SHORT: Duration = Duration::from_millis(300);

/// A tool that does `script`, for any GPU.
struct Bench {
    folder: tempfile::TempDir,
    tools: Arc<Tools>,
}

impl Bench {
    fn new(script: &str) -> Self {
        Self::with(script, Tools::default())
    }

    fn with(script: &str, tools: Tools) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let bench = Self { folder, tools: Arc::new(tools) };
        let path = bench.tool();
        fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        bench
    }

    fn tool(&self) -> PathBuf {
        self.folder.path().join("sriov-manage")
    }

    fn run(&self, gpu: &str, within: Duration) -> Result<Said, Error> {
        let arguments = ["-e", gpu].map(str::to_owned);
        self.tools.run(gpu.parse().unwrap(), &self.tool(), &arguments, within)
    }

    /// The process that the tool wrote down.
    fn pid(&self) -> i32 {
        let path = self.folder.path().join("pid");
        let written = || fs::read_to_string(&path).ok()?.trim().parse().ok();
        wait::until("its number", LONG, || Ok::<_, wait::TimedOut>(written())).unwrap()
    }
}

fn told(result: Result<Said, Error>) -> String {
    result.unwrap_err().with_causes()
}

fn is_there(pid: i32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    !stat.is_empty() && !stat.contains(") Z ")
}

#[test]
fn its_words_and_its_exit_code_are_told() {
    let said = Bench::new("echo \"$@ $LC_ALL\"; echo Cannot obtain unbindLock >&2; exit 3").run(GPU, LONG);
    let said = said.unwrap();
    assert_eq!(said.words, "-e 0000:41:00.0 C\nCannot obtain unbindLock");
    assert!(!said.success);
    assert_eq!(said.to_string(), "failed (Cannot obtain unbindLock)");
    let said = Bench::new("exit 0").run(GPU, LONG).unwrap();
    assert_eq!((said.success, said.words.as_str()), (true, ""));
}

#[test]
fn much_that_it_says_neither_stops_it_nor_is_kept() {
    let said = Bench::new("yes | head -c 1000000").run(GPU, LONG).unwrap();
    assert!(said.success);
    assert!(said.words.len() <= LONGEST && said.words.len() > LONGEST - 3, "{}", said.words.len());
    let endless = told(Bench::new("yes").run(GPU, SHORT));
    assert!(endless.contains("Waited 0.3 s for"), "{endless}");
}

/// A service that a tool starts has the pipe's other end for as long as it likes.
#[test]
fn what_it_leaves_behind_is_not_waited_for() {
    let bench = Bench::new("sleep 600 & echo $! > $(dirname $0)/pid; echo done");
    let begun = Instant::now();
    for _ in 0..2 {
        assert_eq!(bench.run(GPU, LONG).unwrap().words, "done");
        nix::sys::signal::kill(Pid::from_raw(bench.pid()), Signal::SIGKILL).unwrap();
    }
    assert!(begun.elapsed() < LONG);
}

#[test]
fn it_is_ended_with_all_that_it_started() {
    let bench = Bench::new("sleep 600 & echo $! > $(dirname $0)/pid; wait");
    let late = bench.run(GPU, SHORT);
    assert!(matches!(late, Err(Error::TimedOut(_))), "{late:?}");
    let pid = bench.pid();
    wait::until("its child to end", LONG, || Ok::<_, wait::TimedOut>((!is_there(pid)).then_some(())))
        .unwrap();
}

#[test]
fn a_tool_that_is_not_there_is_named() {
    let bench = Bench::new("");
    fs::remove_file(bench.tool()).unwrap();
    assert!(told(bench.run(GPU, LONG)).contains("sriov-manage: No such file"));
    assert!(told(bench.run(GPU, LONG)).contains("sriov-manage: No such file"), "and its seat is free again");
}

#[test]
fn one_runs_at_a_time_for_a_gpu_and_another_gpu_goes_on() {
    let bench =
        Bench::new(&format!("test $2 != {GPU} || {{ echo $$ > $(dirname $0)/pid; exec sleep 600; }}"));
    thread::scope(|scope| {
        let first = scope.spawn(|| bench.run(GPU, LONG));
        let pid = bench.pid();
        let second = told(bench.run(GPU, SHORT));
        let path = bench.tool();
        assert_eq!(
            second,
            format!("Waited 0.3 s for {}, which runs for GPU {GPU}, to end, in vain", path.display())
        );
        for _ in 0..3 {
            assert!(bench.run(SECOND, LONG).unwrap().success);
        }
        assert!(is_there(pid) && !first.is_finished());
        nix::sys::signal::kill(Pid::from_raw(pid), Signal::SIGKILL).unwrap();
        assert!(!first.join().unwrap().unwrap().success);
    });
}

/// Nothing here can make the kernel hold a process: in its place nothing is killed.
#[test]
fn what_cannot_be_killed_is_told_alone_and_reaped_when_it_ends() {
    let script = format!("test $2 != {GPU} || {{ sleep 600 & echo $! > $(dirname $0)/pid; wait; }}");
    let bench = Bench::with(&script, Tools { kill: |_| (), ..Tools::default() });
    let first = told(bench.run(GPU, SHORT));
    let child = bench.pid();
    let parent = format!("/proc/{child}/stat");
    let parent = fs::read_to_string(parent).unwrap();
    let parent: i32 = parent.rsplit(") ").next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
    for part in ["sriov-manage, run for GPU 0000:41:00.0", "stuck in the kernel since 2", "cannot be killed"]
    {
        assert!(first.contains(part), "no {part:?} in {first}");
    }
    assert!(first.contains(&format!("process group {parent},")), "{first}");

    let threads = || fs::read_dir("/proc/self/task").unwrap().count();
    let (begun, before) = (Instant::now(), threads());
    for _ in 0..100 {
        assert_eq!(told(bench.run(GPU, LONG)), first, "refused with the same words");
        assert!(bench.run(SECOND, LONG).unwrap().success);
    }
    assert!(begun.elapsed() < LONG, "at once");
    assert_eq!(bench.pid(), child, "none was started beside it");
    // Other tests have threads of their own.
    assert!(threads() < before + 50, "{} and {before}", threads());

    // Its parent alone is let go: what it started is still there.
    nix::sys::signal::kill(Pid::from_raw(parent), Signal::SIGKILL).unwrap();
    wait::until("it to be reaped", LONG, || {
        Ok::<_, wait::TimedOut>((!fs::exists(format!("/proc/{parent}")).unwrap()).then_some(()))
    })
    .unwrap();
    assert_eq!(told(bench.run(GPU, LONG)), first);
    nix::sys::signal::kill(Pid::from_raw(child), Signal::SIGKILL).unwrap();
    let freed = || Ok::<_, wait::TimedOut>(bench.tools.state().runs.is_empty().then_some(()));
    wait::until("the seat to be free", LONG, freed).unwrap();
    let again = told(bench.run(GPU, SHORT));
    assert_ne!(bench.pid(), child, "it is run again");
    assert_ne!(again, first);
    nix::sys::signal::killpg(Pid::from_raw(group_of(bench.pid())), Signal::SIGKILL).unwrap();
}

fn group_of(pid: i32) -> i32 {
    nix::unistd::getpgid(Some(Pid::from_raw(pid))).unwrap().as_raw()
}

#[test]
fn at_the_end_runs_are_waited_for_and_no_more_are_begun() {
    let bench = Bench::new("echo $$ > $(dirname $0)/pid; sleep 0.3; echo over");
    thread::scope(|scope| {
        let run = scope.spawn(|| bench.run(GPU, LONG));
        let pid = bench.pid();
        bench.tools.close();
        assert!(!is_there(pid));
        assert_eq!(run.join().unwrap().unwrap().words, "over");
    });
    assert!(told(bench.run(SECOND, LONG)).contains("vgpud has ended"));
}
