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
    ComputeShare, Division, Error, Gpu, Host, Instance, InstanceName, Mechanism, MechanismKind, PciAddress,
    Profile, ProfileName, Taken, VfIndex, binding, instance, nvidia,
    physical_function::{PhysicalFunction, VfsBefore},
    virtual_function::{VirtualFunction, count_of, profile_of},
};

/// The mechanism; it has no state.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sriov;

/// PF drivers of which it is known that they do not implement `sriov_numvfs`: the write would end in
/// ENOENT, and nothing in sysfs tells before. Upstream i915 is one too, but its out-of-tree builds of
/// the same name are not.
const WITHOUT_SRIOV: [&str; 3] = ["amdgpu", "nouveau", "nvidia"];

fn index_of(gpu: PciAddress, name: InstanceName) -> Result<VfIndex, Error> {
    match name {
        InstanceName::Vf(index) => Ok(index),
        InstanceName::Mdev(_) | InstanceName::Whole => {
            Err(Error::WrongName { mechanism: MechanismKind::Sriov, gpu, name })
        }
    }
}

/// Powers of two below `total`, and `total`.
fn counts(total: u16) -> impl Iterator<Item = u16> {
    let powers = (0..u16::BITS).map(|bit| 1_u16 << bit).take_while(move |count| *count < total);
    powers.chain([total])
}

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
        gpu.sriov.as_ref().is_some_and(|sriov| sriov.enabled > 0)
    }

    fn profiles(&self, gpu: &Gpu, taken: &[Taken]) -> Vec<Profile> {
        let Some(sriov) = gpu.sriov.as_ref().filter(|_| self.applies(gpu)) else { return Vec::new() };
        let offered = counts(sriov.total).filter(|_| sriov.enabled == 0);
        let present = Some(sriov.enabled).filter(|enabled| *enabled > 0);
        // The kernel does not know whose a spare VF is; a bound one that no slice has is somebody else's.
        let foreign = usize::from(sriov.bound).saturating_sub(taken.len());
        let profile = |count: u16| {
            let name = profile_of(count)?;
            let alike = taken.iter().filter(|taken| taken.profile == name).count();
            let free = match (taken.len(), alike) {
                (0, _) | (_, 1..) => usize::from(count).saturating_sub(alike).saturating_sub(foreign),
                (_, 0) => 0,
            };
            Some(Profile {
                name,
                memory: sriov.vf_aperture,
                compute: Some(ComputeShare::one_of(count)),
                capacity: count.into(),
                available: u32::try_from(free).unwrap_or(u32::MAX),
            })
        };
        offered.chain(present).filter_map(profile).collect()
    }

    fn when_empty(&self, gpu: &Gpu) -> Vec<Profile> {
        let mut gpu = gpu.clone();
        if let Some(sriov) = &mut gpu.sriov {
            (sriov.enabled, sriov.bound) = (0, 0);
        }
        self.profiles(&gpu, &[])
    }

    fn next_name(
        &self,
        gpu: PciAddress,
        profile: &ProfileName,
        used: &[InstanceName],
    ) -> Result<InstanceName, Error> {
        let count = count_of(gpu, profile)?;
        let names = (0..count).map(|index| InstanceName::Vf(VfIndex(index)));
        names.into_iter().find(|name| !used.contains(name)).ok_or_else(|| Error::Full {
            gpu,
            profile: profile.clone(),
            short: format!("all {count} VFs are taken"),
        })
    }

    fn create(
        &self,
        host: &Host,
        gpu: PciAddress,
        profile: &ProfileName,
        name: InstanceName,
    ) -> Result<Instance, Error> {
        let count = count_of(gpu, profile)?;
        let index = index_of(gpu, name)?;
        if index.0 >= count {
            return Err(Error::WrongName { mechanism: MechanismKind::Sriov, gpu, name });
        }
        let pf = PhysicalFunction { host, gpu };
        let before = pf.enable(count)?;
        let made = || {
            let vf = pf.wait_for_vf(index)?;
            binding::to_vfio(host, vf.address)?;
            instance::find(host, gpu, name)?.ok_or(Error::NoSuchInstance { gpu, name })
        };
        made().map_err(|error| match before {
            VfsBefore::Enabled => error,
            VfsBefore::None { autoprobe } => error.after_undo(&gpu, pf.take_back(&autoprobe)),
        })
    }

    fn destroy(&self, host: &Host, gpu: PciAddress, name: InstanceName) -> Result<(), Error> {
        match VirtualFunction::read(host, gpu, index_of(gpu, name)?)? {
            Some(vf) => binding::from_vfio(host, vf.address),
            None => Ok(()),
        }
    }

    fn retire(&self, host: &Host, gpu: PciAddress) -> Result<(), Error> {
        let pf = PhysicalFunction { host, gpu };
        let mut in_use = Vec::new();
        for vf in VirtualFunction::all(host, gpu)? {
            if vf.driver.is_some() || !vf.leaving(host)?.is_empty() {
                in_use.push(format!("VF {} ({})", vf.index.0, vf.address));
            }
        }
        if !in_use.is_empty() {
            return Err(Error::InUse { gpu, instances: in_use });
        }
        // What autoprobe was is not remembered over a restart; the kernel's default is 1. It is put
        // back too where the VFs have gone some other way.
        pf.disable("1")
    }
}
