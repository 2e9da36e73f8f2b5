//! A share of compute, and how it holds.

use super::percent;
use crate::cli::table::{Field, Kind, compute, hold, hold_word};
use serde::Serialize;

#[derive(Debug, Serialize)]
pub struct Compute {
    compute_percent: Option<f64>,
    /// How the share holds as one: enforced, best-effort or not-available; none where that is not known.
    compute_cap: Option<&'static str>,
    compute_floor: Option<&'static str>,
    #[serde(skip)]
    hundredths: Option<u32>,
    #[serde(skip)]
    cap: i32,
    #[serde(skip)]
    floor: i32,
}

impl Compute {
    /// As it comes over the wire.
    pub fn new(hundredths: Option<u32>, cap: i32, floor: i32) -> Self {
        Self {
            compute_percent: percent(hundredths),
            compute_cap: hold_word(cap),
            compute_floor: hold_word(floor),
            hundredths,
            cap,
            floor,
        }
    }

    /// Of a table.
    pub const COLUMNS: [(&'static str, Kind); 3] =
        [("COMPUTE", Kind::Number), ("AS CAP", Kind::Name), ("AS FLOOR", Kind::Name)];

    pub fn fields(&self) -> [Field; 3] {
        [self.share().into(), hold(self.cap).into(), hold(self.floor).into()]
    }

    pub fn share(&self) -> String {
        compute(self.hundredths)
    }

    /// In a sentence; none where there is no share.
    pub fn told(&self) -> Option<String> {
        let share = compute(Some(self.hundredths?));
        Some(match (self.compute_cap, self.compute_floor) {
            (None, None) => share,
            _ => format!("{share}; as a cap: {}; as a floor: {}", hold(self.cap), hold(self.floor)),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::Hold;

    #[test]
    fn a_share_is_told_with_how_it_holds_as_far_as_that_is_known() {
        let told = |share, cap: i32, floor: i32| Compute::new(share, cap, floor).told();
        assert_eq!(
            told(Some(2500), Hold::Enforced.into(), Hold::BestEffort.into()).as_deref(),
            Some("25%; as a cap: enforced; as a floor: best effort")
        );
        assert_eq!(told(Some(2500), 0, 99).as_deref(), Some("25%"));
        assert_eq!(told(None, Hold::NotAvailable.into(), Hold::NotAvailable.into()), None);
    }
}
