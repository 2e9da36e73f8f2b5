//! The lab: a GPU host without hardware, for tests, demo and benchmarks.
//!
//! ```text
//! machine (Debian, root)            lab host (Debian 13 in QEMU)            micro-VM (KVM)
//! Lab::prepare  builds once         /lab/init, /lab/agent
//! Lab::boot     starts a host  -->  simulated GPUs, VFIO, KVM          -->  /lab/vm/vmlinuz + initrd
//! Host::run     order, files   -->  job, /mnt/host                          gpu list write X read
//! ```
//!
//! ```no_run
//! use vgpud_lab::{HostSpec, Job, Lab, Progress, VfioFlavour};
//!
//! let lab = Lab::prepare(Progress::detect())?;
//! let host = lab.boot(&HostSpec::new(VfioFlavour::Cdev).gpus(["mi300x"]))?;
//! let output = host.run(&Job::new(["lspci", "-nn"]))?.success()?;
//! print!("{}", output.stdout);
//! host.shutdown()?;
//! # Ok::<(), vgpud_lab::Error>(())
//! ```
//!
//! Nothing but a Linux kernel that Debian ships, QEMU and the project's own kernel modules is in the
//! host: what is shown there is shown on the real interfaces.

#![forbid(unsafe_code)]

mod accelerator;
mod agent;
mod cache;
mod command;
mod dmar;
mod error;
mod host;
mod job;
mod lab;
mod libtest;
mod log_file;
mod packages;
mod progress;
mod qemu;
mod root;
mod run_folder;
mod running;
mod sources;
mod spec;
mod terminal;
#[cfg(target_arch = "x86_64")]
pub mod trespass;
mod wait;

pub use accelerator::Accelerator;
pub use error::{Error, Result};
pub use host::{DISK, Host, SHARE};
pub use job::{Job, Output, Stream};
pub use lab::Lab;
pub use libtest::{Length, TestOutcome, TestReport, TestResult, run_test_binary};
pub use progress::{Progress, Step};
pub use running::Running;
pub use spec::{Console, HostSpec, Iommu, VfioFlavour};
pub use wait::poll;
