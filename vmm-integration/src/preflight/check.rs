//! One check and what it came to.

use serde::{Deserialize, Serialize};
use std::fmt;

/// One check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Check {
    pub name: CheckName,
    #[serde(flatten)]
    pub outcome: Outcome,
}

/// What a check came to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", tag = "outcome")]
pub enum Outcome {
    /// `seen`: on what ground, in a few words.
    Pass { seen: String },
    /// What was found, and what to do about it.
    Fail { seen: String, mend: String },
    /// The check could not be made, or does not concern this device.
    Skip { reason: String },
}

/// The checks, in the order in which they are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CheckName {
    Driver,
    Parent,
    IommuGroup,
    ResetMethods,
    NumaNode,
    Kvm,
    Node,
    Iommu,
    DeviceInfo,
    ConfigSpace,
    Reset,
    Dma,
    Bar,
    Vcpu,
    Msix,
    Migration,
    Release,
}

impl CheckName {
    /// One stable word.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Driver => "driver",
            Self::Parent => "parent",
            Self::IommuGroup => "iommu-group",
            Self::ResetMethods => "reset-methods",
            Self::NumaNode => "numa-node",
            Self::Kvm => "kvm",
            Self::Node => "node",
            Self::Iommu => "iommu",
            Self::DeviceInfo => "device-info",
            Self::ConfigSpace => "config-space",
            Self::Reset => "reset",
            Self::Dma => "dma",
            Self::Bar => "bar",
            Self::Vcpu => "vcpu",
            Self::Msix => "msix",
            Self::Migration => "migration",
            Self::Release => "release",
        }
    }
}

impl fmt::Display for CheckName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.word())
    }
}

impl Check {
    pub(super) fn pass(name: CheckName, seen: impl Into<String>) -> Self {
        Self { name, outcome: Outcome::Pass { seen: seen.into() } }
    }

    pub(super) fn fail(name: CheckName, seen: impl Into<String>, mend: impl Into<String>) -> Self {
        Self { name, outcome: Outcome::Fail { seen: seen.into(), mend: mend.into() } }
    }

    pub(super) fn skip(name: CheckName, reason: impl Into<String>) -> Self {
        Self { name, outcome: Outcome::Skip { reason: reason.into() } }
    }

    #[must_use]
    pub const fn failed(&self) -> bool {
        matches!(self.outcome, Outcome::Fail { .. })
    }
}

impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.outcome {
            Outcome::Pass { seen } => write!(f, "pass {:13} {seen}", self.name),
            Outcome::Fail { seen, mend } => write!(f, "FAIL {:13} {seen}; {mend}", self.name),
            Outcome::Skip { reason } => write!(f, "skip {:13} {reason}", self.name),
        }
    }
}

/// An error and its causes in one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(&format!(": {cause}"));
        source = cause.source();
    }
    text
}
