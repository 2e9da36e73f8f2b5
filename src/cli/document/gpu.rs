//! Physical GPUs.

use super::{joined, quarantine::QuarantinedGpu};
use crate::{
    api,
    cli::{
        output::Document,
        table::{Field, Grid, Kind, facts, or_none},
    },
};
use serde::Serialize;

#[derive(Debug, Serialize)]
pub struct Gpus {
    gpus: Vec<Gpu>,
}

#[derive(Debug, Serialize)]
pub struct OneGpu {
    gpu: Gpu,
}

/// One physical GPU.
#[derive(Debug, Serialize)]
pub struct Gpu {
    pub address: String,
    /// vendor:device.
    id: String,
    vendor_name: Option<String>,
    device_name: Option<String>,
    /// PCI class, 24 bits.
    class: u32,
    numa_node: Option<u32>,
    driver: Option<String>,
    iommu_group: Option<IommuGroup>,
    reset_methods: Vec<String>,
    /// Those that can cut it.
    mechanisms: Vec<String>,
    /// The one in use.
    mechanism: Option<String>,
    vfs_total: Option<u32>,
    vfs_enabled: Option<u32>,
    /// Ids of its slices.
    slices: Vec<String>,
    /// Why nothing can be cut from it.
    unusable: Option<String>,
    /// Why it is kept out of use as a whole.
    quarantine: Option<QuarantinedGpu>,
    mig: Option<Mig>,
}

/// Multi-Instance GPU.
#[derive(Debug, Serialize)]
struct Mig {
    mode: Option<String>,
    /// After the next reset of the GPU.
    pending: Option<String>,
    /// By the settings.
    wanted: Option<String>,
    instances: Vec<MigInstance>,
    #[serde(skip)]
    words: String,
}

#[derive(Debug, Serialize)]
struct MigInstance {
    id: u32,
    name: String,
    start: u32,
    vf: Option<u32>,
    compute: bool,
}

#[derive(Debug, Serialize)]
struct IommuGroup {
    number: u32,
    members: Vec<String>,
}

impl From<api::Gpu> for Gpu {
    fn from(gpu: api::Gpu) -> Self {
        Self {
            address: gpu.address,
            id: gpu.id,
            vendor_name: gpu.vendor_name,
            device_name: gpu.device_name,
            class: gpu.class,
            numa_node: gpu.numa_node,
            driver: gpu.driver,
            iommu_group: gpu
                .iommu_group
                .map(|group| IommuGroup { number: group.number, members: group.members }),
            reset_methods: gpu.reset_methods,
            mechanisms: gpu.mechanisms,
            mechanism: gpu.mechanism,
            vfs_total: gpu.vfs_total,
            vfs_enabled: gpu.vfs_enabled,
            slices: gpu.slices,
            unusable: gpu.unusable,
            quarantine: gpu.quarantine.map(QuarantinedGpu::from),
            mig: gpu.mig.map(Mig::from),
        }
    }
}

impl From<api::Mig> for Mig {
    fn from(mig: api::Mig) -> Self {
        let instance = |instance: api::MigInstance| {
            let api::MigInstance { id, name, start, vf, compute } = instance;
            MigInstance { id, name, start, vf, compute }
        };
        let api::Mig { mode, pending, wanted, instances, words } = mig;
        Self { mode, pending, wanted, instances: instances.into_iter().map(instance).collect(), words }
    }
}

impl Gpu {
    fn name(&self) -> String {
        self.device_name.clone().unwrap_or_else(|| self.id.clone())
    }

    /// The mechanism in use, or the one that a first slice would use.
    fn cut_by(&self) -> Option<&String> {
        self.mechanism.as_ref().or_else(|| self.mechanisms.first())
    }

    fn vfs(&self) -> Option<String> {
        let total = self.vfs_total?;
        Some(format!("{}/{total}", self.vfs_enabled.unwrap_or(0)))
    }
}

impl Gpus {
    pub fn new(gpus: impl IntoIterator<Item = Gpu>) -> Self {
        Self { gpus: gpus.into_iter().collect() }
    }

    pub fn is_empty(&self) -> bool {
        self.gpus.is_empty()
    }
}

impl Document for Gpus {
    fn text(&self) -> String {
        // Most hosts have no such GPU.
        let with_mig = self.gpus.iter().any(|gpu| gpu.mig.is_some());
        let mut columns = vec![
            ("GPU", Kind::Name),
            ("NAME", Kind::Words),
            ("DRIVER", Kind::Name),
            ("CUT BY", Kind::Name),
            ("VFS", Kind::Number),
            ("SLICES", Kind::Number),
            ("NUMA", Kind::Number),
        ];
        columns.extend(with_mig.then_some(("MIG", Kind::Words)));
        let mut grid = Grid::new(&columns);
        for gpu in &self.gpus {
            let mut row = vec![
                Field::from(&gpu.address),
                gpu.name().into(),
                or_none(gpu.driver.as_ref()),
                or_none(gpu.cut_by()),
                or_none(gpu.vfs()),
                gpu.slices.len().into(),
                or_none(gpu.numa_node),
            ];
            row.extend(with_mig.then(|| or_none(gpu.mig.as_ref().map(|mig| mig.words.clone()))));
            grid.row(row);
            // Which is why it cannot be used.
            let quarantine =
                gpu.quarantine.as_ref().map(|found| format!("quarantined: {}", found.sentence()));
            grid.note(&gpu.address, quarantine.as_ref().or(gpu.unusable.as_ref()));
        }
        grid.render()
    }
}

impl OneGpu {
    pub const fn new(gpu: Gpu) -> Self {
        Self { gpu }
    }
}

impl Document for OneGpu {
    fn text(&self) -> String {
        let gpu = &self.gpu;
        let group = gpu.iommu_group.as_ref();
        facts(&[
            ("GPU", Some(gpu.address.clone())),
            ("vendor", gpu.vendor_name.clone()),
            ("device", gpu.device_name.clone()),
            ("PCI id", Some(gpu.id.clone())),
            ("PCI class", Some(format!("{:#08x}", gpu.class))),
            ("NUMA node", gpu.numa_node.map(|node| node.to_string())),
            ("driver", gpu.driver.clone()),
            ("IOMMU group", group.map(|group| format!("{} ({})", group.number, group.members.join(", ")))),
            ("reset methods", joined(&gpu.reset_methods)),
            ("can be cut by", joined(&gpu.mechanisms)),
            ("cut by", gpu.mechanism.clone()),
            ("VFs", gpu.vfs_total.map(|total| format!("{} of {total}", gpu.vfs_enabled.unwrap_or(0)))),
            ("MIG", gpu.mig.as_ref().map(|mig| mig.words.clone())),
            ("slices", Some(joined(&gpu.slices).unwrap_or_else(|| "none".to_owned()))),
            ("unusable", gpu.unusable.clone()),
            ("quarantined", gpu.quarantine.as_ref().map(QuarantinedGpu::sentence)),
        ])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(mig: Option<api::Mig>) -> String {
        let gpu = api::Gpu { address: "0000:41:00.0".into(), mig, ..api::Gpu::default() };
        Gpus::new([Gpu::from(gpu)]).text()
    }

    #[test]
    fn mig_is_shown_where_there_is_some() {
        let mig = api::Mig { words: "on, 2 GPU instances".into(), ..api::Mig::default() };
        let text = with(Some(mig));
        assert!(text.contains("MIG") && text.contains("on, 2 GPU instances"), "{text}");
        assert!(!with(None).contains("MIG"));
    }
}
