//! `./x demo`: the main job, shown on a GPU host without hardware.
//!
//! Everything that the transcript shows is done by vgpud and vgpuctl on the lab host's real kernel.
//! The last line counts what was checked; a check that fails ends the demo with an error.

use crate::cargo::{self, Profile};
use crate::lab;
use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use std::{
    fs,
    process::ExitCode,
    time::{Duration, Instant},
};
use vgpud_lab::{Host, HostSpec, Job, Progress, Running, SHARE, VfioFlavour, poll};

/// As an operator writes it to /etc/vgpud/vgpud.toml: what a micro-VM boots.
const SETTINGS: &str =
    "[run]\nkernel = \"/lab/vm/vmlinuz\"\ninitrd = \"/lab/vm/initrd\"\nmemory = \"128MiB\"\n";

/// For all micro-VMs to boot and to use their VRAM, on a busy machine under emulation.
const GUESTS_LIMIT: Duration = Duration::from_secs(240);

/// Bytes of VRAM that hold somebody's mark are looked for with this.
const MARK: &str = "owned-by-";

/// What stands in the window of one slice's VRAM, as the simulated GPU itself has it.
const LOOK_INTO_VRAM: &str = r#"
    knobs=/sys/kernel/debug/simgpu/$GPU
    if [ -n "$UUID" ]; then
      device=/sys/bus/mdev/devices/$UUID/simgpu
      offset=$(cat $device/vram_offset) size=$(cat $device/vram_size)
    else
      for link in /sys/bus/pci/devices/$GPU/virtfn*; do
        [ "$(basename "$(readlink "$link")")" != "$VF" ] || index=${link##*virtfn}
      done
      read -r _ offset size < <(grep "^$index " $knobs/windows)
    fi
    dd if=$knobs/vram bs=4096 skip=$((offset / 4096)) count=$((size / 4096)) status=none |
      grep -ao 'owned-by-[a-z0-9]*' | sort -u"#;

/// Everything of a slice that could be left over, one a line.
const LEFT_OVER: &str = r#"
    for file in /sys/bus/pci/devices/*/sriov_numvfs; do [ "$(cat $file)" = 0 ] || echo "$file"; done
    ls /sys/bus/mdev/devices
    ls /dev/vfio | grep -v -x -e vfio -e devices || true
    ls /var/run/cdi 2> /dev/null || true"#;

pub fn run() -> Result<ExitCode> {
    let begun = Instant::now();
    let progress = Progress::detect();
    progress.say("building vgpud and vgpuctl");
    let programs = cargo::programs(Profile::Dev)?;
    let lab = lab::prepare(progress)?;
    let host = lab.boot(&HostSpec::new(VfioFlavour::Cdev).gpus(["simmdev", "mi300x", "flex170"]))?;
    for program in &programs {
        host.install(&program.path)?;
    }
    fs::write(host.share().join("vgpud.toml"), SETTINGS).context("Cannot write the settings")?;
    host.run(&Job::script("mkdir -p /etc/vgpud && cp /mnt/host/vgpud.toml /etc/vgpud"))?.success()?;
    let result = show(&host)?;
    host.shutdown()?;
    println!("\n({} s, on {})", begun.elapsed().as_secs(), lab.accelerator());
    println!("{result}");
    Ok(ExitCode::SUCCESS)
}

fn show(host: &Host) -> Result<String> {
    let stage = Stage { host };
    title("A host with GPUs, and vgpud on it");
    stage.shell("uname -sr; ls /sys/class/iommu")?;
    println!("$ vgpud &");
    let daemon = host.start(&program("vgpud", &[]).deadline(Duration::from_secs(1800)))?;
    let up = poll("vgpud to serve", Duration::from_secs(30), || {
        let status = host.run(&program("vgpuctl", &["status"]))?;
        Ok((status.code == 0).then_some(()))
    });
    if let Err(error) = up {
        let output = daemon.kill()?;
        bail!("{error}; vgpud wrote:\n{}", output.stderr);
    }
    let gpus = stage.json(&["gpus"])?;
    let gpus = array(&gpus, "gpus")?;
    stage.vgpuctl(&["gpus"])?;
    let (sriov, mdev) = (gpu_with(gpus, "1002:74a1")?, gpu_with(gpus, "1234:51a1")?);
    stage.vgpuctl(&["profiles", sriov])?;
    stage.vgpuctl(&["profiles", mdev])?;

    title("Cut: two slices of the SR-IOV GPU, two of the mdev parent");
    stage.vgpuctl(&["create", "--memory", "16MiB", "--compute", "25%", "--dry-run"])?;
    stage.vgpuctl(&["create", "vf-4", "--gpu", sriov, "--count", "2"])?;
    stage.vgpuctl(&["create", "--memory", "16MiB", "--gpu", mdev, "--count", "2"])?;
    let slices = stage.json(&["slices"])?;
    let slices = array(&slices, "slices")?;

    title("One micro-VM each: the guest lists its GPUs and fills all VRAM with its owner's mark");
    let mut guests = Vec::new();
    for slice in slices {
        guests.push(Guest::start(host, slice)?);
    }
    for guest in &mut guests {
        guest.wait_until_marked()?;
    }
    stage.vgpuctl(&["slices"])?;
    stage.shell("head -c 400 /var/run/cdi/*.json | head -20")?;

    title("What the GPUs themselves have in each slice's VRAM while all micro-VMs run");
    for guest in &guests {
        guest.check(host)?;
    }

    title("The micro-VMs end, the slices are taken back");
    host.run(&Job::script("pkill -TERM -x vgpuctl"))?.success()?;
    for guest in guests {
        guest.end()?;
    }
    stage.vgpuctl(&["slices"])?;
    let mut destroy = vec!["destroy"];
    destroy.extend(slices.iter().filter_map(|slice| slice["id"].as_str()));
    stage.vgpuctl(&destroy)?;
    let left = host.run(&Job::script(LEFT_OVER))?.success()?.stdout;
    let left: Vec<&str> = left.lines().collect();
    let slices_left = stage.json(&["slices"])?;
    let left_over = left.len() + array(&slices_left, "slices")?.len();
    ensure!(left_over == 0, "left over: {left:?} {slices_left}");
    println!("no VF, no mdev, no VFIO node, no CDI file, no slice is left");
    host.run(&Job::script("pkill -TERM -x vgpud"))?.success()?;
    let output = daemon.wait()?;
    ensure!(output.code == 0, "vgpud ended with {}:\n{}", output.code, output.stderr);
    Ok(format!(
        "demo: {} GPUs, {} slices, {} micro-VMs saw exactly their own, {left_over} left over",
        gpus.len(),
        slices.len(),
        slices.len()
    ))
}

fn title(text: &str) {
    println!("\n== {text}");
}

fn program(name: &str, arguments: &[&str]) -> Job {
    let program = format!("{SHARE}/bin/{name}");
    Job::new([program.as_str()].iter().chain(arguments).copied())
}

fn array<'a>(document: &'a Value, key: &str) -> Result<&'a Vec<Value>> {
    document[key].as_array().with_context(|| format!("vgpuctl's JSON has no list {key:?}: {document}"))
}

fn gpu_with<'a>(gpus: &'a [Value], id: &str) -> Result<&'a str> {
    let gpu = gpus.iter().find(|gpu| gpu["id"] == id);
    gpu.and_then(|gpu| gpu["address"].as_str()).with_context(|| format!("vgpuctl gpus does not list {id}"))
}

/// Where the transcript is played.
struct Stage<'a> {
    host: &'a Host,
}

impl Stage<'_> {
    /// Shows a command and what it prints.
    fn vgpuctl(&self, arguments: &[&str]) -> Result<()> {
        println!("$ vgpuctl {}", arguments.join(" "));
        let output = self.host.run(&program("vgpuctl", arguments))?.success()?;
        print!("{}{}", output.stderr, output.stdout);
        Ok(())
    }

    fn shell(&self, script: &str) -> Result<()> {
        println!("$ {script}");
        print!("{}", self.host.run(&Job::script(script))?.success()?.stdout);
        Ok(())
    }

    fn json(&self, arguments: &[&str]) -> Result<Value> {
        let arguments: Vec<&str> = ["--output", "json", "--quiet"].iter().chain(arguments).copied().collect();
        let output = self.host.run(&program("vgpuctl", &arguments))?.success()?;
        serde_json::from_str(&output.stdout).with_context(|| format!("Not JSON: {}", output.stdout))
    }
}

/// A slice in its micro-VM.
struct Guest<'a> {
    slice: &'a Value,
    id: String,
    running: Running<'a>,
}

impl<'a> Guest<'a> {
    fn start(host: &'a Host, slice: &'a Value) -> Result<Self> {
        let id = slice["id"].as_str().context("a slice has no id")?.to_owned();
        let (owner, mark) = (format!("tenant-{id}"), format!("{MARK}{id}"));
        let arguments = ["run", &id, "--owner", &owner, "--", "gpu", "list", "write", &mark, "hold", "3600"];
        println!("$ vgpuctl {} &", arguments.join(" "));
        let running = host.start(&program("vgpuctl", &arguments).deadline(Duration::from_secs(1800)))?;
        Ok(Self { slice, id, running })
    }

    /// Waits until the guest has written its mark, and checks what it saw.
    fn wait_until_marked(&mut self) -> Result<()> {
        let (id, running) = (&self.id, &mut self.running);
        let console = poll(&format!("the micro-VM of {id} to use its VRAM"), GUESTS_LIMIT, || {
            let console = running.stdout()?;
            Ok(console.contains("holding").then_some(console))
        });
        let console = match console {
            Ok(console) => console,
            Err(error) => bail!("{error}\n{}\n{}", running.stdout()?, running.stderr()?),
        };
        let told: Vec<&str> =
            console.lines().map(str::trim).filter(|line| line.starts_with("gpu: ")).collect();
        let seen = told.iter().filter(|line| line.contains(" vram ")).count();
        ensure!(seen == 1, "the micro-VM of {id} sees {seen} GPUs instead of its own:\n{console}");
        ensure!(console.contains(&format!("wrote {MARK}{id}: 0 of ")), "{id} could not use VRAM:\n{console}");
        for line in told {
            println!("[{id}] {line}");
        }
        Ok(())
    }

    /// Looks into the slice's VRAM from the GPU's side.
    fn check(&self, host: &Host) -> Result<()> {
        let field = |name: &str| self.slice[name].as_str().unwrap_or_default().to_owned();
        let look = Job::script(LOOK_INTO_VRAM)
            .env("GPU", &field("gpu"))
            .env("VF", &field("address"))
            .env("UUID", &field("mdev_uuid"));
        let found = host.run(&look)?.success()?.stdout;
        let found: Vec<&str> = found.lines().collect();
        let device = field("address") + &field("mdev_uuid");
        ensure!(found == [format!("{MARK}{}", self.id)], "VRAM of {} ({device}) holds {found:?}", self.id);
        println!("{} ({device}): {} and nobody else's", self.id, found.join(" "));
        Ok(())
    }

    fn end(self) -> Result<()> {
        let output = self.running.wait()?;
        let last = output.stderr.lines().last().unwrap_or_default();
        println!("[{}] {last}", self.id);
        Ok(())
    }
}
