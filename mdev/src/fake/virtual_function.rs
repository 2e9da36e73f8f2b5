//! The SR-IOV capability and its VFs.

use super::{
    FakeGpu,
    kernel::{FakeKernel, State, Thing, folder},
};
use crate::PciAddress;
use nix::errno::Errno;

impl FakeKernel {
    pub(super) fn sriov_capability(&self, gpu: &FakeGpu) {
        let Some(total) = gpu.total_vfs else { return };
        let folder = folder(gpu.address);
        self.tree().text(&format!("{folder}/sriov_totalvfs"), &gpu.driver_max_vfs.min(total).to_string());
        self.tree().text(&format!("{folder}/sriov_numvfs"), "0");
        self.tree().text(&format!("{folder}/sriov_drivers_autoprobe"), "1");
        let mut config = vec![0; 4096];
        config[0x100..0x104].copy_from_slice(&0x0001_0010_u32.to_le_bytes());
        config[0x10e..0x110].copy_from_slice(&total.to_le_bytes());
        self.tree().file(&format!("{folder}/config"), &config);
        let line = |start: u64, size: u64, flags: u64| {
            let end = if size == 0 { 0 } else { start + size - 1 };
            format!("{start:#018x} {end:#018x} {flags:#018x}\n")
        };
        let vram = gpu.vf_bar * u64::from(total);
        let iov = if vram == 0 { line(0, 0, 0) } else { line(0x3_0000_0000, vram, 0x14_220c) };
        let text = line(0x2_0000_0000, 64 << 20, 0x14_220c) + &line(0, 0, 0).repeat(6) + &iov;
        self.tree().file(&format!("{folder}/resource"), (text + &line(0, 0, 0).repeat(5)).as_bytes());
    }

    /// `sriov_numvfs_store` of drivers/pci/iov.c.
    pub(super) fn set_numvfs(&self, state: &mut State, pf: PciAddress, value: &str) -> Result<(), Errno> {
        let wanted: u16 = value.parse().map_err(|_| Errno::EINVAL)?;
        let path = format!("{}/sriov_numvfs", folder(pf));
        let gpu = state.gpus.get(&pf).cloned().ok_or(Errno::ENODEV)?;
        let enabled = self.tree().read(&path).and_then(|text| text.parse().ok()).unwrap_or(0);
        if wanted > gpu.driver_max_vfs {
            return Err(Errno::ERANGE);
        }
        if wanted == enabled {
            return Ok(());
        }
        if !gpu.sriov_configure || !self.tree().has(&format!("{}/driver", folder(pf))) {
            return Err(Errno::ENOENT);
        }
        if wanted == 0 {
            self.drop_vfs(state, pf);
            return Ok(());
        }
        if enabled != 0 {
            return Err(Errno::EBUSY);
        }
        self.provision(&gpu, wanted);
        let come = state.short_vfs.take().unwrap_or(wanted).min(wanted);
        (0..come).for_each(|index| self.make_vf(state, &gpu, index));
        self.tree().text(&path, &come.to_string());
        Ok(())
    }

    pub(super) fn make_vf(&self, state: &mut State, gpu: &FakeGpu, index: u16) {
        let (pf, vf) = (gpu.address, vf_address(gpu, index));
        let group = state.group();
        self.function(state, vf, gpu.vf_id, gpu.class, group);
        let (pf_folder, vf_folder) = (folder(pf), folder(vf));
        self.tree().text(&format!("{vf_folder}/reset_method"), &gpu.vf_reset_method);
        // A VF's vendor and device ids read as ones.
        let mut config = [0; 64];
        config[..4].fill(0xff);
        self.tree().file(&format!("{vf_folder}/config"), &config);
        self.tree().link(&format!("{vf_folder}/physfn"), &pf_folder);
        self.appear(state, Thing::Link(format!("{pf_folder}/virtfn{index}"), vf_folder));
        if self.tree().read(&format!("{pf_folder}/sriov_drivers_autoprobe")).as_deref() == Some("1") {
            self.probe(state, vf).expect("the VF that was just made");
        }
    }

    pub(super) fn drop_vfs(&self, state: &mut State, pf: PciAddress) {
        let Some(gpu) = state.gpus.get(&pf).cloned() else { return };
        for index in 0..gpu.total_vfs.unwrap_or(0) {
            let vf = vf_address(&gpu, index);
            if self.tree().target(&format!("{}/physfn", folder(vf))) == Some(pf.to_string()) {
                state.wait_for_user(&vf.to_string());
                self.drop_mdevs(state, vf);
                self.tree().remove(&format!("sys/class/mdev_bus/{vf}"));
                self.disappear(state, &format!("{}/virtfn{index}", folder(pf)));
                self.unplug(state, vf);
            }
        }
        self.unprovision(&gpu);
        if gpu.total_vfs.is_some() {
            self.tree().text(&format!("{}/sriov_numvfs", folder(pf)), "0");
        }
    }
}

/// Routing id by offset and stride (drivers/pci/iov.c, `pci_iov_virtfn_devfn`).
pub(super) fn vf_address(gpu: &FakeGpu, index: u16) -> PciAddress {
    let text = gpu.address.to_string();
    let part = |range| u16::from_str_radix(&text[range], 16).unwrap();
    let routing =
        (part(5..7) << 8) + (part(8..10) << 3) + part(11..12) + gpu.vf_offset + gpu.vf_stride * index;
    let (bus, device, function) = (routing >> 8, (routing >> 3) & 0x1f, routing & 7);
    format!("{}:{bus:02x}:{device:02x}.{function}", &text[..4]).parse().unwrap()
}
