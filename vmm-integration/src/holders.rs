//! Who holds a VFIO node open. "Free" is judged by open handles and by a trial open, never by what
//! a VMM or a container runtime says.

use crate::Error;
use vgpud_mdev::{Host, VfioNodes};

/// A process that holds a node open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    pub pid: u32,
    /// Its program's name (`/proc/PID/comm`).
    pub program: String,
}

/// The processes that hold one of `nodes` open, from `/proc/*/fd`.
///
/// # Errors
/// Where /proc cannot be read. A process that ends meanwhile is left out.
pub fn holders(_host: &Host, _nodes: &VfioNodes) -> Result<Vec<Holder>, Error> {
    todo!()
}

/// Proves that nobody holds the device: no open handle, and the group (or cdev) opens.
///
/// # Errors
/// [`Error`] naming the holders.
pub fn prove_free(_host: &Host, _nodes: &VfioNodes) -> Result<(), Error> {
    todo!()
}
