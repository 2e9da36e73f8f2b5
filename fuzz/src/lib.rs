//! Every reader of outside bytes, one function a target: what an input may do is bounded here, and
//! what must hold of the result is asserted.
//!
//! Two ways run the same functions: `cargo fuzz run NAME` (libFuzzer, nightly), and `tests/bounded`
//! (the stable toolchain, in `cargo test`). `fuzz/README.md` says how to run them and add one.

#![forbid(unsafe_code)]
// Panics are how a target tells.
#![allow(clippy::unwrap_used)]

mod answers;
mod device;
mod files;
mod guest;
mod kernel;
mod layouts;
mod ledger;
mod message;
mod nvidia;
mod requests;
mod settings;
mod tree;
mod words;

/// Calls a macro with the names of all targets.
#[macro_export]
macro_rules! for_each_target {
    ($call:ident) => {
        $call! {
            words, settings, uevent, sysfs_tree, module_alias, pci_ids, pci_config, pci_resource,
            mdev_description, vfio_region, device_report, qemu_output, qemu_version, kernel_line,
            proc_files, cdi_file, grpc_request, ledger_rows, daemon_answer, nvidia_names, creatable_vgpus,
            mig_listing, layout_import,
        }
    };
}

pub use answers::daemon_answer;
pub use device::{device_report, pci_config, pci_resource, vfio_region};
pub use files::{cdi_file, module_alias, pci_ids};
pub use guest::{kernel_line, qemu_output, qemu_version};
pub use kernel::{mdev_description, proc_files, uevent};
pub use layouts::layout_import;
pub use ledger::ledger_rows;
pub use nvidia::{creatable_vgpus, mig_listing, nvidia_names};
pub use requests::grpc_request;
pub use settings::settings;
pub use tree::sysfs_tree;
pub use words::words;

/// libFuzzer's program of a target. Without libFuzzer it is empty: the tests run the target then.
#[macro_export]
macro_rules! fuzz {
    ($target:ident) => {
        #[cfg(any(fuzzing, feature = "libfuzzer"))]
        libfuzzer_sys::fuzz_target!(|data: &[u8]| $crate::$target(data));

        #[cfg(not(any(fuzzing, feature = "libfuzzer")))]
        fn main() {}
    };
}

/// Inputs are texts mostly; bytes that are none are replaced, as the readers do.
fn text(data: &[u8]) -> std::borrow::Cow<'_, str> {
    String::from_utf8_lossy(data)
}

/// A folder that is gone when it is dropped; in memory where the host has such, for it is made for each
/// input.
fn folder() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}
