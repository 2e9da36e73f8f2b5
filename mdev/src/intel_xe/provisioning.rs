//! What xe shows of a GPU's VRAM and of how it is shared: for the inventory, which changes nothing.

use super::admin::{self, Function};
use crate::{Error, Host, Memory, PciAddress, VfIndex, attribute};
use serde::Serialize;

/// Where xe lets shares be read and set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum XeInterface {
    /// `sriov_admin` in sysfs, since Linux 6.19.
    SriovAdmin,
    /// In debugfs before that: `dri/<PF>/sriov/{pf,vfN}/tileN`, and still earlier `dri/<PF>/gtN/{pf,vfN}`.
    Debugfs,
}

/// What the driver xe shows of the shares of one GPU's VFs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct XeProvisioning {
    pub interface: XeInterface,
    /// All VRAM, as debugfs says it (`vram0_mm` and so on). None on an integrated GPU, and where debugfs cannot
    /// be read.
    pub vram: Option<Memory>,
    /// VRAM of a VF of those that exist, of the least where they differ. None where there are no VFs, or the
    /// driver does not say.
    pub quota: Option<Memory>,
    /// Whether VRAM can be given to VFs by its size.
    pub settable: bool,
    /// Whether a VF keeps its turn while it is idle; no where the driver does not say.
    pub strict: bool,
    /// Whether the VFs that exist have turns of one length, and a limit to overrunning them.
    pub even_turns: bool,
}

/// What is left to the PF: as much as xpumanager's tables leave to it on cards of 16 and 24 GiB
/// (intel/xpumanager, resources/config/vgpu.conf).
const PF_RESERVE: u64 = 384 << 20;

/// The page of the table that maps a VF's VRAM.
const ALIGNMENT: u64 = 2 << 20;

impl XeProvisioning {
    /// Whether a VF's share is never exceeded. VFs that vgpud makes get even turns; by debugfs each gets its
    /// own when it is given away, and until then nothing bounds it.
    pub(crate) fn caps(&self, has_vfs: bool) -> bool {
        self.strict && if has_vfs { self.even_turns } else { self.interface == XeInterface::SriovAdmin }
    }

    /// VRAM that each of `count` VFs is given; none where that is left to the driver, which says it when
    /// the VFs exist.
    pub(crate) fn fair_share(&self, count: u16) -> Option<Memory> {
        let vram = self.vram.filter(|_| self.settable)?.bytes();
        let share = vram.saturating_sub(PF_RESERVE).checked_div(count.into())? / ALIGNMENT * ALIGNMENT;
        (share > 0).then(|| Memory::from_bytes(share))
    }
}

/// `size:` in the statistics of each tile's memory (drivers/gpu/drm/ttm, `ttm_resource_manager_debug`). debugfs
/// is a help and root's alone: who cannot read it knows less.
fn vram(host: &Host, gpu: PciAddress) -> Option<Memory> {
    let folder = host.dri_debug().join(gpu.to_string());
    let names = attribute::names(&folder).ok()?;
    let of_tile = |name: &String| {
        name.strip_prefix("vram")?.strip_suffix("_mm")?.parse::<u8>().ok()?;
        let text = attribute::read(&folder.join(name)).ok()??;
        text.lines().find_map(|line| line.trim().strip_prefix("size:")?.trim().parse::<u64>().ok())
    };
    let total = names.iter().filter_map(of_tile).try_fold(0_u64, u64::checked_add)?;
    (total > 0).then(|| Memory::from_bytes(total))
}

/// None where xe shows no shares: an older kernel without debugfs, or a GPU without SR-IOV.
pub(crate) fn read(host: &Host, gpu: PciAddress, enabled: u16) -> Option<XeProvisioning> {
    let interface = admin::interface(host, gpu)?;
    let quota = |index| admin::vram_quota(host, gpu, interface, Function::Vf(VfIndex(index)));
    let mut least = None;
    for index in 0..enabled {
        match quota(index) {
            Ok(Some(bytes)) => least = Some(least.map_or(bytes, |least: u64| least.min(bytes))),
            Ok(None) => {}
            // Parts of the GPU that differ, for one; what is set next mends them.
            Err(error) => tracing::warn!(%gpu, index, "VRAM of a VF left out: {error}"),
        }
    }
    // What cannot be read is not relied on.
    let known = |what: &str, read: Result<bool, Error>| {
        read.unwrap_or_else(|error| {
            tracing::warn!(%gpu, "{what} left out: {error}");
            false
        })
    };
    Some(XeProvisioning {
        strict: known("scheduling", admin::is_strict(host, gpu, interface, enabled.max(1))),
        even_turns: known("turns of VFs", admin::has_even_turns(host, gpu, interface, enabled)),
        interface,
        vram: vram(host, gpu),
        quota: least.filter(|bytes| *bytes > 0).map(Memory::from_bytes),
        settable: interface == XeInterface::SriovAdmin && admin::has_vram_quota(host, gpu),
    })
}
