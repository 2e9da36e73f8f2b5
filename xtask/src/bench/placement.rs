//! The simulation in `benches/placement`, built for speed.

use crate::cargo;
use anyhow::{Context, Result};
use std::process::ExitCode;

/// # Errors
/// Where cargo cannot be started.
pub fn run() -> Result<ExitCode> {
    let arguments = ["bench", "--quiet", "--package", "vgpud", "--bench", "placement"];
    let status = cargo::cargo(&arguments).status().context("Cannot start cargo bench")?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
