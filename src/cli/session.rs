//! What every command works with: the options, the host, the settings, vgpud.

use super::{
    args::{Globals, OutputFormat},
    client::Client,
    error::Error,
    output::{self, Document},
};
use std::{
    cell::OnceCell,
    io::{self, Write as _},
    path::PathBuf,
};
use vgpud_config::{Settings, printable};
use vgpud_mdev::Host;

/// The settings of a host; drop-ins stand beside it in `vgpud.toml.d`.
const SETTINGS: &str = "/etc/vgpud/vgpud.toml";

/// One run of vgpuctl.
#[derive(Debug)]
pub struct Session {
    globals: Globals,
    host: Host,
    settings: OnceCell<Settings>,
}

impl Session {
    #[must_use]
    pub fn new(globals: Globals) -> Self {
        let host = Host::new(&globals.root);
        Self { globals, host, settings: OnceCell::new() }
    }

    #[must_use]
    pub const fn host(&self) -> &Host {
        &self.host
    }

    #[must_use]
    pub const fn format(&self) -> OutputFormat {
        self.globals.output
    }

    /// Whether lines for people belong on stderr. With JSON, only errors do.
    #[must_use]
    pub const fn has_notes(&self) -> bool {
        !self.globals.quiet && matches!(self.globals.output, OutputFormat::Table)
    }

    #[must_use]
    pub const fn is_quiet(&self) -> bool {
        self.globals.quiet
    }

    /// The settings of this host, read when they are first needed.
    ///
    /// # Errors
    /// Where the settings file is wrong.
    pub fn settings(&self) -> Result<&Settings, Error> {
        if let Some(settings) = self.settings.get() {
            return Ok(settings);
        }
        let settings = match &self.globals.config {
            // The usual file may be absent, one that was named may not.
            Some(path) if !path.is_file() => return Err(Error::NoSettings { path: path.clone() }),
            Some(path) => Settings::load(path)?,
            None => Settings::load(&self.host.path(SETTINGS))?,
        };
        Ok(self.settings.get_or_init(|| settings))
    }

    /// vgpud's socket.
    ///
    /// # Errors
    /// As [`Self::settings`].
    pub fn socket(&self) -> Result<PathBuf, Error> {
        match &self.globals.socket {
            Some(socket) => Ok(socket.clone()),
            None => Ok(self.host.path(&self.settings()?.daemon.socket)),
        }
    }

    /// Connects to vgpud.
    ///
    /// # Errors
    /// Where it cannot be reached, or the settings that name its socket are wrong.
    pub async fn connect(&self) -> Result<Client, Error> {
        let socket = self.socket()?;
        // Who names the socket needs no settings: a typo in them is vgpud's to tell, and this user
        // may have no right to read them.
        let settings = self.settings().cloned().unwrap_or_default();
        Client::connect(&socket, &settings).await
    }

    /// Prints what the command was asked for.
    ///
    /// # Errors
    /// Where stdout cannot be written.
    pub fn print(&self, document: &impl Document) -> Result<(), Error> {
        output::print(document, self.globals.output)
    }

    /// A line for people on stderr.
    pub fn note(&self, text: &str) {
        if self.has_notes() {
            // Nobody can be told where stderr itself is gone.
            let _ = writeln!(io::stderr(), "{}", printable(text));
        }
    }
}
