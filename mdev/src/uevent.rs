//! The kernel's events: devices that come, go, or change their driver.
//!
//! A netlink socket of family NETLINK_KOBJECT_UEVENT, group 1, gets a copy of every uevent straight
//! from the kernel (lib/kobject_uevent.c): `ACTION@DEVPATH`, then `KEY=value` texts, each ended by a
//! zero byte. Group 2 is udevd's and not read: events there wait for udev's rules.

mod message;

pub use message::{Action, Uevent, UeventSubject, parse};

use crate::Error;
use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::socket::{
        AddressFamily, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recvfrom, setsockopt, socket,
        sockopt,
    },
};
use std::{
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
    time::Duration,
};

const KERNEL_GROUP: u32 = 1;
/// The kernel's uevents have at most `UEVENT_BUFFER_SIZE` (2048) bytes and a header.
const LONGEST: usize = 8192;
/// Enabling 64 VFs makes some hundreds of events at once.
const QUEUE: usize = 4 << 20;

/// What came out of the socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Received {
    Event(Uevent),
    /// Events came faster than they were read and some are lost: read the inventory again.
    Lost,
}

/// A socket that receives the kernel's events. It does not block; wait for it with
/// [`next`](Self::next), or by its file descriptor.
#[derive(Debug)]
pub struct UeventSocket(OwnedFd);

impl UeventSocket {
    /// Listens from now on.
    ///
    /// # Errors
    /// Where the kernel gives no such socket (a user namespace has none).
    pub fn open() -> Result<Self, Error> {
        let open = || {
            let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
            let protocol = SockProtocol::NetlinkKObjectUEvent;
            let socket = socket(AddressFamily::Netlink, SockType::Raw, flags, protocol)?;
            // Beyond the system's limit for unprivileged processes, where that is allowed.
            setsockopt(&socket, sockopt::RcvBufForce, &QUEUE)
                .or_else(|_| setsockopt(&socket, sockopt::RcvBuf, &QUEUE))?;
            bind(socket.as_raw_fd(), &NetlinkAddr::new(0, KERNEL_GROUP))?;
            Ok(socket)
        };
        open().map(Self).map_err(|errno: Errno| Error::Events(errno.into()))
    }

    /// The next event of those that wait already; none where none does. Messages that are not the
    /// kernel's, or not events, are skipped.
    ///
    /// # Errors
    /// Where the socket fails.
    pub fn try_next(&self) -> Result<Option<Received>, Error> {
        let mut buffer = [0_u8; LONGEST];
        loop {
            match recvfrom::<NetlinkAddr>(self.0.as_raw_fd(), &mut buffer) {
                // Port 0 is the kernel; any root process can send to the group too.
                Ok((length, Some(sender))) if sender.pid() == 0 => {
                    if let Some(event) = parse(buffer.get(..length).unwrap_or_default()) {
                        return Ok(Some(Received::Event(event)));
                    }
                }
                Ok(_) | Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => return Ok(None),
                Err(Errno::ENOBUFS) => return Ok(Some(Received::Lost)),
                Err(errno) => return Err(Error::Events(errno.into())),
            }
        }
    }

    /// The next event, waited for at most `patience`; none where none came.
    ///
    /// # Errors
    /// Where the socket fails.
    pub fn next(&self, patience: Duration) -> Result<Option<Received>, Error> {
        if let Some(received) = self.try_next()? {
            return Ok(Some(received));
        }
        let timeout = PollTimeout::try_from(patience).unwrap_or(PollTimeout::MAX);
        match poll(&mut [PollFd::new(self.as_fd(), PollFlags::POLLIN)], timeout) {
            Ok(_) | Err(Errno::EINTR) => self.try_next(),
            Err(errno) => Err(Error::Events(errno.into())),
        }
    }
}

impl AsFd for UeventSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl AsRawFd for UeventSocket {
    fn as_raw_fd(&self) -> std::os::fd::RawFd {
        self.0.as_raw_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_gives_a_socket_and_nothing_is_waited_for_beyond_patience() {
        let socket = UeventSocket::open().unwrap();
        // What other devices of this machine report meanwhile is none of our business.
        socket.next(Duration::ZERO).unwrap();
    }
}
