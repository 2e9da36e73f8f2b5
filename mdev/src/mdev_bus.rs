//! Mechanism `mdev`: mediated devices of any GPU whose driver is a parent of them (GVT-g, others). NVIDIA's
//! vGPUs have rules of their own and are [`NvidiaMdev`](crate::nvidia::mdev::NvidiaMdev)'s.
//!
//! Kernel: Documentation/driver-api/vfio-mediated-device.rst. A type is known by its exact name; how
//! many more fit is the parent's to say, and changes with every instance. Nothing is kept here: what
//! exists is read from the mdev bus.

pub(crate) mod description;
#[cfg(test)]
mod tests;

use crate::{
    Division, Error, Gpu, Host, Instance, InstanceName, MdevType, MdevUuid, Mechanism, MechanismKind,
    PciAddress, Profile, ProfileName, Taken, attribute, mediated_device, nvidia::NvidiaVgpu,
};
use std::{path::PathBuf, time::Duration};

/// The mechanism; it has no state.
#[derive(Clone, Copy, Debug)]
pub(crate) struct MdevBus;

pub(crate) fn uuid_of(
    mechanism: MechanismKind,
    gpu: PciAddress,
    name: InstanceName,
) -> Result<MdevUuid, Error> {
    match name {
        InstanceName::Mdev(uuid) => Ok(uuid),
        InstanceName::Vf(_) | InstanceName::Whole => Err(Error::WrongName { mechanism, gpu, name }),
    }
}

/// `parent` is a GPU, or a VF of one.
pub(crate) fn types_folder(host: &Host, parent: PciAddress) -> PathBuf {
    host.mdev_parent(parent).join("mdev_supported_types")
}

/// The types that the parent offers, in order of their names; none where it is no parent.
pub(crate) fn types(host: &Host, parent: PciAddress) -> Result<Vec<MdevType>, Error> {
    let folder = types_folder(host, parent);
    let mut types = Vec::new();
    for id in attribute::names(&folder)? {
        let attribute_of = |name: &str| attribute::read(&folder.join(&id).join(name));
        // A type whose count cannot be read is going away, or its driver refuses to say.
        let count = attribute_of("available_instances")?.and_then(|count| count.parse().ok());
        let (Some(available), Ok(name)) = (count, id.parse::<ProfileName>()) else {
            tracing::warn!(%parent, id, "mdev type left out: its name or available_instances makes no sense");
            continue;
        };
        let existing = attribute::names(&folder.join(&id).join("devices"))?.len();
        let description = attribute_of("description")?.filter(|text| !text.is_empty());
        types.push(MdevType {
            memory: description.as_deref().and_then(description::memory),
            most: description.as_deref().and_then(description::most),
            id: name,
            name: attribute_of("name")?.filter(|text| !text.is_empty()),
            description,
            available,
            existing: u32::try_from(existing).unwrap_or(u32::MAX),
        });
    }
    Ok(types)
}

impl Mechanism for MdevBus {
    fn kind(&self) -> MechanismKind {
        MechanismKind::Mdev
    }

    fn unusable(&self, gpu: &Gpu) -> Option<String> {
        if matches!(gpu.nvidia, Some(NvidiaVgpu::Mediated { .. })) {
            return Some(format!("its vGPUs are the business of {}", MechanismKind::NvidiaMdev));
        }
        gpu.mdev_types.is_empty().then(|| match &gpu.driver {
            Some(driver) => format!("its driver {driver} offers no mediated devices"),
            None => "no driver is bound to it that could offer mediated devices".to_owned(),
        })
    }

    fn division(&self) -> Division {
        Division::Counted
    }

    fn leaves_traces(&self) -> bool {
        false
    }

    fn makes_anew(&self) -> bool {
        true
    }

    fn profiles(&self, gpu: &Gpu, taken: &[Taken]) -> Vec<Profile> {
        let coming =
            |mdev: &MdevType| taken.iter().filter(|taken| !taken.exists && taken.profile == mdev.id).count();
        let profile = |mdev: &MdevType| Profile {
            name: mdev.id.clone(),
            memory: mdev.memory,
            compute: None,
            holds: self.holds(gpu, &mdev.id),
            capacity: mdev.available.saturating_add(mdev.existing),
            available: mdev.available.saturating_sub(u32::try_from(coming(mdev)).unwrap_or(u32::MAX)),
        };
        gpu.mdev_types.iter().map(profile).collect()
    }

    fn next_name(
        &self,
        _gpu: PciAddress,
        _profile: &ProfileName,
        _used: &[InstanceName],
    ) -> Result<InstanceName, Error> {
        Ok(InstanceName::Mdev(MdevUuid(uuid::Uuid::new_v4())))
    }

    fn create(
        &self,
        host: &Host,
        gpu: PciAddress,
        profile: &ProfileName,
        name: InstanceName,
    ) -> Result<Instance, Error> {
        let uuid = uuid_of(self.kind(), gpu, name)?;
        if let Some(made) = mediated_device::made_before(host, gpu, profile, uuid)? {
            return Ok(made);
        }
        let types = types(host, gpu)?;
        let Some(mdev) = types.iter().find(|mdev| mdev.id == *profile) else {
            let exists = attribute::exists(&host.pci_device(gpu));
            return Err(match exists {
                true => Error::NoSuchProfile { gpu, profile: profile.clone() },
                false => Error::NoSuchGpu(gpu),
            });
        };
        if mdev.available == 0 {
            return Err(Error::Full { gpu, profile: profile.clone(), short: short(mdev, &types) });
        }
        mediated_device::make(host, gpu, &types_folder(host, gpu).join(profile.as_ref()), profile, uuid)
    }

    fn destroy(&self, host: &Host, gpu: PciAddress, name: InstanceName) -> Result<(), Error> {
        let uuid = uuid_of(self.kind(), gpu, name)?;
        mediated_device::destroy(host, gpu, uuid, Duration::ZERO)
    }

    /// A parent keeps nothing when its last instance is gone.
    /// Creating changes nothing of the parent, so there is nothing to put back; devices of others stay.
    fn retire(&self, _: &Host, _: PciAddress) -> Result<(), Error> {
        Ok(())
    }
}

/// What stands in the way of one more instance of `wanted`, and what would fit.
fn short(wanted: &MdevType, types: &[MdevType]) -> String {
    let of = |mdev: &MdevType| format!("{} of {}", mdev.existing, mdev.id);
    let existing: Vec<_> = types.iter().filter(|mdev| mdev.existing > 0).map(of).collect();
    let fit = |mdev: &MdevType| format!("{} ({} more)", mdev.id, mdev.available);
    let fitting: Vec<_> = types.iter().filter(|mdev| mdev.available > 0).map(fit).collect();
    let memory = wanted.memory.map(|memory| format!(" of {memory}")).unwrap_or_default();
    let holds = match existing.as_slice() {
        [] => "it holds none".to_owned(),
        existing => format!("it holds {}", existing.join(", ")),
    };
    let fits = match fitting.as_slice() {
        [] => "nothing more fits".to_owned(),
        fitting => format!("what fits is {}", fitting.join(", ")),
    };
    format!("no instance{memory} is left; {holds}, and {fits}")
}
