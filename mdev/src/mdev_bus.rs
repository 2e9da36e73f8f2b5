//! Mechanism `mdev`: mediated devices of any GPU whose driver is a parent of them (GVT-g, NVIDIA's
//! older vGPUs, others).
//!
//! Kernel: Documentation/driver-api/vfio-mediated-device.rst. A type is known by its exact name; how
//! many more fit is the parent's to say, and changes with every instance. Nothing is kept here: what
//! exists is read from the mdev bus.

pub(crate) mod description;
#[cfg(test)]
mod tests;

use crate::{
    Division, Error, Gpu, Host, Instance, InstanceName, MdevType, MdevUuid, Mechanism, MechanismKind,
    PciAddress, Profile, ProfileName, Taken, attribute, mediated_device::MediatedDevice,
};
use std::path::PathBuf;

/// The mechanism; it has no state.
#[derive(Clone, Copy, Debug)]
pub(crate) struct MdevBus;

fn uuid_of(gpu: PciAddress, name: InstanceName) -> Result<MdevUuid, Error> {
    match name {
        InstanceName::Mdev(uuid) => Ok(uuid),
        InstanceName::Vf(_) | InstanceName::Whole => {
            Err(Error::WrongName { mechanism: MechanismKind::Mdev, gpu, name })
        }
    }
}

fn types_folder(host: &Host, gpu: PciAddress) -> PathBuf {
    host.mdev_parent(gpu).join("mdev_supported_types")
}

/// The types that the parent offers, in order of their names; none where it is no parent.
pub(crate) fn types(host: &Host, gpu: PciAddress) -> Result<Vec<MdevType>, Error> {
    let folder = types_folder(host, gpu);
    let mut types = Vec::new();
    for id in attribute::names(&folder)? {
        let attribute_of = |name: &str| attribute::read(&folder.join(&id).join(name));
        // A type whose count cannot be read is going away, or its driver refuses to say.
        let count = attribute_of("available_instances")?.and_then(|count| count.parse().ok());
        let (Some(available), Ok(name)) = (count, id.parse::<ProfileName>()) else {
            tracing::warn!(%gpu, id, "mdev type left out: its name or available_instances makes no sense");
            continue;
        };
        let existing = attribute::names(&folder.join(&id).join("devices"))?.len();
        let description = attribute_of("description")?.filter(|text| !text.is_empty());
        types.push(MdevType {
            memory: description.as_deref().and_then(description::memory),
            id: name,
            name: attribute_of("name")?.filter(|text| !text.is_empty()),
            description,
            available,
            existing: u32::try_from(existing).unwrap_or(u32::MAX),
        });
    }
    Ok(types)
}

/// Waits until the device is whole: on the bus, of its type, with a VFIO node.
fn wait_until_whole(host: &Host, gpu: PciAddress, uuid: MdevUuid) -> Result<Instance, Error> {
    let what = || format!("a VFIO node of mediated device {uuid} of GPU {gpu}");
    host.wait_for(what, || {
        let Some(found) = MediatedDevice::read(host, uuid)? else { return Ok(None) };
        Ok(found.instance(host, gpu)?.filter(|instance| !instance.nodes.is_empty()))
    })
}

fn remove(host: &Host, gpu: PciAddress, uuid: MdevUuid) -> Result<(), Error> {
    let folder = host.mdev_device(uuid);
    match host.write_attr(&folder.join("remove"), "1") {
        // Some parents remove an instance by themselves when its VM ends.
        Err(error) if attribute::exists(&folder) => Err(error),
        _ => wait_until_gone(host, gpu, uuid),
    }
}

/// The mdev core takes a device off the bus first and then waits for its user: only when its folder
/// below the parent is gone, too, is what it took of the GPU free.
fn wait_until_gone(host: &Host, gpu: PciAddress, uuid: MdevUuid) -> Result<(), Error> {
    let folders = [host.mdev_device(uuid), host.pci_device(gpu).join(uuid.to_string())];
    let what = || format!("mediated device {uuid} to go; does a VM still hold it?");
    host.wait_for(what, || Ok((!folders.iter().any(|folder| attribute::exists(folder))).then_some(())))
}

impl Mechanism for MdevBus {
    fn kind(&self) -> MechanismKind {
        MechanismKind::Mdev
    }

    fn unusable(&self, gpu: &Gpu) -> Option<String> {
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
        let uuid = uuid_of(gpu, name)?;
        if let Some(existing) = MediatedDevice::read(host, uuid)? {
            let same = existing.is_of(gpu) && existing.type_id.as_deref() == Some(profile.as_ref());
            return if same {
                wait_until_whole(host, gpu, uuid)
            } else {
                let type_id = existing.type_id.unwrap_or_else(|| "no known type".to_owned());
                Err(Error::OtherMdev { uuid, what: format!("of {type_id} on {}", existing.parent) })
            };
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
        let create = types_folder(host, gpu).join(profile.as_ref()).join("create");
        host.write_attr(&create, &uuid.to_string())?;
        let made = wait_until_whole(host, gpu, uuid).and_then(|made| {
            if made.profile == *profile {
                return Ok(made);
            }
            Err(Error::ReadBack {
                device: format!("mediated device {uuid}"),
                wanted: format!("type {profile}"),
                shown: format!("has type {}", made.profile),
                way_out: "the GPU's driver is at fault",
            })
        });
        made.map_err(|error| {
            let there = attribute::exists(&host.mdev_device(uuid));
            let undo = if there { remove(host, gpu, uuid) } else { Ok(()) };
            error.after_undo(&name, undo)
        })
    }

    fn destroy(&self, host: &Host, gpu: PciAddress, name: InstanceName) -> Result<(), Error> {
        let uuid = uuid_of(gpu, name)?;
        match MediatedDevice::read(host, uuid)? {
            Some(found) if found.is_of(gpu) => remove(host, gpu, uuid),
            Some(found) => {
                Err(Error::OtherMdev { uuid, what: format!("on {} and not on GPU {gpu}", found.parent) })
            }
            None => wait_until_gone(host, gpu, uuid),
        }
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
