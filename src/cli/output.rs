//! Writing data to stdout: text for people or versioned JSON for programs.

use super::{args::OutputFormat, error::Error};
use serde::Serialize;
use std::io::{self, Write as _};

/// Version of the JSON documents: grows when a field goes or changes its meaning, not when one is
/// added.
pub const VERSION: u32 = 1;

/// Something that a command prints.
pub trait Document: Serialize {
    /// For people, without a newline at the end; empty where there is nothing to show.
    fn text(&self) -> String;
}

#[derive(Serialize)]
struct Versioned<'a, T> {
    version: u32,
    #[serde(flatten)]
    document: &'a T,
}

/// The document as one line of JSON.
///
/// # Errors
/// [`Error::Json`] where it cannot be written as JSON.
pub fn json<T: Serialize>(document: &T) -> Result<String, Error> {
    serde_json::to_string(&Versioned { version: VERSION, document }).map_err(Error::Json)
}

/// Prints the document to stdout.
///
/// # Errors
/// [`Error::Output`] where stdout cannot be written; a broken pipe is among them, and the caller
/// of the command treats it as success.
pub fn print(document: &impl Document, format: OutputFormat) -> Result<(), Error> {
    let text = match format {
        OutputFormat::Table => document.text(),
        OutputFormat::Json => json(document)?,
    };
    if text.is_empty() {
        return Ok(());
    }
    write_stdout(format!("{text}\n").as_bytes())
}

/// Writes bytes to stdout as they are, at once.
///
/// # Errors
/// As [`print`].
pub fn write_stdout(bytes: &[u8]) -> Result<(), Error> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(bytes).and_then(|()| stdout.flush()).map_err(Error::Output)
}
