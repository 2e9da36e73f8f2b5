//! Cutting GPUs. The host's sysfs behind one [`Host`], the [`inventory`] of its GPUs, and the
//! [`Mechanism`]s that cut them, one module each.
//!
//! Nothing here knows a VMM, a container runtime or the daemon, and nothing is remembered between
//! calls: what a function returns was read from the kernel when it was called.

#![forbid(unsafe_code)]

pub mod inventory;
pub mod wait;

mod error;
mod gpu;
mod host;
mod mechanism;
mod slice;

pub use error::Error;
pub use gpu::{DriverName, Gpu, IommuGroup, MdevType, SriovCapability};
pub use host::Host;
pub use mechanism::{Mechanism, MechanismKind, Profile};
pub use slice::{Instance, InstanceName, MdevUuid, VfIndex, VfioNodes};
pub use vgpud_config::{ComputeShare, Memory, Owner, PciAddress, PciId, ProfileName};
