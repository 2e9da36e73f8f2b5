//! A PCI device's config space, as its user sees it through VFIO (PCI Local Bus Specification 3.0,
//! chapter 6; linux/pci_regs.h). Pure: bytes in, values out.

use vgpud_mdev::PciId;

/// Where the command register is, and its bit that lets the device answer memory accesses.
pub const COMMAND: u64 = 0x04;
pub const COMMAND_MEMORY: u16 = 0x2;

const STATUS: usize = 0x06;
const STATUS_CAPABILITIES: u16 = 0x10;
const HEADER_TYPE: usize = 0x0e;
const BARS: usize = 0x10;
const CAPABILITIES: usize = 0x34;
const CAP_MSIX: u8 = 0x11;
const MSIX_TABLE: usize = 4;
const MSIX_PENDING: usize = 8;

/// The first 256 bytes of a device's config space.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigSpace(pub Vec<u8>);

/// What a BAR is for the processor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BarKind {
    Io,
    Memory,
    /// 64 bits wide and prefetchable: reading has no side effects, so it is memory or a window to
    /// some, and not registers whose reading does something.
    Memory64Prefetchable,
}

impl ConfigSpace {
    fn byte(&self, at: usize) -> Option<u8> {
        self.0.get(at).copied()
    }

    fn word(&self, at: usize) -> Option<u16> {
        Some(u16::from_le_bytes(self.0.get(at..at + 2)?.try_into().ok()?))
    }

    fn long(&self, at: usize) -> Option<u32> {
        Some(u32::from_le_bytes(self.0.get(at..at + 4)?.try_into().ok()?))
    }

    /// Vendor and device id; none where the device does not answer, or the bytes are too few.
    #[must_use]
    pub fn id(&self) -> Option<PciId> {
        let (vendor, device) = (self.word(0)?, self.word(2)?);
        (vendor != 0xffff).then_some(PciId { vendor, device })
    }

    /// 0 for a device, 1 for a bridge; without the bit for several functions.
    #[must_use]
    pub fn header_type(&self) -> Option<u8> {
        Some(self.byte(HEADER_TYPE)? & 0x7f)
    }

    #[must_use]
    pub fn command(&self) -> Option<u16> {
        self.word(usize::try_from(COMMAND).ok()?)
    }

    /// What the BAR with this index is; none where it is the upper half of the one before, or not
    /// one of the six.
    #[must_use]
    pub fn bar(&self, index: u32) -> Option<BarKind> {
        let mut at = 0;
        while at < 6 {
            let value = self.long(BARS + 4 * at)?;
            let wide = value & 0x7 == 0x4;
            if u32::try_from(at) == Ok(index) {
                return Some(match (value & 0x1, wide && value & 0x8 != 0) {
                    (1, _) => BarKind::Io,
                    (_, true) => BarKind::Memory64Prefetchable,
                    (_, false) => BarKind::Memory,
                });
            }
            at += if wide { 2 } else { 1 };
        }
        None
    }

    /// The capabilities by id and place, in the order of their list. A list that leads out of config
    /// space or back ends there.
    #[must_use]
    pub fn capabilities(&self) -> Vec<(u8, usize)> {
        let mut found: Vec<(u8, usize)> = Vec::new();
        if self.word(STATUS).is_none_or(|status| status & STATUS_CAPABILITIES == 0) {
            return found;
        }
        let mut next = self.byte(CAPABILITIES);
        while let Some(at) = next.map(|at| usize::from(at & !3)).filter(|at| *at >= 0x40) {
            let Some(id) = self.byte(at) else { break };
            if found.iter().any(|(_, known)| *known == at) {
                break;
            }
            found.push((id, at));
            next = self.byte(at + 1);
        }
        found
    }

    /// The BARs that hold the MSI-X table and the pending bits.
    #[must_use]
    pub fn msix_bars(&self) -> Vec<u32> {
        let capabilities = self.capabilities();
        let msix = capabilities.iter().find(|(id, _)| *id == CAP_MSIX);
        let places = msix.map(|(_, at)| [at + MSIX_TABLE, at + MSIX_PENDING]);
        places.into_iter().flatten().filter_map(|at| Some(self.long(at)? & 0x7)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 1002:74b5 with VRAM in BAR 0, doorbells in BAR 2, MSI-X in BAR 4 and registers in BAR 5.
    fn gpu() -> ConfigSpace {
        let mut bytes = vec![0; 256];
        let mut put = |at: usize, value: u32| bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
        put(0, 0x74b5_1002);
        put(4, 0x0010_0006);
        for (at, bar) in [(0x10, 0xc_u32), (0x18, 0xc), (0x20, 0x4), (0x24, 0x0)] {
            put(at, bar);
        }
        put(0x34, 0x40);
        put(0x40, 0x8010);
        put(0x80, 0x0003_0011);
        put(0x84, 0x4);
        put(0x88, 0x1004);
        ConfigSpace(bytes)
    }

    #[test]
    fn bars_capabilities_and_the_msix_table_are_found() {
        let gpu = gpu();
        assert_eq!(gpu.id().unwrap().to_string(), "1002:74b5");
        assert_eq!((gpu.header_type(), gpu.command()), (Some(0), Some(6)));
        let bars: Vec<_> = (0..7).map(|index| gpu.bar(index)).collect();
        let vram = Some(BarKind::Memory64Prefetchable);
        assert_eq!(bars, [vram, None, vram, None, Some(BarKind::Memory), None, None]);
        assert_eq!(gpu.capabilities(), [(0x10, 0x40), (0x11, 0x80)]);
        assert_eq!(gpu.msix_bars(), [4, 4]);
    }

    #[test]
    fn a_device_that_does_not_answer_has_no_id() {
        assert_eq!(ConfigSpace(vec![0xff; 256]).id(), None);
        assert_eq!(ConfigSpace(vec![]).id(), None);
    }

    #[test]
    fn a_list_that_leads_back_ends() {
        let mut gpu = gpu();
        gpu.0[0x81] = 0x40;
        assert_eq!(gpu.capabilities().len(), 2);
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_break_the_reader(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..300)) {
            let config = ConfigSpace(bytes);
            let _ = config.msix_bars();
            (0..8).for_each(|index| {
                let _ = config.bar(index);
            });
        }
    }
}
