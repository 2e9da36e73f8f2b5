//! What can be wrong with a settings file.

use crate::{Quoted, Shown};
use std::{fmt, io, path::PathBuf};

/// Why settings were refused: one sentence with file, line and the way out.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    #[error("Cannot read the settings {}", path.display())]
    Read {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("{}, line {line}: this is no TOML: {message}", path.display())]
    Syntax { path: PathBuf, line: usize, message: String },
    #[error("{}: there is no key {}; {way_out}", at.line(), at.key())]
    UnknownKey { at: Box<SettingsKey>, way_out: String },
    #[error("{}: {} cannot be {value}: {message}", at.line(), at.key())]
    Value { at: Box<SettingsKey>, value: String, message: String },
    #[error("{}: {} is the same as {}; keep one", at.line(), at.key(), Quoted(other))]
    Twice { at: Box<SettingsKey>, other: String },
    #[error("The settings {} and its drop-ins cannot be used together: {message}", path.display())]
    Merged { path: PathBuf, message: String },
}

/// A key in a settings file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SettingsKey {
    pub path: PathBuf,
    /// From 1.
    pub line: usize,
    /// Empty at the top level.
    pub table: String,
    pub key: String,
}

impl SettingsKey {
    fn line(&self) -> impl fmt::Display {
        format!("{}, line {}", self.path.display(), self.line)
    }

    fn key(&self) -> impl fmt::Display {
        let table =
            if self.table.is_empty() { String::new() } else { format!(" in [{}]", Shown(&self.table)) };
        format!("`{}`{table}", Shown(&self.key))
    }
}
