//! What a fake GPU is like.

use super::FakeVgpus;
use crate::{PciAddress, PciId};

/// A GPU to put into a fake host: an MI300X-like one, until told otherwise.
#[derive(Clone, Debug)]
pub struct FakeGpu {
    pub(super) address: PciAddress,
    pub(super) id: PciId,
    pub(super) class: u32,
    pub(super) numa_node: i32,
    pub(super) driver: Option<String>,
    /// Whether that driver implements `sriov_configure`.
    pub(super) sriov_configure: bool,
    pub(super) total_vfs: Option<u16>,
    pub(super) driver_max_vfs: u16,
    pub(super) vf_id: PciId,
    pub(super) vf_offset: u16,
    pub(super) vf_stride: u16,
    pub(super) vf_bar: u64,
    pub(super) vf_reset_method: String,
    pub(super) mdev_units: u32,
    pub(super) mdev_types: Vec<FakeMdevType>,
    pub(super) personality: Personality,
    /// What NVIDIA's vGPU host driver makes of its VFs.
    pub(super) vgpus: Option<FakeVgpus>,
    /// Another device in its IOMMU group.
    pub(super) companion: Option<PciAddress>,
}

/// What a vendor's PF driver does of its own.
#[derive(Clone, Copy, Debug)]
pub(super) enum Personality {
    Plain,
    Xe(FakeXe),
    /// So many VFs were made when the driver was loaded.
    Gim {
        vf_num: u16,
    },
}

/// What an Intel GPU on xe shows of shares.
#[derive(Clone, Copy, Debug)]
pub struct FakeXe {
    pub shares: XeShares,
    /// All VRAM in bytes; 0 for an integrated GPU.
    pub vram: u64,
    /// Whether `vram_quota` is there and debugfs says how much VRAM there is.
    pub vram_shown: bool,
}

/// Where xe has them, the newest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum XeShares {
    /// `sriov_admin` in sysfs, since Linux 6.19.
    SriovAdmin,
    /// In debugfs by tile.
    Tiles,
    /// In debugfs by GT.
    Gts,
}

/// A type of mediated devices that takes some of its parent's units.
#[derive(Clone, Debug)]
pub struct FakeMdevType {
    pub(super) id: String,
    pub(super) units: u32,
    pub(super) description: String,
}

impl FakeGpu {
    /// A GPU at `address` without driver, SR-IOV or mediated devices.
    #[must_use]
    pub fn new(address: &str) -> Self {
        Self {
            address: address.parse().expect("a PCI address"),
            id: PciId { vendor: 0x1002, device: 0x74a1 },
            class: 0x12_0000,
            numa_node: -1,
            driver: None,
            sriov_configure: false,
            total_vfs: None,
            driver_max_vfs: 0,
            vf_id: PciId { vendor: 0x1002, device: 0x74b5 },
            vf_offset: 16,
            vf_stride: 8,
            vf_bar: 16 << 20,
            vf_reset_method: "flr".to_owned(),
            mdev_units: 0,
            mdev_types: Vec::new(),
            personality: Personality::Plain,
            vgpus: None,
            companion: None,
        }
    }

    #[must_use]
    pub fn id(mut self, id: &str) -> Self {
        self.id = id.parse().expect("vendor:device");
        self
    }

    /// 24 bits, such as 0x030000.
    #[must_use]
    pub fn class(mut self, class: u32) -> Self {
        self.class = class;
        self
    }

    #[must_use]
    pub fn numa_node(mut self, node: i32) -> Self {
        self.numa_node = node;
        self
    }

    /// On this driver, which implements no SR-IOV.
    #[must_use]
    pub fn driver(mut self, name: &str) -> Self {
        self.driver = Some(name.to_owned());
        self
    }

    /// With an SR-IOV capability of `total` VFs, on a driver that can enable them.
    #[must_use]
    pub fn sriov(mut self, total: u16) -> Self {
        self.total_vfs = Some(total);
        self.driver_max_vfs = total;
        self.driver.get_or_insert_with(|| "simgpu".to_owned());
        self.sriov_configure = true;
        self
    }

    /// An Intel GPU of `total` VFs on xe.
    #[must_use]
    pub fn xe(self, total: u16, xe: FakeXe) -> Self {
        let mut gpu = self.id("8086:56c0").class(0x03_8000).driver("xe").sriov(total);
        gpu.vf_id = gpu.id;
        gpu.personality = Personality::Xe(xe);
        gpu
    }

    /// With an SR-IOV capability of `total` VFs on gim, which made `vf_num` of them.
    #[must_use]
    pub fn gim(self, total: u16, vf_num: u16) -> Self {
        let mut gpu = self.driver("gim").sriov(total).without_sriov_configure();
        gpu.personality = Personality::Gim { vf_num };
        gpu
    }

    /// Its driver cannot enable VFs: the write of `sriov_numvfs` ends in ENOENT.
    #[must_use]
    pub fn without_sriov_configure(mut self) -> Self {
        self.sriov_configure = false;
        self
    }

    /// Its driver allows fewer VFs than the capability: more end in ERANGE.
    #[must_use]
    pub fn driver_max_vfs(mut self, count: u16) -> Self {
        self.driver_max_vfs = count;
        self
    }

    /// Content of its VFs' `reset_method`; empty for none.
    #[must_use]
    pub fn vf_reset_method(mut self, methods: &str) -> Self {
        methods.clone_into(&mut self.vf_reset_method);
        self
    }

    /// Size of one VF's memory BAR; 0 where the firmware assigned none.
    #[must_use]
    pub fn vf_bar(mut self, bytes: u64) -> Self {
        self.vf_bar = bytes;
        self
    }

    /// As a parent of mediated devices with `units` to share.
    #[must_use]
    pub fn mdev(mut self, units: u32, types: &[FakeMdevType]) -> Self {
        self.mdev_units = units;
        self.mdev_types = types.to_vec();
        self.driver.get_or_insert_with(|| "simgpu_mdev".to_owned());
        self
    }

    /// As a GPU of NVIDIA's with `total` VFs, on its vGPU host driver.
    #[must_use]
    pub fn nvidia(mut self, total: u16, vgpus: &FakeVgpus) -> Self {
        self = self.id("10de:26b9").class(0x03_0200).driver("nvidia").sriov(total).without_sriov_configure();
        (self.vf_id, self.vf_offset, self.vf_stride) = (self.id, 4, 1);
        self.vgpus = Some(vgpus.clone());
        self
    }

    /// As a GPU of NVIDIA's without SR-IOV, whose vGPUs are its mediated devices.
    #[must_use]
    pub fn nvidia_mdev(mut self, vgpus: &FakeVgpus) -> Self {
        self = self.id("10de:1eb8").class(0x03_0200).driver("nvidia");
        self.vgpus = Some(vgpus.clone());
        self
    }

    /// With another function in its IOMMU group.
    #[must_use]
    pub fn companion(mut self, address: &str) -> Self {
        self.companion = Some(address.parse().expect("a PCI address"));
        self
    }
}

impl FakeMdevType {
    #[must_use]
    pub fn new(id: &str, units: u32, description: &str) -> Self {
        Self { id: id.to_owned(), units, description: description.to_owned() }
    }
}
