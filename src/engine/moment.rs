//! Points in time, as the caller's clocks tell them.

use super::UnixMillis;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// Milliseconds since the host started, also while it slept (CLOCK_BOOTTIME of clock_gettime(2)):
/// nobody can set that clock. Means nothing in another boot, which no lease lives to see.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct BootMillis(pub u64);

/// Now, by the clock for people and by the one that limits are kept by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Moment {
    pub wall: UnixMillis,
    pub boot: BootMillis,
}

impl BootMillis {
    #[must_use]
    pub fn after(self, time: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(time.as_millis()).unwrap_or(u64::MAX)))
    }

    /// From `earlier` until this; zero where that is later.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }
}
