//! Whether the host translates its devices' memory accesses, and how to make it do so.

use std::{
    fmt, fs, io,
    path::{Path, PathBuf},
};
use vgpud_mdev::Host;

/// Whose IOMMU the host has, as its processors tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CpuVendor {
    Intel,
    Amd,
    Other,
}

/// Name that VFIO gives to a group that it made itself, for a mediated device or in no-IOMMU mode
/// (kernel: drivers/vfio/group.c).
pub(crate) const GROUP_WITHOUT_IOMMU: &str = "vfio-noiommu";

/// A file that should have been readable.
#[derive(Debug)]
pub(crate) struct Unreadable {
    pub path: PathBuf,
    pub source: io::Error,
}

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
    pub(crate) fn iommu_mend(self) -> &'static str {
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

/// Whether an IOMMU works: the kernel lists one, or has a group that VFIO did not make up.
pub(crate) fn works(host: &Host) -> Result<bool, Unreadable> {
    if !entries(&host.path("/sys/class/iommu"))?.is_empty() {
        return Ok(true);
    }
    Ok(real_groups(host)? > 0)
}

/// IOMMU groups, less those that VFIO made up.
pub(crate) fn real_groups(host: &Host) -> Result<usize, Unreadable> {
    let groups = entries(&host.path("/sys/kernel/iommu_groups"))?;
    Ok(groups.iter().filter(|group| !made_up(group)).count())
}

/// Whether VFIO made this group up (`group`: its folder), so that no IOMMU stands behind it.
pub(crate) fn made_up(group: &Path) -> bool {
    fs::read_to_string(group.join("name")).is_ok_and(|name| name.trim_end() == GROUP_WITHOUT_IOMMU)
}

/// What is in a folder, in order; nothing where there is no folder.
pub(crate) fn entries(dir: &Path) -> Result<Vec<PathBuf>, Unreadable> {
    let unreadable = |source| Unreadable { path: dir.into(), source };
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(unreadable(error)),
    };
    let mut paths = entries
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<Result<Vec<_>, _>>()
        .map_err(unreadable)?;
    paths.sort();
    Ok(paths)
}
