//! Mapped memory of a device, read and cleared at memory speed.
//!
//! Device memory is mapped uncached by VFIO (vfio_pci_core.c, `pgprot_noncached`), so on real
//! hardware each load is one round trip over PCIe, and the processor waits for it. What makes it
//! fast is fewer and wider loads (32 bytes each where there is AVX2) and several processors at once,
//! each of which has its own load under way. Loads and stores are volatile: they are neither merged
//! nor left out.
//!
//! A page of a BAR that the kernel cannot give (memory decode off, device gone) ends the process
//! with SIGBUS, one more reason why all this runs in a process of its own ([`super::process`]).

#![allow(unsafe_code)]

use super::Area;
use nix::sys::mman::{MapFlags, ProtFlags, mmap, mmap_anonymous, munmap};
use std::{ffi::c_void, fs::File, io, num::NonZeroUsize, ptr::NonNull, thread};

/// Processors that read one mapping at once, at most: more of them only queue at the link.
const MOST_READERS: usize = 8;
/// Bytes for which a processor of its own is worth it.
const WORTH_A_READER: usize = 4 << 20;
/// Bytes that are looked at together.
const BLOCK: usize = 256;

/// A mapped piece of device memory, or of this process's own.
#[derive(Debug)]
pub struct Mapping {
    start: NonNull<c_void>,
    length: NonZeroUsize,
}

// SAFETY: the mapping belongs to this value alone, is valid in every thread until it is dropped, and
// is only accessed by volatile loads and stores of plain words.
unsafe impl Sync for Mapping {}
// SAFETY: as above; nothing of it is bound to the thread that made it.
unsafe impl Send for Mapping {}

/// What is not zero.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NonZero {
    pub bytes: u64,
    /// Where the first such byte is, from the start of what was looked at.
    pub first: Option<u64>,
}

impl NonZero {
    /// This and what was found `by` bytes further on.
    #[must_use]
    pub fn and_then(self, by: u64, next: Self) -> Self {
        let first = self.first.or(next.first.map(|at| by + at));
        Self { bytes: self.bytes + next.bytes, first }
    }
}

impl Mapping {
    /// Maps `area` of the region that begins at `region` in the device's file.
    pub(super) fn of_device(device: &File, region: u64, area: Area) -> io::Result<Self> {
        let invalid = || io::Error::from(io::ErrorKind::InvalidInput);
        let length = usize::try_from(area.size).ok().and_then(NonZeroUsize::new).ok_or_else(invalid)?;
        let offset = region.checked_add(area.offset).and_then(|offset| i64::try_from(offset).ok());
        let protection = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        let offset = offset.ok_or_else(invalid)?;
        // SAFETY: a new mapping at an address of the kernel's choice touches no memory of this
        // process; it is taken apart by `drop` alone.
        let start = unsafe { mmap(None, length, protection, MapFlags::MAP_SHARED, device, offset) }?;
        Ok(Self { start, length })
    }

    /// Fresh memory of this process, all zero.
    ///
    /// # Errors
    /// Where there is no more memory.
    pub fn of_memory(length: NonZeroUsize) -> io::Result<Self> {
        let protection = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        let flags = MapFlags::MAP_PRIVATE | MapFlags::MAP_ANONYMOUS;
        // SAFETY: as in `of_device`.
        let start = unsafe { mmap_anonymous(None, length, protection, flags) }?;
        Ok(Self { start, length })
    }

    /// In bytes.
    #[must_use]
    pub fn length(&self) -> usize {
        self.length.get()
    }

    /// Where it is in this process.
    #[must_use]
    pub fn address(&self) -> u64 {
        self.start.as_ptr() as u64
    }

    /// The 32-bit word at `offset`; none where that is beyond the end or no multiple of 4.
    #[must_use]
    pub fn word(&self, offset: usize) -> Option<u32> {
        let word = self.at(offset)?;
        // SAFETY: `at` checked that the word lies in the mapping and is aligned.
        Some(unsafe { word.read_volatile() })
    }

    /// Sets the 32-bit word at `offset`; none where that is beyond the end or no multiple of 4.
    #[must_use]
    pub fn set_word(&self, offset: usize, value: u32) -> Option<()> {
        let word = self.at(offset)?;
        // SAFETY: `at` checked that the word lies in the mapping and is aligned.
        unsafe { word.write_volatile(value) };
        Some(())
    }

    fn at(&self, offset: usize) -> Option<*mut u32> {
        let fits = offset.checked_add(4)? <= self.length() && offset.is_multiple_of(4);
        fits.then(|| self.start.as_ptr().cast::<u8>().wrapping_add(offset).cast())
    }

    /// Reads everything and says what is not zero.
    #[must_use]
    pub fn non_zero(&self) -> NonZero {
        let parts = self.parts();
        thread::scope(|scope| {
            let (first, rest) =
                parts.split_first().map_or((None, &[][..]), |(first, rest)| (Some(first), rest));
            let readers: Vec<_> = rest.iter().map(|part| (part, scope.spawn(|| part.non_zero()))).collect();
            let mut found = first.map(Part::non_zero).unwrap_or_default();
            for (part, reader) in readers {
                match reader.join() {
                    Ok(next) => found = found.and_then(part.offset as u64, next),
                    Err(panic) => std::panic::resume_unwind(panic),
                }
            }
            found
        })
    }

    /// Sets everything to zero.
    pub fn clear(&self) {
        self.fill([0; 8]);
    }

    /// Repeats `pattern` over everything.
    pub fn fill(&self, pattern: [u8; 8]) {
        let parts = self.parts();
        thread::scope(|scope| parts.iter().for_each(|part| drop(scope.spawn(|| part.fill(pattern)))));
    }

    /// Pieces for a processor each.
    fn parts(&self) -> Vec<Part<'_>> {
        let processors = thread::available_parallelism().map_or(1, NonZeroUsize::get);
        let readers = (self.length() / WORTH_A_READER).clamp(1, processors.min(MOST_READERS));
        let each = self.length().div_ceil(readers).next_multiple_of(BLOCK);
        let starts = (0..self.length()).step_by(each);
        starts
            .map(|offset| Part { mapping: self, offset, length: each.min(self.length() - offset) })
            .collect()
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: this is the mapping that was made, and no reference into it is ever given out. An
        // error could only mean that it is not mapped.
        let _ = unsafe { munmap(self.start, self.length()) };
    }
}

/// A piece of a mapping.
struct Part<'a> {
    mapping: &'a Mapping,
    offset: usize,
    length: usize,
}

// SAFETY: what it points into may be accessed from any thread, as `Mapping` says.
unsafe impl Sync for Part<'_> {}

impl Part<'_> {
    fn start(&self) -> *mut u8 {
        self.mapping.start.as_ptr().cast::<u8>().wrapping_add(self.offset)
    }

    fn non_zero(&self) -> NonZero {
        let mut found = NonZero::default();
        let blocks = self.length / BLOCK;
        for block in 0..blocks {
            let offset = block * BLOCK;
            if !self.is_zero(offset) {
                found = found.and_then(offset as u64, self.count(offset, BLOCK));
            }
        }
        let done = blocks * BLOCK;
        found.and_then(done as u64, self.count(done, self.length - done))
    }

    /// Whether the block at `offset` is all zero.
    fn is_zero(&self, offset: usize) -> bool {
        #[cfg(target_arch = "x86_64")]
        if std::arch::is_x86_feature_detected!("avx2") {
            // SAFETY: this processor has AVX2; the block lies in the mapping, and is aligned to its
            // own size, as mappings begin at a page and parts at a multiple of a block.
            return unsafe { is_zero_avx2(self.start().wrapping_add(offset)) };
        }
        self.count(offset, BLOCK).bytes == 0
    }

    /// Byte by byte what is not zero in `length` bytes at `offset`.
    fn count(&self, offset: usize, length: usize) -> NonZero {
        let mut found = NonZero::default();
        let words = length / 8;
        for word in 0..words {
            let at = self.start().wrapping_add(offset + word * 8).cast::<u64>();
            // SAFETY: the word lies in the mapping, and is aligned: blocks and pages are multiples
            // of 8.
            let value = unsafe { at.read_volatile() };
            if value != 0 {
                let bytes = value.to_ne_bytes();
                let first = bytes.iter().position(|byte| *byte != 0).map(|at| at as u64);
                let count = bytes.iter().filter(|byte| **byte != 0).count() as u64;
                found = found.and_then(word as u64 * 8, NonZero { bytes: count, first });
            }
        }
        for byte in words * 8..length {
            let at = self.start().wrapping_add(offset + byte);
            // SAFETY: the byte lies in the mapping.
            let value = unsafe { at.read_volatile() };
            let bytes = u64::from(value != 0);
            found = found.and_then(byte as u64, NonZero { bytes, first: (value != 0).then_some(0) });
        }
        found
    }

    fn fill(&self, pattern: [u8; 8]) {
        let words = self.length / 8;
        let value = u64::from_ne_bytes(pattern);
        for word in 0..words {
            let at = self.start().wrapping_add(word * 8).cast::<u64>();
            // SAFETY: the word lies in the mapping, and is aligned, as in `count`.
            unsafe { at.write_volatile(value) };
        }
        for (byte, value) in (words * 8..self.length).zip(pattern) {
            let at = self.start().wrapping_add(byte);
            // SAFETY: the byte lies in the mapping.
            unsafe { at.write_volatile(value) };
        }
    }
}

/// # Safety
/// `block` points to `BLOCK` bytes of mapped memory and is aligned to 32 bytes.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
unsafe fn is_zero_avx2(block: *const u8) -> bool {
    use std::arch::x86_64::{__m256i, _mm256_or_si256, _mm256_setzero_si256, _mm256_testz_si256};
    let mut any = _mm256_setzero_si256();
    for lane in 0..BLOCK / size_of::<__m256i>() {
        // SAFETY: the caller vouches for the block and its alignment.
        let value = unsafe { block.cast::<__m256i>().wrapping_add(lane).read_volatile() };
        any = _mm256_or_si256(any, value);
    }
    _mm256_testz_si256(any, any) == 1
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn memory(length: usize) -> Mapping {
        Mapping::of_memory(NonZeroUsize::new(length).unwrap()).unwrap()
    }

    fn put(mapping: &Mapping, offset: usize, byte: u8) {
        let at = offset & !3;
        let mut word = mapping.word(at).unwrap().to_ne_bytes();
        word[offset - at] = byte;
        mapping.set_word(at, u32::from_ne_bytes(word)).unwrap();
    }

    #[test]
    fn fresh_memory_is_zero_and_every_part_of_it_is_looked_at() {
        let mapping = memory(24 << 20);
        assert_eq!(mapping.non_zero(), NonZero::default());
        let last = mapping.length() - 1;
        for offset in [0, 1, BLOCK - 1, BLOCK, WORTH_A_READER, (12 << 20) - 1, 12 << 20, last] {
            put(&mapping, offset, 0x80);
            assert_eq!(mapping.non_zero(), NonZero { bytes: 1, first: Some(offset as u64) });
            put(&mapping, offset, 0);
        }
        mapping.fill(*b"\0secret\0");
        let bytes = 6 * (mapping.length() as u64 / 8);
        assert_eq!(mapping.non_zero(), NonZero { bytes, first: Some(1) });
        mapping.clear();
        [7, 8, 20 << 20].iter().for_each(|offset| put(&mapping, *offset, 1));
        assert_eq!(mapping.non_zero(), NonZero { bytes: 3, first: Some(7) });
        mapping.clear();
        assert_eq!(mapping.non_zero(), NonZero::default());
    }

    #[test]
    fn words_beyond_the_end_or_askew_are_none() {
        let mapping = memory(4096);
        assert_eq!(mapping.word(4092), Some(0));
        for offset in [4093, 4094, 4096, 2, usize::MAX] {
            assert_eq!((mapping.word(offset), mapping.set_word(offset, 1)), (None, None));
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn counts_what_a_byte_by_byte_look_counts(
            length in 1_usize..20_000,
            bytes in proptest::collection::vec((0_usize..20_000, 1_u8..), 0..50),
        ) {
            let mapping = memory(length);
            let mut expected = vec![0; length & !3];
            for (offset, byte) in bytes {
                if let Some(slot) = expected.get_mut(offset) {
                    *slot = byte;
                    put(&mapping, offset, byte);
                }
            }
            let first = expected.iter().position(|byte| *byte != 0).map(|at| at as u64);
            let bytes = expected.iter().filter(|byte| **byte != 0).count() as u64;
            prop_assert_eq!(mapping.non_zero(), NonZero { bytes, first });
            mapping.clear();
            prop_assert_eq!(mapping.non_zero(), NonZero::default());
        }
    }
}
