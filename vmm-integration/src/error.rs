//! What can go wrong between a slice and its consumer.

use std::{io, path::PathBuf};

/// One failure, in a sentence that names the device, the value and the way out.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("Cannot read {}", path.display())]
    Read {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}
