//! How much of vgpud clients can take up: connections, calls in flight, and the time that both may be
//! held without use.
//!
//! | | of one user | of all users but root | of root |
//! | --- | --- | --- | --- |
//! | connections | 64 | 512 | 2048 |
//! | calls in flight | 32 | 256 | 1024 |
//!
//! "Root" is also whoever runs the daemon. It has places of its own, so that nobody can keep it out.
//!
//! A connection too many is answered: its calls fail with `TOO_MANY_CONNECTIONS`, and it is closed
//! after two seconds. A call too many fails with `BUSY` before anything is done for it. A call keeps its
//! place until it has come to its end, also where its client has gone: so the messages in the core's
//! queue are never more than these places. A connection of a user without a call is closed after
//! [`IDLE`](connection::IDLE); clients of gRPC connect anew by themselves.

pub mod connection;
mod door;
mod places;
#[cfg(test)]
mod tests;

pub use connection::{Line, OnLine};
pub use door::Door;
pub use places::{Full, Place, Places, Who};
