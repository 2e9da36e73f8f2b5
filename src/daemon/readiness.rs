//! Waiting for file descriptors without a thread each.

use std::{io, os::fd::AsRawFd};
use tokio::io::{Interest, unix::AsyncFd};

/// An owner of a file descriptor that answers with the same open descriptor for as long as it
/// lives: what `AsyncFd` asks of its content.
pub trait OwnsDescriptor: AsRawFd {}

impl OwnsDescriptor for std::os::fd::OwnedFd {}
impl OwnsDescriptor for vgpud_mdev::uevent::UeventSocket {}

/// Registers a descriptor to be waited for until it can be read.
///
/// # Errors
/// Where the runtime cannot wait for it.
// Tokio deprecates the safe constructor because a careless type could close or change its
// descriptor; the trait above is the promise that its successor, an unsafe function, asks for.
#[allow(deprecated)]
pub fn readable<T: OwnsDescriptor>(owner: T) -> io::Result<AsyncFd<T>> {
    AsyncFd::with_interest(owner, Interest::READABLE)
}
