//! Files of the host that others write.

use crate::message;
use std::fs;
use vgpud_config::{PciId, Settings};
use vgpud_mdev::Host;
use vgpud_vmm::doctor::Verdict;

/// `modules.alias` below the `modalias` of a device, which is the first line.
pub fn module_alias(data: &[u8]) {
    let text = crate::text(data);
    let (modalias, aliases) = text.split_once('\n').unwrap_or((&text, ""));
    if let Some(module) = vgpud_mdev::fuzzing::vfio_module(aliases, modalias) {
        // It becomes part of a path in sysfs, and of a command to type.
        let plain = module.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte));
        assert!(plain && !module.is_empty(), "{module:?}");
    }
}

/// `pci.ids`, asked for whatever could be an id in it.
pub fn pci_ids(data: &[u8]) {
    let text = crate::text(data);
    let words: Vec<_> =
        text.split(|c: char| !c.is_ascii_hexdigit()).filter(|word| !word.is_empty()).collect();
    let numbers: Vec<_> = words.iter().filter_map(|word| u16::from_str_radix(word, 16).ok()).collect();
    let stands = |number: u16| words.iter().any(|word| word.eq_ignore_ascii_case(&format!("{number:04x}")));
    for pair in numbers.windows(2) {
        let id = PciId { vendor: pair[0], device: pair[1] };
        let (vendor, device) = vgpud_mdev::fuzzing::pci_names(id, &text);
        for (number, name) in [(id.vendor, vendor), (id.device, device)] {
            let Some(name) = name else { continue };
            message::check_lines(&name);
            assert!(stands(number), "{number:04x} stands nowhere in the file");
        }
    }
}

/// A CDI file: JSON or YAML. The first byte says which.
pub fn cdi_file(data: &[u8]) {
    let Some((first, text)) = data.split_first() else { return };
    let root = crate::folder();
    let host = Host::new(root.path());
    let folder = host.path("/etc/cdi");
    fs::create_dir_all(&folder).unwrap();
    let name = if *first == b'y' { "x.yaml" } else { "x.json" };
    fs::write(folder.join(name), text).unwrap();
    for check in vgpud_kata::doctor::examine(&host, &Settings::default()) {
        message::check(&check.found);
        let named = check.found.contains(name);
        assert!(named || check.verdict == Verdict::Pass, "the file is not named: {}", check.found);
    }
}
