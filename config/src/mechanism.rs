//! The ways of cutting a GPU, by name.

use crate::Quoted;
use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};

/// How a GPU is cut. Each vendor's mechanism adds a variant here and its implementation in
/// `vgpud-mdev`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum MechanismKind {
    /// vGPUs of NVIDIA's host driver on virtual functions, by its vendor-specific VFIO framework.
    NvidiaVfio,
    /// vGPUs of NVIDIA's host driver as mediated devices, of a GPU or of its virtual functions.
    NvidiaMdev,
    /// VFs of an Intel GPU, with the shares that its driver xe gives them.
    IntelXe,
    /// VFs of an AMD GPU that its host driver gim made when it was loaded.
    AmdGim,
    /// Any PF whose driver implements `sriov_numvfs`.
    Sriov,
    /// Any other parent of mediated devices.
    Mdev,
    /// A whole GPU as one slice.
    Passthrough,
}

/// A text that names no mechanism.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("There is no mechanism {}; the mechanisms are {}", Quoted(text), names())]
pub struct MechanismNameError {
    text: String,
}

impl MechanismKind {
    /// Every kind, in the order in which a GPU's mechanism is chosen.
    pub const ALL: [Self; 7] = [
        Self::NvidiaVfio,
        Self::NvidiaMdev,
        Self::IntelXe,
        Self::AmdGim,
        Self::Sriov,
        Self::Mdev,
        Self::Passthrough,
    ];

    const fn name(self) -> &'static str {
        match self {
            Self::NvidiaVfio => "nvidia-vfio",
            Self::NvidiaMdev => "nvidia-mdev",
            Self::IntelXe => "intel-xe",
            Self::AmdGim => "amd-gim",
            Self::Sriov => "sriov",
            Self::Mdev => "mdev",
            Self::Passthrough => "passthrough",
        }
    }
}

fn names() -> String {
    MechanismKind::ALL.map(MechanismKind::name).join(", ")
}

impl fmt::Display for MechanismKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for MechanismKind {
    type Err = MechanismNameError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let named = Self::ALL.into_iter().find(|kind| kind.name() == text);
        named.ok_or_else(|| MechanismNameError { text: text.to_owned() })
    }
}

impl TryFrom<String> for MechanismKind {
    type Error = MechanismNameError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<MechanismKind> for String {
    fn from(kind: MechanismKind) -> Self {
        kind.name().to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_mechanism_reads_back() {
        for kind in MechanismKind::ALL {
            assert_eq!(kind.to_string().parse(), Ok(kind));
        }
        for bad in ["", "SRIOV", "mdev "] {
            assert_eq!(
                bad.parse::<MechanismKind>().unwrap_err().to_string(),
                format!(
                    "There is no mechanism {bad:?}; the mechanisms are nvidia-vfio, nvidia-mdev, intel-xe, \
                     amd-gim, sriov, mdev, passthrough"
                )
            );
        }
    }
}
