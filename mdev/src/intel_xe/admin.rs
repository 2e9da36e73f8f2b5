//! Reading and setting the shares of a GPU's functions.

use super::{XeInterface, provisioning};
use crate::{Error, Host, PciAddress, VfIndex, attribute};
use nix::errno::Errno;
use std::{
    fmt,
    path::{Path, PathBuf},
};

/// One function of a GPU. xe counts VFs like the PCI specification: the one with index 0 is `vf1`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Function {
    Pf,
    Vf(VfIndex),
}

impl fmt::Display for Function {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pf => f.write_str("pf"),
            Self::Vf(VfIndex(index)) => write!(f, "vf{}", u32::from(*index) + 1),
        }
    }
}

/// How long a function may use the GPU before another one's turn, and how long it may take to make way.
const QUANTUM: &str = "exec_quantum_ms";
const TIMEOUT: &str = "preempt_timeout_us";
const VRAM: &str = "vram_quota";
/// Of one function, in sysfs: `[low] normal`.
const PRIORITY: &str = "sched_priority";
/// Of all, in debugfs: 0 or 1.
const SCHED_IF_IDLE: &str = "sched_if_idle";

/// What one function's attributes of one name are: one in sysfs, in debugfs one for each GT or tile.
fn files(
    host: &Host,
    gpu: PciAddress,
    interface: XeInterface,
    function: Function,
    name: &str,
) -> Result<Vec<PathBuf>, Error> {
    let files = match interface {
        XeInterface::SriovAdmin => {
            vec![
                host.pci_device(gpu)
                    .join("sriov_admin")
                    .join(function.to_string())
                    .join("profile")
                    .join(name),
            ]
        }
        XeInterface::Debugfs => in_debugfs(&debug_folder(host, gpu), function, name)?,
    };
    Ok(files.into_iter().filter(|file| attribute::exists(file)).collect())
}

/// By tile below `sriov` (`xe_tile_sriov_pf_debugfs.c`), and before that tree was made by GT alone
/// (`xe_gt_sriov_pf_debugfs.c`), where VRAM has its former name. A kernel has one of them.
fn in_debugfs(folder: &Path, function: Function, name: &str) -> Result<Vec<PathBuf>, Error> {
    let mut files = Vec::new();
    let former = if name == VRAM { "lmem_quota" } else { name };
    for gt in numbered(folder, "gt")? {
        files.push(gt.join(function.to_string()).join(former));
    }
    for tile in numbered(&folder.join("sriov").join(function.to_string()), "tile")? {
        files.push(tile.join(name));
        files.extend(numbered(&tile, "gt")?.into_iter().map(|gt| gt.join(name)));
    }
    Ok(files)
}

/// `gt0`, `gt1` and so on in a folder.
fn numbered(folder: &Path, kind: &str) -> Result<Vec<PathBuf>, Error> {
    let names = attribute::names(folder)?.into_iter();
    let of_kind =
        names.filter(|name| name.strip_prefix(kind).is_some_and(|number| number.parse::<u8>().is_ok()));
    Ok(of_kind.map(|name| folder.join(name)).collect())
}

fn debug_folder(host: &Host, gpu: PciAddress) -> PathBuf {
    host.dri_debug().join(gpu.to_string())
}

/// debugfs is a help: where it cannot be read, it has nothing.
fn by_debugfs(host: &Host, gpu: PciAddress) -> bool {
    files(host, gpu, XeInterface::Debugfs, Function::Pf, QUANTUM).is_ok_and(|files| !files.is_empty())
}

/// Where the shares of this GPU are, if anywhere.
pub(super) fn interface(host: &Host, gpu: PciAddress) -> Option<XeInterface> {
    if attribute::exists(&host.pci_device(gpu).join("sriov_admin/pf/profile")) {
        Some(XeInterface::SriovAdmin)
    } else {
        by_debugfs(host, gpu).then_some(XeInterface::Debugfs)
    }
}

/// The folders of debugfs in which shares are set, on this host as it is now: none since Linux 6.19.
#[must_use]
pub fn debug_folders(host: &Host) -> Vec<PathBuf> {
    // debugfs is a help: where it cannot be read, there is none.
    let names = attribute::names(&host.dri_debug()).unwrap_or_default();
    let gpus = names.iter().filter_map(|name| name.parse::<PciAddress>().ok());
    let set_there = gpus.filter(|gpu| interface(host, *gpu) == Some(XeInterface::Debugfs));
    set_there.map(|gpu| debug_folder(host, gpu)).collect()
}

/// Whether a VF's VRAM can be set, since Linux 7.0.
pub(super) fn has_vram_quota(host: &Host, gpu: PciAddress) -> bool {
    let first = Function::Vf(VfIndex(0));
    files(host, gpu, XeInterface::SriovAdmin, first, VRAM).is_ok_and(|files| !files.is_empty())
}

/// The VRAM of one function in bytes; none where the driver does not say.
pub(super) fn vram_quota(
    host: &Host,
    gpu: PciAddress,
    interface: XeInterface,
    function: Function,
) -> Result<Option<u64>, Error> {
    let mut sum = None;
    for file in files(host, gpu, interface, function, VRAM)? {
        sum = Some(sum.unwrap_or(0_u64).saturating_add(value(&file)?));
    }
    Ok(sum)
}

/// Whether each of the first `count` VFs keeps its turn while it is idle ("strict scheduling", Linux,
/// drivers/gpu/drm/xe/abi/guc_klvs_abi.h, `GUC_KLV_VGT_POLICY_SCHED_IF_IDLE`). In sysfs that is the priority
/// `normal` ("irrespective of whether it has submitted a work or not", Documentation/ABI/testing/
/// sysfs-driver-intel-xe-sriov). No where the driver does not say.
pub(super) fn is_strict(
    host: &Host,
    gpu: PciAddress,
    interface: XeInterface,
    count: u16,
) -> Result<bool, Error> {
    match interface {
        XeInterface::SriovAdmin => all_files(host, gpu, interface, count, PRIORITY, |file| {
            Ok(attribute::read(file)?
                .is_some_and(|text| text.split_whitespace().any(|word| word == "[normal]")))
        }),
        XeInterface::Debugfs => {
            let files = files(host, gpu, interface, Function::Pf, SCHED_IF_IDLE)?;
            let mut strict = !files.is_empty();
            for file in files {
                strict &= value(&file)? == 1;
            }
            Ok(strict)
        }
    }
}

/// Whether the first `count` VFs have turns of one length, and a limit to overrunning them.
pub(super) fn has_even_turns(
    host: &Host,
    gpu: PciAddress,
    interface: XeInterface,
    count: u16,
) -> Result<bool, Error> {
    let mut first = None;
    let limited = all_files(host, gpu, interface, count, TIMEOUT, |file| Ok(value(file)? > 0))?;
    let even = all_files(host, gpu, interface, count, QUANTUM, |file| {
        let quantum = value(file)?;
        Ok(quantum > 0 && *first.get_or_insert(quantum) == quantum)
    })?;
    Ok(limited && even)
}

/// Whether it is so for every file of this name of the first `count` VFs, and each has one.
fn all_files(
    host: &Host,
    gpu: PciAddress,
    interface: XeInterface,
    count: u16,
    name: &str,
    mut is_so: impl FnMut(&Path) -> Result<bool, Error>,
) -> Result<bool, Error> {
    for index in 0..count {
        let files = files(host, gpu, interface, Function::Vf(VfIndex(index)), name)?;
        let mut all = !files.is_empty();
        for file in files {
            all &= is_so(&file)?;
        }
        if !all {
            return Ok(false);
        }
    }
    Ok(true)
}

fn value(file: &Path) -> Result<u64, Error> {
    match attribute::parse(file, "a number") {
        Ok(Some(value)) => Ok(value),
        Ok(None) => Err(unexpected(file, "a number", "is gone".to_owned())),
        Err(Error::Read { source, .. }) if source.raw_os_error() == Some(Errno::EUCLEAN as i32) => {
            Err(unexpected(file, "one number", "differs between the parts of the GPU (EUCLEAN)".to_owned()))
        }
        Err(error) => Err(error),
    }
}

fn unexpected(file: &Path, wanted: &str, shown: String) -> Error {
    Error::ReadBack {
        device: file.display().to_string(),
        wanted: wanted.to_owned(),
        shown,
        way_out: "the kernel log says why (`dmesg`)",
    }
}

/// The shares of one GPU, to be set.
#[derive(Debug)]
pub(super) struct Admin<'a> {
    host: &'a Host,
    gpu: PciAddress,
    pub(super) interface: XeInterface,
}

impl<'a> Admin<'a> {
    /// # Errors
    /// Where xe shows none.
    pub(super) fn of(host: &'a Host, gpu: PciAddress) -> Result<Self, Error> {
        let why = || "its driver shows no shares of VFs; mechanism = \"sriov\" in its settings does without";
        let interface = interface(host, gpu).ok_or_else(|| Error::Unusable { gpu, why: why().to_owned() })?;
        Ok(Self { host, gpu, interface })
    }

    fn files(&self, function: Function, name: &str) -> Result<Vec<PathBuf>, Error> {
        files(self.host, self.gpu, self.interface, function, name)
    }

    /// Sets a share where it is not so yet. What the driver makes of `wanted` must satisfy `fits`, since it may
    /// round.
    fn set(
        &self,
        function: Function,
        name: &str,
        wanted: u64,
        fits: impl Fn(u64) -> bool,
    ) -> Result<(), Error> {
        for file in self.files(function, name)? {
            // Parts of the GPU that differ (EUCLEAN) are mended by the write.
            if value(&file).is_ok_and(|now| now == wanted) {
                continue;
            }
            self.host.write_attr(&file, &wanted.to_string())?;
            let now = value(&file)?;
            if !fits(now) {
                return Err(unexpected(&file, &wanted.to_string(), format!("reads {now}")));
            }
        }
        Ok(())
    }

    /// Lets a function and its siblings take turns, as xpumanager's scheduler "flexible, burstable" does
    /// (intel/xpumanager, core/src/vgpu/vgpu_manager.cpp): all VFs together within 2 s, none for more than 50 ms.
    pub(super) fn limit_time(&self, function: Function, count: u16) -> Result<(), Error> {
        let (quantum_ms, timeout_us) = times(function, count);
        let about = |wanted: u64| move |now: u64| now >= wanted / 2 && now <= wanted * 2;
        self.set(function, QUANTUM, quantum_ms, about(quantum_ms))?;
        self.set(function, TIMEOUT, timeout_us, about(timeout_us))
    }

    /// The same where somebody has not set it.
    pub(super) fn limit_time_where_none(&self, function: Function, count: u16) -> Result<(), Error> {
        // Either may be missing alone: an attempt may have ended between the two.
        for files in [QUANTUM, TIMEOUT].map(|name| self.files(function, name)) {
            for file in files? {
                if value(&file)? == 0 {
                    return self.limit_time(function, count);
                }
            }
        }
        Ok(())
    }

    /// Gives each of `count` VFs the same VRAM, where the driver lets that be set and says how much there is.
    pub(super) fn share_vram(&self, count: u16) -> Result<(), Error> {
        let shown = provisioning::read(self.host, self.gpu, 0);
        let Some(share) = shown.and_then(|shown| shown.fair_share(count)) else { return Ok(()) };
        let share = share.bytes();
        (0..count)
            .try_for_each(|index| self.set(Function::Vf(VfIndex(index)), VRAM, share, |now| now >= share))
    }

    /// Whether every VF has VRAM, where the GPU has any.
    pub(super) fn check_vram(&self, count: u16) -> Result<(), Error> {
        for index in 0..count {
            for file in self.files(Function::Vf(VfIndex(index)), VRAM)? {
                if value(&file)? == 0 {
                    return Err(unexpected(&file, "VFs with memory", "reads 0".to_owned()));
                }
            }
        }
        Ok(())
    }

    /// Puts everything back to what it is when xe is loaded: no quota, no limit of time.
    pub(super) fn clear(&self, total: u16) -> Result<(), Error> {
        let vfs = (0..total).map(|index| Function::Vf(VfIndex(index)));
        for function in vfs.chain([Function::Pf]) {
            for name in [VRAM, QUANTUM, TIMEOUT] {
                self.set(function, name, 0, |now| now == 0)?;
            }
        }
        Ok(())
    }

    /// Lets xe share out by itself again. Only debugfs takes that from it (`xe_sriov_pf_provision_set_mode`),
    /// and kernels that do have an attribute to give it back.
    pub(super) fn restore_sharing(&self) -> Result<(), Error> {
        let file = debug_folder(self.host, self.gpu).join("sriov/restore_auto_provisioning");
        if self.interface == XeInterface::Debugfs && attribute::exists(&file) {
            return self.host.write_attr(&file, "1");
        }
        Ok(())
    }
}

/// Quantum in ms and preemption timeout in µs of a function beside `count` VFs.
fn times(function: Function, count: u16) -> (u64, u64) {
    match function {
        Function::Pf => (64, 128_000),
        Function::Vf(_) => {
            let turn = 2000 / u64::from(count.saturating_sub(1).max(1));
            let quantum = (turn / 2).clamp(1, 50);
            (quantum, turn.saturating_sub(quantum).max(1) * 1000)
        }
    }
}
