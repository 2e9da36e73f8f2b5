//! Mechanism `sriov`: virtual functions of any GPU whose driver implements `sriov_numvfs`.
//!
//! A profile `vf-N` is one of N VFs. The kernel's rules (drivers/pci/iov.c,
//! Documentation/PCI/pci-iov-howto.rst) shape this module:
//!
//! | rule | so |
//! |---|---|
//! | VFs are made and dropped all at once, and never counted up | a GPU with VFs offers only its present N |
//! | a driver may make fewer than asked, and the write succeeds | the count is read back; fewer is undone |
//! | VFs bind to the first driver that takes them | `sriov_drivers_autoprobe` is 0 before the count is set |
//! | a VF's address follows from the device's offset and stride | VFs are found by `virtfnN`, and `physfn` is checked |
//! | dropping a VF that a VM holds blocks the writer for ever | only a GPU with all its VFs off drivers is retired |

#[cfg(test)]
mod tests;

use crate::{
    Division, Error, Gpu, Host, Instance, InstanceName, Leaves, Mechanism, MechanismKind, PciAddress,
    Profile, ProfileName, Taken, amd_gim, nvidia,
    physical_function::{PhysicalFunction, VfsBefore},
    shares,
};

/// The mechanism; it has no state.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sriov;

/// PF drivers of which it is known that they do not implement `sriov_numvfs`: the write would end in
/// ENOENT, and nothing in sysfs tells before. Upstream i915 is one too, but its out-of-tree builds of
/// the same name are not.
const WITHOUT_SRIOV: [&str; 3] = ["amdgpu", "nouveau", "nvidia"];

impl Mechanism for Sriov {
    fn kind(&self) -> MechanismKind {
        MechanismKind::Sriov
    }

    fn unusable(&self, gpu: &Gpu) -> Option<String> {
        if let Some(why) = gpu.without_vfs().or_else(|| nvidia::left_half_way(gpu)) {
            return Some(why);
        }
        match &gpu.driver {
            None => Some("no driver is bound to it that could enable VFs".to_owned()),
            Some(driver) if driver.0 == amd_gim::DRIVER => {
                Some(format!("its driver {driver} makes VFs when it is loaded, and not by sriov_numvfs"))
            }
            Some(driver) if WITHOUT_SRIOV.contains(&driver.0.as_str()) => {
                Some(format!("its driver {driver} does not implement sriov_numvfs"))
            }
            Some(_) => None,
        }
    }

    fn division(&self) -> Division {
        Division::Uniform
    }

    fn is_divided(&self, gpu: &Gpu) -> bool {
        gpu.has_vfs()
    }

    fn profiles(&self, gpu: &Gpu, taken: &[Taken]) -> Vec<Profile> {
        if self.applies(gpu) {
            shares::profiles(self, gpu, taken, |sriov, _| sriov.vf_aperture)
        } else {
            Vec::new()
        }
    }

    fn when_empty(&self, gpu: &Gpu) -> Vec<Profile> {
        self.profiles(&shares::undivided(gpu), &[])
    }

    fn without(&self, gpu: &Gpu, gone: usize, leaves: Leaves) -> Option<Gpu> {
        Some(shares::without(gpu, gone, leaves))
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
        let (count, index) = shares::asked(self.kind(), gpu, profile, name)?;
        let pf = PhysicalFunction { host, gpu };
        let before = pf.enable(count)?;
        shares::open(&pf, index).map_err(|error| match before {
            VfsBefore::Enabled => error,
            VfsBefore::None { autoprobe } => error.after_undo(&gpu, pf.take_back(&autoprobe)),
        })
    }

    fn destroy(&self, host: &Host, gpu: PciAddress, name: InstanceName) -> Result<(), Error> {
        shares::close(host, gpu, shares::index_of(self.kind(), gpu, name)?)
    }

    fn retire(&self, host: &Host, gpu: PciAddress) -> Result<(), Error> {
        shares::all_spare(host, gpu)?;
        // What autoprobe was is not remembered over a restart; the kernel's default is 1. It is put
        // back too where the VFs have gone some other way.
        PhysicalFunction { host, gpu }.disable("1")
    }
}
