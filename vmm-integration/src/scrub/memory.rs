//! The parts of a device's BARs that are its memory.

use crate::device::{Area, Device, DeviceError, NonZero, Region};
use std::time::Instant;
use vgpud_mdev::{BarKind, ConfigSpace, wait};

/// A BAR with fewer bytes that can be mapped is not taken for memory.
pub const LEAST: u64 = 1 << 20;

/// BARs that are 64 bits wide and prefetchable, and no memory: vendor and BAR.
const NO_MEMORY: [(u16, u32); 2] = [(0x1002, 2), (0x10de, 3)];

/// What is read back and, where it must be, overwritten.
#[derive(Debug)]
pub(crate) struct DeviceMemory {
    regions: Vec<Region>,
}

impl DeviceMemory {
    /// # Errors
    /// Where the device does not answer.
    pub(crate) fn of(device: &Device) -> Result<Self, DeviceError> {
        Ok(Self::among(device.regions(), &device.config_space()?))
    }

    fn among(regions: &[Region], config: &ConfigSpace) -> Self {
        let vendor = config.id().map(|id| id.vendor);
        let msix = config.msix_bars();
        let is_memory = |region: &&Region| {
            config.bar(region.index) == Some(BarKind::Memory64Prefetchable)
                && region.mappable_bytes() >= LEAST
                && !msix.contains(&region.index)
                && !NO_MEMORY.iter().any(|(whose, bar)| Some(*whose) == vendor && *bar == region.index)
        };
        Self { regions: regions.iter().filter(is_memory).cloned().collect() }
    }

    /// All that can be mapped.
    pub(crate) fn bytes(&self) -> u64 {
        self.regions.iter().map(Region::mappable_bytes).sum()
    }

    pub(crate) fn regions(&self) -> &[Region] {
        &self.regions
    }

    /// Reads everything; returns what is not zero and the BAR of the first such byte. Offsets are
    /// from the start of that BAR.
    pub(super) fn look(&self, device: &Device) -> Result<(NonZero, u32), DeviceError> {
        let mut total = (NonZero::default(), 0);
        for region in &self.regions {
            for area in &region.mappable {
                let found = device.map(region, *area)?.non_zero();
                if total.0.first.is_none() && found.first.is_some() {
                    total.1 = region.index;
                }
                total.0 = total.0.and_then(area.offset, found);
            }
        }
        Ok(total)
    }

    /// Whether what was found at `first` of a BAR turns to zero before `deadline`: somebody is clearing
    /// the memory just now.
    pub(super) fn turns_zero(
        &self,
        device: &Device,
        bar: u32,
        first: u64,
        deadline: Instant,
    ) -> Result<bool, DeviceError> {
        let regions = self.regions.iter().filter(|region| region.index == bar);
        let mut places = regions.flat_map(|region| region.mappable.iter().map(move |area| (region, *area)));
        let holds = |area: Area| (area.offset..area.offset + area.size).contains(&first);
        let Some((region, area)) = places.find(|(_, area)| holds(*area)) else { return Ok(false) };
        let mapping = device.map(region, area)?;
        let word = usize::try_from(first - area.offset).unwrap_or(usize::MAX) & !3;
        let left = deadline.saturating_duration_since(Instant::now());
        let cleared = wait::until("the memory to be cleared", left, || {
            Ok::<_, wait::TimedOut>((mapping.word(word) == Some(0)).then_some(()))
        });
        Ok(cleared.is_ok())
    }

    pub(super) fn clear(&self, device: &Device) -> Result<(), DeviceError> {
        for region in &self.regions {
            for area in &region.mappable {
                device.map(region, *area)?.clear();
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::{Access, Area};

    fn region(index: u32, size: u64) -> Region {
        let mappable = vec![Area { offset: 0, size }];
        Region::of_test(index, size, Access::ReadWrite, mappable)
    }

    /// A device of this vendor with three wide prefetchable BARs and one narrow one, and its MSI-X
    /// table in BAR 4.
    fn device(vendor: u16) -> (Vec<Region>, ConfigSpace) {
        let mut bytes = vec![0; 256];
        bytes[0..2].copy_from_slice(&vendor.to_le_bytes());
        bytes[6] = 0x10;
        bytes[0x34] = 0x40;
        bytes[0x40] = 0x11;
        bytes[0x44] = 4;
        bytes[0x48] = 4;
        for (at, kind) in [(0x10, 0xc), (0x18, 0xc), (0x20, 0xc)] {
            bytes[at] = kind;
        }
        let sizes = [(0, 16 << 20), (2, 2 << 20), (4, 1 << 20), (7, 4096)];
        (sizes.map(|(index, size)| region(index, size)).to_vec(), ConfigSpace(bytes))
    }

    fn bars(vendor: u16) -> Vec<u32> {
        let (regions, config) = device(vendor);
        DeviceMemory::among(&regions, &config).regions().iter().map(|region| region.index).collect()
    }

    #[test]
    fn wide_prefetchable_bars_are_memory_but_for_msix_tables_and_doorbells() {
        assert_eq!(bars(0x1234), [0, 2]);
        assert_eq!(bars(0x1002), [0]);
    }

    #[test]
    fn registers_and_what_cannot_be_mapped_are_not() {
        let (mut regions, mut config) = device(0x1234);
        config.0[0x10] = 0x4; // not prefetchable
        regions[1] = Region::of_test(2, 2 << 20, Access::ReadWrite, vec![]);
        assert_eq!(DeviceMemory::among(&regions, &config).bytes(), 0);
    }

    #[test]
    fn only_what_can_be_mapped_counts() {
        let (mut regions, config) = device(0x1002);
        let half = vec![Area { offset: 8 << 20, size: 8 << 20 }];
        regions[0] = Region::of_test(0, 16 << 20, Access::ReadWrite, half);
        assert_eq!(DeviceMemory::among(&regions, &config).bytes(), 8 << 20);
    }
}
