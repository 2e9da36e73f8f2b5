//! One mediated device as the mdev bus shows it, and making and removing one, whoever its parent is.

use crate::{
    DriverName, Error, Host, Instance, InstanceName, MdevUuid, PciAddress, ProfileName, attribute, device,
    nvidia, virtual_function::VirtualFunction,
};
use nix::libc::{EACCES, EAGAIN, EBUSY, EIO, ENODEV, ENOENT, EPERM};
use std::{path::PathBuf, time::Duration};

/// A mediated device that exists, whoever its parent is.
pub(crate) struct MediatedDevice {
    pub(crate) uuid: MdevUuid,
    sysfs: PathBuf,
    /// Name of the parent device: a PCI address, or something else for parents without hardware.
    pub(crate) parent: String,
    /// The GPU that the parent is, or is a VF of.
    gpu: Option<PciAddress>,
    pub(crate) type_id: Option<String>,
}

impl MediatedDevice {
    pub(crate) fn read(host: &Host, uuid: MdevUuid) -> Result<Option<Self>, Error> {
        let sysfs = host.mdev_device(uuid);
        // The bus holds links into the parents' folders.
        let Some(real) = attribute::folder(&sysfs)? else { return Ok(None) };
        let parent = real.parent().and_then(|parent| parent.file_name());
        let parent = parent.map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let gpu = match parent.parse::<PciAddress>() {
            Ok(address) => {
                let pf = attribute::link(&host.pci_device(address).join("physfn"))?;
                Some(pf.and_then(|pf| pf.parse().ok()).unwrap_or(address))
            }
            Err(_) => None,
        };
        let type_id = attribute::link(&sysfs.join("mdev_type"))?;
        Ok(Some(Self { uuid, sysfs, parent, gpu, type_id }))
    }

    /// Those of all parents.
    pub(crate) fn all(host: &Host) -> Result<Vec<Self>, Error> {
        let names = attribute::names(&host.mdev_devices())?;
        let uuids = names.iter().filter_map(|name| name.parse().ok());
        uuids.filter_map(|uuid| Self::read(host, uuid).transpose()).collect()
    }

    /// Whether it is a part of this GPU.
    pub(crate) fn is_of(&self, gpu: PciAddress) -> bool {
        self.gpu == Some(gpu)
    }

    /// What its type is called as a profile: an NVIDIA vGPU by its name, any other by its id.
    pub(crate) fn profile(&self, host: &Host) -> Result<Option<ProfileName>, Error> {
        let vgpu = match self.gpu {
            Some(gpu) => nvidia::vgpu_name(host, gpu, &self.sysfs.join("mdev_type"))?,
            None => None,
        };
        Ok(vgpu.or_else(|| self.type_id.as_ref().and_then(|id| id.parse().ok())))
    }

    /// The instance that it is; none where it belongs to another GPU.
    pub(crate) fn instance(self, host: &Host, gpu: PciAddress) -> Result<Option<Instance>, Error> {
        if !self.is_of(gpu) {
            return Ok(None);
        }
        let Some(profile) = self.profile(host)? else { return Ok(None) };
        let iommu_group = device::iommu_group(host, &self.sysfs)?;
        let driver: Option<DriverName> = device::driver(&self.sysfs)?;
        let nodes = device::vfio_nodes(host, &self.sysfs, iommu_group.as_ref())?;
        let (name, sysfs) = (InstanceName::Mdev(self.uuid), self.sysfs);
        Ok(Some(Instance { gpu, name, sysfs, address: None, profile, driver, iommu_group, nodes }))
    }
}

/// Where the GPU's mediated devices are: below it and its VFs.
fn parents(host: &Host, gpu: PciAddress) -> Result<Vec<PciAddress>, Error> {
    let vfs = VirtualFunction::all(host, gpu)?;
    Ok([gpu].into_iter().chain(vfs.into_iter().map(|vf| vf.address)).collect())
}

/// The device as it is where an interrupted attempt, or asking twice, left it: none where it is to be made.
///
/// # Errors
/// [`Error::OtherMdev`] where somebody else has the UUID.
pub(crate) fn made_before(
    host: &Host,
    gpu: PciAddress,
    profile: &ProfileName,
    uuid: MdevUuid,
) -> Result<Option<Instance>, Error> {
    let Some(existing) = MediatedDevice::read(host, uuid)? else { return Ok(None) };
    let of = existing.profile(host)?;
    if existing.is_of(gpu) && of.as_ref() == Some(profile) {
        return wait_until_whole(host, gpu, uuid).map(Some);
    }
    let of = of.map_or_else(|| "no known type".to_owned(), |of| of.to_string());
    Err(Error::OtherMdev { uuid, what: format!("of {of} on {}", existing.parent) })
}

/// Makes a device of the type whose folder below its parent is `type_folder`.
///
/// # Errors
/// What the kernel refuses, or shows instead; what came is removed again.
pub(crate) fn make(
    host: &Host,
    gpu: PciAddress,
    type_folder: &std::path::Path,
    profile: &ProfileName,
    uuid: MdevUuid,
) -> Result<Instance, Error> {
    host.write_attr(&type_folder.join("create"), &uuid.to_string())?;
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
        let undo = if there { remove(host, gpu, uuid, Duration::ZERO) } else { Ok(()) };
        error.after_undo(&InstanceName::Mdev(uuid), undo)
    })
}

/// Waits until the device is whole: on the bus, of its type, with a VFIO node.
fn wait_until_whole(host: &Host, gpu: PciAddress, uuid: MdevUuid) -> Result<Instance, Error> {
    let what = || format!("a VFIO node of mediated device {uuid} of GPU {gpu}");
    host.wait_for(what, || {
        let Some(found) = MediatedDevice::read(host, uuid)? else { return Ok(None) };
        Ok(found.instance(host, gpu)?.filter(|instance| !instance.nodes.is_empty()))
    })
}

/// Ends the device, where the GPU has it. Some parents refuse while a VM is on its way out, or remove the
/// device by themselves then: for `letting_go` a refusal is not the last word.
///
/// # Errors
/// What the kernel refused last, or shows still.
pub(crate) fn destroy(
    host: &Host,
    gpu: PciAddress,
    uuid: MdevUuid,
    letting_go: Duration,
) -> Result<(), Error> {
    match MediatedDevice::read(host, uuid)? {
        Some(found) if found.is_of(gpu) => remove(host, gpu, uuid, letting_go),
        Some(found) => {
            Err(Error::OtherMdev { uuid, what: format!("on {} and not on GPU {gpu}", found.parent) })
        }
        None => wait_until_gone(host, gpu, uuid),
    }
}

fn remove(host: &Host, gpu: PciAddress, uuid: MdevUuid, letting_go: Duration) -> Result<(), Error> {
    let folder = host.mdev_device(uuid);
    let mut refused = None;
    let written = host.clone().with_patience(letting_go.min(host.patience())).wait_for(String::new, || {
        match host.write_attr(&folder.join("remove"), "1") {
            Err(error) if attribute::exists(&folder) => {
                if !is_busy(&error) {
                    return Err(error);
                }
                refused = Some(error);
                Ok(None)
            }
            _ => Ok(Some(())),
        }
    });
    // What the driver says tells more than that time is up.
    match (written, refused) {
        (Err(Error::TimedOut(_)), Some(error)) => return Err(error),
        (written, _) => written?,
    }
    wait_until_gone(host, gpu, uuid)
}

fn is_busy(error: &Error) -> bool {
    let Error::Write { source, .. } = error else { return false };
    // ENOENT: the driver has begun to remove it by itself.
    matches!(source.raw_os_error(), Some(EBUSY | EAGAIN | EPERM | EACCES | EIO | ENODEV | ENOENT))
}

/// The mdev core takes a device off the bus first and then waits for its user: only when its folder
/// below the parent is gone, too, is what it took of the GPU free.
fn wait_until_gone(host: &Host, gpu: PciAddress, uuid: MdevUuid) -> Result<(), Error> {
    let below = parents(host, gpu)?.into_iter().map(|parent| host.pci_device(parent).join(uuid.to_string()));
    let folders: Vec<_> = [host.mdev_device(uuid)].into_iter().chain(below).collect();
    let what = || format!("mediated device {uuid} to go; does a VM still hold it?");
    host.wait_for(what, || Ok((!folders.iter().any(|folder| attribute::exists(folder))).then_some(())))
}
