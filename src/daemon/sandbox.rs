//! Least privilege: the rights that vgpud gives up before it serves, for good.
//!
//! It runs as root and takes orders from users. Whoever gets to run code in it, by a fault in it or
//! in a library, is to get no further than its own work. Three walls stand behind one another:
//! `capabilities`, `files` (Landlock) and `calls` (seccomp), with `no_new_privs` below them.
//! Two processes that the daemon starts have walls of their own, and one, where NVIDIA's tools are there, has
//! none and takes few orders:
//!
//! | process | capabilities | files | system calls |
//! | --- | --- | --- | --- |
//! | daemon | DAC_OVERRIDE CHOWN FOWNER IPC_LOCK | writes PCI devices' attributes, shares of Intel's VFs that only debugfs has, and its own folders; runs itself | its work |
//! | `vgpud device` | DAC_OVERRIDE IPC_LOCK | writes VFIO and KVM nodes and its vendor's clear, runs nothing | no sockets, no change of files, no programs |
//! | `vgpud vfs` | all that it was started with | the same | the same; takes only `sriov-manage -e` or `-d`, and what `nvidia-smi` does with MIG, for a GPU of NVIDIA's (`vf_process`) |
//! | `vgpud lookout` | SYS_PTRACE DAC_READ_SEARCH SYS_ADMIN | opens nothing to write | as `device`, opens only to read, no requests to devices |
//!
//! The lookout (`vgpud_vmm::lookout`) is outside of Landlock, which would take from it the sight of other
//! processes' open files; so it may change no files at all. What else needs more than the
//! daemon keeps, it takes hold of before: its lock, its folders and the socket of kernel events.
//!
//! All walls are a thread's own and pass to the threads and programs that it starts. So they are
//! entered while there is one thread, and [`enter`] refuses where there are more.
//!
//! # What is not behind a wall
//!
//! Unix sockets of other services that are files: the host's user database may be behind one
//! (sssd, nscd), and no Landlock below ABI 9 tells them apart. Reading `/etc`. Owners and
//! modes of files: neither Landlock nor seccomp tells a node, which is given to its consumer, from them.
//! Where the kernel has no Landlock, files: [`Sandbox`] says so wherever it is shown. Code that it wrote
//! into a file of its own folders: no filter tells that file from a library when it is mapped to be run.

mod calls;
mod capabilities;
mod files;

pub use files::{Places, Walls};

use nix::errno::Errno;
use rustix::thread::{CapabilitySet, set_no_new_privs};
use std::{
    error::Error,
    fmt, io, iter,
    path::PathBuf,
    sync::atomic::{AtomicBool, Ordering},
};
use vgpud_config::{Confinement, Settings};
use vgpud_mdev::Host;
use vgpud_vmm::doctor;

/// Which process gives up its rights.
#[derive(Clone, Debug)]
pub enum Process<'a> {
    Daemon(&'a Places),
    Device {
        host: &'a Host,
        /// The attribute that its work writes, where there is one.
        writes: Option<PathBuf>,
    },
    Lookout,
}

/// Whether this process has entered. A look at the kernel would not tell: systemd has filters too.
static ENTERED: AtomicBool = AtomicBool::new(false);

/// What holds, in the words of `vgpuctl status`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sandbox {
    Off,
    On { files: Walls, capabilities: CapabilitySet },
}

/// Why rights could not be given up. Nothing is served then: a wall that is thought to stand is worse
/// than none.
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    #[error("This process has {0} threads by now, and a wall would hold for one of them")]
    Threads(usize),
    #[error("Cannot read {}", path.display())]
    Read {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("Cannot set no_new_privs")]
    NoNewPrivs(#[source] io::Error),
    #[error("Cannot give up capabilities")]
    Capabilities(#[source] io::Error),
    #[error("Landlock takes no rule for {}", path.display())]
    Rule {
        path: PathBuf,
        #[source]
        source: landlock::RulesetError,
    },
    #[error("Landlock does not hold")]
    Landlock(#[source] landlock::RulesetError),
    #[error("The kernel takes no filter of system calls; it needs CONFIG_SECCOMP_FILTER")]
    Seccomp(#[source] seccompiler::Error),
}

impl Sandbox {
    #[must_use]
    pub const fn is_on(&self) -> bool {
        matches!(self, Self::On { .. })
    }
}

impl fmt::Display for Sandbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Off => f.write_str("off, by the settings"),
            Self::On { files, capabilities } => {
                write!(f, "{files}, seccomp, {} capabilities", capabilities.bits().count_ones())
            }
        }
    }
}

/// Gives up what `process` does not need. There is no way back.
///
/// # Errors
/// Where a wall does not stand; some of them may.
pub fn enter(process: Process<'_>) -> Result<Sandbox, SandboxError> {
    let threads = threads()?;
    if threads != 1 {
        return Err(SandboxError::Threads(threads));
    }
    set_no_new_privs(true).map_err(|errno| SandboxError::NoNewPrivs(errno.into()))?;
    let (wanted, rules, calls) = match process {
        Process::Daemon(places) => (capabilities::DAEMON, Some(files::daemon(places)?), calls::Set::Daemon),
        Process::Device { host, writes } => {
            (capabilities::DEVICE, Some(files::device(host, writes)), calls::Set::Device)
        }
        Process::Lookout => (capabilities::LOOKOUT, None, calls::Set::Lookout),
    };
    let capabilities = capabilities::keep(wanted).map_err(SandboxError::Capabilities)?;
    let files = rules.map_or(Ok(Walls::None), |rules| files::restrict(&rules))?;
    calls::restrict(calls).map_err(SandboxError::Seccomp)?;
    ENTERED.store(true, Ordering::Relaxed);
    Ok(Sandbox::On { files, capabilities })
}

fn threads() -> Result<usize, SandboxError> {
    let path = Host::default().path("/proc/self/task");
    let count = std::fs::read_dir(&path).map(Iterator::count);
    count.map_err(|source| SandboxError::Read { path, source })
}

/// A word for whoever meets a refusal that a wall may have made: root is seldom refused otherwise.
#[must_use]
pub fn hint(error: &(dyn Error + 'static)) -> Option<&'static str> {
    (is_refusal(error) && ENTERED.load(Ordering::Relaxed)).then_some(
        "vgpud's own sandbox may have refused this: start vgpud again where a folder or device is new, or set sandbox = \"off\" under [daemon]",
    )
}

fn is_refusal(error: &(dyn Error + 'static)) -> bool {
    let chain = iter::successors(Some(error), |error| (*error).source());
    let mut numbers = chain.filter_map(|error| error.downcast_ref::<io::Error>()?.raw_os_error());
    numbers.any(|number| matches!(Errno::from_raw(number), Errno::EACCES | Errno::EPERM))
}

/// What the sandbox would be on this host, for `vgpuctl doctor`.
#[must_use]
pub fn examine(settings: &Settings) -> doctor::Check {
    const NAME: &str = "sandbox";
    if settings.daemon.sandbox == Confinement::Off {
        let mend = "take sandbox = \"off\" from [daemon] where nothing asks for it";
        return doctor::Check::warn(NAME, "off, by the settings", mend);
    }
    match files::supported() {
        Walls::Landlock { abi, .. } => {
            doctor::Check::pass(NAME, format!("on; the kernel has Landlock ABI {abi}"))
        }
        Walls::None => {
            let mend =
                "use a kernel with CONFIG_SECURITY_LANDLOCK, and add landlock to lsm= on its command line";
            doctor::Check::warn(NAME, "on, without Landlock: this kernel has none", mend)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_are_known_wherever_they_stand_in_the_chain() {
        let wrapped = |number: i32| {
            let source = io::Error::from_raw_os_error(number);
            vgpud_kata::cdi::Error::Write { path: "/run/cdi/vgpud-s1.json".into(), source }
        };
        assert!(is_refusal(&wrapped(Errno::EACCES as i32)) && is_refusal(&wrapped(Errno::EPERM as i32)));
        assert!(!is_refusal(&wrapped(Errno::ENOSPC as i32)));
        assert_eq!(hint(&wrapped(Errno::EACCES as i32)), None, "nothing confines this test");
    }

    #[test]
    fn a_wall_is_not_entered_by_one_of_many_threads() {
        // The test harness has a thread beside this one.
        assert!(matches!(enter(Process::Lookout), Err(SandboxError::Threads(2..))));
    }
}
