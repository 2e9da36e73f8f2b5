//! What vendors' PF drivers do of their own.

use super::{
    FakeGpu, FakeXe,
    gpu::{Personality, XeShares},
    kernel::{FakeKernel, State, folder},
};
use nix::errno::Errno;

const PAGE: u64 = 2 << 20;

impl FakeKernel {
    pub(super) fn personality(&self, state: &mut State, gpu: &FakeGpu) {
        match gpu.personality {
            Personality::Plain => {}
            Personality::Xe(xe) => self.xe_files(gpu, xe),
            Personality::Gim { vf_num } => {
                (0..vf_num).for_each(|index| self.make_vf(state, gpu, index));
                let folder = folder(gpu.address);
                let text = |name: &str, content: &str| self.tree().text(&format!("{folder}/{name}"), content);
                text("sriov_numvfs", &vf_num.to_string());
                self.gim_files(gpu.address, vf_num);
            }
        }
    }

    fn xe_files(&self, gpu: &FakeGpu, xe: FakeXe) {
        for function in 0..=gpu.total_vfs.unwrap_or(0) {
            let text = |file: String, content: &str| self.tree().text(&file, content);
            text(time_file(gpu, xe, function, "exec_quantum_ms"), "0");
            text(time_file(gpu, xe, function, "preempt_timeout_us"), "0");
            let is_in_sysfs = xe.shares == XeShares::SriovAdmin;
            match (is_in_sysfs, function) {
                (true, _) => text(time_file(gpu, xe, function, "sched_priority"), "[low] normal"),
                (false, 0) => text(time_file(gpu, xe, function, "sched_if_idle"), "0"),
                (false, _) => {}
            }
            if function > 0 && xe.vram > 0 && (xe.vram_shown || !is_in_sysfs) {
                text(quota_file(gpu, xe, function), "0");
            }
        }
        let debug = format!("sys/kernel/debug/dri/{}", gpu.address);
        if xe.vram > 0 && xe.vram_shown {
            self.tree().text(&format!("{debug}/vram0_mm"), &format!("  use_type: 1\n  size: {}", xe.vram));
        }
        self.tree().file(&format!("{debug}/sriov/restore_auto_provisioning"), b"");
    }

    fn quota_of(&self, gpu: &FakeGpu, xe: FakeXe, function: u16) -> Option<u64> {
        self.tree().read(&quota_file(gpu, xe, function))?.parse().ok()
    }

    /// `store` of one of the shares: the driver rounds VRAM up, and refuses what there is not.
    pub(super) fn set_share(&self, state: &State, path: &str, value: &str) -> Result<(), Errno> {
        let attribute = path.rsplit('/').next().unwrap();
        if attribute == "sched_priority" {
            return Err(Errno::EOPNOTSUPP);
        }
        let number: u64 = value.parse().map_err(|_| Errno::EINVAL)?;
        if attribute == "restore_auto_provisioning" {
            return Ok(());
        }
        if !attribute.ends_with("_quota") {
            self.tree().text(path, value);
            return Ok(());
        }
        let (gpu, xe) = state
            .gpus
            .values()
            .find_map(|gpu| match gpu.personality {
                Personality::Xe(xe) if path.contains(&gpu.address.to_string()) => Some((gpu, xe)),
                _ => None,
            })
            .ok_or(Errno::ENODEV)?;
        let others: u64 = (1..=gpu.total_vfs.unwrap_or(0))
            .filter(|function| path != quota_file(gpu, xe, *function))
            .filter_map(|function| self.quota_of(gpu, xe, function))
            .sum();
        let rounded = number.div_ceil(PAGE) * PAGE;
        if others + rounded > xe.vram {
            return Err(Errno::ENOSPC);
        }
        self.tree().text(path, &rounded.to_string());
        Ok(())
    }

    /// When VFs are enabled: fair shares in powers of two, unless one was given something before.
    pub(super) fn provision(&self, gpu: &FakeGpu, count: u16) {
        let Personality::Xe(xe) = gpu.personality else { return };
        if (1..=count).any(|function| self.quota_of(gpu, xe, function).is_some_and(|bytes| bytes > 0)) {
            return;
        }
        let Some(fair) = (xe.vram / u64::from(count)).checked_ilog2().map(|log| 1_u64 << log) else {
            return;
        };
        for function in 1..=count {
            if self.quota_of(gpu, xe, function).is_some() {
                self.tree().text(&quota_file(gpu, xe, function), &fair.to_string());
            }
        }
    }

    /// When VFs go, their VRAM is released; limits of time stay.
    pub(super) fn unprovision(&self, gpu: &FakeGpu) {
        let Personality::Xe(xe) = gpu.personality else { return };
        for function in 1..=gpu.total_vfs.unwrap_or(0) {
            if self.quota_of(gpu, xe, function).is_some() {
                self.tree().text(&quota_file(gpu, xe, function), "0");
            }
        }
    }
}

fn quota_file(gpu: &FakeGpu, xe: FakeXe, function: u16) -> String {
    let folder = share_folder(gpu, xe, function);
    match xe.shares {
        XeShares::SriovAdmin | XeShares::Tiles => format!("{folder}/vram_quota"),
        XeShares::Gts => format!("{folder}/lmem_quota"),
    }
}

fn time_file(gpu: &FakeGpu, xe: FakeXe, function: u16, name: &str) -> String {
    let folder = share_folder(gpu, xe, function);
    match xe.shares {
        XeShares::Tiles => format!("{folder}/gt0/{name}"),
        XeShares::SriovAdmin | XeShares::Gts => format!("{folder}/{name}"),
    }
}

/// Function 0 is the PF, VFs count from 1.
fn share_folder(gpu: &FakeGpu, xe: FakeXe, function: u16) -> String {
    let name = if function == 0 { "pf".to_owned() } else { format!("vf{function}") };
    let debug = format!("sys/kernel/debug/dri/{}", gpu.address);
    match xe.shares {
        XeShares::SriovAdmin => format!("{}/sriov_admin/{name}/profile", folder(gpu.address)),
        XeShares::Tiles => format!("{debug}/sriov/{name}/tile0"),
        XeShares::Gts => format!("{debug}/gt0/{name}"),
    }
}
