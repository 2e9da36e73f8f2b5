//! NVIDIA's vGPU host driver with mediated devices, of a PF or of VFs.
//!
//! Played with what its users see: the prefix of a type's id is not always the driver's, types that do not
//! fit stay listed with a count of 0, a VF holds one device, and a listed type may be refused.

use super::{
    FakeGpu, FakeVgpus,
    kernel::{FakeKernel, folder},
    mediated::mdev_driver,
    virtual_function::vf_address,
};
use crate::PciAddress;

impl FakeVgpus {
    /// Whether the type at `folder` is refused with EIO.
    pub(super) fn refuses(&self, folder: &str) -> bool {
        self.refused.is_some_and(|refused| number_of(folder) == Some(refused))
    }
}

fn number_of(folder: &str) -> Option<u32> {
    folder.rsplit('-').next()?.parse().ok()
}

impl FakeKernel {
    /// The PF as a parent, where it is one.
    pub(super) fn vgpu_pf(&self, gpu: &FakeGpu) {
        let Some(vgpus) = &gpu.vgpus else { return };
        self.tree().folder("sys/bus/mdev/devices");
        self.tree().folder(&format!("sys/bus/mdev/drivers/{}", mdev_driver(gpu)));
        if gpu.total_vfs.is_none() {
            self.vgpu_parent(vgpus, gpu.address, "nvidia");
            self.count_vgpus(gpu);
        }
    }

    pub(super) fn vgpu_parent(&self, vgpus: &FakeVgpus, parent: PciAddress, prefix: &str) {
        self.tree().link(&format!("sys/class/mdev_bus/{parent}"), &folder(parent));
        for (number, name, size) in &vgpus.types {
            let types = format!("{}/mdev_supported_types/{prefix}-{number}", folder(parent));
            let description = format!(
                "num_heads=4, frl_config=60, framebuffer={}M, max_resolution=7680x4320, max_instance={}",
                size << 10,
                vgpus.gigabytes / size
            );
            self.mdev_type(&types, name, &description);
        }
    }

    fn type_folders(&self, parent: PciAddress) -> Vec<String> {
        let types = format!("{}/mdev_supported_types", folder(parent));
        self.tree().names(&types).iter().map(|id| format!("{types}/{id}")).collect()
    }

    pub(super) fn count_vgpus(&self, card: &FakeGpu) {
        let vgpus = card.vgpus.as_ref().expect("vGPUs");
        let vfs = (0..card.total_vfs.unwrap_or(0)).map(|index| vf_address(card, index));
        let parents: Vec<_> = [card.address].into_iter().chain(vfs).collect();
        let size = |folder: &str| {
            let number = number_of(folder).expect("a type's number");
            vgpus.types.iter().find(|of| of.0 == number).map_or(0, |of| of.2)
        };
        let devices = |folder: &String| self.tree().names(&format!("{folder}/devices")).len();
        let mut sizes = Vec::new();
        for types in parents.iter().flat_map(|parent| self.type_folders(*parent)) {
            sizes.extend(vec![size(&types); devices(&types)]);
        }
        let left = vgpus.gigabytes - sizes.iter().sum::<u32>();
        for parent in &parents {
            let folders = self.type_folders(*parent);
            let taken = *parent != card.address && folders.iter().any(|folder| devices(folder) > 0);
            for folder in folders {
                let size = size(&folder);
                let alike = vgpus.mixed_sizes || sizes.iter().all(|other| *other == size);
                let fit = if alike && !taken { left / size } else { 0 };
                let most = if *parent == card.address { u32::MAX } else { 1 };
                self.tree().text(&format!("{folder}/available_instances"), &fit.min(most).to_string());
            }
        }
    }
}
