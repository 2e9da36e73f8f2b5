//! What can go wrong between a slice and its consumer.

use crate::{holders::HoldError, isolation::IsolationError, micro_vm::VmError, node::NodeError};

/// Any failure of this crate: the module's own error, which names the device, the value and the
/// way out.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Node(#[from] NodeError),
    #[error(transparent)]
    Hold(#[from] HoldError),
    #[error(transparent)]
    Isolation(#[from] IsolationError),
    #[error(transparent)]
    Vm(#[from] VmError),
}
