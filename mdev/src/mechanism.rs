//! The trait that every way of cutting a GPU implements.

use crate::{ComputeShare, Error, Gpu, Host, Instance, InstanceName, Memory, PciAddress, ProfileName};
use crate::{MechanismKind, VfioNodes, mdev_bus::MdevBus, sriov::Sriov};
use serde::Serialize;
use std::{fmt, path::PathBuf};

/// A size that a mechanism can create on one GPU now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Profile {
    pub name: ProfileName,
    /// Device memory of one instance, where the device says.
    pub memory: Option<Memory>,
    /// Nominal share of the GPU's compute, where the mechanism has such a thing.
    pub compute: Option<ComputeShare>,
    /// Instances of this profile that the GPU could hold when empty. Where only the kernel's count
    /// for now is known (mdev), that count together with those that exist.
    pub capacity: u32,
    /// Instances that can be created now, beside those that exist.
    pub available: u32,
}

/// What became of a reset that the kernel did not refuse.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ResetOutcome {
    /// The kernel reset the device. `method` is the first of the device's methods (`flr`, …); the
    /// kernel goes on to the next only where one turns out not to be supported.
    Done { method: String },
    /// The device offers no reset between users. A mediated device is cleaned by destroying it and
    /// creating it again (its parent driver starts it anew); anything else must stay out of use.
    NotOffered,
}

/// What became of a request that the vendor's driver clears an instance's memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClearOutcome {
    /// The driver says that it did. That is a claim: whoever can look at the memory does.
    Reported {
        /// The driver's interface.
        by: &'static str,
    },
    /// The driver has no such thing, or none whose word is worth anything.
    NotOffered,
}

/// One way of cutting GPUs. Every method that takes a [`Host`] is blocking (a write to sysfs may
/// sleep for seconds, and for ever where a VFIO user holds the device: call it on a worker), reads
/// back what it wrote, and is idempotent: asked again for what is already so, it succeeds and
/// changes nothing. The caller serialises calls per GPU.
///
/// An *instance* is something that a VM can open through VFIO. A VF that is on no VFIO driver is
/// none: it is a spare of its GPU.
pub trait Mechanism: fmt::Debug + Send + Sync {
    fn kind(&self) -> MechanismKind;

    /// Why this mechanism cannot cut this GPU, from what the inventory read, as the end of a
    /// sentence ("it has no SR-IOV capability"); none where it can. Pure.
    fn unusable(&self, gpu: &Gpu) -> Option<String>;

    /// Whether this mechanism can cut this GPU, from what the inventory read. Pure.
    fn applies(&self, gpu: &Gpu) -> bool {
        self.unusable(gpu).is_none()
    }

    /// What can be created, from what the inventory read. Empty where the mechanism does not apply.
    /// Pure.
    fn profiles(&self, gpu: &Gpu) -> Vec<Profile>;

    /// The name that the next instance of `profile` gets. `used` must hold the names that the caller
    /// has given out and those that [`list`](Self::list) found: somebody else may use instances too.
    ///
    /// # Errors
    /// Where the profile holds no more names.
    fn next_name(
        &self,
        gpu: PciAddress,
        profile: &ProfileName,
        used: &[InstanceName],
    ) -> Result<InstanceName, Error>;

    /// Makes `name` exist with `profile`, ready for VFIO, and returns it as read back. For SR-IOV
    /// this enables the profile's VF count where none is enabled, and binds the VF to its VFIO driver.
    ///
    /// # Errors
    /// Names what was short or refused; whatever this call had done is undone.
    fn create(
        &self,
        host: &Host,
        gpu: PciAddress,
        profile: &ProfileName,
        name: InstanceName,
    ) -> Result<Instance, Error>;

    /// The instance as it is now, or none.
    ///
    /// # Errors
    /// Where sysfs cannot be read, or the name belongs to another mechanism.
    fn find(&self, host: &Host, gpu: PciAddress, name: InstanceName) -> Result<Option<Instance>, Error>;

    /// The nodes of a device that is no instance any more but has not yet left its VFIO driver: the
    /// kernel waits until its user closes it (drivers/vfio/vfio_main.c, `vfio_unregister_group_dev`),
    /// and whoever binds or removes the device waits behind. Nothing where nothing leaves.
    ///
    /// # Errors
    /// As [`find`](Self::find).
    fn leaving(&self, _host: &Host, _gpu: PciAddress, _name: InstanceName) -> Result<VfioNodes, Error> {
        Ok(VfioNodes::default())
    }

    /// All instances of the GPU, in order of name, whoever made them.
    ///
    /// # Errors
    /// Where sysfs cannot be read.
    fn list(&self, host: &Host, gpu: PciAddress) -> Result<Vec<Instance>, Error>;

    /// Resets the instance between users (FLR or the vendor's own). The kernel's verdict is checked,
    /// and that the device answers afterwards.
    ///
    /// # Errors
    /// Where the kernel says that the reset failed, or the device is silent after it.
    fn reset(&self, host: &Host, instance: &Instance) -> Result<ResetOutcome, Error>;

    /// The attribute that [`clear_memory`](Self::clear_memory) writes, where it writes one.
    fn clear_attribute(&self, _host: &Host, _gpu: PciAddress, _name: InstanceName) -> Option<PathBuf> {
        None
    }

    /// Lets the vendor's driver clear the instance's memory, where it can be asked to. The caller has
    /// proved that nobody uses the instance.
    ///
    /// # Errors
    /// Where the driver refuses, or does not report success.
    fn clear_memory(&self, _host: &Host, _instance: &Instance) -> Result<ClearOutcome, Error> {
        Ok(ClearOutcome::NotOffered)
    }

    /// Ends the instance: an mdev is removed, a VF is taken off its VFIO driver and kept as a spare
    /// of its GPU. The caller has proved that nobody holds it.
    ///
    /// # Errors
    /// Where the kernel refuses, or shows the instance still.
    fn destroy(&self, host: &Host, gpu: PciAddress, name: InstanceName) -> Result<(), Error>;

    /// Returns a GPU to how it was before the first `create` (SR-IOV: no VFs).
    ///
    /// # Errors
    /// Where an instance is in the way, or the kernel refuses.
    fn retire(&self, host: &Host, gpu: PciAddress) -> Result<(), Error>;
}

/// The implementation of a mechanism.
#[must_use]
pub fn mechanism(kind: MechanismKind) -> &'static dyn Mechanism {
    match kind {
        MechanismKind::Sriov => &Sriov,
        MechanismKind::Mdev => &MdevBus,
    }
}

/// The mechanisms that can cut this GPU, the one to prefer first.
#[must_use]
pub fn mechanisms(gpu: &Gpu) -> Vec<&'static dyn Mechanism> {
    MechanismKind::ALL.into_iter().map(mechanism).filter(|mechanism| mechanism.applies(gpu)).collect()
}

/// Why no mechanism can cut this GPU, as a sentence for `vgpuctl gpus` and `doctor`; none where one can.
#[must_use]
pub fn uncuttable(gpu: &Gpu) -> Option<String> {
    let reasons: Option<Vec<String>> =
        MechanismKind::ALL.into_iter().map(|kind| mechanism(kind).unusable(gpu)).collect();
    Some(format!("GPU {} cannot be cut: {}.", gpu.address, reasons?.join(", and ")))
}
