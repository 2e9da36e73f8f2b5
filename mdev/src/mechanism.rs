//! The trait that every way of cutting a GPU implements.

use crate::{
    ComputeShare, Error, Gpu, Holds, Host, HostStep, Instance, InstanceName, Memory, PciAddress, ProfileName,
};
use crate::{
    MechanismKind,
    amd_gim::AmdGim,
    intel_xe::IntelXe,
    mdev_bus::MdevBus,
    nvidia::{mdev::NvidiaMdev, vfio::NvidiaVfio},
    passthrough::Passthrough,
    sriov::Sriov,
};
use serde::Serialize;
use std::{collections::BTreeMap, fmt};
use vgpud_config::PartitionModes;

/// A size that a mechanism can create on one GPU now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Profile {
    pub name: ProfileName,
    /// Device memory of one instance, where the device says.
    pub memory: Option<Memory>,
    /// Nominal share of the GPU's compute, where the mechanism has such a thing.
    pub compute: Option<ComputeShare>,
    /// How that share holds; not available where there is none.
    pub holds: Holds,
    /// Instances of this profile that the GPU could hold when empty. Where only the kernel's count
    /// for now is known (mdev), that count together with those that exist.
    pub capacity: u32,
    /// Instances that can be created now, beside those that exist.
    pub available: u32,
}

/// How the instances of one GPU limit each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Division {
    /// All are of one profile and made at once; those that nobody has are spares. Another profile can
    /// be had when the GPU is empty.
    Uniform,
    /// Each is made by itself, and the device says what fits beside those that exist.
    Counted,
}

/// What is left of a GPU's division when instances go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leaves {
    /// The GPU stays divided as it is.
    Division,
    /// Nothing: the last one goes, and the GPU is put back as it was.
    Nothing,
}

/// An instance that belongs to a slice, or will.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Taken {
    pub profile: ProfileName,
    /// Whether it was made before the inventory was read, so that the device counts it.
    pub exists: bool,
}

/// One way of cutting GPUs. Every method that takes a [`Host`] is blocking (a write to sysfs may
/// sleep for seconds, and for ever where a VFIO user holds the device: call it on a worker), reads
/// back what it wrote, and is idempotent: asked again for what is already so, it succeeds and
/// changes nothing. The caller serialises calls per GPU.
///
/// What exists already is not a mechanism's to tell: see [`instance`](crate::instance).
pub trait Mechanism: fmt::Debug + Send + Sync {
    fn kind(&self) -> MechanismKind;

    /// Whether its refusal of this GPU is worth a word: a vendor's own says nothing of another vendor's. Pure.
    fn concerns(&self, _gpu: &Gpu) -> bool {
        true
    }

    /// Why this mechanism cannot cut this GPU, from what the inventory read, as the end of a
    /// sentence ("it has no SR-IOV capability"); none where it can. Pure.
    fn unusable(&self, gpu: &Gpu) -> Option<String>;

    /// Whether this mechanism can cut this GPU, from what the inventory read. Pure.
    fn applies(&self, gpu: &Gpu) -> bool {
        self.unusable(gpu).is_none()
    }

    /// Whether it cuts a GPU only where the settings say so, because it takes the GPU from the host.
    fn only_where_asked(&self) -> bool {
        false
    }

    fn division(&self) -> Division;

    /// Whether the first [`create`](Self::create) leaves something on the GPU that only
    /// [`retire`](Self::retire) takes back.
    fn leaves_traces(&self) -> bool {
        true
    }

    /// Whether an instance that is destroyed and created again starts anew, as far as its driver can be
    /// trusted: that is how one without a reset is made clean, and [`create`](Self::create) takes none for
    /// new that somebody may have used. A VF keeps its memory.
    fn makes_anew(&self) -> bool {
        false
    }

    /// Whether an instance's memory can be read back through its BARs, so that a scrub can show something.
    /// Where it cannot, an instance is made anew between its owners, and nothing else opens it.
    fn shows_memory(&self) -> bool {
        true
    }

    /// Whether its driver may remove an instance when the VM that had it ends: one that a lease misses then
    /// was not taken away behind vgpud's back, and is made anew for the next owner.
    fn goes_with_its_vm(&self) -> bool {
        false
    }

    /// Whether somebody has divided this GPU already, from what the inventory read. Pure.
    fn is_divided(&self, _gpu: &Gpu) -> bool {
        false
    }

    /// What can be created beside `taken`, from what the inventory read. Empty where the mechanism does
    /// not apply. Pure.
    fn profiles(&self, gpu: &Gpu, taken: &[Taken]) -> Vec<Profile>;

    /// What a GPU that vgpud divides would offer if it were not divided, as far as that is known. Pure.
    fn when_empty(&self, gpu: &Gpu) -> Vec<Profile> {
        self.profiles(gpu, &[])
    }

    /// How the share of compute of this profile's instances holds, from what the inventory read. What is not
    /// known is not available, and never enforced. Pure.
    fn holds(&self, _gpu: &Gpu, _profile: &ProfileName) -> Holds {
        Holds::NOT_AVAILABLE
    }

    /// The GPU as the inventory would read it without `gone` of the instances that exist, as far as that can
    /// be foreseen; none where only the device can tell what fits then, as where each is made by itself. Pure.
    fn without(&self, _gpu: &Gpu, _gone: usize, _leaves: Leaves) -> Option<Gpu> {
        None
    }

    /// What the host's operator has to do before GPUs can offer the profiles that are wanted of them, where
    /// that concerns more than one GPU. Pure.
    fn host_step(&self, _gpus: &[&Gpu], _wanted: &BTreeMap<PciAddress, ProfileName>) -> Option<HostStep> {
        None
    }

    /// The GPUs whose modes change when those of `gpu` do, itself among them, in order. Pure.
    fn partitioned_with(&self, _gpus: &[&Gpu], gpu: PciAddress) -> Vec<PciAddress> {
        vec![gpu]
    }

    /// The GPU as the inventory would read it with these modes, the same where it has them; or why it cannot
    /// have them, as a sentence. Pure.
    ///
    /// # Errors
    /// With what the GPU can be.
    fn with_modes(&self, gpu: &Gpu, modes: PartitionModes) -> Result<Gpu, String> {
        Err(format!(
            "GPU {} cannot be set to {modes}: it is cut by {}, which has no such modes; leave accelerator_mode and \
             memory_mode out for it",
            gpu.address,
            self.kind()
        ))
    }

    /// Divides the inside of a GPU, on which nothing is in use, by these modes. With it change those of
    /// [`partitioned_with`](Self::partitioned_with).
    ///
    /// # Errors
    /// With how it is divided, where that is not what was asked for.
    fn partition(&self, _host: &Host, gpu: PciAddress, modes: PartitionModes) -> Result<(), Error> {
        Err(Error::Unusable { gpu, why: format!("{} knows no modes such as {modes}", self.kind()) })
    }

    /// The name that the next instance of `profile` gets. `used` must hold the names that the caller
    /// has given out and those that [`list`](crate::instance::list) found: somebody else may use instances too.
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
        MechanismKind::NvidiaVfio => &NvidiaVfio,
        MechanismKind::NvidiaMdev => &NvidiaMdev,
        MechanismKind::IntelXe => &IntelXe,
        MechanismKind::AmdGim => &AmdGim,
        MechanismKind::Sriov => &Sriov,
        MechanismKind::Mdev => &MdevBus,
        MechanismKind::Passthrough => &Passthrough,
    }
}

/// All that may cut a GPU without being asked to by the settings.
fn unasked() -> impl Iterator<Item = &'static dyn Mechanism> {
    MechanismKind::ALL.into_iter().map(mechanism).filter(|mechanism| !mechanism.only_where_asked())
}

/// The mechanisms that can cut this GPU, the one to prefer first; without those that must be asked for.
#[must_use]
pub fn mechanisms(gpu: &Gpu) -> Vec<&'static dyn Mechanism> {
    unasked().filter(|mechanism| mechanism.applies(gpu)).collect()
}

/// Why no mechanism can cut this GPU, as a sentence for `vgpuctl gpus` and `doctor`; none where one can.
#[must_use]
pub fn uncuttable(gpu: &Gpu) -> Option<String> {
    if !mechanisms(gpu).is_empty() {
        return None;
    }
    let concerned = unasked().filter(|mechanism| mechanism.concerns(gpu));
    let mut reasons: Vec<String> = Vec::new();
    for reason in concerned.filter_map(|mechanism| mechanism.unusable(gpu)) {
        if !reasons.contains(&reason) {
            reasons.push(reason);
        }
    }
    Some(format!("GPU {} cannot be cut: {}.", gpu.address, reasons.join(", and ")))
}
