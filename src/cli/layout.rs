//! `vgpuctl layout import FILE`.

use super::{error::Error, exit::Exit, output, session::Session};
use clap::{Args, Subcommand};
use std::{
    fs::File,
    io::{self, Read as _, Write as _},
    path::{Path, PathBuf},
};
use vgpud_config::import::{Imported, import};

/// More than any profile file has, in bytes.
const LONGEST: u64 = 4 << 20;

/// Take layouts over from other programs
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  vgpuctl layout import config.yaml A40-8Q --write /etc/vgpud/vgpud.toml.d/a40.toml"
)]
pub struct LayoutArgs {
    #[command(subcommand)]
    command: LayoutCommand,
}

#[derive(Debug, Subcommand)]
enum LayoutCommand {
    /// Turn a profile file of NVIDIA's vgpu-device-manager or mig-parted into settings of vgpud
    ///
    /// Each configuration becomes a layout of its name. What a layout cannot say is refused with its line;
    /// name the configurations that you need where the file has others too.
    #[command(after_help = "Example:\n  vgpuctl layout import config.yaml A40-8Q > a40.toml")]
    Import {
        /// The file, in YAML
        file: PathBuf,
        /// Only these of its configurations
        #[arg(value_name = "CONFIG")]
        only: Vec<String>,
        /// Write to this file, which does not exist yet, and not to stdout; such as one in
        /// /etc/vgpud/vgpud.toml.d
        #[arg(long, value_name = "FILE")]
        write: Option<PathBuf>,
    },
}

/// Does it.
///
/// # Errors
/// Where the file cannot be read or taken over, or the new one not be written.
pub fn execute(session: &Session, args: &LayoutArgs) -> Result<Exit, Error> {
    let LayoutCommand::Import { file, only, write } = &args.command;
    let text = read(file).map_err(|source| Error::ReadFile { path: file.clone(), source })?;
    let imported: Imported = import(&text, only)
        .map_err(|source| Error::Import { path: file.clone(), source: Box::new(source) })?;
    let settings = imported.to_toml(&file.display().to_string());
    match write {
        None => output::write_stdout(settings.as_bytes())?,
        Some(path) => {
            create(path, &settings).map_err(|source| Error::WriteFile { path: path.clone(), source })?;
            session.note(&format!(
                "{} has {} layouts; vgpud reads it when it is told to reload (SIGHUP) or starts",
                path.display(),
                imported.layouts.len()
            ));
        }
    }
    Ok(Exit::Success)
}

fn read(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    File::open(path)?.take(LONGEST + 1).read_to_string(&mut text)?;
    if text.len() as u64 > LONGEST {
        return Err(io::Error::other(format!("it has more than {LONGEST} bytes")));
    }
    Ok(text)
}

/// A new file, whole or not there.
fn create(path: &Path, text: &str) -> io::Result<()> {
    let mut file = File::create_new(path)?;
    let written = file.write_all(text.as_bytes()).and_then(|()| file.sync_all());
    written.inspect_err(|_| {
        // What is half there would be read as settings; that it cannot be removed changes nothing of the error.
        let _ = std::fs::remove_file(path);
    })
}
