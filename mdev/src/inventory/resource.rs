//! Size of a VF's memory, out of its PF's `resource` attribute.
//!
//! The kernel writes one line a resource: start, end, flags, in hexadecimal. Lines 0 to 5 are the BARs,
//! 6 the ROM, 7 to 12 the IOV BARs (include/linux/pci.h: `PCI_IOV_RESOURCES` follows `PCI_ROM_RESOURCE`
//! where CONFIG_PCI_IOV is set). An IOV BAR spans the BARs of TotalVFs VFs, as the capability in config
//! space says (drivers/pci/iov.c, `sriov_init`); `sriov_totalvfs` can be less, for a driver may allow
//! fewer.

use crate::{ConfigSpace, Memory, config_space::Extended};

const IOV: std::ops::Range<usize> = 7..13;
/// include/linux/ioport.h.
const IORESOURCE_MEM: u64 = 0x200;
const IORESOURCE_UNSET: u64 = 0x2000_0000;

/// PCI Express Base Specification, 9.3.3; linux/pci_regs.h.
const SRIOV_CAPABILITY: u16 = 0x10;
const TOTAL_VFS: usize = 0x0e;

/// TotalVFs of the SR-IOV capability; none where config space has none, or is shown in part only, as
/// to all but root.
pub(crate) fn total_vfs(config: &ConfigSpace) -> Option<u16> {
    match config.extended_capability(SRIOV_CAPABILITY) {
        Extended::At(at) => config.word(at + TOTAL_VFS),
        Extended::Absent | Extended::NotShown => None,
    }
}

/// Size of one VF's largest memory BAR, of `total_vfs` as the capability says.
pub(crate) fn vf_aperture(resources: &str, total_vfs: u16) -> Option<Memory> {
    let lines = resources.lines().take(IOV.end).skip(IOV.start);
    let largest = lines.filter_map(|line| {
        let mut numbers =
            line.split_whitespace().map(|word| u64::from_str_radix(word.strip_prefix("0x")?, 16).ok());
        let (start, end, flags) = (numbers.next()??, numbers.next()??, numbers.next()??);
        let usable = flags & IORESOURCE_MEM != 0 && flags & IORESOURCE_UNSET == 0;
        usable.then(|| end.checked_sub(start)?.checked_add(1))?
    });
    let largest = largest.max()?;
    let aperture = largest.checked_div(total_vfs.into())?;
    // BARs are powers of two: anything else was not what it was taken for.
    aperture.is_power_of_two().then(|| Memory::from_bytes(aperture))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONE: &str = "0x0000000000000000 0x0000000000000000 0x0000000000000000\n";

    fn with_iov(lines: &[&str]) -> String {
        let bar0 = "0x0000000200000000 0x0000000203ffffff 0x000000000014220c\n";
        let mut text = format!("{bar0}{}", NONE.repeat(6));
        lines.iter().for_each(|line| text.push_str(line));
        text + &NONE.repeat(6 - lines.len())
    }

    #[test]
    fn the_largest_memory_bar_of_a_vf() {
        let registers = "0x0000000090000000 0x00000000901fffff 0x0000000000140200\n";
        let vram = "0x0000000208000000 0x000000020fffffff 0x000000000014220c\n";
        let text = with_iov(&[registers, NONE, vram]);
        assert_eq!(vf_aperture(&text, 8), Some(Memory::from_bytes(16 << 20)));
    }

    #[test]
    fn none_where_nothing_is_assigned() {
        let unset = "0x0000000000000000 0x0000000007ffffff 0x000000002014220c\n";
        let port = "0x0000000000002000 0x0000000000002fff 0x0000000000040101\n";
        for text in [with_iov(&[]), with_iov(&[unset]), with_iov(&[port]), NONE.repeat(7), String::new()] {
            assert_eq!(vf_aperture(&text, 8), None, "{text}");
        }
        assert_eq!(vf_aperture(&with_iov(&["0x0 0x7ffffff 0x200\n"]), 0), None);
        assert_eq!(vf_aperture(&with_iov(&["0x0 0x7ffffff 0x200\n"]), 7), None);
    }

    #[test]
    fn total_vfs_of_the_capability() {
        let mut config = vec![0; 4096];
        let mut put = |at: usize, word: u32| config[at..at + 4].copy_from_slice(&word.to_le_bytes());
        // ACS at 0x100, then SR-IOV at 0x160.
        put(0x100, 0x160 << 20 | 1 << 16 | 0x0d);
        put(0x160, 1 << 16 | 0x10);
        put(0x16c, 31 << 16 | 31);
        let total_of = |config: &[u8]| total_vfs(&ConfigSpace(config.to_vec()));
        assert_eq!(total_of(&config), Some(31));
        assert_eq!(total_of(&config[..0x170]), Some(31));
        for short in [0x16f, 0x160, 0x100, 64, 0] {
            assert_eq!(total_of(&config[..short]), None, "{short}");
        }
        assert_eq!(total_of(&[0xff; 4096]), None, "no answer");
    }

    proptest::proptest! {
        #[test]
        fn no_text_breaks_the_reader(text in "((0x)?[0-9a-fg]{0,17} ?\n?){0,40}", total: u16) {
            vf_aperture(&text, total);
        }

        #[test]
        fn no_config_space_breaks_the_reader(config in proptest::collection::vec(proptest::num::u8::ANY, 0..600)) {
            total_vfs(&ConfigSpace(config));
        }
    }
}
