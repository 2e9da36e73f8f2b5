//! What a slice may be used for after a scrub: a policy over evidence.

use super::{Evidence, ResetEvidence, VendorClear, Verdict};
use vgpud_config::Reuse;

/// How much a scrub has shown, the least first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Proof {
    /// Nothing, or that the reset failed.
    Nothing,
    /// The kernel says that it reset the device, at last.
    Reset,
    /// And the vendor's driver says that it cleared the memory, and no byte that can be mapped says
    /// otherwise.
    VendorClear,
    /// The device was reset, and all of its memory was read back and is zero.
    ReadBack,
}

/// Who may have the slice next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FitFor {
    Anyone,
    /// Whoever had it last, for what it may hold is theirs.
    LastOwner,
    Nobody,
}

impl Evidence {
    #[must_use]
    pub const fn proof(&self) -> Proof {
        match (&self.verdict, &self.reset, &self.vendor_clear) {
            (Verdict::Clean | Verdict::CleanedByOverwrite, ResetEvidence::Done { .. }, _) => Proof::ReadBack,
            // A driver that cleared nothing that can be seen has cleared nothing else either.
            (Verdict::Unchecked { .. }, ResetEvidence::Done { .. }, VendorClear::Reported { .. })
                if self.bytes_found == 0 =>
            {
                Proof::VendorClear
            }
            (_, ResetEvidence::Done { .. }, _) => Proof::Reset,
            (_, ResetEvidence::NotOffered | ResetEvidence::Failed { .. }, _) => Proof::Nothing,
        }
    }

    /// Who may have the slice next, under this policy.
    #[must_use]
    pub fn fit_for(&self, policy: Reuse) -> FitFor {
        let proof = self.proof();
        let enough = match policy {
            Reuse::Verified | Reuse::SameOwner => Proof::ReadBack,
            Reuse::Vendor => Proof::VendorClear,
            // Where the settings trust a reset the daemon makes no scrub, so it never asks this.
            Reuse::Reset => Proof::Reset,
        };
        if proof >= enough {
            FitFor::Anyone
        } else if policy == Reuse::SameOwner && proof >= Proof::Reset {
            FitFor::LastOwner
        } else {
            FitFor::Nobody
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use FitFor::{Anyone, LastOwner, Nobody};

    fn unchecked() -> Verdict {
        Verdict::Unchecked { why: "it has no memory that can be mapped and read back".to_owned() }
    }

    fn evidence(verdict: Verdict, reset: ResetEvidence, vendor_clear: VendorClear) -> Evidence {
        Evidence {
            verdict,
            reset,
            vendor_clear,
            steps: vec![],
            bytes_checked: 0,
            bytes_found: 0,
            read_back_us: 0,
            duration_us: 0,
        }
    }

    /// Under verified, vendor, same-owner and reset.
    fn fit_for(evidence: &Evidence) -> [FitFor; 4] {
        [Reuse::Verified, Reuse::Vendor, Reuse::SameOwner, Reuse::Reset]
            .map(|policy| evidence.fit_for(policy))
    }

    #[test]
    fn each_policy_takes_what_it_asks_for_and_no_less() {
        let done = || ResetEvidence::Done { methods: "flr".to_owned() };
        let reported = || VendorClear::Reported { by: "clrvffb".to_owned() };
        let failed = || VendorClear::Failed { why: "it says \"Fai\"".to_owned() };
        let dirty = || Verdict::Dirty { bar: 0, first_offset: 0 };
        let with = |verdict, vendor_clear| fit_for(&evidence(verdict, done(), vendor_clear));
        assert_eq!(with(Verdict::Clean, VendorClear::NotOffered), [Anyone; 4]);
        assert_eq!(with(Verdict::CleanedByOverwrite, failed()), [Anyone; 4]);
        assert_eq!(with(unchecked(), reported()), [Nobody, Anyone, LastOwner, Anyone]);
        for said in [VendorClear::NotOffered, failed()] {
            assert_eq!(with(unchecked(), said), [Nobody, Nobody, LastOwner, Anyone]);
        }
        assert_eq!(with(dirty(), reported()), [Nobody, Nobody, LastOwner, Anyone]);
    }

    #[test]
    fn a_reset_that_did_not_happen_proves_nothing() {
        let failed = ResetEvidence::Failed { why: "Inappropriate ioctl".to_owned(), errno: Some(25) };
        for reset in [failed, ResetEvidence::NotOffered] {
            // What memory shows says nothing of registers and caches.
            for verdict in [unchecked(), Verdict::Clean, Verdict::CleanedByOverwrite] {
                let reported = VendorClear::Reported { by: "clrvffb".to_owned() };
                let evidence = evidence(verdict, reset.clone(), reported);
                assert_eq!(fit_for(&evidence), [Nobody; 4], "{evidence:?}");
            }
        }
    }

    #[test]
    fn a_driver_that_was_seen_to_lie_proves_nothing_of_what_cannot_be_seen() {
        let reported = VendorClear::Reported { by: "clrvffb".to_owned() };
        let done = ResetEvidence::Done { methods: "flr".to_owned() };
        let mut caught = evidence(unchecked(), done, reported);
        caught.bytes_found = 1;
        assert_eq!(caught.proof(), Proof::Reset);
    }
}
