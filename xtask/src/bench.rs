//! `./x bench`: figures as ratios against a peer, both measured in one run.

mod placement;

use crate::cargo::{self, Profile};
use crate::lab;
use anyhow::{Context, Result, ensure};
use std::{fs, process::ExitCode, time::Duration};
use vgpud_lab::{HostSpec, Job, Progress, VfioFlavour};

/// Turns about with mdevctl and with vgpud, so that both see the same machine: a mediated device from
/// nothing to ready for VFIO, and gone again. The peer writes to sysfs; vgpud also journals each step,
/// resets the device and reads its memory back. Prints a pair of microseconds a round.
const ROUNDS: &str = r#"
    # From the share every start of a program would be read over 9p again.
    cp /mnt/host/bin/vgpud /mnt/host/bin/vgpuctl /usr/local/bin
    gpu=$(ls /sys/class/mdev_bus | head -1)
    vgpud --state-dir /run/bench & vgpud=$!
    until vgpuctl status > /dev/null 2>&1; do kill -0 $vgpud; sleep 0.1; done
    timed() { local from=$EPOCHREALTIME; "$@" > /dev/null; local to=$EPOCHREALTIME; took=$(((${to/./} - ${from/./}))); }
    peer() { mdevctl start -u $uuid -p $gpu -t simgpu_mdev-small; mdevctl stop -u $uuid; }
    ours() { vgpuctl -q create simgpu_mdev-small --gpu $gpu; vgpuctl -q destroy s$round; }
    for round in $(seq ROUNDS); do
      uuid=$(cat /proc/sys/kernel/random/uuid)
      timed peer; peer=$took
      timed ours; ours=$took
      echo "round $peer $ours"
    done
    echo "memory $(sed -n 's/^VmRSS:[[:space:]]*\([0-9]*\) kB/\1/p' /proc/$vgpud/status)"
    kill $vgpud; wait $vgpud || true"#;

const COUNT: usize = 21;

#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// vgpud's placement beside first-fit and best-fit, in a simulation; needs no lab
    Placement,
}

/// A mediated device made by mdevctl and by vgpud on one lab host, where nothing else is asked for.
pub fn run(command: Option<&Command>) -> Result<ExitCode> {
    match command {
        Some(Command::Placement) => placement::run(),
        None => mediated_device(),
    }
}

fn mediated_device() -> Result<ExitCode> {
    let progress = Progress::detect();
    progress.say("building vgpud and vgpuctl for release");
    let programs = cargo::programs(Profile::Release)?;
    let lab = lab::prepare(progress)?;
    let host = lab.boot(&HostSpec::new(VfioFlavour::Debian).gpus(["simmdev"]))?;
    for program in &programs {
        host.install(&program.path)?;
    }
    let script = ROUNDS.replace("ROUNDS", &COUNT.to_string());
    let path = "/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    let job = Job::script(&script).env("PATH", path).deadline(Duration::from_secs(900));
    let output = host.run(&job)?.success()?.stdout;
    host.shutdown()?;

    let rounds: Vec<(f64, f64)> = output.lines().filter_map(pair).collect();
    ensure!(rounds.len() == COUNT, "{} of {COUNT} rounds reported:\n{output}", rounds.len());
    let median = |figure: fn(&(f64, f64)) -> f64| {
        let mut figures: Vec<f64> = rounds.iter().map(figure).collect();
        figures.sort_by(f64::total_cmp);
        figures[figures.len() / 2]
    };
    let memory = output.lines().find_map(|line| line.strip_prefix("memory ")).context("no memory figure")?;
    println!(
        "mediated device created and removed, {COUNT} rounds in turn, medians, on {}:",
        lab.accelerator()
    );
    println!("  mdevctl start, stop       {:.3} s", median(|round| round.0) / 1e6);
    println!("  vgpuctl create, destroy   {:.3} s", median(|round| round.1) / 1e6);
    println!("  vgpud / mdevctl           {:.2}", median(|round| round.1 / round.0));
    println!("vgpud, resident and idle    {memory} KiB");
    for program in &programs {
        let size = fs::metadata(&program.path).context("Cannot look at a program")?.len();
        println!("{:<27} {} KiB", program.name, size / 1024);
    }
    Ok(ExitCode::SUCCESS)
}

/// `round PEER OURS`, in microseconds.
fn pair(line: &str) -> Option<(f64, f64)> {
    let (peer, ours) = line.strip_prefix("round ")?.split_once(' ')?;
    Some((peer.parse().ok()?, ours.parse().ok()?))
}
