//! The verdict of `doctor`, and of `verify` on one slice.

use crate::{
    api,
    cli::{
        output::Document,
        table::{Field, Grid, Kind, Tone},
    },
};
use serde::Serialize;
use vgpud_vmm::doctor;

#[derive(Debug, Serialize)]
pub struct Checks {
    /// No check failed.
    ready: bool,
    checks: Vec<Check>,
}

#[derive(Debug, Serialize)]
struct Check {
    name: String,
    verdict: Verdict,
    /// What was found.
    found: String,
    /// How to mend it.
    mend: Option<String>,
    /// Why it could not be checked.
    skipped: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Verdict {
    Pass,
    Warn,
    Fail,
    Skip,
}

impl Checks {
    pub fn new(checks: Vec<doctor::Check>) -> Self {
        let checks: Vec<Check> = checks.into_iter().map(Check::from).collect();
        Self { ready: checks.iter().all(|check| check.verdict != Verdict::Fail), checks }
    }

    /// The checks of a slice, which is ready where all of them were made and none failed.
    pub fn of_slice(answer: api::VerifySliceResponse) -> Self {
        let checks: Vec<Check> = answer.checks.into_iter().map(Check::from).collect();
        let passed = checks.iter().all(|check| check.verdict != Verdict::Fail);
        Self { ready: passed && answer.unfinished.is_none(), checks }
    }

    pub const fn is_ready(&self) -> bool {
        self.ready
    }

    /// How many of each verdict, in a line.
    pub fn summary(&self) -> String {
        let count = |verdict| self.checks.iter().filter(|check| check.verdict == verdict).count();
        format!(
            "{} passed, {} with a warning, {} failed, {} not checked",
            count(Verdict::Pass),
            count(Verdict::Warn),
            count(Verdict::Fail),
            count(Verdict::Skip)
        )
    }
}

impl From<doctor::Check> for Check {
    fn from(check: doctor::Check) -> Self {
        let (verdict, mend, skipped) = match check.verdict {
            doctor::Verdict::Pass => (Verdict::Pass, None, None),
            doctor::Verdict::Warn { mend } => (Verdict::Warn, Some(mend), None),
            doctor::Verdict::Fail { mend } => (Verdict::Fail, Some(mend), None),
            doctor::Verdict::Skip { reason } => (Verdict::Skip, None, Some(reason)),
        };
        Self { name: check.name.to_string(), verdict, found: check.found, mend, skipped }
    }
}

impl From<api::SliceCheck> for Check {
    fn from(check: api::SliceCheck) -> Self {
        let (verdict, skipped) = match check.outcome() {
            api::CheckOutcome::Pass => (Verdict::Pass, None),
            api::CheckOutcome::Fail => (Verdict::Fail, None),
            api::CheckOutcome::Skip => (Verdict::Skip, Some(check.seen.clone())),
            // What a newer vgpud says and this program does not know is not taken for good.
            api::CheckOutcome::Unspecified => (Verdict::Warn, None),
        };
        let found = if skipped.is_some() { String::new() } else { check.seen };
        Self { name: check.name, verdict, found, mend: check.mend, skipped }
    }
}

impl Verdict {
    fn field(self) -> Field {
        match self {
            Self::Pass => "ok".into(),
            Self::Warn => Field::toned("warning", Tone::Warning),
            Self::Fail => Field::toned("FAILED", Tone::Alarm),
            Self::Skip => "skipped".into(),
        }
    }
}

impl Document for Checks {
    fn text(&self) -> String {
        let mut grid = Grid::new(&[("CHECK", Kind::Name), ("RESULT", Kind::Name), ("FOUND", Kind::Words)]);
        for check in &self.checks {
            let mend = check.mend.as_ref().map(|mend| format!("to mend: {mend}"));
            let told = [Some(check.found.clone()), mend, check.skipped.clone()];
            let told: Vec<String> = told.into_iter().flatten().filter(|line| !line.is_empty()).collect();
            grid.row([Field::from(&check.name), check.verdict.field(), told.join("\n").into()]);
        }
        grid.render()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use doctor::Verdict::{Fail, Pass, Skip, Warn};

    fn checks() -> Checks {
        let check = |name, found: &str, verdict| doctor::Check { name, found: found.to_owned(), verdict };
        Checks::new(vec![
            check("kvm", "KVM works", Pass),
            check("memory-lock", "8MiB may be locked", Warn { mend: "ulimit -l unlimited".to_owned() }),
            check("iommu", "No IOMMU group", Fail { mend: "boot with intel_iommu=on".to_owned() }),
            check("groups", "", Skip { reason: "there is no IOMMU".to_owned() }),
        ])
    }

    #[test]
    fn every_check_is_told_with_its_way_out() {
        let expected = "\
CHECK        RESULT   FOUND
kvm          ok       KVM works
memory-lock  warning  8MiB may be locked
                      to mend: ulimit -l unlimited
iommu        FAILED   No IOMMU group
                      to mend: boot with intel_iommu=on
groups       skipped  there is no IOMMU";
        assert_eq!(checks().text(), expected);
        assert_eq!(checks().summary(), "1 passed, 1 with a warning, 1 failed, 1 not checked");
        assert!(!checks().is_ready());
    }

    #[test]
    fn a_slice_is_ready_where_all_checks_were_made_and_none_failed() {
        let check = |outcome: api::CheckOutcome| api::SliceCheck {
            name: "dma".to_owned(),
            outcome: outcome.into(),
            seen: "1 MiB mapped".to_owned(),
            mend: None,
        };
        let of = |outcomes: &[api::CheckOutcome], unfinished: Option<&str>| {
            let checks = outcomes.iter().map(|outcome| check(*outcome)).collect();
            Checks::of_slice(api::VerifySliceResponse { checks, unfinished: unfinished.map(str::to_owned) })
        };
        use api::CheckOutcome::{Fail, Pass, Skip};
        assert!(of(&[Pass, Skip], None).is_ready());
        assert!(!of(&[Pass, Skip], Some("it hangs")).is_ready());
        assert!(!of(&[Pass, Fail], None).is_ready());
        assert_eq!(of(&[Pass, Skip], None).text().lines().count(), 3);
    }

    #[test]
    fn the_json_of_a_failed_check_has_every_field() {
        let json = serde_json::to_value(checks()).unwrap();
        assert_eq!(json["ready"], false);
        let expected = serde_json::json!({
            "name": "iommu", "verdict": "fail", "found": "No IOMMU group",
            "mend": "boot with intel_iommu=on", "skipped": null,
        });
        assert_eq!(json["checks"][2], expected);
    }
}
