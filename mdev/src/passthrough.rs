//! Mechanism `passthrough`: a whole GPU as one slice, only where the settings ask for it.
//!
//! The card's other functions (sound, USB) go along where they share the GPU's IOMMU group, as on most
//! hosts: they are bound to VFIO too, and the VM gets them with the group's node. One in a group of its
//! own is a device of its own, and stays where it is.

#[cfg(test)]
mod tests;

use crate::{
    ComputeShare, Division, Error, Gpu, Holds, Host, Instance, InstanceName, Leaves, Mechanism,
    MechanismKind, PciAddress, PciId, Profile, ProfileName, Taken, attribute, binding, cards, device,
    instance,
};
use vgpud_config::catalogue::Hazard;

/// The mechanism; it has no state.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Passthrough;

/// The one profile.
const WHOLE: &str = "whole";

pub(crate) fn profile() -> Option<ProfileName> {
    WHOLE.parse().ok()
}

/// The GPU first, and the other functions of its card in its IOMMU group. VFs are none: they belong to
/// their PF.
pub(crate) fn functions(host: &Host, gpu: PciAddress) -> Result<Vec<PciAddress>, Error> {
    let group = device::iommu_group(host, &host.pci_device(gpu))?;
    let members = group.into_iter().flat_map(|group| group.members);
    let members = members.filter_map(|name| name.parse::<PciAddress>().ok());
    let is_vf = |function: &PciAddress| attribute::exists(&host.pci_device(*function).join("physfn"));
    let beside = members.filter(|function| *function != gpu && function.is_beside(gpu) && !is_vf(function));
    Ok([gpu].into_iter().chain(beside).collect())
}

/// What is known of a card that a reset between two users leaves dead.
fn hazard(id: PciId) -> Option<&'static str> {
    let card = cards::catalogue().card(id)?;
    if card.has(Hazard::NoPfReset) {
        return Some(
            "a reset by VFIO leaves its physical function dead until the host is restarted, but not its virtual \
             functions",
        );
    }
    card.has(Hazard::NoBusReset).then_some("a reset of its bus leaves it dead until the host is powered off")
}

fn is_whole(gpu: PciAddress, name: InstanceName) -> Result<(), Error> {
    match name {
        InstanceName::Whole => Ok(()),
        InstanceName::Vf(_) | InstanceName::Mdev(_) => {
            Err(Error::WrongName { mechanism: MechanismKind::Passthrough, gpu, name })
        }
    }
}

impl Mechanism for Passthrough {
    fn kind(&self) -> MechanismKind {
        MechanismKind::Passthrough
    }

    fn only_where_asked(&self) -> bool {
        true
    }

    fn unusable(&self, gpu: &Gpu) -> Option<String> {
        if let Some(why) = hazard(gpu.id) {
            return Some(format!("it cannot be handed over as a whole: {why}"));
        }
        if gpu.has_vfs() {
            return Some(
                "it has virtual functions, which its physical function controls; destroy its slices first"
                    .to_owned(),
            );
        }
        if gpu.mdev_types.iter().any(|mdev| mdev.existing > 0) {
            return Some("it has mediated devices, which end with its driver; remove them first".to_owned());
        }
        gpu.reset_methods.is_empty().then(|| "it offers no reset, so nothing makes it clean".to_owned())
    }

    fn division(&self) -> Division {
        Division::Uniform
    }

    fn is_divided(&self, gpu: &Gpu) -> bool {
        gpu.driver.as_ref().is_some_and(|driver| driver.0.contains("vfio"))
    }

    fn profiles(&self, gpu: &Gpu, taken: &[Taken]) -> Vec<Profile> {
        let free = self.applies(gpu) && taken.is_empty() && !self.is_divided(gpu);
        // How much memory it has, no file of the kernel says; a BAR may show a part of it.
        let whole = |name| Profile {
            holds: self.holds(gpu, &name),
            name,
            memory: None,
            compute: Some(ComputeShare::WHOLE),
            capacity: 1,
            available: free.into(),
        };
        profile().filter(|_| self.applies(gpu)).map(whole).into_iter().collect()
    }

    /// There are no neighbours.
    fn holds(&self, _: &Gpu, _: &ProfileName) -> Holds {
        Holds::ENFORCED
    }

    fn when_empty(&self, gpu: &Gpu) -> Vec<Profile> {
        self.profiles(&Gpu { driver: None, ..gpu.clone() }, &[])
    }

    fn without(&self, gpu: &Gpu, gone: usize, _: Leaves) -> Option<Gpu> {
        Some(if gone > 0 { Gpu { driver: None, ..gpu.clone() } } else { gpu.clone() })
    }

    fn next_name(
        &self,
        gpu: PciAddress,
        profile: &ProfileName,
        used: &[InstanceName],
    ) -> Result<InstanceName, Error> {
        if used.is_empty() {
            return Ok(InstanceName::Whole);
        }
        Err(Error::Full { gpu, profile: profile.clone(), short: "it is in use already".to_owned() })
    }

    fn create(
        &self,
        host: &Host,
        gpu: PciAddress,
        profile: &ProfileName,
        name: InstanceName,
    ) -> Result<Instance, Error> {
        is_whole(gpu, name)?;
        if profile.as_ref() != WHOLE {
            return Err(Error::NoSuchProfile { gpu, profile: profile.clone() });
        }
        if !attribute::exists(&host.pci_device(gpu)) {
            return Err(Error::NoSuchGpu(gpu));
        }
        let functions = functions(host, gpu)?;
        let mut moved = Vec::new();
        let made = || {
            for function in functions {
                let folder = host.pci_device(function);
                if !device::on_vfio(&folder)? {
                    let before = device::driver(&folder)?;
                    binding::to_vfio(host, function)?;
                    moved.push((function, before));
                }
            }
            instance::find(host, gpu, name)?.ok_or(Error::NoSuchInstance { gpu, name })
        };
        let made = made();
        made.map_err(|error| {
            moved.iter().rev().fold(error, |error, (function, before)| {
                error.after_undo(function, binding::take_back(host, *function, before.as_ref()))
            })
        })
    }

    fn destroy(&self, host: &Host, gpu: PciAddress, name: InstanceName) -> Result<(), Error> {
        is_whole(gpu, name)?;
        functions(host, gpu)?.into_iter().try_for_each(|function| binding::from_vfio(host, function))
    }

    /// The kernel chooses the drivers again, as it did at its start: what a function was on before is not
    /// remembered over a restart of vgpud.
    fn retire(&self, host: &Host, gpu: PciAddress) -> Result<(), Error> {
        if let Some(whole) = instance::find(host, gpu, InstanceName::Whole)? {
            return Err(Error::InUse { gpu, instances: vec![format!("{} of {gpu}", whole.name)] });
        }
        functions(host, gpu)?.into_iter().try_for_each(|function| binding::to_any_driver(host, function))
    }
}
