//! The text of one uevent.

use crate::{MdevUuid, PciAddress};
use std::str::FromStr;

/// What happened (lib/kobject_uevent.c, `kobject_actions`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    Add,
    Remove,
    Change,
    Move,
    Online,
    Offline,
    Bind,
    Unbind,
}

/// To which device it happened; what happens to a device's place in VFIO happens to the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UeventSubject {
    Pci(PciAddress),
    Mdev(MdevUuid),
    Other,
}

/// One event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Uevent {
    pub action: Action,
    /// Path of the device below `/sys`.
    pub devpath: String,
    /// `pci`, `mdev`, `vfio`, `vfio-dev`, …
    pub subsystem: String,
    pub subject: UeventSubject,
}

impl FromStr for Action {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        Ok(match text {
            "add" => Self::Add,
            "remove" => Self::Remove,
            "change" => Self::Change,
            "move" => Self::Move,
            "online" => Self::Online,
            "offline" => Self::Offline,
            "bind" => Self::Bind,
            "unbind" => Self::Unbind,
            _ => return Err(()),
        })
    }
}

/// The event in a message; none where it is something else, such as one of udevd's.
#[must_use]
pub fn parse(message: &[u8]) -> Option<Uevent> {
    let mut texts = message.split(|byte| *byte == 0).map(|text| std::str::from_utf8(text).ok());
    let (action, devpath) = texts.next()??.split_once('@')?;
    let action = action.parse().ok()?;
    let pairs: Vec<_> = texts.flatten().filter_map(|text| text.split_once('=')).collect();
    let value = |key: &str| pairs.iter().find(|(name, _)| *name == key).map(|(_, value)| *value);
    let subsystem = value("SUBSYSTEM")?.to_owned();
    let name = devpath.rsplit('/').next().unwrap_or_default();
    let subject = match subsystem.as_str() {
        // A device that somebody has open leaves its VFIO driver when that one closes it, and this
        // event alone comes before (drivers/vfio/vfio_main.c, `vfio_unregister_group_dev`).
        "vfio-dev" => devpath.rsplit('/').nth(2).and_then(|parent| {
            let mdev = || parent.parse().map(UeventSubject::Mdev).ok();
            parent.parse().map(UeventSubject::Pci).ok().or_else(mdev)
        }),
        "pci" => value("PCI_SLOT_NAME").unwrap_or(name).parse().map(UeventSubject::Pci).ok(),
        "mdev" => name.parse().map(UeventSubject::Mdev).ok(),
        _ => None,
    };
    let subject = subject.unwrap_or(UeventSubject::Other);
    Some(Uevent { action, devpath: devpath.to_owned(), subsystem, subject })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_function_bound_to_a_driver() {
        let message = b"bind@/devices/pci0000:f0/0000:f0:02.0\0ACTION=bind\0DEVPATH=/devices/pci0000:f0/0000:f0:02.0\0\
            SUBSYSTEM=pci\0DRIVER=vfio-pci\0PCI_CLASS=120000\0PCI_ID=1002:74B5\0PCI_SLOT_NAME=0000:f0:02.0\0SEQNUM=2203\0";
        let event = parse(message).unwrap();
        assert_eq!(event.action, Action::Bind);
        assert_eq!(event.devpath, "/devices/pci0000:f0/0000:f0:02.0");
        assert_eq!(event.subsystem, "pci");
        assert_eq!(event.subject, UeventSubject::Pci("0000:f0:02.0".parse().unwrap()));
    }

    #[test]
    fn a_mediated_device_and_a_parent() {
        let uuid = "83b8f4f2-509f-382f-3c1e-e6bfe0fa1001";
        let message = format!("add@/devices/pci0000:f0/0000:f0:00.0/{uuid}\0ACTION=add\0SUBSYSTEM=mdev\0");
        assert_eq!(parse(message.as_bytes()).unwrap().subject, UeventSubject::Mdev(uuid.parse().unwrap()));
        let message = b"change@/devices/pci0000:f0/0000:f0:00.0\0SUBSYSTEM=pci\0MDEV_STATE=registered\0";
        let event = parse(message).unwrap();
        assert_eq!(event.action, Action::Change);
        assert_eq!(event.subject, UeventSubject::Pci("0000:f0:00.0".parse().unwrap()));
        let message =
            format!("remove@/devices/pci0000:f0/0000:f0:00.0/{uuid}/vfio-dev/vfio3\0SUBSYSTEM=vfio-dev\0");
        assert_eq!(parse(message.as_bytes()).unwrap().subject, UeventSubject::Mdev(uuid.parse().unwrap()));
        let message = b"remove@/devices/pci0000:f0/0000:f0:02.0/vfio-dev/vfio0\0SUBSYSTEM=vfio-dev\0";
        assert_eq!(parse(message).unwrap().subject, UeventSubject::Pci("0000:f0:02.0".parse().unwrap()));
        let message = b"add@/devices/virtual/vfio/7\0SUBSYSTEM=vfio\0";
        assert_eq!(parse(message).unwrap().subject, UeventSubject::Other);
    }

    #[test]
    fn what_is_no_event_of_the_kernel() {
        let messages: [&[u8]; 6] = [
            b"",
            b"libudev\0\xfe\xed\xca\xfe",
            b"add@/devices/x\0ACTION=add\0",
            b"explode@/devices/x\0SUBSYSTEM=pci\0",
            b"\xff\xff@\0SUBSYSTEM=pci\0",
            b"add",
        ];
        for message in messages {
            assert_eq!(parse(message), None, "{}", String::from_utf8_lossy(message));
        }
    }

    proptest! {
        #[test]
        fn no_message_breaks_the_parser(message: Vec<u8>) {
            let _ = parse(&message);
        }

        #[test]
        fn nor_one_that_looks_like_an_event(
            head in "(add|bind|remove)?@?(/[a-f0-9:.]{0,9}){0,4}",
            pairs in prop::collection::vec("(SUBSYSTEM|PCI_SLOT_NAME|x)?=?(pci|mdev|[0-9a-f:.]{0,12}|.{0,4})", 0..6),
        ) {
            let message = std::iter::once(head).chain(pairs).collect::<Vec<_>>().join("\0");
            let _ = parse(message.as_bytes());
        }

        #[test]
        fn every_cut_message_is_still_safe(cut in 0_usize..120) {
            let message = b"bind@/devices/pci0000:f0/0000:f0:02.0\0SUBSYSTEM=pci\0PCI_SLOT_NAME=0000:f0:02.0\0";
            let _ = parse(&message[..cut.min(message.len())]);
        }
    }
}
