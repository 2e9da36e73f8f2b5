//! The daemon's program.

use clap::Parser;
use std::process::ExitCode;
use vgpud::{
    daemon::{Daemon, DeviceCommand, Options, Signals, StartError, init_logging},
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
}

fn main() -> ExitCode {
    let Program { options, work } = Program::parse();
    init_logging(options.log);
    if let Some(Work::Device(command)) = work {
        return match command.run() {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("error: nobody takes the report: {error}");
                ExitCode::from(2)
            }
        };
    }
    match run(&options) {
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
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(StartError::Runtime)?;
    let result = runtime.block_on(async {
        let signals = Signals::listen()?;
        Daemon::start(options).await?.run(signals).await
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
}
