//! The daemon: one task that owns state and ledger, a worker for each GPU, and the API in front.
//!
//! ```text
//! client --gRPC--> service --Command--> core --journalled effect--> worker of the GPU --> kernel
//!    ^                                   |  ^                             |
//!    +------------ snapshot -------------+  +--------- Finished ----------+
//!                  kernel events, holders' ends, deadlines ----^
//! ```
//!
//! Start: settings, lock of the state folder, [`sandbox`], ledger, inventory, reconciliation, socket,
//! `READY=1`.
//! Stop: what runs is finished (up to a deadline), leases and VMs are left alone, the socket goes.
//!
//! # When things go wrong
//!
//! - **The daemon dies.** Every effect was journalled before it ran and follows from the phase of
//!   its slice; the next start runs it again. VMs do not notice.
//! - **The kernel blocks.** Only the worker of that GPU does. When the deadline passes, the slice is
//!   quarantined with what was waited for, requests for that GPU are refused, and the late result is
//!   recorded when it comes.
//! - **A device is held.** Nothing is torn away: destroying and resetting come after the proof that
//!   nobody holds it, which is tried until `timeouts.release` is over.
//! - **The ledger cannot be written.** The daemon ends; nothing is done that was not recorded.

pub mod executor;
pub mod holder;
pub mod sandbox;

mod access;
mod admission;
mod consumer;
mod convert;
mod core;
mod device_command;
mod error;
mod folder;
mod kernel_events;
mod layout;
mod lock;
mod logging;
mod lookout_command;
mod message;
mod options;
mod prepared;
mod progress;
mod readiness;
pub(crate) mod request;
mod service;
mod snapshot;
mod socket;
mod start;
mod vf_command;
mod vf_process;
mod worker;

pub use access::{AccessDenied, Unread};
pub use admission::Full;
pub use consumer::ConsumerError;
pub use device_command::DeviceCommand;
pub use error::StartError;
pub use holder::HolderError;
pub use layout::LayoutError;
pub use logging::init as init_logging;
pub use lookout_command::LookoutCommand;
pub use options::{LogFormat, Options};
pub use prepared::Prepared;
pub use request::RequestError;
pub use start::{Daemon, Signals};
pub use vf_command::VfCommand;

#[cfg(test)]
mod tests;
