//! Texts of the kernel.

use crate::message;
use vgpud_mdev::uevent::{self, UeventSubject};

/// A message on the uevent socket.
pub fn uevent(data: &[u8]) {
    let Some(event) = uevent::parse(data) else { return };
    assert!(event.devpath.len() + event.subsystem.len() < data.len(), "it says more than the message");
    match (&event.subject, event.subsystem.as_str()) {
        (UeventSubject::Pci(_), "pci") | (UeventSubject::Mdev(_), "mdev") | (UeventSubject::Other, _) => {}
        other => panic!("a subject of another subsystem: {other:?}"),
    }
}

/// An mdev type's `description`.
pub fn mdev_description(data: &[u8]) {
    let text = crate::text(data);
    let _ = vgpud_mdev::fuzzing::described_most(&text);
    if let Some(memory) = vgpud_mdev::fuzzing::described_memory(&text) {
        assert_eq!(memory.to_string().parse(), Ok(memory), "an amount that a request cannot name");
    }
}

/// `/proc/PID/stat` of a holder, and its `comm`: a process may give itself any name.
pub fn proc_files(data: &[u8]) {
    let name = vgpud_vmm::fuzzing::program(data);
    message::check(&name);
    assert!(!name.is_empty());
    // The same name where the kernel writes it into stat, which the start time must be told from.
    let name: Vec<u8> = data.iter().copied().filter(|byte| *byte != 0).take(15).collect();
    let stat = [b"7 (", &*name, b") S 1 7 7 0 -1 4194304 99 0 0 0 1 2 0 0 20 0 1 0 4242 0 0\n"].concat();
    assert_eq!(vgpud::fuzzing::start_time(&stat), Some(4242), "{}", crate::text(&stat));
    let _ = vgpud::fuzzing::start_time(data);
}
