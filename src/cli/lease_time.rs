//! How long a lease lasts, on the command line.

use std::{str::FromStr, time::Duration};
use vgpud_config::Quoted;

/// A time such as `2h` or `90min`, at least a second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeaseTime(Duration);

/// A text that is no such time.
#[derive(Debug, thiserror::Error)]
#[error(
    "{} is no time that a lease could last; write a number and a unit, such as 2h or 90min",
    Quoted(.0)
)]
pub struct NoLeaseTime(String);

impl FromStr for LeaseTime {
    type Err = NoLeaseTime;
    fn from_str(text: &str) -> Result<Self, NoLeaseTime> {
        let time = humantime::parse_duration(text).ok().filter(|time| time.as_secs() > 0);
        time.map(Self).ok_or_else(|| NoLeaseTime(text.to_owned()))
    }
}

impl LeaseTime {
    /// In milliseconds.
    #[must_use]
    pub fn ms(self) -> u64 {
        u64::try_from(self.0.as_millis()).unwrap_or(u64::MAX)
    }
}

/// Milliseconds for people, to the second: `1h 20m`.
#[must_use]
pub fn told(ms: u64) -> String {
    humantime::format_duration(Duration::from_secs(ms / 1000)).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_lasts_a_second_or_more() {
        assert_eq!("2h".parse::<LeaseTime>().unwrap().ms(), 7_200_000);
        for bad in ["", "2", "0s", "10ms", "-1h", "soon"] {
            assert!(bad.parse::<LeaseTime>().unwrap_err().to_string().contains("such as 2h"), "{bad}");
        }
        assert_eq!(told(4_800_999), "1h 20m");
    }
}
