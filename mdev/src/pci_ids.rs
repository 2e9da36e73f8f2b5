//! Names of PCI devices, from the database that distributions keep (`pci.ids` of the hwdata or
//! pciutils package; format: <https://pci-ids.ucw.cz>).

use crate::{Host, PciId};
use std::{
    collections::BTreeMap,
    fs, io,
    path::PathBuf,
    sync::{Mutex, PoisonError},
};
use vgpud_config::Shown;

/// What people call a device.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Names {
    pub(crate) vendor: Option<String>,
    pub(crate) device: Option<String>,
}

impl Names {
    /// From the host's database, which is megabytes long: a process reads it once for each kind of device,
    /// and keeps nothing else of it.
    pub(crate) fn of(id: PciId, host: &Host) -> Self {
        static FOUND: Mutex<BTreeMap<(PathBuf, PciId), Names>> = Mutex::new(BTreeMap::new());
        let mut found = FOUND.lock().unwrap_or_else(PoisonError::into_inner);
        found.entry((host.path("/"), id)).or_insert_with(|| Self::read(id, host)).clone()
    }

    /// None where the host has no database.
    fn read(id: PciId, host: &Host) -> Self {
        for path in host.pci_id_databases() {
            match fs::read(&path) {
                Ok(bytes) => return Self::find(id, &String::from_utf8_lossy(&bytes)),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                // Names are a convenience: without them GPUs are shown by their ids.
                Err(error) => tracing::warn!(path = %path.display(), %error, "PCI ID database left out"),
            }
        }
        Self::default()
    }

    /// A vendor's devices follow it, one tab deep, and their boards two tabs deep; device classes follow the
    /// vendors.
    pub(crate) fn find(id: PciId, database: &str) -> Self {
        let mut lines = database.lines().take_while(|line| !line.starts_with("C "));
        let vendor = lines.find_map(|line| name(line, id.vendor));
        let device = lines
            .take_while(|line| line.is_empty() || line.starts_with(['\t', '#']))
            .find_map(|line| name(line.strip_prefix('\t')?, id.device));
        Self { vendor, device }
    }
}

/// That of an entry `1002  Advanced Micro Devices, Inc.`, where it is the one of `id`.
fn name(entry: &str, id: u16) -> Option<String> {
    let (digits, name) = entry.split_at_checked(4)?;
    let name = name.strip_prefix("  ")?;
    // Digits alone: the parser of numbers takes a sign, too.
    let hexadecimal = digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    (hexadecimal && u16::from_str_radix(digits, 16) == Ok(id)).then(|| Shown(name.trim()).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "#\tList of PCI ID's\n\n1002  Advanced Micro Devices, Inc. [AMD/ATI]\n\t74a1  Aqua Vanjaram \
        [Instinct MI300X]\n\t\t1002 0c34  a board\n8086  Intel Corporation\n\t56c0  Flex 170\nC 03  Display controller\n\t00  VGA\n";

    fn named(id: &str) -> (Option<String>, Option<String>) {
        let Names { vendor, device } = Names::find(id.parse().unwrap(), TEXT);
        (vendor, device)
    }

    #[test]
    fn vendors_and_devices_and_no_boards_or_classes() {
        let amd = Some("Advanced Micro Devices, Inc. [AMD/ATI]".to_owned());
        assert_eq!(named("1002:74a1"), (amd.clone(), Some("Aqua Vanjaram [Instinct MI300X]".to_owned())));
        assert_eq!(named("1002:0c34"), (amd.clone(), None));
        assert_eq!(named("8086:56c0"), (Some("Intel Corporation".to_owned()), Some("Flex 170".to_owned())));
        assert_eq!(named("1002:56c0"), (amd, None), "another vendor's device");
        assert_eq!(named("10de:2330"), (None, None));
        assert_eq!(named("0003:0000"), (None, None), "a class");
    }

    #[test]
    fn a_host_without_a_database_has_no_names() {
        let root = tempfile::tempdir().unwrap();
        let host = Host::new(root.path());
        assert_eq!(Names::of("1002:74a1".parse().unwrap(), &host), Names::default());
    }

    proptest::proptest! {
        #[test]
        fn no_database_breaks_the_search(text in "([0-9a-fC\t ]{0,8}(  )?.{0,4}\n?){0,10}", vendor: u16, device: u16) {
            Names::find(PciId { vendor, device }, &text);
        }
    }
}
