//! `vgpuctl history [SLICE] [--owner] [--gpu] [--since]`.

use super::{document::History, error::Error, exit::Exit, session::Session};
use crate::api;
use clap::Args;
use std::{
    str::FromStr,
    time::{Duration, SystemTime, UNIX_EPOCH},
};
use vgpud_config::{Owner, PciAddress, Quoted};

/// Show who had which slice when, and how it was made clean afterwards
///
/// One row a lease, newest first, also of slices that are gone.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  vgpuctl history --owner team-a/train-3 --since 30days")]
pub struct HistoryArgs {
    /// Only this slice's leases
    slice: Option<String>,
    /// Only those of this owner
    #[arg(long)]
    owner: Option<Owner>,
    /// Only those of this GPU's slices
    #[arg(long, value_name = "GPU")]
    gpu: Option<PciAddress>,
    /// Not those that had ended by then: 2026-11-24, "2026-11-24 08:00:00" (UTC), or 12h ago as 12h
    #[arg(long, value_name = "TIME")]
    since: Option<Since>,
}

/// A point in time, or how long ago.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Since {
    At(SystemTime),
    Ago(Duration),
}

/// A text that is no point in time.
#[derive(Debug, thiserror::Error)]
#[error(
    "{} is no point in time; write 2026-11-24, \"2026-11-24 08:00:00\" (UTC), or how long ago, such as 12h",
    Quoted(.0)
)]
pub struct NoTime(String);

impl FromStr for Since {
    type Err = NoTime;
    fn from_str(text: &str) -> Result<Self, NoTime> {
        if let Ok(ago) = humantime::parse_duration(text) {
            return Ok(Self::Ago(ago));
        }
        let at = humantime::parse_rfc3339_weak(text);
        let at = at.or_else(|_| humantime::parse_rfc3339_weak(&format!("{text}T00:00:00Z")));
        at.map(Self::At).map_err(|_| NoTime(text.to_owned()))
    }
}

impl Since {
    /// In milliseconds since 1970, which no lease is older than.
    fn unix_ms(self, now: SystemTime) -> u64 {
        let at = match self {
            Self::At(at) => at,
            Self::Ago(ago) => now.checked_sub(ago).unwrap_or(UNIX_EPOCH),
        };
        let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    }
}

/// Shows them.
///
/// # Errors
/// Where vgpud cannot be asked, or knows no such name.
pub async fn execute(session: &Session, args: &HistoryArgs) -> Result<Exit, Error> {
    let client = session.connect().await?;
    let mut request = api::ListHistoryRequest {
        slice: args.slice.clone(),
        owner: args.owner.clone().map(String::from),
        gpu: args.gpu.map(|gpu| gpu.to_string()),
        since_unix_ms: args.since.map(|since| since.unix_ms(SystemTime::now())),
        before: None,
    };
    let is_filtered = request != api::ListHistoryRequest::default();
    let mut leases = Vec::new();
    loop {
        let page = client.history(request.clone()).await?;
        leases.extend(page.leases);
        request.before = page.more;
        if request.before.is_none() {
            break;
        }
    }
    if leases.is_empty() {
        session.note(if is_filtered { "No such leases." } else { "No slice was ever leased." });
    }
    session.print(&History::new(leases))?;
    Ok(Exit::Success)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_a_date_a_moment_or_how_long_ago() {
        let now = UNIX_EPOCH + Duration::from_secs(1_000_000_000);
        let ms = |text: &str| text.parse::<Since>().map(|since| since.unix_ms(now)).ok();
        assert_eq!(ms("2001-09-09"), Some(999_993_600_000));
        assert_eq!(ms("2001-09-09 01:46:40"), Some(1_000_000_000_000));
        assert_eq!(ms("2001-09-09T01:46:40Z"), Some(1_000_000_000_000));
        assert_eq!(ms("12h"), Some(999_956_800_000));
        assert_eq!(ms("100years"), Some(0));
        let refused = "yesterday".parse::<Since>().unwrap_err().to_string();
        assert!(refused.contains("yesterday") && refused.contains("12h"), "{refused}");
    }
}
