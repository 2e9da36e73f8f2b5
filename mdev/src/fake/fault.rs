//! Faults that a test plants.

use super::FakeRival;
use crate::PciAddress;
use nix::errno::Errno;

#[derive(Debug)]
pub(super) enum Fault {
    Errno(Errno),
    Ignore,
    /// It is done, and then the process is killed.
    Die,
    Vanish(PciAddress),
    /// Somebody else is faster.
    Rival(FakeRival),
}

/// A fault that waits for its write.
#[derive(Debug)]
pub(super) struct Planted {
    pub(super) attribute: String,
    /// Writes to let pass before.
    pub(super) skip: usize,
    pub(super) fault: Fault,
}

/// The fault for a write to `path`, taken out of those that wait.
pub(super) fn strike(planted: &mut Vec<Planted>, path: &str) -> Option<Fault> {
    let mut struck = None;
    for (index, fault) in planted.iter_mut().enumerate() {
        if !path.ends_with(&fault.attribute) {
            continue;
        }
        match fault.skip.checked_sub(1) {
            Some(left) => fault.skip = left,
            None => struck = struck.or(Some(index)),
        }
    }
    struck.map(|index| planted.remove(index).fault)
}
