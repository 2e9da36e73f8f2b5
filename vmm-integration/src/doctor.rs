//! Is this host ready? Each failed check says how to mend it.
//!
//! | check | what it looks at |
//! | --- | --- |
//! | `root` | whether this user is root, as vgpud is |
//! | `iommu` | the kernel's IOMMUs and groups |
//! | `interrupts` | `allow_unsafe_interrupts` of VFIO and iommufd |
//! | `vfio-modules` | vfio, vfio_pci and vfio_iommu_type1: loaded, built in, loadable or missing |
//! | `vfio-container` | access to `/dev/vfio/vfio` |
//! | `vfio-cdev` | `/dev/iommu` and `/dev/vfio/devices`, and what the settings ask for |
//! | `kvm` | `/dev/kvm` opens, has API 12, makes a VM and its VFIO device |
//! | `memory-lock` | the memory lock limit against the micro-VM's memory |
//! | `qemu` | QEMU's program and version |
//! | `gpus` | GPUs found, and whether one can be cut |
//! | `gpu` | each GPU: its driver, and how it can be cut or why not |
//! | `isolation` | each GPU's IOMMU group and that of each of its slices, and which port lacks ACS |
//!
//! Works without the daemon, and opens no device but `/dev/kvm`.

mod gpus;
mod machine;
pub(crate) mod qemu;
mod vfio;

use serde::Serialize;
use vgpud_config::{Settings, printable};
use vgpud_mdev::Host;

/// What one check found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase", tag = "verdict")]
pub enum Verdict {
    Pass,
    /// Works, with a limit that the operator should know.
    Warn {
        mend: String,
    },
    Fail {
        mend: String,
    },
    /// Could not be checked, and why.
    Skip {
        reason: String,
    },
}

/// One check of the host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Check {
    /// Stable word, such as `iommu` or `vfio-modules`.
    pub name: &'static str,
    /// What was found, in a sentence.
    pub found: String,
    #[serde(flatten)]
    pub verdict: Verdict,
}

impl Check {
    pub fn pass(name: &'static str, found: impl Into<String>) -> Self {
        Self { name, found: printable(&found.into()), verdict: Verdict::Pass }
    }

    pub fn warn(name: &'static str, found: impl Into<String>, mend: impl Into<String>) -> Self {
        Self {
            name,
            found: printable(&found.into()),
            verdict: Verdict::Warn { mend: printable(&mend.into()) },
        }
    }

    pub fn fail(name: &'static str, found: impl Into<String>, mend: impl Into<String>) -> Self {
        Self {
            name,
            found: printable(&found.into()),
            verdict: Verdict::Fail { mend: printable(&mend.into()) },
        }
    }

    pub fn skip(name: &'static str, found: impl Into<String>, reason: impl Into<String>) -> Self {
        Self {
            name,
            found: printable(&found.into()),
            verdict: Verdict::Skip { reason: printable(&reason.into()) },
        }
    }

    /// A check that could not read what it looks at.
    fn unreadable(name: &'static str, error: &dyn std::error::Error) -> Self {
        let mut found = error.to_string();
        let mut cause = error.source();
        while let Some(error) = cause {
            found = format!("{found}: {error}");
            cause = error.source();
        }
        Self::fail(name, found, "run as root; if it stays, look into the kernel's log")
    }
}

/// Runs every check that this crate knows, in the order of the table above.
pub fn examine(host: &Host, settings: &Settings) -> Vec<Check> {
    let mut checks = vec![
        machine::root(),
        machine::iommu(host),
        vfio::interrupts(host),
        vfio::modules(host),
        vfio::container(host),
        vfio::cdev(host, &settings.vfio),
        machine::kvm(host),
        machine::memory_lock(host, settings.run.memory),
        qemu::qemu(&settings.run.qemu),
    ];
    checks.extend(gpus::gpus(host, settings));
    checks
}

#[cfg(test)]
mod tests;
