//! How much memory a process may lock. VFIO pins all of a guest's memory, and the kernel counts it
//! against the memory lock limit: per process for a group (drivers/vfio/vfio_iommu_type1.c), per
//! user for an iommufd. CAP_IPC_LOCK lifts the limit for both.

use nix::sys::resource::{RLIM_INFINITY, Resource, getrlimit};
use std::{fs, io};
use vgpud_mdev::{Host, Memory};

/// Firmware, ROMs and video memory that are pinned beside the guest's memory.
const BESIDE_THE_GUEST: u64 = 64 << 20;

/// `CAP_IPC_LOCK`, include/uapi/linux/capability.h.
const CAP_IPC_LOCK: u32 = 14;

/// What this process, and a VMM that it starts, may lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LockLimit {
    /// The capability or the limit allows any amount.
    None,
    /// The hard limit, to which a process may raise its own.
    Bytes(u64),
}

impl LockLimit {
    pub(crate) fn of_this_process(host: &Host) -> io::Result<Self> {
        let status = fs::read_to_string(host.path("/proc/self/status")).unwrap_or_default();
        let capabilities = status
            .lines()
            .find_map(|line| u64::from_str_radix(line.strip_prefix("CapEff:")?.trim(), 16).ok())
            .unwrap_or(0);
        let (_, hard) = getrlimit(Resource::RLIMIT_MEMLOCK)?;
        Ok(if capabilities >> CAP_IPC_LOCK & 1 == 1 || hard == RLIM_INFINITY {
            Self::None
        } else {
            Self::Bytes(hard)
        })
    }

    /// The limit, where it is too low for a guest with that much memory.
    pub(crate) fn short_of(self, guest: Memory) -> Option<Memory> {
        match self {
            Self::Bytes(limit) if limit < guest.bytes().saturating_add(BESIDE_THE_GUEST) => {
                Some(Memory::from_bytes(limit))
            }
            Self::None | Self::Bytes(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_capability_lifts_the_limit() {
        let dir = tempfile::tempdir().unwrap();
        let host = Host::new(dir.path());
        fs::create_dir_all(host.path("/proc/self")).unwrap();
        fs::write(host.path("/proc/self/status"), "Name:\tx\nCapEff:\t0000000000004000\n").unwrap();
        assert_eq!(LockLimit::of_this_process(&host).unwrap(), LockLimit::None);
    }

    #[test]
    fn a_limit_must_hold_more_than_the_guest() {
        let guest = Memory::from_bytes(512 << 20);
        assert_eq!(LockLimit::Bytes(512 << 20).short_of(guest), Some(Memory::from_bytes(512 << 20)));
        assert_eq!(LockLimit::Bytes(576 << 20).short_of(guest), None);
        assert_eq!(LockLimit::None.short_of(Memory::from_bytes(u64::MAX)), None);
    }
}
