//! Choosing the VFIO driver of a PCI device.
//!
//! Devices with a VFIO driver of their own (migration, resets that must wait for the PF) announce it
//! as `alias vfio_pci:<pattern> <module>` in `modules.alias`, beside vfio-pci's catch-all. As libvirt
//! does, the pattern that matches with the fewest wildcards wins.

use crate::{Error, Host, attribute};
use std::{fs, io, path::Path};

/// The driver where `modules.alias` is missing or names none.
pub(crate) const GENERIC: &str = "vfio-pci";

/// Module for the device with this `modalias` (`pci:v00001002d…`), in the running kernel.
pub(crate) fn vfio_module(host: &Host, modalias: &str) -> Result<String, Error> {
    let Some(release) = attribute::read(&host.kernel_release())? else { return Ok(GENERIC.to_owned()) };
    let path = host.module_aliases(&release);
    // Not an attribute: it is megabytes long.
    let aliases = match fs::read(&path) {
        Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
        Err(source) => return Err(Error::Read { path, source }),
    };
    Ok(best(&aliases, modalias).unwrap_or(GENERIC).to_owned())
}

pub(crate) fn best<'a>(aliases: &'a str, modalias: &str) -> Option<&'a str> {
    let device = modalias.strip_prefix("pci:")?;
    let matching = aliases.lines().filter_map(|line| {
        let (pattern, module) = line.strip_prefix("alias vfio_pci:")?.split_once(' ')?;
        let module = module.trim();
        (names_a_module(module) && matches(pattern, device)).then(|| (pattern.matches('*').count(), module))
    });
    matching.min_by_key(|(wildcards, _)| *wildcards).map(|(_, module)| module)
}

/// It becomes part of a path in sysfs.
fn names_a_module(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte))
}

/// Shell-like match with `*` and `?`, the only ones that the kernel's `file2alias` writes for PCI.
fn matches(pattern: &str, text: &str) -> bool {
    let (pattern, text) = (pattern.as_bytes(), text.as_bytes());
    let (mut p, mut t) = (0, 0);
    // Where to go on after a mismatch: behind the last star, one byte of text further.
    let mut retry = None;
    while t < text.len() {
        match pattern.get(p) {
            Some(b'*') => {
                p += 1;
                retry = Some((p, t));
            }
            Some(&byte) if byte == b'?' || byte == text[t] => {
                p += 1;
                t += 1;
            }
            _ => match retry {
                Some((star, from)) => {
                    retry = Some((star, from + 1));
                    (p, t) = (star, from + 1);
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|byte| *byte == b'*')
}

/// The driver of `module` in sysfs, where it is loaded: modules are written with `_`, drivers mostly
/// with `-`.
pub(crate) fn driver_of(drivers: &Path, module: &str) -> Option<String> {
    let spellings = [module.replace('_', "-"), module.replace('-', "_")];
    spellings.into_iter().find(|name| attribute::exists(&drivers.join(name)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALIASES: &str = "# Aliases extracted from modules themselves.
alias pci:v00001002d000074B5sv*sd*bc*sc*i* amdgpu
alias vfio_pci:v*d*sv*sd*bc*sc*i* vfio_pci
alias vfio_pci:v00008086d0000E211sv*sd*bc*sc*i* xe_vfio_pci
alias vfio_pci:v00008086d*sv*sd*bc03sc*i* other_vfio_pci
";

    #[test]
    fn the_pattern_with_the_fewest_wildcards_wins() {
        let choose = |modalias| best(ALIASES, modalias);
        assert_eq!(choose("pci:v00008086d0000E211sv00008086sd00001114bc03sc00i00"), Some("xe_vfio_pci"));
        assert_eq!(choose("pci:v00008086d000056C0sv00008086sd00001114bc03sc00i00"), Some("other_vfio_pci"));
        assert_eq!(choose("pci:v00001002d000074B5sv00001002sd00000C34bc12sc00i00"), Some("vfio_pci"));
        assert_eq!(choose("usb:v1D6Bp0002"), None);
        assert_eq!(best("", "pci:v00001002d000074B5"), None);
    }

    #[test]
    fn stars_match_any_stretch() {
        for (pattern, text) in [("*", ""), ("a*", "a"), ("a*b*c", "axxbyyc"), ("*aab", "aaaab"), ("?b", "ab")]
        {
            assert!(matches(pattern, text), "{pattern} {text}");
        }
        for (pattern, text) in [("", "a"), ("a", ""), ("a*b", "ac"), ("a*bc", "abcd"), ("?", "")] {
            assert!(!matches(pattern, text), "{pattern} {text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_alias_file_breaks_the_choice(aliases in "(alias vfio_pci:[*?a-z]{0,12} ?[a-z]{0,3}\n?){0,5}", device in ".{0,20}") {
            best(&aliases, &device);
        }
    }
}
