//! Is this host ready? Each failed check says how to mend it.

use serde::Serialize;
use vgpud_config::Settings;
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

/// Runs every check. Reads only; never opens a device.
pub fn examine(_host: &Host, _settings: &Settings) -> Vec<Check> {
    todo!()
}
