//! Mechanism `nvidia-vfio`: vGPUs on virtual functions by NVIDIA's vendor-specific VFIO framework.
//!
//! | rule | so |
//! |---|---|
//! | VFs are turned on by `sriov-manage` alone, all at once | the first vGPU does it, the last one gone turns them off ([`super::sriov_manage`]) |
//! | that ends mixed sizes which were set while VFs were off | it is the administrator's to set them with VFs on |
//! | it ends GPU instances of MIG too | they are made when VFs are on, one for each vGPU ([`super::mig`]); somebody else's are in the way, and named |
//! | a VF becomes a vGPU when the number of a type is written to `nvidia/current_vgpu_type`, and a spare by 0 | a profile is a type's name, and its number is read from the VF's own list right before |
//! | the driver refuses types that it lists (EIO), and what was set before is lost | the type is read back, and a VF that got none is left a spare |
//! | writing 0 fails while a VM holds the VF (EBUSY, EPERM) | it is tried for 10 s, and the error says so |
//! | a VF stays on the driver `nvidia`, which is its VFIO driver: one that was unbound is dead until VFs go | nothing is bound or unbound here |
//! | the guest's framebuffer is the vGPU's until it is destroyed, and no BAR shows it | it is destroyed and created again between owners, and no scrub reads it back |
//!
//! Sources: NVIDIA Virtual GPU Software User Guide, "Creating an NVIDIA vGPU on a Linux with KVM
//! Hypervisor" and its sections on vendor-specific VFIO; Proxmox qemu-server for the retries.

#[cfg(test)]
mod tests;

use super::{
    NvidiaVgpu, TypeNames, VENDOR, current, is_unnamed, left_half_way,
    mdev::{self, Framework},
    mig::change as mig,
    profiles,
    sriov_manage::{self, Before},
    vgpu::{DRIVER, creatable, current_vgpu_type},
};
use crate::{
    Division, Error, Gpu, Holds, Host, Instance, InstanceName, Mechanism, MechanismKind, PciAddress, Profile,
    ProfileName, Taken, VfIndex, binding, instance, physical_function::PhysicalFunction, shares,
    virtual_function::VirtualFunction,
};
use nix::libc::{EACCES, EBUSY, EPERM};
use std::time::Duration;

/// The mechanism; it has no state.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NvidiaVfio;

/// Most VFs of a GPU (open-gpu-kernel-modules, kernel-open/nvidia/nv-hypervisor.h).
const MOST_VFS: u16 = 64;

/// How long a VM that has ended may take to let go of its vGPU.
pub(super) const LETTING_GO: Duration = Duration::from_secs(10);

/// A VF that is to become a vGPU or to be none.
struct Vf<'a> {
    host: &'a Host,
    gpu: PciAddress,
    vf: VirtualFunction,
}

impl<'a> Vf<'a> {
    fn find(host: &'a Host, gpu: PciAddress, index: VfIndex) -> Result<Option<Self>, Error> {
        Ok(VirtualFunction::read(host, gpu, index)?.map(|vf| Self { host, gpu, vf }))
    }

    fn folder(&self) -> std::path::PathBuf {
        self.host.pci_device(self.vf.address)
    }

    /// The number of its type, 0 for a spare.
    fn current(&self) -> Result<u32, Error> {
        current(&self.folder())?.ok_or_else(|| Error::DeadVf {
            gpu: self.gpu,
            vf: self.vf.address,
            index: self.vf.index,
            driver: self
                .vf
                .driver
                .as_ref()
                .map_or_else(|| "no driver".to_owned(), |on| format!("driver {on}")),
        })
    }

    fn write(&self, number: u32) -> Result<(), Error> {
        self.host.write_attr(&current_vgpu_type(&self.folder()), &number.to_string())
    }

    /// Makes it a vGPU of this profile.
    fn set(&self, profile: &ProfileName) -> Result<(), Error> {
        let (gpu, vf) = (self.gpu, self.vf.address);
        let types = creatable(&self.folder())?;
        let Some(vgpu) = types.iter().find(|vgpu| vgpu.name == *profile) else {
            let names: Vec<_> = types.iter().map(|vgpu| vgpu.name.to_string()).collect();
            let fits = if names.is_empty() { "no more vGPU".to_owned() } else { names.join(", ") };
            let short = format!("its driver offers {fits} on VF {} ({vf}) now", self.vf.index.0);
            return Err(Error::Full { gpu, profile: profile.clone(), short });
        };
        let refused = |source| Error::VgpuRefused {
            gpu,
            vf,
            profile: profile.clone(),
            number: vgpu.number,
            source: Box::new(source),
        };
        let set = self.write(vgpu.number).map_err(refused).and_then(|()| match self.current()? {
            now if now == vgpu.number => Ok(()),
            now => Err(self.other(&format!("type {} ({profile})", vgpu.number), now)),
        });
        set.map_err(|error| error.after_undo(&vf, self.make_spare()))
    }

    fn other(&self, wanted: &str, now: u32) -> Error {
        Error::ReadBack {
            device: format!("VF {} ({})", self.vf.index.0, self.vf.address),
            wanted: wanted.to_owned(),
            shown: if now == 0 { "is no vGPU".to_owned() } else { format!("is a vGPU of type {now}") },
            way_out: "the kernel log says why (`dmesg`)",
        }
    }

    /// Destroys its vGPU, and what an attempt to do that has left. A VF that its driver has lost has none, and
    /// lives again when VFs are turned off and on.
    fn destroy(&self) -> Result<(), Error> {
        match current(&self.folder())? {
            None | Some(0) => mig::sweep(self.host, self.gpu),
            Some(_) => self.make_spare(),
        }
    }

    /// Destroys its vGPU.
    fn make_spare(&self) -> Result<(), Error> {
        if self.current()? == 0 {
            return Ok(());
        }
        let host = self.host.clone().with_patience(LETTING_GO.min(self.host.patience()));
        let mut held = None;
        let written = host.wait_for(
            || format!("VF {} ({}) to be let go", self.vf.index.0, self.vf.address),
            || match self.write(0) {
                Ok(()) => Ok(Some(())),
                Err(error) if is_held(&error) => {
                    held = Some(error);
                    Ok(None)
                }
                Err(error) => Err(error),
            },
        );
        // What the driver says tells more than that time is up.
        match (written, held) {
            (Err(Error::TimedOut(_)), Some(error)) => return Err(error),
            (written, _) => written?,
        }
        match self.current()? {
            0 => mig::sweep(self.host, self.gpu),
            now => Err(self.other("no vGPU", now)),
        }
    }
}

fn is_held(error: &Error) -> bool {
    let Error::Write { source, .. } = error else { return false };
    matches!(source.raw_os_error(), Some(EBUSY | EPERM | EACCES))
}

fn make(host: &Host, gpu: PciAddress, profile: &ProfileName, index: VfIndex) -> Result<Instance, Error> {
    mdev::expect(host, gpu, Framework::VendorVfio)?;
    let total = PhysicalFunction { host, gpu }.enabled()?;
    let Some(vf) = Vf::find(host, gpu, index)? else {
        let short = format!("it has {total} VFs and no VF {}", index.0);
        return Err(Error::Full { gpu, profile: profile.clone(), short });
    };
    match vf.current()? {
        0 => {}
        number => match TypeNames::of(host, gpu).name(number)? {
            // Of an attempt that was interrupted, or somebody's who left it idle. Who had it is not known, so
            // it is never taken for a new one. On a full card nobody can tell of which type it is.
            Some(name) if name == *profile || is_unnamed(&name) => vf.make_spare()?,
            name => {
                let what = name.map_or_else(|| format!("of type {number}"), |name| format!("a {name}"));
                let vf = vf.vf.address;
                return Err(Error::OtherVgpu { gpu, vf, what });
            }
        },
    }
    mig::make_room(host, gpu, profile)?;
    vf.set(profile).map_err(|error| error.after_undo(&gpu, mig::sweep(host, gpu)))?;
    let name = InstanceName::Vf(index);
    let whole = || {
        mig::check(host, gpu, profile, &vf.folder())?;
        binding::wait_for_node(host, vf.vf.address)?;
        instance::find(host, gpu, name)?.ok_or(Error::NoSuchInstance { gpu, name })
    };
    whole().map_err(|error| error.after_undo(&vf.vf.address, vf.make_spare()))
}

impl Mechanism for NvidiaVfio {
    fn kind(&self) -> MechanismKind {
        MechanismKind::NvidiaVfio
    }

    fn concerns(&self, gpu: &Gpu) -> bool {
        gpu.id.vendor == VENDOR
    }

    fn unusable(&self, gpu: &Gpu) -> Option<String> {
        if !self.concerns(gpu) {
            return Some("it is no GPU of NVIDIA's".to_owned());
        }
        if let Some(why) = gpu.without_vfs().or_else(|| left_half_way(gpu)) {
            return Some(why);
        }
        if let Some(why) = gpu.mig.as_ref().and_then(|mig| mig.unusable(gpu)) {
            return Some(why);
        }
        match (&gpu.driver, &gpu.nvidia) {
            (None, _) => Some("no driver is bound to it that could enable VFs".to_owned()),
            (Some(driver), _) if driver.0 != DRIVER => {
                Some(format!("its driver {driver} is not NVIDIA's vGPU host driver"))
            }
            (_, Some(NvidiaVgpu::Mediated { .. })) => {
                Some(format!("its vGPUs are mediated devices, which {} makes", MechanismKind::NvidiaMdev))
            }
            (_, None | Some(NvidiaVgpu::NoVgpus)) => Some(format!(
                "its driver {DRIVER} is not the vGPU host driver, or its VFs were taken off it, which only \
                 turning them off and on again with sriov-manage mends: none has nvidia/current_vgpu_type"
            )),
            (_, Some(NvidiaVgpu::Off { lacks, .. })) if !lacks.is_empty() => Some(format!(
                "its driver {DRIVER} is not the vGPU host driver, or not all of it is there: this host lacks {}",
                lacks.join(" and ")
            )),
            (_, Some(NvidiaVgpu::Off { sriov_manage, .. })) => {
                profiles::profiles(gpu, &[]).is_empty().then(|| {
                    let tool = sriov_manage.display();
                    format!(
                        "its vGPU types are not known before its VFs are on: run `{tool} -e {}` after each \
                         start of the host",
                        gpu.address
                    )
                })
            }
            (_, Some(NvidiaVgpu::On { .. })) => None,
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

    fn is_divided(&self, gpu: &Gpu) -> bool {
        gpu.has_vfs()
    }

    fn profiles(&self, gpu: &Gpu, taken: &[Taken]) -> Vec<Profile> {
        if self.applies(gpu) { profiles::profiles(gpu, taken) } else { Vec::new() }
    }

    fn when_empty(&self, gpu: &Gpu) -> Vec<Profile> {
        if self.applies(gpu) { profiles::when_empty(gpu) } else { Vec::new() }
    }

    fn holds(&self, _: &Gpu, profile: &ProfileName) -> Holds {
        profiles::holds(profile)
    }

    fn next_name(
        &self,
        gpu: PciAddress,
        profile: &ProfileName,
        used: &[InstanceName],
    ) -> Result<InstanceName, Error> {
        let mut names = (0..MOST_VFS).map(|index| InstanceName::Vf(VfIndex(index)));
        names.find(|name| !used.contains(name)).ok_or_else(|| Error::Full {
            gpu,
            profile: profile.clone(),
            short: format!("all {MOST_VFS} VFs are taken"),
        })
    }

    /// Turns the GPU's VFs on where none is and that ends nobody's GPU instances. A vGPU that is there already is
    /// destroyed and made again.
    fn create(
        &self,
        host: &Host,
        gpu: PciAddress,
        profile: &ProfileName,
        name: InstanceName,
    ) -> Result<Instance, Error> {
        let index = shares::index_of(self.kind(), gpu, name)?;
        mig::spare_others(host, gpu)?;
        let ready = mig::prepare(host, gpu, profile).and_then(|()| sriov_manage::turn_on(host, gpu));
        let before = ready.map_err(|error| error.after_undo(&gpu, mig::put_back(host, gpu)))?;
        match before {
            Before::On => make(host, gpu, profile, index),
            Before::Off => mig::forget(host, gpu)
                .and_then(|()| make(host, gpu, profile, index))
                .map_err(|error| error.after_undo(&gpu, self.retire(host, gpu))),
        }
    }

    fn destroy(&self, host: &Host, gpu: PciAddress, name: InstanceName) -> Result<(), Error> {
        match Vf::find(host, gpu, shares::index_of(self.kind(), gpu, name)?)? {
            Some(vf) => vf.destroy(),
            None => Ok(()),
        }
    }

    fn retire(&self, host: &Host, gpu: PciAddress) -> Result<(), Error> {
        let mut instances = Vec::new();
        for vf in VirtualFunction::all(host, gpu)? {
            if current(&host.pci_device(vf.address))?.is_some_and(|number| number != 0) {
                instances.push(format!("the vGPU on VF {} ({})", vf.index.0, vf.address));
            }
        }
        if !instances.is_empty() {
            return Err(Error::InUse { gpu, instances });
        }
        sriov_manage::turn_off(host, gpu)?;
        mig::put_back(host, gpu)
    }
}
