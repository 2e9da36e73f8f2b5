//! NVIDIA's GPUs: how its host driver makes vGPUs of virtual functions, and the names and shapes that are
//! its own: vGPU types, the list of those that can be created, MIG profiles, and where instances of MIG
//! fit.
//!
//! Type numbers differ between cards and drivers, and the gigabytes in a name between steppings of a
//! card: a type is known by its name, and a type and a MIG profile belong together by [`MigClass`].

mod creatable;
mod geometry;
pub(crate) mod line;
pub(crate) mod mdev;
mod mig;
mod mig_profile;
mod profiles;
pub(crate) mod smi;
pub(crate) mod sriov_manage;
pub(crate) mod tool;
pub(crate) mod vfio;
mod vgpu;
mod vgpu_type;

pub use creatable::{CreatableError, CreatableType, VgpuTypeId, creatable_types};
pub use geometry::{Blocked, GpuInstance, Layout, LayoutError, Placeable};
pub(crate) use mdev::vgpu_name;
pub(crate) use mig::read as read_mig;
pub use mig::{InstanceUse, Mig, MigInstance, MigKind, MigOffer, MigSeen};
pub use mig_profile::{MigProfile, MigProfileError, MigSize};
pub use smi::SmiCommand;
pub use sriov_manage::Turn;
pub use tool::{Said, Tools};
pub use vgpu::{NvidiaVgpu, OfferedType, VfParent, VgpuVf};
pub(crate) use vgpu::{TypeNames, VENDOR, current, is_unnamed, left_half_way, read};
pub use vgpu_type::{MigPart, VgpuType, VgpuTypeError};
pub use vgpud_config::MigMode;
pub use vgpud_config::catalogue::{Geometry, GeometryProfile, MigAttribute, MigClass, VgpuSeries};
