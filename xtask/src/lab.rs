//! `./x lab prepare` and `./x lab shell`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::SystemTime;

use anyhow::Result;
use clap::{Args, Subcommand, ValueEnum};
use vgpud_lab::{Console, HostSpec, Iommu, Lab, Progress, VfioFlavour};

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Builds what lab hosts are started from (once; later runs find it in the cache)
    Prepare,
    /// A prompt in a lab host; `exit` takes the host down
    Shell(Shell),
}

#[derive(Debug, Args)]
pub struct Shell {
    /// Whose VFIO modules: Debian's own (group nodes) or ours (/dev/iommu and device nodes)
    #[arg(long, value_enum, default_value_t = Vfio::Cdev)]
    vfio: Vfio,
    /// The simulated GPUs (names: tests/lab/kmod)
    #[arg(long, value_delimiter = ',', default_value = "mi300x,sim,simmdev")]
    gpus: Vec<String>,
    /// A machine without an IOMMU
    #[arg(long)]
    no_iommu: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Vfio {
    Debian,
    Cdev,
}

pub fn run(command: Command) -> Result<ExitCode> {
    let progress = Progress::detect();
    match command {
        Command::Prepare => {
            prepare(progress)?;
        }
        Command::Shell(arguments) => shell(arguments, progress)?,
    }
    Ok(ExitCode::SUCCESS)
}

/// The lab, with a word on what its hosts run on.
pub fn prepare(progress: Progress) -> Result<Lab> {
    let lab = Lab::prepare(progress)?;
    progress.say(&format!("hosts run on {}", lab.accelerator()));
    Ok(lab)
}

fn shell(arguments: Shell, progress: Progress) -> Result<()> {
    let lab = prepare(progress)?;
    let spec = HostSpec {
        iommu: if arguments.no_iommu { Iommu::Off } else { Iommu::On },
        console: Console::Terminal,
        ..HostSpec::new(match arguments.vfio {
            Vfio::Debian => VfioFlavour::Debian,
            Vfio::Cdev => VfioFlavour::Cdev,
        })
        .gpus(arguments.gpus)
    };
    // A spinner and a console cannot share a terminal.
    progress.say("starting a host; exit takes it down");
    let host = lab.boot_with(&spec, Progress::Quiet)?;
    for program in ["vgpud", "vgpuctl"] {
        match newest_build(program) {
            Some(path) => {
                host.install(&path)?;
            }
            None => progress.say(&format!("{program} is not built, so it is not in the host: cargo build")),
        }
    }
    host.wait_for_end()?;
    Ok(())
}

/// The newest build of a program of this checkout; under sudo, `./x` builds into a folder of its own.
fn newest_build(program: &str) -> Option<PathBuf> {
    let checkout = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target");
    let own = std::env::var_os("CARGO_TARGET_DIR").map(PathBuf::from);
    own.into_iter()
        .chain([checkout])
        .flat_map(|target| ["debug", "release"].map(|profile| target.join(profile).join(program)))
        .filter(|path| path.is_file())
        .max_by_key(|path| {
            fs::metadata(path).and_then(|metadata| metadata.modified()).unwrap_or(SystemTime::UNIX_EPOCH)
        })
}
