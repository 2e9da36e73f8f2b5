//! The settings of one host: `vgpud.toml` and its drop-ins.

mod class;
mod error;
mod layout;
mod load;
mod quota;
#[cfg(test)]
mod tests;
mod value;

pub use class::{ClassSettings, ClassWant};
pub use error::{SettingsError, SettingsKey};
pub use layout::{GpuChoice, GpuChoiceError, LayoutEntry, LayoutSettings, LayoutSlices, LayoutWant};
pub use quota::{Allowance, Quota, QuotaSettings};

use crate::{
    Account, ClassName, ConsumerName, LayoutName, MechanismKind, Memory, NumaAffinity, PciAddress, PciId,
    Principal,
};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, fmt, path::PathBuf, time::Duration};

/// Everything an operator may set. Every key has a default: an absent file means the defaults.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    pub daemon: DaemonSettings,
    pub access: AccessSettings,
    pub gpus: GpuSelection,
    /// Per GPU, by address.
    pub gpu: BTreeMap<PciAddress, GpuSettings>,
    pub placement: PlacementSettings,
    pub vfio: VfioSettings,
    pub cdi: CdiSettings,
    pub run: RunSettings,
    pub scrub: ScrubSettings,
    pub quota: QuotaSettings,
    /// Requests that can be made by a name.
    #[serde(rename = "class")]
    pub classes: BTreeMap<ClassName, ClassSettings>,
    /// What the GPUs are to be cut into, when somebody asks for it.
    #[serde(rename = "layout")]
    pub layouts: BTreeMap<LayoutName, LayoutSettings>,
    pub nvidia: NvidiaSettings,
    pub timeouts: Timeouts,
}

/// `[daemon]`: where vgpud listens and keeps its ledger.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DaemonSettings {
    /// Unix socket of the API. Default `/run/vgpud/vgpud.sock`.
    #[serde(deserialize_with = "value::socket")]
    pub socket: PathBuf,
    /// Folder of the ledger. Default `/var/lib/vgpud`.
    #[serde(deserialize_with = "value::absolute")]
    pub state_dir: PathBuf,
    pub sandbox: Confinement,
}

/// Whether vgpud gives up the rights that it does not need.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Confinement {
    #[default]
    On,
    Off,
}

/// `[access]`: who may call vgpud, beside root and the user that it runs as, which may do everything.
/// The first list that names the caller or a group of theirs counts, in the order of these fields.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AccessSettings {
    /// May do everything.
    pub admins: Vec<Principal>,
    /// May make, give, check and end slices, whoever owns them, and see everything.
    pub operators: Vec<Principal>,
    /// May see everything.
    pub viewers: Vec<Principal>,
}

impl AccessSettings {
    /// Whether anybody is named.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.admins.is_empty() && self.operators.is_empty() && self.viewers.is_empty()
    }
}

/// `[gpus]`: which PCI functions count as GPUs beside display (03xx) and accelerator (12xx) classes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct GpuSelection {
    /// Devices to treat as GPUs whatever their class, by vendor:device.
    pub include: Vec<PciId>,
    /// Functions never to touch, by address.
    pub exclude: Vec<PciAddress>,
}

/// `[gpu."0000:41:00.0"]`: one GPU.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct GpuSettings {
    /// The mechanism to cut it with; default: the first that the GPU offers.
    pub mechanism: Option<MechanismKind>,
    /// What must be known of its slices before somebody else gets them; default: as `[scrub]` says.
    pub reuse: Option<Reuse>,
    /// MIG before its first slice, where it is NVIDIA's; default: as it is.
    pub mig: Option<MigMode>,
}

/// Whether an NVIDIA GPU is divided by Multi-Instance GPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MigMode {
    On,
    Off,
}

impl fmt::Display for MigMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::On => "on",
            Self::Off => "off",
        })
    }
}

/// How GPUs are chosen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PlacementStrategy {
    /// So that the GPUs can still serve as much as possible.
    #[default]
    Pack,
    /// So that as few slices as possible share one GPU.
    Spread,
}

/// `[placement]`: which GPU a request gets.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PlacementSettings {
    pub strategy: PlacementStrategy,
    /// For requests that name neither a GPU nor a node; none: any will do.
    #[serde(deserialize_with = "value::some")]
    pub numa_node: Option<NumaAffinity>,
}

/// Which VFIO node a consumer gets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NodeKind {
    /// The cdev where the host has `/dev/iommu` and `/dev/vfio/devices`, else the group.
    #[default]
    Auto,
    Group,
    Cdev,
}

/// `[vfio]`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct VfioSettings {
    pub node: NodeKind,
    /// Who may open the node of a lease that names nobody. Default root.
    pub user: Account,
    /// Whose members may open it too; none: the user alone.
    #[serde(deserialize_with = "value::some")]
    pub group: Option<Account>,
}

impl VfioSettings {
    /// Who may open the node of a lease that names nobody.
    #[must_use]
    pub fn consumer(&self) -> ConsumerName {
        ConsumerName { user: self.user.clone(), group: self.group.clone() }
    }
}

/// `[cdi]`: the files by which container runtimes find a leased slice.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CdiSettings {
    /// Default `/var/run/cdi`.
    #[serde(deserialize_with = "value::absolute")]
    pub dir: PathBuf,
    /// CDI kind, and later the resource name in Kubernetes. Default `vgpud.io/slice`.
    pub kind: String,
}

/// `[run]`: the micro-VM of `vgpuctl run`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RunSettings {
    /// QEMU's program. Default `qemu-system-x86_64`, looked up in PATH.
    #[serde(deserialize_with = "value::program")]
    pub qemu: PathBuf,
    /// Kernel of the guest; none: the command line must name one.
    #[serde(deserialize_with = "value::absolute_or_none")]
    pub kernel: Option<PathBuf>,
    /// Its initial RAM disk; none: it boots without.
    #[serde(deserialize_with = "value::absolute_or_none")]
    pub initrd: Option<PathBuf>,
    /// Guest memory. Default 512MiB.
    pub memory: Memory,
}

/// `[nvidia]`: what is NVIDIA's alone.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct NvidiaSettings {
    /// The tool of NVIDIA's vGPU host driver that turns virtual functions on and off. Default
    /// `/usr/lib/nvidia/sriov-manage`.
    #[serde(deserialize_with = "value::absolute")]
    pub sriov_manage: PathBuf,
    /// The driver's tool that tells of MIG and changes it. Default `/usr/bin/nvidia-smi`.
    #[serde(deserialize_with = "value::absolute")]
    pub nvidia_smi: PathBuf,
}

/// What must be known of a slice before somebody else gets it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reuse {
    /// That all of its memory was read back after the reset and is zero.
    #[default]
    Verified,
    /// The same; where not all of its memory can be read back, that its vendor's driver says that it
    /// cleared it, and what can be read back is zero.
    Vendor,
    /// The same as `Verified`; a slice that was reset and of which more is not known stays with the
    /// owner that it had.
    SameOwner,
    /// That the kernel says that it was reset.
    Reset,
}

/// `[scrub]`: how a slice is made clean before each owner.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ScrubSettings {
    pub reuse: Reuse,
    /// For the reset and the reading back of one slice. Default 60s, at most a day.
    #[serde(deserialize_with = "value::time")]
    pub deadline: Duration,
}

impl Settings {
    /// What must be known of a slice of this GPU before somebody else gets it.
    #[must_use]
    pub fn reuse(&self, gpu: PciAddress) -> Reuse {
        self.gpu.get(&gpu).and_then(|gpu| gpu.reuse).unwrap_or(self.scrub.reuse)
    }

    /// MIG of the GPUs of which something is asked.
    #[must_use]
    pub fn mig(&self) -> BTreeMap<PciAddress, MigMode> {
        self.gpu.iter().filter_map(|(address, gpu)| Some((*address, gpu.mig?))).collect()
    }
}

/// `[timeouts]`: how long vgpud waits for the kernel, as in `30s`; at most a day.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Timeouts {
    /// One change of a device: VF count, mdev creation, driver binding, reset. Default 60s.
    #[serde(deserialize_with = "value::time")]
    pub device: Duration,
    /// The holder of a device lets go after it was asked to. Default 30s.
    #[serde(deserialize_with = "value::time")]
    pub release: Duration,
}

impl Default for DaemonSettings {
    fn default() -> Self {
        Self {
            socket: "/run/vgpud/vgpud.sock".into(),
            state_dir: "/var/lib/vgpud".into(),
            sandbox: Confinement::default(),
        }
    }
}

impl Default for VfioSettings {
    fn default() -> Self {
        Self { node: NodeKind::default(), user: Account::Name("root".to_owned()), group: None }
    }
}

impl Default for CdiSettings {
    fn default() -> Self {
        Self { dir: "/var/run/cdi".into(), kind: "vgpud.io/slice".into() }
    }
}

impl Default for RunSettings {
    fn default() -> Self {
        let memory = Memory::from_bytes(512 << 20);
        Self { qemu: "qemu-system-x86_64".into(), kernel: None, initrd: None, memory }
    }
}

impl Default for NvidiaSettings {
    fn default() -> Self {
        Self { sriov_manage: "/usr/lib/nvidia/sriov-manage".into(), nvidia_smi: "/usr/bin/nvidia-smi".into() }
    }
}

impl Default for ScrubSettings {
    fn default() -> Self {
        Self { reuse: Reuse::default(), deadline: Duration::from_secs(60) }
    }
}

impl Default for Timeouts {
    fn default() -> Self {
        Self { device: Duration::from_secs(60), release: Duration::from_secs(30) }
    }
}
