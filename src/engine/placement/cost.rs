//! What a slice costs the GPU that it is cut from: pure.
//!
//! A GPU is worth what it could still serve. That is what its mechanism offers, and all that a card knows
//! of itself is in it: memory, counts of VFs, equal sizes, geometry. So a candidate is judged by what the
//! mechanism offers before and after it.

use super::{GpuView, size};
use std::collections::BTreeMap;
use vgpud_config::{ComputeShare, Memory, PlacementStrategy};
use vgpud_mdev::Profile;

/// A place for one slice.
#[derive(Clone, Copy, Debug)]
pub struct Candidate<'a> {
    pub gpu: &'a GpuView,
    pub profile: &'a Profile,
    /// What the GPU would still offer.
    pub left: &'a [Profile],
}

/// Who chooses among candidates.
pub trait Chooser {
    /// The least wins; among equals the first address, and there the first profile.
    type Cost: Ord + Copy;
    fn cost(&self, candidate: &Candidate<'_>) -> Self::Cost;
}

/// The cost of a candidate. What stands first counts first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cost {
    /// Memory given; where none is known, compute. Shares of two models do not compare.
    pub size: (u64, u16),
    /// Slices that the GPU has already, where they are to be spread.
    pub neighbours: usize,
    /// Bytes that nobody can have while the slice is there, beside its own.
    pub stranded: u64,
    /// Bytes of all sizes together that the GPU could serve before and cannot after.
    pub lost: u128,
    /// Bytes that it could serve after: of two alike, the fuller one fills up and the other gets empty.
    pub left: u64,
}

impl Chooser for PlacementStrategy {
    type Cost = Cost;

    fn cost(&self, candidate: &Candidate<'_>) -> Cost {
        let before = Worth::of(&candidate.gpu.profiles);
        let after = Worth::of(candidate.left);
        let given = candidate.profile.memory.map_or(0, Memory::bytes);
        Cost {
            size: match size(candidate.profile) {
                (memory, _) if candidate.profile.memory.is_some() => (memory, 0),
                unknown => unknown,
            },
            neighbours: match self {
                Self::Pack => 0,
                Self::Spread => candidate.gpu.taken.len(),
            },
            stranded: before.memory().saturating_sub(given).saturating_sub(after.memory()),
            lost: before.lost(&after),
            left: after.memory(),
        }
    }
}

/// What a GPU could serve: how many instances of each size. Profiles that differ by name alone are one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Worth(BTreeMap<(Option<Memory>, Option<ComputeShare>), u32>);

impl Worth {
    #[must_use]
    pub fn of(profiles: &[Profile]) -> Self {
        let mut sizes = BTreeMap::new();
        for profile in profiles {
            let most = sizes.entry((profile.memory, profile.compute)).or_default();
            *most = profile.available.max(*most);
        }
        Self(sizes)
    }

    /// The most bytes that instances of one size could have together.
    #[must_use]
    pub fn memory(&self) -> u64 {
        let all = |((memory, _), count): (&(Option<Memory>, _), &u32)| {
            memory.map_or(0, Memory::bytes).saturating_mul((*count).into())
        };
        self.0.iter().map(all).max().unwrap_or(0)
    }

    /// What is here and not in `after`, in bytes; where a size has no memory that is known, by its share of
    /// compute.
    fn lost(&self, after: &Self) -> u128 {
        let of = |(size, count): (&(Option<Memory>, Option<ComputeShare>), &u32)| {
            let gone = count.saturating_sub(after.0.get(size).copied().unwrap_or(0));
            let each = match size {
                (Some(memory), _) => memory.bytes(),
                (None, Some(share)) => share.hundredths().into(),
                (None, None) => 1,
            };
            u128::from(each) * u128::from(gone)
        };
        self.0.iter().map(of).sum()
    }
}
