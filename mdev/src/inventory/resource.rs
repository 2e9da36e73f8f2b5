//! Size of a VF's memory, out of its PF's `resource` attribute.
//!
//! The kernel writes one line a resource: start, end, flags, in hexadecimal. Lines 0 to 5 are the BARs,
//! 6 the ROM, 7 to 12 the IOV BARs (include/linux/pci.h: `PCI_IOV_RESOURCES` follows `PCI_ROM_RESOURCE`
//! where CONFIG_PCI_IOV is set). An IOV BAR spans the BAR of every VF that the capability names as
//! total (drivers/pci/iov.c, `sriov_init`), whatever a driver allows.

use crate::Memory;

const IOV: std::ops::Range<usize> = 7..13;
/// include/linux/ioport.h.
const IORESOURCE_MEM: u64 = 0x200;
const IORESOURCE_UNSET: u64 = 0x2000_0000;

/// Size of one VF's largest memory BAR.
pub(super) fn vf_aperture(resources: &str, total_vfs: u16) -> Option<Memory> {
    let lines = resources.lines().take(IOV.end).skip(IOV.start);
    let largest = lines.filter_map(|line| {
        let mut numbers =
            line.split_whitespace().map(|word| u64::from_str_radix(word.strip_prefix("0x")?, 16).ok());
        let (start, end, flags) = (numbers.next()??, numbers.next()??, numbers.next()??);
        let usable = flags & IORESOURCE_MEM != 0 && flags & IORESOURCE_UNSET == 0;
        usable.then(|| end.checked_sub(start)?.checked_add(1))?
    });
    let largest = largest.max()?.checked_div(total_vfs.into())?;
    (largest > 0).then(|| Memory::from_bytes(largest))
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
    }

    proptest::proptest! {
        #[test]
        fn no_text_breaks_the_reader(text in "((0x)?[0-9a-fg]{0,17} ?\n?){0,40}", total: u16) {
            vf_aperture(&text, total);
        }
    }
}
