//! The daemon's program.

use clap::Parser;
use std::process::ExitCode;
use vgpud::{
    daemon::{
        Daemon, DeviceCommand, LookoutCommand, Options, Prepared, Signals, StartError, VfCommand,
        init_logging, sandbox,
    },
    failure::sentence,
};

#[derive(Parser)]
#[command(name = "vgpud", version, about, args_conflicts_with_subcommands = true)]
struct Program {
    #[command(flatten)]
    options: Options,
    #[command(subcommand)]
    work: Option<Work>,
}

/// What the daemon starts its own program for.
#[derive(clap::Subcommand)]
enum Work {
    #[command(hide = true)]
    Device(DeviceCommand),
    #[command(hide = true)]
    Lookout(LookoutCommand),
    #[command(hide = true)]
    Vfs(VfCommand),
}

fn main() -> ExitCode {
    let Program { options, work } = Program::parse();
    init_logging(options.log);
    let result = match work {
        Some(Work::Device(command)) => command.run(),
        Some(Work::Lookout(command)) => command.run(),
        Some(Work::Vfs(command)) => command.run(),
        None => run(&options),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            report(&error);
            ExitCode::from(2)
        }
    }
}

fn run(options: &Options) -> Result<(), StartError> {
    if options.check_config {
        let settings = Daemon::settings(options)?;
        println!("The settings are sound: socket {}", settings.daemon.socket.display());
        return Ok(());
    }
    // All threads to come inherit what it gives up.
    let prepared = Prepared::new(options)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(StartError::Runtime)?;
    let result = runtime.block_on(async {
        let signals = Signals::listen()?;
        Daemon::start(prepared).await?.run(signals).await
    });
    // A thread that is stuck in the kernel must not keep the process.
    runtime.shutdown_background();
    result
}

/// The error and the chain of its causes, as vgpuctl prints them.
fn report(error: &StartError) {
    eprintln!("error: {error}");
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        eprintln!("  caused by: {}", sentence(cause));
        source = cause.source();
    }
    if let Some(hint) = sandbox::hint(error) {
        eprintln!("  {hint}");
    }
}
