//! A PCI function's config space, as sysfs or VFIO shows it (PCI Local Bus Specification 3.0, chapter 6;
//! PCI Express Base Specification, chapter 7; linux/pci_regs.h). Pure: bytes in, values out.

use crate::{Error, Host, PciAddress, PciId};

/// Where the command register is, and its bit that lets the device answer memory accesses.
pub const COMMAND: u64 = 0x04;
pub const COMMAND_MEMORY: u16 = 0x2;

const STATUS: usize = 0x06;
const STATUS_CAPABILITIES: u16 = 0x10;
const HEADER_TYPE: usize = 0x0e;
const HEADER_TYPE_FUNCTIONS: u8 = 0x80;
const BARS: usize = 0x10;
const CAPABILITIES: usize = 0x34;
const CAP_EXPRESS: u8 = 0x10;
const EXPRESS_FLAGS: usize = 2;
const CAP_MSIX: u8 = 0x11;
const MSIX_TABLE: usize = 4;
const MSIX_PENDING: usize = 8;

/// Where the extended capabilities begin and end.
const EXTENDED: std::ops::Range<usize> = 0x100..0x1000;

/// A function's config space, or as much of its beginning as is shown: 4096 bytes of a PCI Express
/// function, 256 of another, and 64 of any to all but root.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
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

/// What a PCI Express function is, as far as it matters here (`PCI_EXP_TYPE_*`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExpressType {
    /// Of a card: a function that is no bridge.
    Endpoint,
    /// The way down from the processor, or out of a switch.
    DownstreamPort,
    /// The way up from a switch.
    UpstreamPort,
    /// Bridges to other buses, and what is part of the processor's own chips.
    Other,
}

/// Where an extended capability is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extended {
    At(usize),
    Absent,
    /// Config space is not shown to the end of the list, or the list has none.
    NotShown,
}

impl ConfigSpace {
    fn byte(&self, at: usize) -> Option<u8> {
        self.0.get(at).copied()
    }

    pub(crate) fn word(&self, at: usize) -> Option<u16> {
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
        Some(self.byte(HEADER_TYPE)? & !HEADER_TYPE_FUNCTIONS)
    }

    /// Whether it is one of a card's several functions.
    #[must_use]
    pub fn is_one_of_several(&self) -> Option<bool> {
        Some(self.byte(HEADER_TYPE)? & HEADER_TYPE_FUNCTIONS != 0)
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

    /// None where it is no PCI Express function, or that is not shown.
    #[must_use]
    pub fn express_type(&self) -> Option<ExpressType> {
        let (_, at) = self.capabilities().into_iter().find(|(id, _)| *id == CAP_EXPRESS)?;
        Some(match self.word(at + EXPRESS_FLAGS)? >> 4 & 0xf {
            0 | 1 => ExpressType::Endpoint,
            4 | 6 => ExpressType::DownstreamPort,
            5 => ExpressType::UpstreamPort,
            _ => ExpressType::Other,
        })
    }

    /// The first extended capability with this id.
    #[must_use]
    pub fn extended_capability(&self, id: u16) -> Extended {
        let mut at = EXTENDED.start;
        // There is no room for more: a longer list is a circle.
        for _ in 0..EXTENDED.len() / 8 {
            // Ones are no answer.
            let Some(header) = self.long(at).filter(|header| *header != u32::MAX) else { break };
            if header & 0xffff == u32::from(id) {
                return Extended::At(at);
            }
            at = (header >> 20) as usize & !3;
            if !EXTENDED.contains(&at) {
                return Extended::Absent;
            }
        }
        Extended::NotShown
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

impl Host {
    /// A function's config space; none where the function is gone.
    ///
    /// # Errors
    /// Where it cannot be read.
    pub fn config_space(&self, address: PciAddress) -> Result<Option<ConfigSpace>, Error> {
        Ok(self.kernel().config_space(self, address)?.map(ConfigSpace))
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
    fn an_extended_capability_is_there_or_absent_or_not_shown() {
        let mut config = ConfigSpace(vec![0; 4096]);
        let put = |config: &mut ConfigSpace, at: usize, word: u32| {
            config.0[at..at + 4].copy_from_slice(&word.to_le_bytes());
        };
        assert_eq!(config.extended_capability(0x0d), Extended::Absent, "no list");
        // AER at 0x100, then ACS at 0x148.
        put(&mut config, 0x100, 0x148 << 20 | 1 << 16 | 0x01);
        put(&mut config, 0x148, 1 << 16 | 0x0d);
        assert_eq!(config.extended_capability(0x0d), Extended::At(0x148));
        assert_eq!(config.extended_capability(0x10), Extended::Absent);
        for shown in [0x14b, 0x100, 64, 0] {
            let short = ConfigSpace(config.0[..shown].to_vec());
            assert_eq!(short.extended_capability(0x0d), Extended::NotShown, "{shown}");
        }
        put(&mut config, 0x148, 0x100 << 20 | 1 << 16 | 0x0d);
        assert_eq!(config.extended_capability(0x10), Extended::NotShown, "a circle");
        assert_eq!(ConfigSpace(vec![0xff; 4096]).extended_capability(0x0d), Extended::NotShown, "no answer");
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
