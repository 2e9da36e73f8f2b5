//! The ACPI DMAR table that the lab host boots with.
//!
//! QEMU's own table lists the devices of its machine one by one, so a PCI root bus that a kernel
//! module adds later would stand behind no IOMMU and its devices would get no group. This table has
//! one unit that covers every PCI device. The kernel takes it in place of QEMU's when it lies at
//! `kernel/firmware/acpi/DMAR.aml` in an uncompressed archive at the front of the initrd
//! (Documentation/admin-guide/acpi/initrd_table_override.rst).
//!
//! Formats: ACPI 6.5 section 5.2.6 (header), Intel VT-d specification section 8 (the rest).

/// Where QEMU's intel-iommu has its registers (`Q35_HOST_BRIDGE_IOMMU_ADDR`).
const REGISTERS: u64 = 0xfed9_0000;
const HEADER: u8 = 36;
const DRHD_HEADER: u16 = 16;
const SCOPE: u8 = 8;
const TYPE_DRHD: u16 = 0;
const INCLUDE_PCI_ALL: u8 = 1;
const SCOPE_IOAPIC: u8 = 3;
/// QEMU's I/O APIC stands at ff:00.0 for the IOMMU (`Q35_PSEUDO_BUS_PLATFORM`).
const IOAPIC_BUS: u8 = 0xff;
const HOST_ADDRESS_BITS: u8 = 48;
const INTERRUPT_REMAPPING: u8 = 1;
/// Higher than QEMU's own: the kernel only takes a newer table of the same name.
const OEM_REVISION: u32 = 99;

/// The table, checksum included.
#[must_use]
pub fn table() -> Vec<u8> {
    let mut table = Vec::new();
    table.extend(b"DMAR");
    table.extend([0; 4]); // length, below
    table.extend([1, 0]); // revision; checksum, below
    table.extend(b"BOCHS BXPC    ");
    table.extend(OEM_REVISION.to_le_bytes());
    table.extend(b"BXPC");
    table.extend(1u32.to_le_bytes());
    debug_assert_eq!(table.len(), usize::from(HEADER));

    table.extend([HOST_ADDRESS_BITS - 1, INTERRUPT_REMAPPING]);
    table.extend([0; 10]);

    table.extend(TYPE_DRHD.to_le_bytes());
    table.extend((DRHD_HEADER + u16::from(SCOPE)).to_le_bytes());
    table.extend([INCLUDE_PCI_ALL, 0, 0, 0]); // flags, size, segment
    table.extend(REGISTERS.to_le_bytes());
    table.extend([SCOPE_IOAPIC, SCOPE, 0, 0, 0, IOAPIC_BUS, 0, 0]);

    let length = u32::try_from(table.len()).unwrap_or(u32::MAX);
    table[4..8].copy_from_slice(&length.to_le_bytes());
    table[9] = sum(&table).wrapping_neg();
    table
}

fn sum(bytes: &[u8]) -> u8 {
    bytes.iter().fold(0, |sum, byte| sum.wrapping_add(*byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn its_length_is_right_and_its_bytes_sum_to_zero() {
        let table = table();
        assert_eq!(table.len(), 72);
        assert_eq!(&table[4..8], &72u32.to_le_bytes());
        assert_eq!(sum(&table), 0);
    }

    #[test]
    fn its_one_unit_covers_every_device_and_fills_the_table() {
        let table = table();
        let unit = &table[48..];
        assert_eq!(&unit[..2], &TYPE_DRHD.to_le_bytes());
        assert_eq!(usize::from(u16::from_le_bytes([unit[2], unit[3]])), unit.len());
        assert_eq!(unit[4], INCLUDE_PCI_ALL);
        assert_eq!(&unit[8..16], &REGISTERS.to_le_bytes());
    }
}
