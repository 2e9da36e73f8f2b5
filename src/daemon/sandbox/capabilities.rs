//! Capabilities (capabilities(7)).

use rustix::{
    io::Errno,
    thread::{
        CapabilitySet, CapabilitySets, capabilities, clear_ambient_capability_set,
        remove_capability_from_bounding_set, set_capabilities,
    },
};
use std::io;

/// | capability | for |
/// | --- | --- |
/// | `DAC_OVERRIDE` | nodes that belong to their consumer |
/// | `CHOWN`, `FOWNER` | giving such nodes to their consumer, and taking them back |
/// | `IPC_LOCK` | memory for DMA beyond the memory lock limit, in the device process |
pub const DAEMON: CapabilitySet = CapabilitySet::DAC_OVERRIDE
    .union(CapabilitySet::CHOWN)
    .union(CapabilitySet::FOWNER)
    .union(CapabilitySet::IPC_LOCK);

/// Nodes that belong to their consumer, and memory for DMA.
pub const DEVICE: CapabilitySet = CapabilitySet::DAC_OVERRIDE.union(CapabilitySet::IPC_LOCK);

/// `SYS_PTRACE` and `DAC_READ_SEARCH` for other processes' open files, `SYS_ADMIN` for all of a GPU's
/// config space (drivers/pci/pci-sysfs.c, `pci_read_config`).
pub const LOOKOUT: CapabilitySet =
    CapabilitySet::SYS_PTRACE.union(CapabilitySet::DAC_READ_SEARCH).union(CapabilitySet::SYS_ADMIN);

/// Keeps what is wanted of what there is. The bounding set is emptied too where that is allowed
/// (SETPCAP); where it is not, `no_new_privs` keeps a program that is started from gaining from it.
pub fn keep(wanted: CapabilitySet) -> io::Result<CapabilitySet> {
    let now = capabilities(None)?;
    let kept = wanted & now.permitted;
    clear_ambient_capability_set()?;
    if now.effective.contains(CapabilitySet::SETPCAP) {
        for number in 0..u64::BITS {
            let capability = CapabilitySet::from_bits_retain(1 << number);
            match remove_capability_from_bounding_set(capability & !wanted) {
                Ok(()) => {}
                Err(Errno::INVAL) if wanted.contains(capability) => {}
                // The kernel knows no more.
                Err(Errno::INVAL) => break,
                Err(errno) => return Err(errno.into()),
            }
        }
    }
    let inheritable = CapabilitySet::empty();
    set_capabilities(None, CapabilitySets { effective: kept, permitted: kept, inheritable })?;
    Ok(kept)
}
