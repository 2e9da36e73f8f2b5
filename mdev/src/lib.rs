//! Cutting GPUs. The host's sysfs behind one [`Host`], the [`inventory`] of its GPUs, the
//! [`Mechanism`]s that cut them, one module each, and the kernel's events ([`uevent`]).
//!
//! Nothing here knows a VMM, a container runtime or the daemon, and nothing is remembered between
//! calls: what a function returns was read from the kernel when it was called.
//!
//! Unit tests of this crate and of others run against `fake`, a folder that plays sysfs.

#![forbid(unsafe_code)]

pub mod attribute;
#[cfg(any(test, feature = "fake"))]
pub mod fake;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
pub mod inventory;
pub mod uevent;
pub mod wait;

mod access_control;
mod binding;
mod config_space;
mod device;
mod error;
mod gpu;
mod host;
mod mdev_bus;
mod mechanism;
mod module_alias;
mod pci_ids;
mod slice;
mod sriov;

pub use access_control::AccessControl;
pub use config_space::{BarKind, COMMAND, COMMAND_MEMORY, ConfigSpace, ExpressType, Extended};
pub use error::{Error, NotAGpu};
pub use gpu::{DriverName, Gpu, IommuGroup, MdevType, SriovCapability};
pub use host::Host;
pub use mechanism::{ClearOutcome, Mechanism, Profile, ResetOutcome, mechanism, mechanisms, uncuttable};
pub use slice::{Instance, InstanceName, MdevUuid, VfIndex, VfioNodes};
pub use vgpud_config::{ComputeShare, MechanismKind, Memory, Owner, PciAddress, PciId, ProfileName};
