//! Mechanism `passthrough`: a whole GPU as one slice, only where the settings ask for it.
//!
//! The card's other functions (sound, USB) go along: they are bound to VFIO too, so that no host driver
//! works on a part of what a VM has. On most hosts they share the GPU's IOMMU group, and with the group's
//! node the VM gets them as well.

#[cfg(test)]
mod tests;

use crate::{
    Division, Error, Gpu, Host, Instance, InstanceName, Mechanism, MechanismKind, PciAddress, PciId, Profile,
    ProfileName, Taken, attribute, binding, device, instance,
};

/// The mechanism; it has no state.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Passthrough;

/// The one profile.
const WHOLE: &str = "whole";

pub(crate) fn profile() -> Option<ProfileName> {
    WHOLE.parse().ok()
}

/// The GPU and the other functions of its card, which have its address but for the last digit. VFs are
/// none: they belong to their PF.
fn functions(host: &Host, gpu: PciAddress) -> Result<Vec<PciAddress>, Error> {
    let mut functions = Vec::new();
    for name in attribute::names(&host.pci_devices())? {
        let Ok(address) = name.parse::<PciAddress>() else { continue };
        let is_vf = attribute::exists(&host.pci_device(address).join("physfn"));
        if address.same_device(gpu) && !is_vf {
            functions.push(address);
        }
    }
    Ok(functions)
}

/// Cards that a reset between two users leaves dead, and since when the reason is known.
fn hazard(id: PciId) -> Option<&'static str> {
    match (id.vendor, id.device) {
        // drivers/pci/quirks.c, quirk_nvidia_no_bus_reset
        (0x10de, 0x1eb8) => Some("a bus reset leaves a Tesla T4 dead until the host is powered off"),
        (0x10de, device) if device & 0xffc0 == 0x2340 => {
            Some("a bus reset leaves a GH200 dead until the host is powered off")
        }
        // GIM's issue 25: config space reads as ones after any reset by VFIO.
        (0x1002, 0x74a1 | 0x74a9 | 0x75a0 | 0x75a1 | 0x75a3) => Some(
            "a reset by VFIO leaves the physical function of an Instinct MI300X or MI35x dead until the host is \
             restarted; its virtual functions are not affected",
        ),
        _ => None,
    }
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
        let whole = |name| Profile { name, memory: None, compute: None, capacity: 1, available: free.into() };
        profile().filter(|_| self.applies(gpu)).map(whole).into_iter().collect()
    }

    fn when_empty(&self, gpu: &Gpu) -> Vec<Profile> {
        self.profiles(&Gpu { driver: None, ..gpu.clone() }, &[])
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
        let functions = functions(host, gpu)?;
        if !functions.contains(&gpu) {
            return Err(Error::NoSuchGpu(gpu));
        }
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
