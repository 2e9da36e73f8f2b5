//! Mechanism `nvidia-mdev`: NVIDIA's vGPUs as mediated devices.
//!
//! | on | cards | parent |
//! |---|---|---|
//! | the PF | T4, V100, Pascal, Maxwell | the GPU, of as many as its memory holds |
//! | VFs | Ampere and later, on kernels without NVIDIA's vendor-specific VFIO framework | each VF, of one |
//!
//! | rule | so |
//! |---|---|
//! | type ids differ between cards, drivers, and parents (`nvidia-558`, `vfio-pci-575`) | a profile is a type's name, out of the type's file `name` |
//! | the first vGPU sets the size of all others; what does not fit shows 0 in `available_instances` | the driver's count is asked right before |
//! | VFs are turned on by `sriov-manage` alone, all at once, and only then show what they are | as for [`nvidia-vfio`](super::vfio); one that finds the other's VFs says so and turns them off |
//! | some drivers remove a device when its VM ends, and refuse whoever is first | a refusal is tried again for 10 s, and one that went is made anew for the next owner |
//! | the guest's framebuffer is the vGPU's until it is destroyed, and no BAR shows it | it is destroyed and created again between owners, and no scrub reads it back |
//!
//! Sources: NVIDIA Virtual GPU Software User Guide, "Creating an NVIDIA vGPU on a Linux with KVM
//! Hypervisor"; kernel: Documentation/driver-api/vfio-mediated-device.rst; Proxmox qemu-server,
//! `cleanup_pci_devices`, for devices that go by themselves.

mod offer;
#[cfg(test)]
mod tests;

use super::{
    Mig, NvidiaVgpu, VENDOR, left_half_way,
    mig::change::spare_others,
    profiles,
    sriov_manage::{self, Before},
    vfio::{LETTING_GO, NvidiaVfio},
    vgpu::{DRIVER, current},
    vgpu_type::VgpuType,
};
use crate::{
    Division, Error, Gpu, Holds, Host, Instance, InstanceName, MdevType, MdevUuid, Mechanism, MechanismKind,
    PciAddress, Profile, ProfileName, Taken, attribute, device,
    mdev_bus::{types, types_folder, uuid_of},
    mediated_device::{self, MediatedDevice},
    virtual_function::VirtualFunction,
};
use std::path::Path;

/// The mechanism; it has no state.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NvidiaMdev;

/// The name of the vGPU type at `type_folder`, of a GPU of NVIDIA's on its driver; none of any other, and none
/// where the name is no vGPU type's.
pub(crate) fn vgpu_name(
    host: &Host,
    gpu: PciAddress,
    type_folder: &Path,
) -> Result<Option<ProfileName>, Error> {
    let folder = host.pci_device(gpu);
    let vendor = attribute::read(&folder.join("vendor"))?;
    let driver = device::driver(&folder)?;
    if vendor != Some(format!("{VENDOR:#06x}")) || driver.is_none_or(|driver| driver.0 != DRIVER) {
        return Ok(None);
    }
    let name = attribute::read(&type_folder.join("name"))?;
    Ok(name.and_then(|name| Some(name.parse::<VgpuType>().ok()?.name)))
}

/// The profile that a type is, by its name.
fn profile_of(mdev: &MdevType) -> Option<ProfileName> {
    Some(mdev.name.as_deref()?.parse::<VgpuType>().ok()?.name)
}

/// The GPU where it is a parent of mediated devices, or else its VFs.
fn parents(host: &Host, gpu: PciAddress) -> Result<Vec<PciAddress>, Error> {
    if attribute::exists(&host.mdev_parent(gpu)) {
        return Ok(vec![gpu]);
    }
    Ok(VirtualFunction::all(host, gpu)?.into_iter().map(|vf| vf.address).collect())
}

/// Which of NVIDIA's two frameworks the GPU's VFs are for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Framework {
    VendorVfio,
    Mediated,
}

/// Checks, now that VFs are on, that they are for this framework: before, nobody can know.
///
/// # Errors
/// Where they are for the other one, with the mechanism to ask for.
pub(super) fn expect(host: &Host, gpu: PciAddress, wanted: Framework) -> Result<(), Error> {
    let (mut vendor, mut mediated) = (false, attribute::exists(&host.mdev_parent(gpu)));
    for vf in VirtualFunction::all(host, gpu)? {
        vendor |= current(&host.pci_device(vf.address))?.is_some();
        mediated |= attribute::exists(&host.mdev_parent(vf.address));
    }
    let (what, other) = match wanted {
        Framework::VendorVfio if mediated && !vendor => ("mediated devices", MechanismKind::NvidiaMdev),
        Framework::Mediated if vendor && !mediated => {
            ("VFs of its vendor-specific VFIO framework", MechanismKind::NvidiaVfio)
        }
        Framework::VendorVfio | Framework::Mediated => return Ok(()),
    };
    let why = format!(
        "its vGPUs are {what}, which it shows only while its VFs are on: set mechanism = \"{other}\" for {gpu} in \
         the settings, or turn its VFs on after each start of the host"
    );
    Err(Error::Unusable { gpu, why })
}

fn make(host: &Host, gpu: PciAddress, profile: &ProfileName, uuid: MdevUuid) -> Result<Instance, Error> {
    expect(host, gpu, Framework::Mediated)?;
    let (mut offered, mut unreadable) = (Vec::new(), None);
    for parent in parents(host, gpu)? {
        match types(host, parent) {
            Ok(types) => offered.extend(types.into_iter().map(|mdev| (parent, mdev))),
            // One VF that is not well hides no other: it is the reason only where no other serves.
            Err(error) => {
                tracing::warn!(%parent, "{error}");
                unreadable = unreadable.or(Some(error));
            }
        }
    }
    let named = |mdev: &MdevType| profile_of(mdev).as_ref() == Some(profile);
    let Some((parent, mdev)) = offered.iter().find(|(_, mdev)| named(mdev) && mdev.available > 0) else {
        if let Some(error) = unreadable {
            return Err(error);
        }
        if !offered.iter().any(|(_, mdev)| named(mdev)) {
            return Err(Error::NoSuchProfile { gpu, profile: profile.clone() });
        }
        return Err(Error::Full { gpu, profile: profile.clone(), short: offer::short(&offered) });
    };
    let folder = types_folder(host, *parent).join(mdev.id.as_ref());
    mediated_device::make(host, gpu, &folder, profile, uuid)
}

impl Mechanism for NvidiaMdev {
    fn kind(&self) -> MechanismKind {
        MechanismKind::NvidiaMdev
    }

    fn concerns(&self, gpu: &Gpu) -> bool {
        gpu.id.vendor == VENDOR
    }

    fn unusable(&self, gpu: &Gpu) -> Option<String> {
        if !self.concerns(gpu) {
            return Some("it is no GPU of NVIDIA's".to_owned());
        }
        if let Some(why) = left_half_way(gpu) {
            return Some(why);
        }
        match (&gpu.nvidia, &gpu.driver) {
            (Some(NvidiaVgpu::Mediated { .. }), _) => None,
            (Some(NvidiaVgpu::Off { .. }), _) if gpu.mig.as_ref().is_some_and(Mig::is_or_will_be_on) => Some(
                format!("MIG is on, and only {} makes vGPUs in GPU instances", MechanismKind::NvidiaVfio),
            ),
            // Which framework its VFs are for is not known before they are on.
            (Some(NvidiaVgpu::Off { .. }), _) => NvidiaVfio.unusable(gpu),
            (Some(NvidiaVgpu::On { .. }), _) => Some(format!(
                "its VFs are no mediated devices: {} makes its vGPUs",
                MechanismKind::NvidiaVfio
            )),
            (Some(NvidiaVgpu::NoVgpus) | None, Some(driver)) => {
                Some(format!("its driver {driver} offers no mediated devices"))
            }
            (Some(NvidiaVgpu::NoVgpus) | None, None) => {
                Some("no driver is bound to it that could offer mediated devices".to_owned())
            }
        }
    }

    fn division(&self) -> Division {
        Division::Counted
    }

    fn makes_anew(&self) -> bool {
        true
    }

    fn shows_memory(&self) -> bool {
        false
    }

    fn goes_with_its_vm(&self) -> bool {
        true
    }

    fn is_divided(&self, gpu: &Gpu) -> bool {
        gpu.has_vfs()
    }

    fn profiles(&self, gpu: &Gpu, taken: &[Taken]) -> Vec<Profile> {
        match (&gpu.nvidia, self.applies(gpu)) {
            (Some(NvidiaVgpu::Mediated { vfs }), true) => offer::profiles(&gpu.mdev_types, vfs, taken),
            (_, true) => profiles::profiles(gpu, taken),
            (_, false) => Vec::new(),
        }
    }

    fn when_empty(&self, gpu: &Gpu) -> Vec<Profile> {
        let full = |profile: Profile| Profile { available: profile.capacity, ..profile };
        self.profiles(gpu, &[]).into_iter().map(full).collect()
    }

    fn holds(&self, _: &Gpu, profile: &ProfileName) -> Holds {
        profiles::holds(profile)
    }

    fn next_name(
        &self,
        _gpu: PciAddress,
        _profile: &ProfileName,
        _used: &[InstanceName],
    ) -> Result<InstanceName, Error> {
        Ok(InstanceName::Mdev(MdevUuid(uuid::Uuid::new_v4())))
    }

    /// Turns the GPU's VFs on where it is no parent itself and none is.
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
        if !attribute::exists(&host.pci_device(gpu)) {
            return Err(Error::NoSuchGpu(gpu));
        }
        let before = match attribute::exists(&host.mdev_parent(gpu)) {
            true => Before::On,
            false => {
                spare_others(host, gpu)?;
                sriov_manage::turn_on(host, gpu)?
            }
        };
        make(host, gpu, profile, uuid).map_err(|error| match before {
            Before::On => error,
            Before::Off => error.after_undo(&gpu, self.retire(host, gpu)),
        })
    }

    fn destroy(&self, host: &Host, gpu: PciAddress, name: InstanceName) -> Result<(), Error> {
        mediated_device::destroy(host, gpu, uuid_of(self.kind(), gpu, name)?, LETTING_GO)
    }

    fn retire(&self, host: &Host, gpu: PciAddress) -> Result<(), Error> {
        // A GPU that is the parent itself, or has lost its driver, has no VFs to turn off.
        if VirtualFunction::all(host, gpu)?.is_empty() {
            return Ok(());
        }
        let mut instances = Vec::new();
        for found in MediatedDevice::all(host)? {
            if found.is_of(gpu) {
                instances.push(format!("the vGPU {} on {}", found.uuid, found.parent));
            }
        }
        if instances.is_empty() {
            sriov_manage::turn_off(host, gpu)
        } else {
            Err(Error::InUse { gpu, instances })
        }
    }
}
