//! `./x COMMAND`: the project's own tasks, one file a command.

#![forbid(unsafe_code)]

mod bench;
mod cargo;
mod demo;
mod lab;
mod suites;
mod tally;
mod test;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Debug, Parser)]
#[command(name = "x", bin_name = "./x", about = "The project's own tasks")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// The lab: a GPU host without hardware
    #[command(subcommand)]
    Lab(lab::Command),
    /// Figures against a peer, measured in one run
    Bench {
        #[command(subcommand)]
        what: Option<bench::Command>,
    },
    /// The main job, shown on a GPU host without hardware
    Demo,
    /// Every test, on this machine and in the lab
    Test(test::Arguments),
}

fn main() -> ExitCode {
    let result = match Arguments::parse().command {
        Command::Lab(command) => lab::run(command),
        Command::Bench { what } => bench::run(what.as_ref()),
        Command::Demo => demo::run(),
        Command::Test(arguments) => test::run(&arguments),
    };
    match result {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error}");
            for cause in error.chain().skip(1) {
                eprintln!("  caused by: {cause}");
            }
            ExitCode::FAILURE
        }
    }
}
