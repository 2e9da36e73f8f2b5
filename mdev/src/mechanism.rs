//! The trait that every way of cutting a GPU implements.

use crate::{ComputeShare, Error, Gpu, Host, Instance, InstanceName, Memory, PciAddress, ProfileName};
use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};

/// How a GPU is cut. Each vendor's mechanism adds a variant here and a module beside `sriov`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MechanismKind {
    /// Any PF whose driver implements `sriov_numvfs`.
    Sriov,
    /// Any parent of mediated devices.
    Mdev,
}

/// A size that a mechanism can create on one GPU now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Profile {
    pub name: ProfileName,
    /// Device memory of one instance, where the device says.
    pub memory: Option<Memory>,
    /// Nominal share of the GPU's compute, where the mechanism has such a thing.
    pub compute: Option<ComputeShare>,
    /// Instances of this profile that the GPU could hold when empty.
    pub capacity: u32,
    /// Instances that can be created now, beside those that exist.
    pub available: u32,
}

/// One way of cutting GPUs. Every method is blocking (a write to sysfs may sleep for seconds, and
/// for ever where a VFIO user holds the device), reads back what it wrote, and is idempotent: asked
/// again for what is already so, it succeeds and changes nothing. The caller serialises calls per GPU.
pub trait Mechanism: fmt::Debug + Send + Sync {
    fn kind(&self) -> MechanismKind;

    /// Whether this mechanism can cut this GPU, from what the inventory read.
    fn applies(&self, gpu: &Gpu) -> bool;

    /// What can be created, from what the inventory read. Pure.
    fn profiles(&self, gpu: &Gpu) -> Vec<Profile>;

    /// The name that the next instance of `profile` gets, given the names in use. Pure.
    fn next_name(&self, profile: &ProfileName, used: &[InstanceName]) -> Result<InstanceName, Error>;

    /// Makes `name` exist with `profile`, ready for VFIO, and returns it as read back. For SR-IOV
    /// this enables the profile's VF count where none is enabled, and binds the VF to its VFIO driver.
    fn create(
        &self,
        host: &Host,
        gpu: PciAddress,
        profile: &ProfileName,
        name: InstanceName,
    ) -> Result<Instance, Error>;

    /// The instance as it is now, or none.
    fn find(&self, host: &Host, gpu: PciAddress, name: InstanceName) -> Result<Option<Instance>, Error>;

    /// All instances of the GPU, in order of name.
    fn list(&self, host: &Host, gpu: PciAddress) -> Result<Vec<Instance>, Error>;

    /// Resets the instance between users (FLR or the vendor's own), the kernel's verdict checked.
    fn reset(&self, host: &Host, instance: &Instance) -> Result<(), Error>;

    /// Makes the instance unusable again: an mdev is removed, a VF is unbound from VFIO and kept as
    /// a spare of its GPU. The caller has proved that nobody holds it.
    fn destroy(&self, host: &Host, gpu: PciAddress, name: InstanceName) -> Result<(), Error>;

    /// Returns an empty GPU to how it was before the first `create` (SR-IOV: no VFs).
    fn retire(&self, host: &Host, gpu: PciAddress) -> Result<(), Error>;
}

impl MechanismKind {
    /// Every kind, in the order in which a GPU's mechanism is chosen.
    pub const ALL: [Self; 2] = [Self::Sriov, Self::Mdev];

    /// The implementation.
    #[must_use]
    pub fn mechanism(self) -> &'static dyn Mechanism {
        todo!("{self:?}")
    }
}

impl fmt::Display for MechanismKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Sriov => "sriov",
            Self::Mdev => "mdev",
        })
    }
}

impl FromStr for MechanismKind {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self, Error> {
        Self::ALL
            .into_iter()
            .find(|kind| kind.to_string() == text)
            .ok_or_else(|| Error::UnknownMechanism(text.to_owned()))
    }
}
