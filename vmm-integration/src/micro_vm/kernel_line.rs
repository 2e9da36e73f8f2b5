//! The command line of the guest's kernel, and the guest's command behind it.

use crate::Error;
use std::fmt;

/// The guest kernel's command line: parameters, and behind `--` the arguments of the guest's init.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KernelLine(String);

impl KernelLine {
    /// Console on ttyS0, a reset on panic, then `parameters` (kernel syntax, may be empty), then the
    /// guest's `command` (may be empty).
    ///
    /// # Errors
    /// Where the kernel cannot hand an argument to init as it is: the error names it and says why.
    pub fn new(_parameters: &str, _command: &[String]) -> Result<Self, Error> {
        todo!()
    }
}

impl fmt::Display for KernelLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
