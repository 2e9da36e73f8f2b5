//! What vgpuctl prints, apart from the wire: JSON that stays as it is when the API grows. Every
//! field is always there (`null` where there is no value), memory is in bytes, shares in percent,
//! times in milliseconds since 1970.

mod check;
mod compute;
mod event;
mod gpu;
mod history;
mod layout;
mod ledger;
mod plan;
mod profile;
mod quarantine;
mod slice;
mod status;

pub use check::Checks;
pub use event::Event;
pub use gpu::{Gpu, Gpus, OneGpu};
pub use history::History;
pub use layout::{AppliedLayout, LayoutPlan};
pub use ledger::{LedgerBackup, LedgerCheck, LedgerExport};
pub use plan::DryRun;
pub use profile::Profiles;
pub use quarantine::{ClearedGpu, OneQuarantinedGpu, Quarantine};
pub use slice::{Destroyed, OneSlice, PhaseWord, Slices, Undestroyed};
pub use status::Daemon;

use std::{
    fmt::Write as _,
    time::{Duration, SystemTime},
};

/// A point in time for people: UTC to the second. A time that no calendar has is shown as it came.
fn time(unix_ms: u64) -> String {
    let mut text = String::new();
    let at = SystemTime::UNIX_EPOCH.checked_add(Duration::from_millis(unix_ms));
    // humantime's Display fails beyond the year 9999.
    match at.map(|at| write!(text, "{}", humantime::format_rfc3339_seconds(at))) {
        Some(Ok(())) => text,
        Some(Err(_)) | None => format!("{unix_ms} ms after 1970"),
    }
}

/// Hundredths of a percent as a percentage.
fn percent(hundredths: Option<u32>) -> Option<f64> {
    hundredths.map(|hundredths| f64::from(hundredths) / 100.0)
}

fn joined(names: &[String]) -> Option<String> {
    (!names.is_empty()).then(|| names.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_utc_and_any_number_is_shown() {
        assert_eq!(time(1_700_000_000_000), "2023-11-14T22:13:20Z");
        assert_eq!(time(u64::MAX), "18446744073709551615 ms after 1970");
    }
}
