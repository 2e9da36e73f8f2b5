//! `vgpuctl generate`: manual pages and completions from the command line's definition, for
//! packages.

use super::{args::Cli, error::Error, exit::Exit, output, session::Session};
use clap::{Args, CommandFactory as _, ValueEnum};
use clap_complete::Shell;

/// Print a manual page or a shell's completions
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  vgpuctl generate man create > vgpuctl-create.1")]
pub struct GenerateArgs {
    what: What,
    /// For `man`: the page of this command, else that of vgpuctl itself
    command: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum What {
    Man,
    CompleteBash,
    CompleteZsh,
    CompleteFish,
}

/// Prints it.
///
/// # Errors
/// Where there is no such command or stdout cannot be written.
pub fn execute(_session: &Session, args: &GenerateArgs) -> Result<Exit, Error> {
    let mut text = Vec::new();
    match args.what {
        What::Man => {
            let page = clap_mangen::Man::new(page(args.command.as_deref())?)
                .source(concat!("vgpuctl ", env!("CARGO_PKG_VERSION")))
                .manual("vgpud");
            page.render(&mut text).map_err(Error::Output)?;
        }
        What::CompleteBash => complete(Shell::Bash, &mut text),
        What::CompleteZsh => complete(Shell::Zsh, &mut text),
        What::CompleteFish => complete(Shell::Fish, &mut text),
    }
    output::write_stdout(&text)?;
    Ok(Exit::Success)
}

fn complete(shell: Shell, text: &mut Vec<u8>) {
    clap_complete::generate(shell, &mut Cli::command(), "vgpuctl", text);
}

/// The definition to be described.
fn page(name: Option<&str>) -> Result<clap::Command, Error> {
    let mut root = Cli::command().disable_help_subcommand(true);
    root.build();
    let Some(name) = name else { return Ok(root) };
    let found = root.get_subcommands().find(|command| command.get_name() == name).cloned();
    let command = found.ok_or_else(|| Error::NoSuch {
        what: "command",
        name: name.to_owned(),
        list: "`vgpuctl --help` lists them",
        hint: crate::nearest::did_you_mean(name, root.get_subcommands().map(clap::Command::get_name)),
    })?;
    // The page of a command carries the whole name, as `man vgpuctl-create` asks for it.
    Ok(command.display_name(format!("vgpuctl-{name}")))
}
