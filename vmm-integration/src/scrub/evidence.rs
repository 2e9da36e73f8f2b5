//! What a scrub did and saw.

use super::Proof;
use serde::{Deserialize, Serialize};
use std::fmt;

/// The record of one scrub. Its Display is one sentence for events and messages.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Evidence {
    #[serde(flatten)]
    pub verdict: Verdict,
    pub reset: ResetEvidence,
    /// Evidence of before vendors' clears has none.
    #[serde(default)]
    pub vendor_clear: VendorClear,
    /// What was done, in this order.
    pub steps: Vec<Step>,
    /// Bytes of device memory that the last look covered; 0 where there was none.
    pub bytes_checked: u64,
    /// Bytes that were not zero before anything was overwritten: after the reset, the vendor's clear and
    /// what was waited for.
    pub bytes_found: u64,
    /// How long the first look at all the memory took, in microseconds, with what it waited for.
    pub read_back_us: u64,
    /// From opening the device to its closing, in microseconds.
    pub duration_us: u64,
}

/// What a scrub came to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "verdict")]
pub enum Verdict {
    /// The reset left nothing: all of the memory read zero.
    Clean,
    /// The reset left something, and after overwriting all of the memory read zero.
    CleanedByOverwrite,
    /// The memory keeps what it has. The offset is in bytes from the start of the BAR.
    Dirty { bar: u32, first_offset: u64 },
    /// Nothing, or not all, could be checked.
    Unchecked { why: String },
}

/// What became of the reset.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "outcome")]
pub enum ResetEvidence {
    /// The kernel says that it reset the device. `methods` is what sysfs lists (`flr`), the one to
    /// try first at its head; empty for a mediated device, whose driver does it.
    Done {
        methods: String,
    },
    /// The device offers none.
    NotOffered,
    Failed {
        why: String,
        errno: Option<i32>,
    },
}

/// What became of the request that the vendor's driver clears the memory. The driver's word is none
/// for what can be seen: that is read back.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "outcome")]
pub enum VendorClear {
    /// The driver reports success; `by` is its interface.
    Reported {
        by: String,
    },
    #[default]
    NotOffered,
    Failed {
        why: String,
    },
}

/// Something that was done to the device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "step")]
pub enum Step {
    /// By VFIO, asked for or at opening.
    Reset,
    VendorClear,
    ReadBack {
        bytes: u64,
    },
    /// Until what was found had turned to zero by itself, or had not within the time.
    Wait,
    Overwrite {
        bytes: u64,
    },
}

impl Evidence {
    /// Whether all of the last owner's memory was seen to be gone.
    #[must_use]
    pub const fn is_clean(&self) -> bool {
        matches!(self.verdict, Verdict::Clean | Verdict::CleanedByOverwrite)
    }
}

impl fmt::Display for Evidence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { bytes_checked: checked, bytes_found: found, .. } = self;
        let after = match &self.reset {
            ResetEvidence::Done { methods } if methods.is_empty() => " after its reset".to_owned(),
            ResetEvidence::Done { methods } => format!(" after its reset ({methods})"),
            ResetEvidence::NotOffered => ", without a reset".to_owned(),
            ResetEvidence::Failed { .. } => String::new(),
        };
        let after = match &self.vendor_clear {
            VendorClear::Reported { by } => format!("{after} and its vendor's clear ({by})"),
            VendorClear::NotOffered | VendorClear::Failed { .. } => after,
        };
        match &self.verdict {
            Verdict::Clean => write!(f, "all {checked} bytes of its memory read zero{after}"),
            Verdict::CleanedByOverwrite => write!(
                f,
                "{found} bytes of its memory were not zero{after}; overwritten, all {checked} read zero"
            ),
            Verdict::Dirty { bar, first_offset } => write!(
                f,
                "{found} bytes of its memory were not zero{after} and overwriting did not clear them, \
                 the first at {first_offset:#x} of BAR {bar}"
            ),
            Verdict::Unchecked { why } if self.proof() == Proof::VendorClear => {
                write!(f, "only its vendor's driver says that it is clean{after}: {why}")
            }
            Verdict::Unchecked { why } => write!(f, "nothing proves that it is clean: {why}"),
        }?;
        if self.steps.contains(&Step::Wait) {
            f.write_str("; a clear after its reset was waited for")?;
        }
        match &self.vendor_clear {
            VendorClear::Failed { why } => write!(f, "; its vendor's clear failed: {why}"),
            VendorClear::Reported { .. } | VendorClear::NotOffered => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn evidence(verdict: Verdict) -> Evidence {
        Evidence {
            verdict,
            reset: ResetEvidence::Done { methods: "flr".to_owned() },
            vendor_clear: VendorClear::NotOffered,
            steps: vec![Step::Reset, Step::ReadBack { bytes: 4096 }],
            bytes_checked: 4096,
            bytes_found: 7,
            read_back_us: 10,
            duration_us: 20,
        }
    }

    #[test]
    fn json_is_read_as_it_was_written() {
        for verdict in [
            Verdict::Clean,
            Verdict::CleanedByOverwrite,
            Verdict::Dirty { bar: 0, first_offset: 9 },
            Verdict::Unchecked { why: "it has none".to_owned() },
        ] {
            let evidence = evidence(verdict);
            let text = serde_json::to_string(&evidence).unwrap();
            assert_eq!(serde_json::from_str::<Evidence>(&text).unwrap(), evidence, "{text}");
        }
        let text = serde_json::to_string(&evidence(Verdict::Clean)).unwrap();
        assert!(
            text.starts_with(r#"{"verdict":"clean","reset":{"outcome":"done","methods":"flr"}"#),
            "{text}"
        );
    }

    #[test]
    fn only_what_was_seen_to_be_zero_is_clean() {
        assert!(evidence(Verdict::Clean).is_clean());
        assert!(evidence(Verdict::CleanedByOverwrite).is_clean());
        assert!(!evidence(Verdict::Dirty { bar: 0, first_offset: 0 }).is_clean());
        assert!(!evidence(Verdict::Unchecked { why: String::new() }).is_clean());
    }

    #[test]
    fn the_sentence_says_what_was_seen() {
        let said = |verdict| evidence(verdict).to_string();
        assert_eq!(said(Verdict::Clean), "all 4096 bytes of its memory read zero after its reset (flr)");
        assert!(said(Verdict::Dirty { bar: 2, first_offset: 16 }).ends_with("the first at 0x10 of BAR 2"));
        let mut waited = evidence(Verdict::Clean);
        waited.steps.extend([Step::Wait, Step::ReadBack { bytes: 4096 }]);
        let told = "read zero after its reset (flr); a clear after its reset was waited for";
        assert!(waited.to_string().ends_with(told), "{waited}");
        let mut cleared = evidence(Verdict::Unchecked { why: "it shows none".to_owned() });
        (cleared.bytes_found, cleared.vendor_clear) = (0, VendorClear::Reported { by: "clrvffb".to_owned() });
        let told = "only its vendor's driver says that it is clean after its reset (flr) and its vendor's \
                    clear (clrvffb): it shows none";
        assert_eq!(cleared.to_string(), told);
        cleared.vendor_clear = VendorClear::Failed { why: "it is in use".to_owned() };
        assert!(cleared.to_string().ends_with("it shows none; its vendor's clear failed: it is in use"));
    }

    #[test]
    fn evidence_of_before_vendors_clears_is_read() {
        let old = r#"{"verdict":"clean","reset":{"outcome":"done","methods":"flr"},"steps":[{"step":"reset"}],
                      "bytes_checked":1,"bytes_found":0,"read_back_us":1,"duration_us":1}"#;
        assert_eq!(serde_json::from_str::<Evidence>(old).unwrap().vendor_clear, VendorClear::NotOffered);
    }
}
