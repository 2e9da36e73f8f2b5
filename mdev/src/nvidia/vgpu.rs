//! What NVIDIA's host driver shows of a GPU and its vGPUs.
//!
//! NVIDIA's vGPU host driver offers a GPU in one of two ways. Older ones make its PF or its VFs parents
//! of mediated devices. Newer ones (vGPU 17 on Linux 6.8 and later, NVIDIA Virtual GPU Software User
//! Guide, "vendor-specific VFIO framework") put a folder `nvidia` on each VF, and the VF itself becomes a
//! vGPU when the number of a type is written there. Which one a host has is not known before VFs are
//! on. Both may be on one host, so each GPU is asked.
//!
//! Numbers of types differ between cards and drivers, so a type is known by its name. The kernel shows the
//! number of a VF's type alone; its name is in the list of what another VF may become, and that list
//! loses a type when no more of it fits. Nothing is remembered here: such a vGPU shows as
//! `type-1152`, and may be of any profile ([`Instance::may_be`](crate::Instance::may_be)).

use super::{VgpuType, creatable_types};
use crate::{
    DriverName, Error, Gpu, Host, MdevType, PciAddress, PciId, ProfileName, SriovCapability, VfIndex,
    attribute, mdev_bus, virtual_function::VirtualFunction,
};
use serde::Serialize;
use std::{
    cell::OnceCell,
    collections::BTreeMap,
    path::{Path, PathBuf},
};

pub(crate) const VENDOR: u16 = 0x10de;

/// The driver of PFs and VFs.
pub(super) const DRIVER: &str = "nvidia";

/// On which `sriov-manage` puts a PF for a moment, for NVIDIA's driver has no `sriov_configure`.
pub(super) const STUB: &str = "pci-pf-stub";

/// What NVIDIA's driver shows of a GPU.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum NvidiaVgpu {
    /// No VFs are on, and nothing is known of vGPUs.
    Off {
        /// NVIDIA's tool that turns them on.
        sriov_manage: PathBuf,
        /// What the host lacks of the vGPU host driver.
        lacks: Vec<String>,
    },
    /// VFs are on, and each may be a vGPU.
    On { vfs: Vec<VgpuVf> },
    /// Its vGPUs are mediated devices of these VFs; of the GPU itself where there are none.
    Mediated { vfs: Vec<VfParent> },
    /// VFs are on, and the driver makes no vGPUs of them.
    NoVgpus,
}

/// One VF that is a vGPU or may become one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct VgpuVf {
    pub index: VfIndex,
    /// The number of its type; none: it is a spare.
    pub current: Option<u32>,
    /// What a spare may become now.
    pub creatable: Vec<OfferedType>,
}

/// One VF that is a parent of mediated devices, of one at a time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct VfParent {
    pub index: VfIndex,
    pub types: Vec<MdevType>,
}

/// A type that a spare may become.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct OfferedType {
    /// For this card and this driver alone.
    pub number: u32,
    pub name: ProfileName,
}

pub(super) fn folder(vf: &Path) -> PathBuf {
    vf.join("nvidia")
}

pub(super) fn current_vgpu_type(vf: &Path) -> PathBuf {
    folder(vf).join("current_vgpu_type")
}

/// The number of a VF's type, 0 for a spare; none where no VF of NVIDIA's vendor-specific framework is at
/// `vf`.
pub(crate) fn current(vf: &Path) -> Result<Option<u32>, Error> {
    attribute::parse(&current_vgpu_type(vf), "the number of a vGPU type")
}

/// What a VF may become now. Types whose names are not understood are left out.
pub(super) fn creatable(vf: &Path) -> Result<Vec<OfferedType>, Error> {
    let path = folder(vf).join("creatable_vgpu_types");
    let Some(content) = attribute::read(&path)? else { return Ok(Vec::new()) };
    let Ok(types) = creatable_types(&content) else {
        return Err(Error::Content { path, content, wanted: "a list of vGPU types" });
    };
    let offered = types
        .into_iter()
        .filter_map(|listed| Some(OfferedType { number: listed.id.number(), name: listed.vgpu?.name }));
    Ok(offered.collect())
}

/// What a type's name says.
pub(super) fn understood(name: &ProfileName) -> Option<VgpuType> {
    name.as_ref().parse().ok()
}

/// What is shown of the GPU; none where it is on another driver, or has neither VFs to share nor mediated
/// devices.
pub(crate) fn read(
    host: &Host,
    gpu: PciAddress,
    id: PciId,
    driver: Option<&DriverName>,
    sriov: Option<&SriovCapability>,
) -> Result<Option<NvidiaVgpu>, Error> {
    if id.vendor != VENDOR || driver.is_none_or(|driver| driver.0 != DRIVER) {
        return Ok(None);
    }
    let is_parent = |address| attribute::exists(&host.mdev_parent(address));
    if is_parent(gpu) {
        return Ok(Some(NvidiaVgpu::Mediated { vfs: Vec::new() }));
    }
    if sriov.is_none_or(|sriov| sriov.total <= 1) {
        return Ok(None);
    }
    let vfs = VirtualFunction::all(host, gpu)?;
    let parents = vfs.iter().filter(|vf| is_parent(vf.address)).map(|vf| {
        // As with creatable types: one that is not well hides no other.
        let types = mdev_bus::types(host, vf.address).unwrap_or_else(|error| {
            tracing::warn!(vf = %vf.address, "{error}");
            Vec::new()
        });
        VfParent { index: vf.index, types }
    });
    let parents: Vec<_> = parents.collect();
    if !parents.is_empty() {
        return Ok(Some(NvidiaVgpu::Mediated { vfs: parents }));
    }
    if vfs.is_empty() {
        let lacks = lacks(host);
        return Ok(Some(NvidiaVgpu::Off { sriov_manage: host.sriov_manage(), lacks }));
    }
    let vfs = vfs.iter().map(|vf| read_vf(host, vf)).filter_map(Result::transpose);
    let vfs = vfs.collect::<Result<Vec<_>, _>>()?;
    Ok(Some(if vfs.is_empty() { NvidiaVgpu::NoVgpus } else { NvidiaVgpu::On { vfs } }))
}

fn read_vf(host: &Host, vf: &VirtualFunction) -> Result<Option<VgpuVf>, Error> {
    let folder = host.pci_device(vf.address);
    let Some(current) = current(&folder)? else { return Ok(None) };
    let current = Some(current).filter(|number| *number != 0);
    let creatable = match current {
        Some(_) => Vec::new(),
        // One VF that is not well does not hide what the others may become.
        None => creatable(&folder).unwrap_or_else(|error| {
            tracing::warn!(vf = %vf.address, "{error}");
            Vec::new()
        }),
    };
    Ok(Some(VgpuVf { index: vf.index, current, creatable }))
}

/// What the host lacks to turn VFs on that are to become vGPUs.
fn lacks(host: &Host) -> Vec<String> {
    let module = host.path("/sys/module/nvidia_vgpu_vfio");
    let tool = host.sriov_manage();
    let module = (!attribute::exists(&module)).then(|| "the module nvidia_vgpu_vfio".to_owned());
    let tool = (!attribute::exists(&tool)).then(|| format!("the program {}", tool.display()));
    module.into_iter().chain(tool).collect()
}

/// The names of a GPU's types by their numbers, read when the first is asked for.
#[derive(Debug)]
pub(crate) struct TypeNames<'a> {
    host: &'a Host,
    gpu: PciAddress,
    known: OnceCell<BTreeMap<u32, ProfileName>>,
}

impl<'a> TypeNames<'a> {
    pub(crate) const fn of(host: &'a Host, gpu: PciAddress) -> Self {
        Self { host, gpu, known: OnceCell::new() }
    }

    /// The type's name, out of the list of any spare VF; `type-1152` where none lists it any more.
    pub(crate) fn name(&self, number: u32) -> Result<Option<ProfileName>, Error> {
        if self.known.get().is_none() {
            let mut known = BTreeMap::new();
            for vf in VirtualFunction::all(self.host, self.gpu)? {
                let types = read_vf(self.host, &vf)?.map(|vf| vf.creatable).unwrap_or_default();
                known.extend(types.into_iter().map(|of| (of.number, of.name)));
            }
            // Nobody else has set it: a cell is one thread's.
            let _ = self.known.set(known);
        }
        let known = self.known.get().and_then(|known| known.get(&number));
        Ok(known.cloned().or_else(|| format!("{UNNAMED}{number}").parse().ok()))
    }
}

const UNNAMED: &str = "type-";

/// Whether this is what stands for the name of a type whose number alone is known.
pub(crate) fn is_unnamed(profile: &ProfileName) -> bool {
    let number = profile.as_ref().strip_prefix(UNNAMED).and_then(|number| number.parse::<u32>().ok());
    number.is_some()
}

/// Why a GPU that the tool left half-way cannot be cut: by none, for the stub would make VFs of it that
/// are nothing without NVIDIA's driver.
pub(crate) fn left_half_way(gpu: &Gpu) -> Option<String> {
    let on_stub = gpu.driver.as_ref().is_some_and(|driver| driver.0 == STUB);
    (gpu.id.vendor == VENDOR && on_stub).then(|| stranded(gpu.address))
}

/// How a PF that is on the stub came there, and what to do, as the end of a sentence.
pub(super) fn stranded(gpu: PciAddress) -> String {
    format!(
        "sriov-manage stopped half-way and left it on {STUB}: write {gpu} to \
         /sys/bus/pci/drivers/{STUB}/unbind and then to /sys/bus/pci/drivers/{DRIVER}/bind"
    )
}
