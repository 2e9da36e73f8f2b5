//! Names of PCI devices, from the database that distributions keep (`pci.ids` of the hwdata or
//! pciutils package; format: <https://pci-ids.ucw.cz>).

use crate::{Host, PciId};
use std::{
    collections::BTreeMap,
    fs, io,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
};
use vgpud_config::Shown;

/// Names by id. Parsed once in a process for each host root.
#[derive(Debug, Default)]
pub(crate) struct PciIds {
    vendors: BTreeMap<u16, String>,
    devices: BTreeMap<PciId, String>,
}

impl PciIds {
    /// The host's database; empty where it has none.
    pub(crate) fn of(host: &Host) -> Arc<Self> {
        static PARSED: Mutex<BTreeMap<PathBuf, Arc<PciIds>>> = Mutex::new(BTreeMap::new());
        let mut parsed = PARSED.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(parsed.entry(host.path("/")).or_insert_with(|| Arc::new(Self::read(host))))
    }

    fn read(host: &Host) -> Self {
        for path in host.pci_id_databases() {
            match fs::read(&path) {
                Ok(bytes) => return Self::parse(&String::from_utf8_lossy(&bytes)),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                // Names are a convenience: without them GPUs are shown by their ids.
                Err(error) => tracing::warn!(path = %path.display(), %error, "PCI ID database left out"),
            }
        }
        Self::default()
    }

    pub(crate) fn parse(text: &str) -> Self {
        let mut ids = Self::default();
        let mut vendor = None;
        let plain = |id: &str| id.bytes().all(|byte| byte.is_ascii_hexdigit());
        for line in text.lines() {
            // Device classes follow the vendors.
            if line.starts_with("C ") {
                break;
            }
            let (depth, entry) = match line.strip_prefix('\t') {
                Some(rest) if rest.starts_with('\t') => continue,
                Some(rest) => (1, rest),
                None => (0, line),
            };
            let named = entry.split_once("  ").and_then(|(id, name)| {
                let id = (id.len() == 4 && plain(id)).then(|| u16::from_str_radix(id, 16).ok())??;
                Some((id, Shown(name.trim()).to_string()))
            });
            match (depth, named, vendor) {
                (0, Some((id, name)), _) => {
                    ids.vendors.insert(id, name);
                    vendor = Some(id);
                }
                (1, Some((device, name)), Some(vendor)) => {
                    ids.devices.insert(PciId { vendor, device }, name);
                }
                _ => {}
            }
        }
        ids
    }

    /// Every name; a vendor's stands under its own id twice.
    #[cfg(feature = "fuzzing")]
    pub(crate) fn names(self) -> Vec<(PciId, String)> {
        let vendors = self.vendors.into_iter().map(|(vendor, name)| (PciId { vendor, device: vendor }, name));
        vendors.chain(self.devices).collect()
    }

    pub(crate) fn vendor(&self, id: PciId) -> Option<String> {
        self.vendors.get(&id.vendor).cloned()
    }

    pub(crate) fn device(&self, id: PciId) -> Option<String> {
        self.devices.get(&id).cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "#\tList of PCI ID's\n\n1002  Advanced Micro Devices, Inc. [AMD/ATI]\n\t74a1  Aqua Vanjaram \
        [Instinct MI300X]\n\t\t1002 0c34  a board\n8086  Intel Corporation\n\t56c0  Flex 170\nC 03  Display controller\n\t00  VGA\n";

    #[test]
    fn vendors_and_devices_and_no_boards_or_classes() {
        let ids = PciIds::parse(TEXT);
        let named = |id: &str| {
            let id = id.parse().unwrap();
            (ids.vendor(id), ids.device(id))
        };
        let amd = Some("Advanced Micro Devices, Inc. [AMD/ATI]".to_owned());
        assert_eq!(named("1002:74a1"), (amd.clone(), Some("Aqua Vanjaram [Instinct MI300X]".to_owned())));
        assert_eq!(named("1002:0c34"), (amd, None));
        assert_eq!(named("8086:56c0"), (Some("Intel Corporation".to_owned()), Some("Flex 170".to_owned())));
        assert_eq!(named("10de:2330"), (None, None));
    }

    #[test]
    fn a_host_without_a_database_has_no_names() {
        let root = tempfile::tempdir().unwrap();
        let host = Host::new(root.path());
        assert_eq!(PciIds::of(&host).vendor("1002:74a1".parse().unwrap()), None);
    }

    proptest::proptest! {
        #[test]
        fn no_database_breaks_the_parser(text in "([0-9a-fC\t ]{0,8}(  )?.{0,4}\n?){0,10}") {
            PciIds::parse(&text);
        }
    }
}
