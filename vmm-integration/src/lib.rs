//! Using a slice: its VFIO nodes and who holds them, whether its IOMMU group isolates it, whether
//! this host can do all that, and micro-VMs that own a slice.

// The few places that need it (an ioctl, a call between fork and exec) allow it themselves.
#![deny(unsafe_code)]

pub mod device;
pub mod dialogue;
pub mod doctor;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
pub mod holders;
pub mod isolation;
pub mod lookout;
pub mod micro_vm;
pub mod node;
pub mod preflight;
pub mod scrub;

mod cdev_bind;
mod error;
mod iommu;
mod kvm;
mod memory_lock;

pub use error::Error;
