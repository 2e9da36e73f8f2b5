//! How an instance's share of compute holds, as far as that is known of what cuts the GPU.

use serde::Serialize;
use std::fmt;
use vgpud_config::ComputeKind;

/// How far a bound of compute is kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Hold {
    /// Hardware or firmware keeps it, whatever the neighbours do.
    Enforced,
    /// It follows from how time is shared, and a neighbour that does more or less than its part may break it.
    BestEffort,
    /// Nothing is known that keeps it.
    #[default]
    NotAvailable,
}

impl fmt::Display for Hold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Enforced => "enforced",
            Self::BestEffort => "best effort",
            Self::NotAvailable => "not available",
        })
    }
}

/// What an instance's share is to it: at most that, and at least that.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize)]
pub struct Holds {
    /// Never more, even while the neighbours are idle.
    pub cap: Hold,
    /// Never less, even while all are busy.
    pub floor: Hold,
}

impl Holds {
    /// The instance has its compute for itself.
    pub const ENFORCED: Self = Self { cap: Hold::Enforced, floor: Hold::Enforced };
    pub const BEST_EFFORT: Self = Self { cap: Hold::BestEffort, floor: Hold::BestEffort };
    pub const NOT_AVAILABLE: Self = Self { cap: Hold::NotAvailable, floor: Hold::NotAvailable };

    /// How it holds as what a request asks for.
    #[must_use]
    pub const fn of(self, kind: ComputeKind) -> Hold {
        match kind {
            ComputeKind::Cap => self.cap,
            ComputeKind::Guarantee => self.floor,
        }
    }
}
