//! What the mechanisms have in common whose instances are VFs, all alike: a profile `vf-N` is one of N.

use crate::{
    ComputeShare, Error, Gpu, Host, Instance, InstanceName, Leaves, Mechanism, MechanismKind, Memory,
    PciAddress, Profile, ProfileName, SriovCapability, Taken, VfIndex, binding, instance,
    physical_function::PhysicalFunction,
    virtual_function::{VirtualFunction, count_of, profile_of},
};

/// Powers of two below `total`, and `total`.
fn counts(total: u16) -> impl Iterator<Item = u16> {
    let powers = (0..u16::BITS).map(|bit| 1_u16 << bit).take_while(move |count| *count < total);
    powers.chain([total])
}

/// The present number of VFs where there are any, or else every number that is offered. `memory` says what
/// one of so many has.
pub(crate) fn profiles(
    mechanism: &dyn Mechanism,
    gpu: &Gpu,
    taken: &[Taken],
    memory: impl Fn(&SriovCapability, u16) -> Option<Memory>,
) -> Vec<Profile> {
    let Some(sriov) = &gpu.sriov else { return Vec::new() };
    let offered = counts(sriov.total).filter(|_| sriov.enabled == 0);
    let present = Some(sriov.enabled).filter(|enabled| *enabled > 0);
    // The kernel does not know whose a spare VF is; a bound one that no slice has is somebody else's.
    let existing = taken.iter().filter(|taken| taken.exists).count();
    let foreign = usize::from(sriov.bound).saturating_sub(existing);
    let profile = |count: u16| {
        let name = profile_of(count)?;
        let alike = taken.iter().filter(|taken| taken.profile == name).count();
        let free = match (taken.len(), alike) {
            (0, _) | (_, 1..) => usize::from(count).saturating_sub(alike).saturating_sub(foreign),
            (_, 0) => 0,
        };
        Some(Profile {
            holds: mechanism.holds(gpu, &name),
            name,
            memory: memory(sriov, count),
            compute: Some(ComputeShare::one_of(count)),
            capacity: count.into(),
            available: u32::try_from(free).unwrap_or(u32::MAX),
        })
    };
    offered.chain(present).filter_map(profile).collect()
}

/// The GPU as it would be without VFs.
pub(crate) fn undivided(gpu: &Gpu) -> Gpu {
    let mut gpu = gpu.clone();
    if let Some(sriov) = &mut gpu.sriov {
        (sriov.enabled, sriov.bound) = (0, 0);
    }
    gpu
}

/// The GPU as it would be with `gone` fewer VFs on a driver.
pub(crate) fn without(gpu: &Gpu, gone: usize, leaves: Leaves) -> Gpu {
    if leaves == Leaves::Nothing {
        return undivided(gpu);
    }
    let mut gpu = gpu.clone();
    if let Some(sriov) = &mut gpu.sriov {
        sriov.bound = sriov.bound.saturating_sub(u16::try_from(gone).unwrap_or(u16::MAX));
    }
    gpu
}

/// The lowest VF that is not used.
pub(crate) fn next_name(
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

pub(crate) fn index_of(
    mechanism: MechanismKind,
    gpu: PciAddress,
    name: InstanceName,
) -> Result<VfIndex, Error> {
    match name {
        InstanceName::Vf(index) => Ok(index),
        InstanceName::Mdev(_) | InstanceName::Whole => Err(Error::WrongName { mechanism, gpu, name }),
    }
}

/// How many VFs are asked for, and which of them.
pub(crate) fn asked(
    mechanism: MechanismKind,
    gpu: PciAddress,
    profile: &ProfileName,
    name: InstanceName,
) -> Result<(u16, VfIndex), Error> {
    let count = count_of(gpu, profile)?;
    let index = index_of(mechanism, gpu, name)?;
    if index.0 < count { Ok((count, index)) } else { Err(Error::WrongName { mechanism, gpu, name }) }
}

/// Puts a VF that exists, or is about to appear, on its VFIO driver.
pub(crate) fn open(pf: &PhysicalFunction<'_>, index: VfIndex) -> Result<Instance, Error> {
    let (host, gpu, name) = (pf.host, pf.gpu, InstanceName::Vf(index));
    let vf = pf.wait_for_vf(index)?;
    binding::to_vfio(host, vf.address)?;
    instance::find(host, gpu, name)?.ok_or(Error::NoSuchInstance { gpu, name })
}

/// Makes a VF a spare of its GPU again.
pub(crate) fn close(host: &Host, gpu: PciAddress, index: VfIndex) -> Result<(), Error> {
    match VirtualFunction::read(host, gpu, index)? {
        Some(vf) => binding::from_vfio(host, vf.address),
        None => Ok(()),
    }
}

/// Whether no VF is on a driver, or still leaves one: dropping one that a VM holds would block for ever.
///
/// # Errors
/// Names those that are.
pub(crate) fn all_spare(host: &Host, gpu: PciAddress) -> Result<(), Error> {
    let mut instances = Vec::new();
    for vf in VirtualFunction::all(host, gpu)? {
        if vf.driver.is_some() || !vf.leaving(host)?.is_empty() {
            instances.push(format!("VF {} ({})", vf.index.0, vf.address));
        }
    }
    if instances.is_empty() { Ok(()) } else { Err(Error::InUse { gpu, instances }) }
}
