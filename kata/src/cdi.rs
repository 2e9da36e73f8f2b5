//! One CDI file for each leased slice: complete or absent at every instant.
//!
//! The rules are Kata's (reference: its CDI handling): cdiVersion 0.5.0, exactly one device node,
//! written under a name without `.json` and renamed.

use std::{io, path::PathBuf};
use vgpud_mdev::Host;

/// A folder of CDI files and the kind that vgpud's devices carry.
#[derive(Clone, Debug)]
pub struct CdiFolder {
    dir: PathBuf,
    kind: String,
}

/// What can go wrong with a CDI file.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("Cannot write the CDI file {}", path.display())]
    Write {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

impl CdiFolder {
    pub fn new(_host: &Host, _settings: &vgpud_config::CdiSettings) -> Self {
        todo!()
    }

    /// Makes `device` (the slice's id) visible with one node, and returns its qualified name
    /// (`kind=device`).
    ///
    /// # Errors
    /// Where the file cannot be written whole; then nothing is visible.
    pub fn publish(&self, _device: &str, _node: &std::path::Path) -> Result<String, Error> {
        let _ = (&self.dir, &self.kind);
        todo!()
    }

    /// Makes `device` invisible. Succeeds where it already is.
    ///
    /// # Errors
    /// Where the file is there and cannot be removed.
    pub fn withdraw(&self, _device: &str) -> Result<(), Error> {
        todo!()
    }

    /// The devices visible now.
    ///
    /// # Errors
    /// Where the folder cannot be read.
    pub fn published(&self) -> Result<Vec<String>, Error> {
        todo!()
    }
}
