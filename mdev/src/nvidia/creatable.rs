//! Types of vGPUs as the driver lists them, and what their names say.
//!
//! `creatable_vgpu_types` has a header and one type a line, in one of two orders:
//!
//! | driver | header | line |
//! |---|---|---|
//! | most | `ID    : vGPU Name` | `1145  : NVIDIA L40S-1B` |
//! | some | `vGPU Name  ID` | `NVIDIA A40-2Q  558` |
//!
//! The short name is the last word, which all of NVIDIA's tools use (NVIDIA/go-nvlib, pkg/nvmdev).

use crate::{Memory, ProfileName};
use serde::Serialize;

/// A type of vGPU that can be created.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct VgpuType {
    /// For this card and this driver alone.
    pub number: u32,
    /// Short, such as `L40S-8Q`.
    pub name: ProfileName,
}

/// The types in a list. A line that is no type is left out: the header, or what a later driver adds.
pub(super) fn parse(list: &str) -> Vec<VgpuType> {
    list.lines().filter_map(line).collect()
}

fn line(line: &str) -> Option<VgpuType> {
    let by_number = line.split_once(':').and_then(|(number, name)| Some((number.trim().parse().ok()?, name)));
    let (number, name) = by_number.or_else(|| {
        let (name, number) = line.trim().rsplit_once(char::is_whitespace)?;
        Some((number.parse().ok()?, name))
    })?;
    let name = name.split_whitespace().last()?.parse().ok()?;
    (number != 0).then_some(VgpuType { number, name })
}

/// Framebuffer by the gigabytes that stand in the name, binary as NVIDIA means them; 0 of them are 512 MiB.
pub(super) fn framebuffer(name: &ProfileName) -> Option<Memory> {
    let (_, last) = name.as_ref().rsplit_once('-')?;
    let digits = last.trim_end_matches(|letter: char| letter.is_ascii_uppercase());
    let gigabytes: u64 = digits.parse().ok()?;
    let bytes = if gigabytes == 0 { 512 << 20 } else { gigabytes.checked_mul(1 << 30)? };
    Some(Memory::from_bytes(bytes))
}

/// Whether the type lives in a GPU instance of MIG, as `A100-1-5C` does.
pub(super) fn is_mig_backed(name: &ProfileName) -> bool {
    let slices = name.as_ref().rsplit('-').nth(1);
    slices.is_some_and(|slices| matches!(slices.as_bytes(), [b'1'..=b'9']))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn types(list: &str) -> Vec<(u32, String)> {
        parse(list).into_iter().map(|vgpu| (vgpu.number, vgpu.name.to_string())).collect()
    }

    #[test]
    fn both_orders_are_read() {
        let by_number =
            "ID    : vGPU Name\n1145  : NVIDIA L40S-1B\n1519 : NVIDIA RTX Pro 6000 Blackwell DC-3Q\n";
        assert_eq!(types(by_number), [(1145, "L40S-1B".to_owned()), (1519, "DC-3Q".to_owned())]);
        let by_name = "vGPU Name  ID\nNVIDIA A40-2Q  558\nGRID A100D-1-10CME\t707\n";
        assert_eq!(types(by_name), [(558, "A40-2Q".to_owned()), (707, "A100D-1-10CME".to_owned())]);
        for none in
            ["", "ID    : vGPU Name\n", "vGPU Name  ID", "0 : NVIDIA L40S-1B", "99999999999 : X-1Q", "7 :"]
        {
            assert_eq!(types(none), [], "{none:?}");
        }
    }

    #[test]
    fn names_say_size_and_kind() {
        let of = |name: &str| {
            let name: ProfileName = name.parse().unwrap();
            (framebuffer(&name).map(|memory| memory.to_string()), is_mig_backed(&name))
        };
        let some = |memory: &str, mig| (Some(memory.to_owned()), mig);
        assert_eq!(of("L40S-8Q"), some("8GiB", false));
        assert_eq!(of("M60-0Q"), some("512MiB", false));
        assert_eq!(of("A100-1-5CME"), some("5GiB", true));
        assert_eq!(of("DC-1-24"), some("24GiB", true));
        assert_eq!(of("H200X-141C"), some("141GiB", false));
        assert_eq!(of("3050"), (None, false));
        assert_eq!(of("type-1152"), some("1152GiB", false), "which is why no unnamed type is asked");
    }

    proptest::proptest! {
        #[test]
        fn no_list_breaks_the_reader(list in "([0-9]{0,12}|NVIDIA|[A-Z0-9-]{1,8}|:| |\t|\n){0,30}") {
            for vgpu in parse(&list) {
                framebuffer(&vgpu.name);
                is_mig_backed(&vgpu.name);
            }
        }
    }
}
