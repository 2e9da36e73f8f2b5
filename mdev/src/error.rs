//! What can go wrong with a device.

use crate::{PciAddress, ProfileName};
use std::{io, path::PathBuf};

/// One failure, in a sentence that names the device, the value and the way out.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("There is no mechanism {0:?}; the mechanisms are sriov and mdev")]
    UnknownMechanism(String),
    #[error("There is no GPU {0}; `vgpuctl gpus` lists those of this host")]
    NoSuchGpu(PciAddress),
    #[error("GPU {gpu} has no profile {profile}; `vgpuctl profiles {gpu}` lists what it offers")]
    NoSuchProfile { gpu: PciAddress, profile: ProfileName },
    #[error("Cannot read {}", path.display())]
    Read {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("Cannot write {value:?} to {}{hint}", path.display())]
    Write {
        path: PathBuf,
        value: String,
        hint: &'static str,
        #[source]
        source: io::Error,
    },
}
