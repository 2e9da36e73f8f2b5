//! `./x test`: every test, on this machine and in the lab.

use crate::{
    cargo::{self, Executable, Profile},
    suites::{self, Boot, End, Suite},
    tally::Tally,
};
use anyhow::{Context, Result, bail, ensure};
use std::{
    collections::BTreeSet,
    io::{BufRead, BufReader},
    process::{Command, ExitCode, Stdio},
    sync::{Mutex, PoisonError, mpsc},
    time::Instant,
};
use vgpud_lab::{Job, Lab, Length, Progress, run_test_binary};

/// Of the disk that the boots of a suite have in common; a sparse file.
const DISK_BYTES: u64 = 128 << 20;

/// Lab hosts at once: each has one virtual CPU and keeps one core busy.
const HOSTS_AT_ONCE: usize = 2;

#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Only tests whose name contains this
    #[arg(long, value_name = "TEXT", default_value = "")]
    filter: String,
    /// Also the tests that take long, and are skipped otherwise
    #[arg(long)]
    long: bool,
    /// Leave out the tests that run inside the lab host
    #[arg(long)]
    no_lab: bool,
    /// Only this suite of lab tests, a file of tests/e2e; nothing else
    #[arg(long, value_name = "NAME", conflicts_with = "no_lab")]
    suite: Option<String>,
}

impl Arguments {
    const fn length(&self) -> Length {
        if self.long { Length::Long } else { Length::Default }
    }
}

pub fn run(arguments: &Arguments) -> Result<ExitCode> {
    let begun = Instant::now();
    let mut tally = Tally::default();
    if arguments.suite.is_none() {
        tally.add(cargo_test("this machine", &["--workspace"], arguments)?);
    }
    if !arguments.no_lab {
        if arguments.suite.is_none() {
            let harness = ["--package", "vgpud-lab", "--features", "harness", "--test", "harness"];
            tally.add(cargo_test("the lab's harness", &harness, arguments)?);
        }
        tally.add(in_the_lab(arguments)?);
    }
    println!("\ntests took {} s", begun.elapsed().as_secs());
    println!("{tally}");
    if tally.passed() == 0 && tally.failed.is_empty() {
        bail!("no test ran; does any name contain {:?}?", arguments.filter);
    }
    Ok(if tally.failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Tests that run on this machine: `--workspace` has the unit, fake-host and process tests and the
/// examples in the documentation; the harness's own boot lab hosts.
fn cargo_test(place: &str, selection: &[&str], arguments: &Arguments) -> Result<Tally> {
    let mut command = cargo::cargo(&["test", "--no-fail-fast", "--color=never"]);
    command.args(selection).args(["--", &arguments.filter]).stdout(Stdio::piped());
    if arguments.long {
        // What writes a file of this source tree is no test.
        command.args(["--include-ignored", "--skip", "write_the_fixture_of_this_schema"]);
    }
    let mut child = command.spawn().context("Cannot start cargo test")?;
    let stdout = child.stdout.take().context("cargo test has no output")?;
    let mut tally = Tally::default();
    for line in BufReader::new(stdout).lines() {
        let line = line.context("Cannot read what cargo test prints")?;
        println!("{line}");
        tally.read(place, &line);
    }
    let status = child.wait().context("Cannot wait for cargo test")?;
    if !status.success() && tally.failed.is_empty() {
        // It did not compile, or a test binary died.
        tally.fail(place, &format!("cargo test ({status})"));
    }
    Ok(tally)
}

fn in_the_lab(arguments: &Arguments) -> Result<Tally> {
    if let Some(name) = &arguments.suite {
        let names: BTreeSet<_> = suites::all().iter().map(|suite| suite.target).collect();
        let list = names.iter().copied().collect::<Vec<_>>().join(", ");
        ensure!(names.contains(name.as_str()), "There is no suite {name:?}; the suites are {list}");
    }
    let tests = cargo::lab_tests()?;
    let mut wanted = Vec::new();
    for suite in suites::all() {
        if arguments.suite.as_ref().is_some_and(|name| name != suite.target) {
            continue;
        }
        let test = tests.iter().find(|test| test.name == suite.target);
        let test =
            test.with_context(|| format!("There is no test target {} in tests/Cargo.toml", suite.target))?;
        if !names(test, &arguments.filter)?.is_empty() {
            suite.check(&names(test, "")?)?;
            wanted.push((suite, test.clone()));
        }
    }
    if wanted.is_empty() {
        return Ok(Tally::default());
    }
    let programs = cargo::programs(Profile::Dev)?;
    let lab = Lab::prepare(Progress::detect())?;
    let runner = Runner { lab: &lab, programs: &programs, arguments };
    let (sender, receiver) = mpsc::channel();
    let queue = Mutex::new(wanted.into_iter());
    std::thread::scope(|scope| {
        for _ in 0..HOSTS_AT_ONCE {
            let (sender, queue, runner) = (sender.clone(), &queue, &runner);
            scope.spawn(move || {
                let next = || queue.lock().unwrap_or_else(PoisonError::into_inner).next();
                while let Some((suite, test)) = next() {
                    // The receiver outlives this scope.
                    let _ = sender.send(runner.suite(&suite, &test));
                }
            });
        }
    });
    drop(sender);
    let mut tally = Tally::default();
    receiver.into_iter().for_each(|suite| tally.add(suite));
    Ok(tally)
}

/// The tests whose names contain the filter; a target without any is spared its boots.
fn names(test: &Executable, filter: &str) -> Result<BTreeSet<String>> {
    let output = Command::new(&test.path)
        .args(["--list", "--format=terse", filter])
        .output()
        .with_context(|| format!("Cannot list the tests of {}", test.path.display()))?;
    let list = String::from_utf8(output.stdout).context("A test's name is not UTF-8")?;
    Ok(list.lines().filter_map(|line| line.strip_suffix(": test")).map(str::to_owned).collect())
}

/// What all suites run with.
struct Runner<'a> {
    lab: &'a Lab,
    programs: &'a [Executable],
    arguments: &'a Arguments,
}

impl Runner<'_> {
    fn suite(&self, suite: &Suite, test: &Executable) -> Tally {
        let place = suite.place();
        let mut tally = Tally::default();
        if let Err(error) = self.boots(suite, test, &mut tally) {
            println!("[{place}] {error:#}");
            tally.fail(&place, "the lab host");
        }
        tally
    }

    fn boots(&self, suite: &Suite, test: &Executable, tally: &mut Tally) -> Result<()> {
        let disk = tempfile::NamedTempFile::new().context("Cannot make a disk image")?;
        disk.as_file().set_len(DISK_BYTES).context("Cannot make a disk image")?;
        for boot in &suite.boots {
            let mut boot = boot.clone();
            if suite.boots.len() > 1 {
                boot.host = boot.host.disk(disk.path());
            }
            self.boot(suite, &boot, test, tally)?;
            if !tally.failed.is_empty() {
                // What the next boot's tests look for is not there.
                break;
            }
        }
        Ok(())
    }

    fn boot(&self, suite: &Suite, boot: &Boot, test: &Executable, tally: &mut Tally) -> Result<()> {
        let place = suite.place();
        // Two hosts at once write to this terminal: whole lines with their place, no spinner.
        let host = self.lab.boot_with(&boot.host, Progress::Lines)?;
        for program in self.programs {
            host.install(&program.path)?;
        }
        // From the share every start of a program would be read over 9p again.
        host.run(&Job::script("cp /mnt/host/bin/vgpud /mnt/host/bin/vgpuctl /usr/local/bin/"))?.success()?;
        let length = self.arguments.length();
        let filters = boot.tests.filters(&self.arguments.filter, length);
        let report =
            run_test_binary(&host, &test.path, &filters, length, suite.deadline(length), |_, line| {
                println!("[{place}] {line}");
                tally.read(&place, line);
            })?;
        if !report.success() && tally.failed.is_empty() {
            let name =
                report.unfinished.unwrap_or_else(|| format!("the test binary ended with {}", report.code));
            tally.fail(&place, &name);
        }
        match boot.end {
            End::PowerOff => host.shutdown()?,
            End::PowerCut => host.cut_power()?,
        }
        Ok(())
    }
}
