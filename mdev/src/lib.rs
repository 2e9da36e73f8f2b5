//! Cutting GPUs. The host's sysfs behind one [`Host`], the [`inventory`] of its GPUs, the
//! [`Mechanism`]s that cut them, one module each, and the kernel's events ([`uevent`]).
//!
//! Nothing here knows a VMM, a container runtime or the daemon, and nothing is remembered between
//! calls: what a function returns was read from the kernel when it was called. One thing no kernel tells is
//! noted in `/run`: what of a GPU's MIG vgpud changed.
//!
//! Unit tests of this crate and of others run against `fake`, a folder that plays sysfs.

#![forbid(unsafe_code)]

pub mod attribute;
#[cfg(any(test, feature = "fake"))]
pub mod fake;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
pub mod instance;
pub mod inventory;
pub mod nvidia;
pub mod uevent;
pub mod wait;

mod access_control;
mod amd_gim;
mod binding;
mod cards;
mod config_space;
mod device;
mod error;
mod gpu;
mod holds;
mod host;
mod host_step;
mod intel_xe;
mod mdev_bus;
mod mechanism;
mod mediated_device;
mod module_alias;
mod passthrough;
mod pci_ids;
mod physical_function;
mod reset;
mod shares;
mod sriov;
mod vendor_clear;
mod virtual_function;

pub use access_control::AccessControl;
pub use amd_gim::{AcceleratorProfile, AmdPartitioning};
pub use config_space::{BarKind, COMMAND, COMMAND_MEMORY, ConfigSpace, ExpressType, Extended};
pub use error::{Error, NotAGpu};
pub use gpu::{DriverName, Gpu, IommuGroup, MdevType, SriovCapability};
pub use holds::{Hold, Holds};
pub use host::Host;
pub use host_step::{HostStep, host_steps};
pub use instance::{ClearOutcome, Instance, InstanceName, MdevUuid, ResetOutcome, VfIndex, VfioNodes};
pub use intel_xe::{XeInterface, XeProvisioning, debug_folders as xe_debug_folders};
pub use mechanism::{Division, Leaves, Mechanism, Profile, Taken, mechanism, mechanisms, uncuttable};
pub use vgpud_config::{
    AcceleratorMode, ComputeShare, MechanismKind, Memory, MemoryMode, Owner, PartitionModes, PciAddress,
    PciId, ProfileName,
};
