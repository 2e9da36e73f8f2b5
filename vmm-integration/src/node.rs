//! The VFIO node that a consumer gets.

use crate::Error;
use std::path::PathBuf;
use vgpud_config::NodeKind;
use vgpud_mdev::{Host, VfioNodes};

/// Which node to hand over.
///
/// # Errors
/// Where the kind that the settings ask for does not exist on this host.
pub fn choose(_host: &Host, _nodes: &VfioNodes, _kind: NodeKind) -> Result<PathBuf, Error> {
    todo!()
}
