//! Using a slice: its VFIO nodes and who holds them, whether its IOMMU group isolates it, whether
//! this host can do all that, and micro-VMs that own a slice.

pub mod doctor;
pub mod holders;
pub mod isolation;
pub mod micro_vm;
pub mod node;

mod error;

pub use error::Error;
