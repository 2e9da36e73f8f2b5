//! What cargo builds, and where it put it.

use anyhow::{Context, Result, bail};
use serde_json::Value;
use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// An executable that cargo built.
#[derive(Debug, Clone)]
pub struct Executable {
    /// Name of the target: `vgpuctl`, or the file of a test.
    pub name: String,
    pub path: PathBuf,
}

/// Cargo's profile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Profile {
    Dev,
    Release,
}

/// The repository's root.
pub fn root() -> &'static Path {
    // xtask lies one folder below it.
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("."))
}

/// Cargo, as the one that runs this program, in the repository, with the locked dependencies.
pub fn cargo(arguments: &[&str]) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root()).args(arguments).arg("--locked");
    command
}

/// Builds vgpud and vgpuctl.
pub fn programs(profile: Profile) -> Result<Vec<Executable>> {
    let mut arguments = vec!["build", "--package", "vgpud", "--bins"];
    if profile == Profile::Release {
        arguments.push("--release");
    }
    build(&arguments)
}

/// Builds the tests that run inside the lab host.
pub fn lab_tests() -> Result<Vec<Executable>> {
    build(&["test", "--package", "vgpud-lab", "--features", "lab,harness", "--no-run", "--test", "*"])
}

fn build(arguments: &[&str]) -> Result<Vec<Executable>> {
    let words = arguments.join(" ");
    let output = cargo(arguments)
        .arg("--message-format=json-render-diagnostics")
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| format!("Cannot start cargo {words}"))?;
    if !output.status.success() {
        bail!("cargo {words} failed ({}); its messages stand above", output.status);
    }
    let text = String::from_utf8_lossy(&output.stdout);
    let built =
        text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok()).filter_map(|message| {
            Some(Executable {
                name: message["target"]["name"].as_str()?.to_owned(),
                path: message["executable"].as_str()?.into(),
            })
        });
    Ok(built.collect())
}
