//! PF drivers of the simulated GPUs, which are kernel modules with parameters. A host is started with them
//! loaded (`HostSpec::kernel_parameter` has their parameters then); a test may want one loaded otherwise.

use super::{Output, SimGpu};
use std::{path::Path, process::Command};

/// Loads a PF driver anew with these parameters; its GPUs, in the order of their addresses.
#[track_caller]
pub fn load(module: &str, parameters: &[&str]) -> Vec<SimGpu> {
    unload(module);
    insert(module, parameters).success();
    SimGpu::of_driver(module)
}

/// What comes of loading one that is not loaded.
pub fn insert(module: &str, parameters: &[&str]) -> Output {
    Output::of(Command::new("modprobe").arg(module).args(parameters))
}

/// A test that failed may have left it so.
#[track_caller]
pub fn unload(module: &str) {
    if Path::new("/sys/module").join(module).try_exists().unwrap() {
        Output::of(Command::new("rmmod").arg(module)).success();
    }
}
