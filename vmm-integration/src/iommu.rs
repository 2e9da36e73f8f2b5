//! Whether the host translates its devices' memory accesses, and how to make it do so.

use std::{fmt, fs, path::Path};
use vgpud_mdev::{Host, attribute};

/// Whose IOMMU the host has, as its processors tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CpuVendor {
    Intel,
    Amd,
    Other,
}

/// Name that VFIO gives to a group that it made itself, for a mediated device or in no-IOMMU mode
/// (kernel: drivers/vfio/group.c).
pub(crate) const GROUP_WITHOUT_IOMMU: &str = "vfio-noiommu";

impl CpuVendor {
    pub(crate) fn of(host: &Host) -> Self {
        let info = fs::read_to_string(host.path("/proc/cpuinfo")).unwrap_or_default();
        let vendor = info.lines().find_map(|line| line.strip_prefix("vendor_id")?.split_once(": "));
        match vendor.map(|(_, vendor)| vendor.trim()) {
            Some("GenuineIntel") => Self::Intel,
            Some("AuthenticAMD" | "HygonGenuine") => Self::Amd,
            _ => Self::Other,
        }
    }

    /// What turns its IOMMU on (kernel: Documentation/admin-guide/kernel-parameters.txt).
    #[must_use]
    pub fn iommu_mend(self) -> &'static str {
        match self {
            Self::Intel => {
                "turn on VT-d in the firmware (BIOS), add intel_iommu=on to the kernel command line and reboot"
            }
            Self::Amd => {
                "turn on the IOMMU (AMD-Vi) in the firmware (BIOS), take amd_iommu=off and iommu=off from the kernel command line and reboot"
            }
            Self::Other => {
                "turn on the IOMMU in the firmware (BIOS) and on the kernel command line, and reboot"
            }
        }
    }
}

impl fmt::Display for CpuVendor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Intel => "Intel",
            Self::Amd => "AMD",
            Self::Other => "another vendor's",
        })
    }
}

/// The IOMMUs that the kernel drives, by its names for them (`dmar0`, `ivhd0`).
pub(crate) fn units(host: &Host) -> Result<Vec<String>, vgpud_mdev::Error> {
    attribute::names(&host.path("/sys/class/iommu"))
}

/// Whether an IOMMU works: the kernel lists one, or has a group that VFIO did not make up.
pub(crate) fn works(host: &Host) -> Result<bool, vgpud_mdev::Error> {
    Ok(!units(host)?.is_empty() || real_groups(host)? > 0)
}

/// IOMMU groups, less those that VFIO made up.
pub(crate) fn real_groups(host: &Host) -> Result<usize, vgpud_mdev::Error> {
    let folder = host.path("/sys/kernel/iommu_groups");
    let mut count = 0;
    for group in attribute::names(&folder)? {
        count += usize::from(!made_up(&folder.join(group))?);
    }
    Ok(count)
}

/// Whether VFIO made this group up (`group`: its folder), so that no IOMMU stands behind it.
pub(crate) fn made_up(group: &Path) -> Result<bool, vgpud_mdev::Error> {
    Ok(attribute::read(&group.join("name"))?.as_deref() == Some(GROUP_WITHOUT_IOMMU))
}
