//! Device memory out of the `description` of an mdev type. The text is free; these forms are known:
//!
//! | driver | text | memory |
//! |---|---|---|
//! | NVIDIA vGPU | `num_heads=4, frl_config=60, framebuffer=2048M, max_resolution=…` | framebuffer |
//! | Intel GVT-g | `low_gm_size: 128MB⏎high_gm_size: 512MB⏎fence: 4⏎resolution: …` | low + high |
//! | kernel samples (mbochs, mdpy) | `virtual display, 4 MB memory, …` or `…, 16 MB video memory` | the number |
//!
//! Sources: NVIDIA vGPU guide; drivers/gpu/drm/i915/gvt/kvmgt.c; samples/vfio-mdev/mbochs.c.

use crate::Memory;

pub(crate) fn memory(description: &str) -> Option<Memory> {
    let text = description.to_ascii_lowercase();
    let sized = |key: &str| size(text.split_once(key)?.1.trim_start_matches([' ', ':', '=']));
    if let Some(framebuffer) = sized("framebuffer") {
        return Some(Memory::from_bytes(framebuffer));
    }
    if let (Some(low), Some(high)) = (sized("low_gm_size"), sized("high_gm_size")) {
        return low.checked_add(high).map(Memory::from_bytes);
    }
    let before = text.split_once(" memory").or_else(|| text.split_once(" vram"))?.0;
    let before = before.trim_end_matches(" video").trim_end_matches(" device");
    let phrase = before.rsplit([',', ';', '\n', ':']).next()?;
    size(phrase.trim()).map(Memory::from_bytes)
}

/// How many instances NVIDIA's driver says that an empty GPU holds (`max_instance=16`).
pub(crate) fn most(description: &str) -> Option<u32> {
    let text = description.split_once("max_instance=")?.1;
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    text.get(..digits)?.parse().ok()
}

/// The amount that `text` begins with: a whole number and K, M or G, binary as GPU vendors mean it.
fn size(text: &str) -> Option<u64> {
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, unit) = text.split_at(digits);
    let unit = unit.trim_start();
    let factor = match unit.bytes().next()? {
        b'k' => 1_u64 << 10,
        b'm' => 1 << 20,
        b'g' => 1 << 30,
        _ => return None,
    };
    let rest = unit[1..].trim_start_matches('i').trim_start_matches('b');
    let whole_word = !rest.starts_with(|c: char| c.is_alphanumeric());
    number.parse::<u64>().ok()?.checked_mul(factor).filter(|bytes| *bytes > 0 && whole_word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_forms() {
        let cases: [(&str, Option<u64>); 12] = [
            ("num_heads=4, frl_config=60, framebuffer=2048M, max_resolution=7680x4320", Some(2048)),
            (
                "low_gm_size: 128MB\nhigh_gm_size: 512MB\nfence: 4\nresolution: 1920x1200\nweight: 4",
                Some(640),
            ),
            ("low_gm_size: 128MB\nfence: 4", None),
            ("virtual display, 4 MB memory", Some(4)),
            ("virtual display, 16 MB video memory", Some(16)),
            ("a slice with 2GiB VRAM", None),
            ("slice: 2GiB VRAM, 25% compute", Some(2048)),
            ("framebuffer=0M", None),
            ("framebuffer=99999999999999999999M", None),
            ("framebuffer=20MHz", None),
            ("virtual display, resolution 1024x768", None),
            ("", None),
        ];
        for (text, mib) in cases {
            assert_eq!(memory(text), mib.map(|mib| Memory::from_bytes(mib << 20)), "{text}");
        }
    }

    #[test]
    fn how_many_an_empty_gpu_holds() {
        assert_eq!(most("framebuffer=4096M, max_resolution=7680x4320, max_instance=4"), Some(4));
        for text in ["max_instance=", "max_instance=-1", "max_instance=99999999999", "4", ""] {
            assert_eq!(most(text), None, "{text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_description_breaks_the_reader(text in "(framebuffer|max_instance=|low_gm_size|high_gm_size|memory| |[0-9]{1,22}|[kmgMGé=:]|.){0,12}") {
            memory(&text);
            most(&text);
        }
    }
}
