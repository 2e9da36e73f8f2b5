//! Whether a slice that nobody holds would work in a VM: checks of three depths, each printed with
//! what was seen.
//!
//! | level | touches | checks |
//! |---|---|---|
//! | `sysfs` | nothing | driver, parent, IOMMU group, reset methods, NUMA node |
//! | `open` | opens the device, which resets it | and KVM, node, IOMMU, device info, config space, release |
//! | `full` | resets it, writes one word of its memory and puts it back | and reset, DMA, BAR, vCPU, MSI-X, migration |
//!
//! A check that cannot be made is skipped with its reason and never passes.

mod check;
mod open_device;
mod sysfs;
mod vcpu;

pub(crate) use check::chain;
pub use check::{Check, CheckName, Outcome};

use crate::{
    Error,
    scrub::{Stage, Subject},
};
use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};
use vgpud_config::Quoted;
use vgpud_mdev::{Host, Instance};

/// How deep to look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    Sysfs,
    #[default]
    Open,
    Full,
}

impl Level {
    pub const ALL: [Self; 3] = [Self::Sysfs, Self::Open, Self::Full];

    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Sysfs => "sysfs",
            Self::Open => "open",
            Self::Full => "full",
        }
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// A word that is no level.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{} is no level of checks; write sysfs, open or full", Quoted(.0))]
pub struct NoLevel(pub String);

impl FromStr for Level {
    type Err = NoLevel;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL.into_iter().find(|level| level.word() == text).ok_or_else(|| NoLevel(text.to_owned()))
    }
}

/// Checks an instance that nobody holds; `subject` is how it is opened, or why it cannot be. `at` learns of each stage and `made` of each check as it
/// comes.
pub fn preflight(
    host: &Host,
    instance: &Instance,
    subject: Result<Subject, Error>,
    level: Level,
    mut at: impl FnMut(Stage),
    mut made: impl FnMut(Check),
) {
    at(Stage::Check);
    sysfs::checks(host, instance).into_iter().for_each(&mut made);
    if level >= Level::Open {
        open_device::checks(host, instance, subject, level, &mut at, &mut made);
    }
}

#[cfg(test)]
mod tests;
