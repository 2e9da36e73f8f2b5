//! Mechanism `amd-gim`: VFs of AMD's Instinct and Radeon Pro V GPUs on their host driver, gim.
//!
//! Source: amd/MxGPU-Virtualization 8.0.0.K.
//!
//! | rule of gim | so |
//! |---|---|
//! | VFs are made when the module is loaded, `vf_num` of them, and `sriov_numvfs` answers ENOENT | only the present N is offered, a slice is a VF that is put on vfio-pci, and nothing is put back |
//! | another number means loading gim again, with all VMs of the host off | that is left to the operator, with the commands for it |
//! | memory is divided equally, but for what the PF keeps | a VF's BAR says how much it is at most |
//! | a VF that is reset more than 3 times in 60 s is throttled (`guard_threshold`, `guard_status`) | nothing here resets; see below |
//! | after an unclean end of its VM an MI300X VF keeps its memory, and the ioctl that clears it lies | the scrub's reading back is what counts: no clear by the driver is taken for one |
//!
//! A scrub costs a VF two resets where its memory is found zero and three where it must be overwritten
//! (vfio-pci resets when it opens and when it closes), and a VM's end costs one more. So a VF that is
//! released and leased again within a minute can come to the guard's threshold. gim then refuses the
//! reset, the scrub sees the refusal or memory that is not zero, and the slice is quarantined: nothing is
//! believed clean. `guard_threshold` of the GPU can be raised (`flr=5`, its maximum).

mod partitioning;
#[cfg(test)]
mod tests;
mod vf_count;

pub(crate) use partitioning::read as partitioning;
pub use partitioning::{AcceleratorProfile, AmdPartitioning};

use crate::{
    Division, Error, Gpu, Holds, Host, HostStep, Instance, InstanceName, Leaves, Mechanism, MechanismKind,
    PciAddress, Profile, ProfileName, Taken, physical_function::PhysicalFunction, shares,
};
use std::collections::BTreeMap;
use vgpud_config::PartitionModes;

/// The PF driver, as sysfs names it.
pub(crate) const DRIVER: &str = "gim";

/// Compute dies of an Instinct GPU (MI300X).
const DIES: u16 = 8;

/// The mechanism; it has no state.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AmdGim;

impl Mechanism for AmdGim {
    fn kind(&self) -> MechanismKind {
        MechanismKind::AmdGim
    }

    fn concerns(&self, gpu: &Gpu) -> bool {
        gpu.is_on(DRIVER)
    }

    fn unusable(&self, gpu: &Gpu) -> Option<String> {
        if !self.concerns(gpu) {
            return Some(format!("it is not on AMD's driver {DRIVER}"));
        }
        match gpu.sriov.as_ref().map(|sriov| sriov.enabled) {
            None => Some("it has no SR-IOV capability".to_owned()),
            Some(0) => Some(format!(
                "its driver {DRIVER} made no VFs of it when it was loaded, which vf_num of the module and the kernel \
                 log (`dmesg`) explain"
            )),
            Some(_) => None,
        }
    }

    fn division(&self) -> Division {
        Division::Uniform
    }

    fn leaves_traces(&self) -> bool {
        false
    }

    fn is_divided(&self, gpu: &Gpu) -> bool {
        self.applies(gpu)
    }

    fn profiles(&self, gpu: &Gpu, taken: &[Taken]) -> Vec<Profile> {
        if self.applies(gpu) {
            shares::profiles(self, gpu, taken, |sriov, _| sriov.vf_aperture)
        } else {
            Vec::new()
        }
    }

    /// Spatial partitions are dies of their own: where each VF has one or more, all alike, nobody else
    /// computes there (libgv/core/hw/AI/mi300/mi300_nbio.c has which go together). VFs that share a
    /// partition, as on GPUs without any, take turns on it, and the policy of those turns (`sch_policy`) is
    /// not told.
    fn holds(&self, gpu: &Gpu, _: &ProfileName) -> Holds {
        let vfs = gpu.sriov.as_ref().map_or(0, |sriov| sriov.enabled);
        let mode = gpu.partitioning.as_ref().and_then(|partitioning| partitioning.accelerator);
        match mode.map(|mode| mode.parts(DIES)) {
            Some(partitions) if vfs > 0 && partitions.is_multiple_of(vfs) => Holds::ENFORCED,
            Some(_) | None => Holds::BEST_EFFORT,
        }
    }

    /// The VFs stay, whoever has them.
    fn without(&self, gpu: &Gpu, gone: usize, _: Leaves) -> Option<Gpu> {
        Some(shares::without(gpu, gone, Leaves::Division))
    }

    fn host_step(&self, gpus: &[&Gpu], wanted: &BTreeMap<PciAddress, ProfileName>) -> Option<HostStep> {
        vf_count::step(gpus, wanted)
    }

    fn partitioned_with(&self, gpus: &[&Gpu], _: PciAddress) -> Vec<PciAddress> {
        partitioning::hive(gpus)
    }

    fn with_modes(&self, gpu: &Gpu, modes: PartitionModes) -> Result<Gpu, String> {
        partitioning::with(gpu, modes)
    }

    fn partition(&self, host: &Host, gpu: PciAddress, modes: PartitionModes) -> Result<(), Error> {
        partitioning::set(host, gpu, modes)
    }

    fn next_name(
        &self,
        gpu: PciAddress,
        profile: &ProfileName,
        used: &[InstanceName],
    ) -> Result<InstanceName, Error> {
        shares::next_name(gpu, profile, used)
    }

    fn create(
        &self,
        host: &Host,
        gpu: PciAddress,
        profile: &ProfileName,
        name: InstanceName,
    ) -> Result<Instance, Error> {
        let (wanted, index) = shares::asked(self.kind(), gpu, profile, name)?;
        let pf = PhysicalFunction { host, gpu };
        match pf.enabled()? {
            enabled if enabled == wanted => shares::open(&pf, index),
            enabled => Err(Error::FixedVfCount { gpu, enabled, wanted }),
        }
    }

    fn destroy(&self, host: &Host, gpu: PciAddress, name: InstanceName) -> Result<(), Error> {
        shares::close(host, gpu, shares::index_of(self.kind(), gpu, name)?)
    }

    /// The VFs are gim's, and stay.
    fn retire(&self, _: &Host, _: PciAddress) -> Result<(), Error> {
        Ok(())
    }
}
