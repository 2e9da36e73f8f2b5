//! A device's regions: its BARs, its config space, and what a driver adds.

use vfio_bindings::bindings::vfio::{
    VFIO_REGION_INFO_CAP_MSIX_MAPPABLE, VFIO_REGION_INFO_CAP_SPARSE_MMAP, VFIO_REGION_INFO_FLAG_CAPS,
    VFIO_REGION_INFO_FLAG_MMAP, VFIO_REGION_INFO_FLAG_READ, VFIO_REGION_INFO_FLAG_WRITE, vfio_region_info,
};

/// One region of a device, as VFIO describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Region {
    /// 0 to 5 are BARs, 7 is config space.
    pub index: u32,
    /// In bytes; 0 where the device has no such region.
    pub size: u64,
    pub access: Access,
    /// The parts that can be mapped, in bytes from the region's start; empty where none can.
    pub mappable: Vec<Area>,
    /// Whether the kernel lets the MSI-X table be mapped with the rest, as most do since 4.16.
    pub msix_mappable: bool,
    /// Where the region begins in the device's file.
    pub(super) offset: u64,
}

/// What the kernel lets a user do with a region by reading and writing the device's file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    None,
    Read,
    Write,
    ReadWrite,
}

/// A part of a region.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Area {
    pub offset: u64,
    pub size: u64,
}

impl Region {
    /// Bytes that can be mapped.
    #[must_use]
    pub fn mappable_bytes(&self) -> u64 {
        self.mappable.iter().map(|area| area.size).sum()
    }

    #[cfg(test)]
    pub(crate) fn of_test(index: u32, size: u64, access: Access, mappable: Vec<Area>) -> Self {
        Self { index, size, access, mappable, msix_mappable: true, offset: u64::from(index) << 40 }
    }

    /// `caps`: the bytes that came with `info`, from its own start on.
    pub(crate) fn new(info: &vfio_region_info, caps: &[u8]) -> Self {
        let has = |flag| info.flags & flag != 0;
        let access = match (has(VFIO_REGION_INFO_FLAG_READ), has(VFIO_REGION_INFO_FLAG_WRITE)) {
            (false, false) => Access::None,
            (true, false) => Access::Read,
            (false, true) => Access::Write,
            (true, true) => Access::ReadWrite,
        };
        let caps = if has(VFIO_REGION_INFO_FLAG_CAPS) { caps } else { &[] };
        let find = |id| capabilities(caps, info.cap_offset).find(|(found, _)| *found == id);
        let mappable = match (has(VFIO_REGION_INFO_FLAG_MMAP), find(VFIO_REGION_INFO_CAP_SPARSE_MMAP)) {
            (false, _) => Vec::new(),
            (true, Some((_, at))) => areas(caps, at, info.size),
            (true, None) => vec![Area { offset: 0, size: info.size }],
        };
        let mappable = mappable.into_iter().filter(|area| area.size > 0).collect();
        let msix_mappable = find(VFIO_REGION_INFO_CAP_MSIX_MAPPABLE).is_some();
        Self { index: info.index, size: info.size, access, mappable, msix_mappable, offset: info.offset }
    }
}

impl Area {
    fn end(self) -> u64 {
        self.offset.saturating_add(self.size)
    }
}

/// What stands at `at`, where it lies in `bytes`.
fn bytes_at<const LENGTH: usize>(bytes: &[u8], at: usize) -> Option<[u8; LENGTH]> {
    bytes.get(at..at.checked_add(LENGTH)?)?.try_into().ok()
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    bytes_at(bytes, at).map(u32::from_ne_bytes)
}

fn long(bytes: &[u8], at: usize) -> Option<u64> {
    bytes_at(bytes, at).map(u64::from_ne_bytes)
}

/// The chain of `struct vfio_info_cap_header`, each by id and place. A chain that leads out of `bytes`
/// or back ends there.
fn capabilities(bytes: &[u8], first: u32) -> impl Iterator<Item = (u32, usize)> {
    let read = |at: usize| (at != 0).then(|| Some((word(bytes, at)? & 0xffff, at)))?;
    std::iter::successors(read(first as usize), move |(_, at)| {
        let next = word(bytes, at + 4)? as usize;
        (next > *at).then(|| read(next))?
    })
}

/// The areas of the sparse mmap capability at `at`, in order, as far as they lie in a region of that
/// size. Those that overlap are one: no byte is counted twice.
fn areas(bytes: &[u8], at: usize, size: u64) -> Vec<Area> {
    let count = word(bytes, at + 8).unwrap_or(0) as usize;
    let area = |index: usize| {
        let at = at + 16 + index * 16;
        Some(Area { offset: long(bytes, at)?, size: long(bytes, at + 8)? })
    };
    let inside = |area: &Area| area.offset.checked_add(area.size).is_some_and(|end| end <= size);
    let mut areas: Vec<_> = (0..count).map_while(area).filter(inside).collect();
    areas.sort_unstable_by_key(|area| area.offset);
    let mut apart: Vec<Area> = Vec::new();
    for area in areas {
        match apart.last_mut() {
            Some(last) if area.offset < last.end() => last.size = last.end().max(area.end()) - last.offset,
            _ => apart.push(area),
        }
    }
    apart
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: u32 = VFIO_REGION_INFO_FLAG_READ | VFIO_REGION_INFO_FLAG_WRITE | VFIO_REGION_INFO_FLAG_MMAP;

    fn info(flags: u32, cap_offset: u32, size: u64) -> vfio_region_info {
        vfio_region_info { flags, cap_offset, size, ..Default::default() }
    }

    /// A structure of 32 bytes, a sparse capability of two areas, and MSIX_MAPPABLE.
    fn with_areas(areas: [(u64, u64); 2]) -> Vec<u8> {
        let mut bytes = vec![0; 32];
        bytes.extend([1_u16, 1].map(u16::to_ne_bytes).concat());
        bytes.extend([80_u32, 2, 0].map(u32::to_ne_bytes).concat());
        for (offset, size) in areas {
            bytes.extend([offset, size].map(u64::to_ne_bytes).concat());
        }
        bytes.extend([3_u16, 1].map(u16::to_ne_bytes).concat());
        bytes.extend(0_u32.to_ne_bytes());
        bytes
    }

    #[test]
    fn a_region_without_capabilities_is_mapped_whole_or_not_at_all() {
        let whole = Region::new(&info(ALL, 0, 0x10_0000), &[]);
        assert_eq!(whole.mappable, [Area { offset: 0, size: 0x10_0000 }]);
        assert_eq!((whole.access, whole.msix_mappable), (Access::ReadWrite, false));
        assert_eq!(Region::new(&info(VFIO_REGION_INFO_FLAG_READ, 0, 0x100), &[]).mappable_bytes(), 0);
        assert_eq!(Region::new(&info(ALL, 0, 0), &[]).mappable, []);
    }

    #[test]
    fn sparse_areas_count_where_they_lie_in_the_region() {
        let flags = ALL | VFIO_REGION_INFO_FLAG_CAPS;
        let region = Region::new(&info(flags, 32, 0x4000), &with_areas([(0, 0x1000), (0x2000, 0x2000)]));
        assert_eq!(region.mappable_bytes(), 0x3000);
        assert!(region.msix_mappable);
        let region = Region::new(&info(flags, 32, 0x4000), &with_areas([(0, 0x1000), (u64::MAX, 0x2000)]));
        assert_eq!(region.mappable, [Area { offset: 0, size: 0x1000 }]);
    }

    #[test]
    fn sparse_areas_that_overlap_are_one_and_lose_no_byte() {
        let mappable = |areas| {
            Region::new(&info(ALL | VFIO_REGION_INFO_FLAG_CAPS, 32, 0x4000), &with_areas(areas)).mappable
        };
        let one = [Area { offset: 0, size: 0x3000 }];
        for areas in [[(0x1000, 0x2000), (0, 0x2000)], [(0, 0x3000), (0x1000, 0x1000)]] {
            assert_eq!(mappable(areas), one, "{areas:x?}");
        }
        let beside = [Area { offset: 0, size: 0x1000 }, Area { offset: 0x1000, size: 0x1000 }];
        assert_eq!(mappable([(0x1000, 0x1000), (0, 0x1000)]), beside);
    }

    proptest::proptest! {
        #[test]
        fn no_capabilities_break_the_reader(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..200), first: u32) {
            Region::new(&info(ALL | VFIO_REGION_INFO_FLAG_CAPS, first % 256, 0x1000), &bytes);
        }
    }
}
