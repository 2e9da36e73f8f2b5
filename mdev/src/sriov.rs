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
mod vendor_clear;
mod virtual_function;

use crate::{
    ClearOutcome, ComputeShare, Error, Gpu, Host, Instance, InstanceName, Mechanism, MechanismKind,
    PciAddress, Profile, ProfileName, ResetOutcome, VfIndex, VfioNodes, attribute, binding,
};
use std::path::PathBuf;
use vgpud_config::Shown;
use virtual_function::{VirtualFunction, virtual_functions};

/// The mechanism; it has no state.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sriov;

/// PF drivers of which it is known that they do not implement `sriov_numvfs`: the write would end in
/// ENOENT, and nothing in sysfs tells before. Upstream i915 is one too, but its out-of-tree builds of
/// the same name are not.
const WITHOUT_SRIOV: [&str; 3] = ["amdgpu", "nouveau", "nvidia"];

fn profile_of(count: u16) -> Option<ProfileName> {
    format!("vf-{count}").parse().ok()
}

fn count_of(gpu: PciAddress, profile: &ProfileName) -> Result<u16, Error> {
    let count = profile.as_ref().strip_prefix("vf-").and_then(|count| count.parse().ok());
    let count = count.filter(|count| *count > 0 && profile_of(*count).as_ref() == Some(profile));
    count.ok_or_else(|| Error::NoSuchProfile { gpu, profile: profile.clone() })
}

fn index_of(gpu: PciAddress, name: InstanceName) -> Result<VfIndex, Error> {
    match name {
        InstanceName::Vf(index) => Ok(index),
        InstanceName::Mdev(_) => Err(Error::WrongName { mechanism: MechanismKind::Sriov, gpu, name }),
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
        let Some(sriov) = &gpu.sriov else { return Some("it has no SR-IOV capability".to_owned()) };
        match (&gpu.driver, sriov.total) {
            (_, 0) => Some(
                "its SR-IOV capability allows no VFs, which the GPU's driver or firmware decides".to_owned(),
            ),
            (_, 1) => Some("its SR-IOV capability allows one VF, which is no share".to_owned()),
            (None, _) => Some("no driver is bound to it that could enable VFs".to_owned()),
            (Some(driver), _) if WITHOUT_SRIOV.contains(&driver.0.as_str()) => {
                Some(format!("its driver {driver} does not implement sriov_numvfs"))
            }
            _ => None,
        }
    }

    fn profiles(&self, gpu: &Gpu) -> Vec<Profile> {
        let Some(sriov) = gpu.sriov.as_ref().filter(|_| self.applies(gpu)) else { return Vec::new() };
        let offered = counts(sriov.total).filter(|_| sriov.enabled == 0);
        let present = Some(sriov.enabled).filter(|enabled| *enabled > 0);
        let profile = |count: u16| {
            Some(Profile {
                name: profile_of(count)?,
                memory: sriov.vf_aperture,
                compute: Some(ComputeShare::one_of(count)),
                capacity: count.into(),
                available: count.saturating_sub(sriov.bound).into(),
            })
        };
        offered.chain(present).filter_map(profile).collect()
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
            self.find(host, gpu, name)?.ok_or(Error::NoSuchInstance { gpu, name })
        };
        made().map_err(|error| match before {
            VfsBefore::Enabled => error,
            VfsBefore::None { autoprobe } => error.after_undo(&gpu, pf.take_back(&autoprobe)),
        })
    }

    fn find(&self, host: &Host, gpu: PciAddress, name: InstanceName) -> Result<Option<Instance>, Error> {
        let index = index_of(gpu, name)?;
        match VirtualFunction::read(host, gpu, index)? {
            Some(vf) => vf.instance(host, gpu),
            None => Ok(None),
        }
    }

    fn leaving(&self, host: &Host, gpu: PciAddress, name: InstanceName) -> Result<VfioNodes, Error> {
        match VirtualFunction::read(host, gpu, index_of(gpu, name)?)? {
            Some(vf) => vf.leaving(host),
            None => Ok(VfioNodes::default()),
        }
    }

    fn list(&self, host: &Host, gpu: PciAddress) -> Result<Vec<Instance>, Error> {
        let vfs = virtual_functions(host, gpu)?;
        vfs.into_iter().filter_map(|vf| vf.instance(host, gpu).transpose()).collect()
    }

    fn reset(&self, host: &Host, instance: &Instance) -> Result<ResetOutcome, Error> {
        let index = index_of(instance.gpu, instance.name)?;
        match VirtualFunction::read(host, instance.gpu, index)? {
            Some(vf) => vf.reset(host),
            None => Err(Error::NoSuchInstance { gpu: instance.gpu, name: instance.name }),
        }
    }

    fn clear_attribute(&self, host: &Host, gpu: PciAddress, name: InstanceName) -> Option<PathBuf> {
        let index = index_of(gpu, name).ok()?;
        Some(vendor_clear::attribute_of(&host.pci_device(gpu).join(format!("virtfn{}", index.0))))
    }

    fn clear_memory(&self, host: &Host, instance: &Instance) -> Result<ClearOutcome, Error> {
        let index = index_of(instance.gpu, instance.name)?;
        match VirtualFunction::read(host, instance.gpu, index)? {
            Some(vf) => vendor_clear::clear(host, vf.address),
            None => Err(Error::NoSuchInstance { gpu: instance.gpu, name: instance.name }),
        }
    }

    fn destroy(&self, host: &Host, gpu: PciAddress, name: InstanceName) -> Result<(), Error> {
        match VirtualFunction::read(host, gpu, index_of(gpu, name)?)? {
            Some(vf) => binding::from_vfio(host, vf.address),
            None => Ok(()),
        }
    }

    fn retire(&self, host: &Host, gpu: PciAddress) -> Result<(), Error> {
        let pf = PhysicalFunction { host, gpu };
        let vfs = virtual_functions(host, gpu)?;
        let mut in_use = Vec::new();
        for vf in vfs {
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

/// The GPU as the one that makes VFs.
struct PhysicalFunction<'a> {
    host: &'a Host,
    gpu: PciAddress,
}

enum VfsBefore {
    Enabled,
    /// And `sriov_drivers_autoprobe` was this.
    None {
        autoprobe: String,
    },
}

impl PhysicalFunction<'_> {
    fn attribute(&self, name: &str) -> std::path::PathBuf {
        self.host.pci_device(self.gpu).join(name)
    }

    fn count(&self, name: &str) -> Result<u16, Error> {
        let count = attribute::parse(&self.attribute(name), "a number of VFs")?;
        count.ok_or_else(|| match attribute::exists(&self.host.pci_device(self.gpu)) {
            true => Error::Unusable { gpu: self.gpu, why: "it has no SR-IOV capability".to_owned() },
            false => Error::NoSuchGpu(self.gpu),
        })
    }

    fn enabled(&self) -> Result<u16, Error> {
        self.count("sriov_numvfs")
    }

    /// Makes `wanted` VFs exist, where none or as many do.
    fn enable(&self, wanted: u16) -> Result<VfsBefore, Error> {
        let (gpu, total) = (self.gpu, self.count("sriov_totalvfs")?);
        if wanted > total {
            return Err(Error::TooManyVfs { gpu, total, wanted });
        }
        match self.enabled()? {
            0 => {}
            enabled if enabled == wanted => return Ok(VfsBefore::Enabled),
            enabled => return Err(Error::OtherVfCount { gpu, enabled, wanted }),
        }
        let autoprobe = self.attribute("sriov_drivers_autoprobe");
        let before = attribute::read(&autoprobe)?.unwrap_or_else(|| "1".to_owned());
        let made = || {
            self.set_autoprobe("0")?;
            self.host.write_attr(&self.attribute("sriov_numvfs"), &wanted.to_string())?;
            match self.enabled()? {
                enabled if enabled == wanted => Ok(()),
                enabled => Err(Error::FewerVfs { gpu, enabled, wanted }),
            }
        };
        match made() {
            Ok(()) => Ok(VfsBefore::None { autoprobe: before }),
            Err(error) => Err(error.after_undo(&gpu, self.take_back(&before))),
        }
    }

    /// VF index `index`; the kernel makes all links before the write of the count returns, but the
    /// VF's driver core may still be at work.
    fn wait_for_vf(&self, index: VfIndex) -> Result<VirtualFunction, Error> {
        let what = || format!("VF {} of GPU {}", index.0, self.gpu);
        self.host.wait_for(what, || VirtualFunction::read(self.host, self.gpu, index))
    }

    fn set_autoprobe(&self, value: &str) -> Result<(), Error> {
        let path = self.attribute("sriov_drivers_autoprobe");
        self.host.write_attr(&path, value)?;
        match attribute::read(&path)? {
            Some(now) if now == value => Ok(()),
            now => Err(Error::ReadBack {
                device: format!("sriov_drivers_autoprobe of GPU {}", self.gpu),
                wanted: value.to_owned(),
                shown: now.map_or_else(|| "is gone".to_owned(), |now| format!("reads {}", Shown(&now))),
                way_out: "something else sets it",
            }),
        }
    }

    fn disable(&self, autoprobe: &str) -> Result<(), Error> {
        if self.enabled()? != 0 {
            self.host.write_attr(&self.attribute("sriov_numvfs"), "0")?;
        }
        let enabled = self.enabled()?;
        if enabled != 0 {
            return Err(Error::ReadBack {
                device: format!("GPU {}", self.gpu),
                wanted: "no VFs".to_owned(),
                shown: format!("has {enabled} VFs"),
                way_out: "the kernel log says why (`dmesg`)",
            });
        }
        self.set_autoprobe(autoprobe)
    }

    /// Undoes [`enable`](Self::enable). A GPU that has gone has taken its VFs with it.
    fn take_back(&self, autoprobe: &str) -> Result<(), Error> {
        let there = attribute::exists(&self.host.pci_device(self.gpu));
        if there { self.disable(autoprobe) } else { Ok(()) }
    }
}
