//! Config space of any PCI Express function.

use crate::ConfigSpace;

/// A function of this type (`PCI_EXP_TYPE_*` of linux/pci_regs.h) and header type, with AER, and with these
/// capability and control registers of ACS if it has that.
#[must_use]
pub fn function(express_type: u8, header_type: u8, acs: Option<(u16, u16)>) -> ConfigSpace {
    let mut bytes = vec![0; 4096];
    // A list of capabilities, which begins at 0x40.
    bytes[0x06] = 0x10;
    bytes[0x0e] = header_type;
    bytes[0x34] = 0x40;
    bytes[0x40..0x44].copy_from_slice(&[0x10, 0, express_type << 4 | 2, 0]);
    let mut put = |at: usize, word: u32| bytes[at..at + 4].copy_from_slice(&word.to_le_bytes());
    put(0x100, 0x148 << 20 | 1 << 16 | 0x01);
    put(0x148, 1 << 16 | if acs.is_some() { 0x0d } else { 0x03 });
    if let Some((capability, control)) = acs {
        put(0x14c, u32::from(control) << 16 | u32::from(capability));
    }
    ConfigSpace(bytes)
}
