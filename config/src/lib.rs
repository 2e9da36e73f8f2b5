//! What the operator writes, and the words everybody uses for it: names of devices, quantities,
//! settings. This crate does no I/O on devices and depends on no other crate of the workspace.

#![forbid(unsafe_code)]

pub mod catalogue;
pub mod import;

mod class;
mod consumer;
mod mechanism;
mod name;
mod numa;
mod pci;
mod principal;
mod quantity;
mod settings;
mod shown;

pub use catalogue::{AcceleratorMode, MemoryMode, PartitionModes};
pub use class::{ClassName, ClassNameError};
pub use consumer::{Consumer, ConsumerName, ConsumerNameError};
pub use mechanism::{MechanismKind, MechanismNameError};
pub use name::{LayoutName, NameError, Owner, ProfileName};
pub use numa::{AffinityStrength, NumaAffinity, NumaAffinityError};
pub use pci::{PciAddress, PciId, PciNameError};
pub use principal::{Account, AccountError, Principal, PrincipalError};
pub use quantity::{ComputeKind, ComputeRequest, ComputeShare, Memory, QuantityError};
pub use settings::{
    AccessSettings, Allowance, CdiSettings, ClassSettings, ClassWant, Confinement, DaemonSettings, GpuChoice,
    GpuChoiceError, GpuSelection, GpuSettings, LayoutEntry, LayoutSettings, LayoutSlices, LayoutWant,
    MigMode, NodeKind, NvidiaSettings, PlacementSettings, PlacementStrategy, Quota, QuotaSettings, Reuse,
    RunSettings, ScrubSettings, Settings, SettingsError, Timeouts, VfioSettings,
};
pub use shown::{Quoted, Shown, printable};
