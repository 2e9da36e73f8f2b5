//! `vgpuctl`: one file a command, each with its arguments (definitions without logic) and what it
//! does. What a command prints is a `document`: a table for people, JSON for programs. Data goes
//! to stdout, messages and errors to stderr; `exit` has the exit codes.
//!
//! Every command but `doctor`, `layout`, `ledger` and `generate` speaks to vgpud over its Unix socket and to
//! nothing else; `run` starts QEMU itself, so that the micro-VM belongs to whoever asked for it.

mod apply;
mod args;
pub(crate) mod client;
mod connection;
mod create;
mod destroy;
mod doctor;
pub(crate) mod document;
pub(crate) mod error;
mod events;
mod exit;
mod extend;
mod generate;
mod gpus;
pub(crate) mod history;
mod layout;
mod lease;
mod lease_time;
mod ledger;
pub(crate) mod output;
mod plan;
mod profiles;
mod progress;
mod quarantine;
mod release;
mod run;
mod session;
mod show;
mod size;
mod slice_hint;
mod slices;
mod status;
mod table;
mod verify;

#[cfg(test)]
mod args_tests;

use args::{Cli, Command};
use clap::Parser;
use error::Error;
use exit::Exit;
use session::Session;
use std::process::ExitCode;

/// Runs vgpuctl on this process's arguments.
#[must_use]
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help goes to stdout and usage errors to stderr; a reader that left is no failure.
            let _ = error.print();
            return if error.use_stderr() { Exit::Trouble } else { Exit::Success }.into();
        }
    };
    let output = cli.globals.output;
    let trouble = cli.command.exit_of_trouble();
    match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => {
            let exit = runtime.block_on(execute(cli));
            // A console reader or a forgotten stream must not hold the process back.
            runtime.shutdown_background();
            exit
        }
        Err(source) => Err(Error::Runtime(source)),
    }
    .unwrap_or_else(|error| error::report(&error, output, trouble))
    .into()
}

async fn execute(cli: Cli) -> Result<Exit, Error> {
    let session = Session::new(cli.globals);
    match cli.command {
        Command::Gpus(args) => gpus::execute(&session, &args).await,
        Command::Profiles(args) => profiles::execute(&session, &args).await,
        Command::Create(args) => create::execute(&session, &args).await,
        Command::Slices(args) => slices::execute(&session, &args).await,
        Command::Show(args) => show::execute(&session, &args).await,
        Command::Lease(args) => lease::execute(&session, &args).await,
        Command::Extend(args) => extend::execute(&session, &args).await,
        Command::Release(args) => release::execute(&session, &args).await,
        Command::Verify(args) => verify::execute(&session, &args).await,
        Command::Destroy(args) => destroy::execute(&session, &args).await,
        Command::History(args) => history::execute(&session, &args).await,
        Command::Quarantine(args) => quarantine::execute(&session, &args).await,
        Command::Plan(args) => plan::execute(&session, &args).await,
        Command::Apply(args) => apply::execute(&session, &args).await,
        Command::Layout(args) => layout::execute(&session, &args),
        Command::Events(args) => events::execute(&session, &args).await,
        Command::Ledger(args) => ledger::execute(&session, &args),
        Command::Doctor(args) => doctor::execute(&session, args),
        Command::Status(args) => status::execute(&session, args).await,
        Command::Run(args) => run::execute(&session, &args).await,
        Command::Generate(args) => generate::execute(&session, &args),
    }
}
