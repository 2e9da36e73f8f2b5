//! The choosers that vgpud's is compared with.

use vgpud::engine::placement::{Candidate, Chooser, Worth};

/// The first GPU that has room.
#[derive(Clone, Copy, Debug)]
pub struct FirstFit;

impl Chooser for FirstFit {
    type Cost = ();
    fn cost(&self, _: &Candidate<'_>) {}
}

/// The GPU that has the least memory left afterwards.
#[derive(Clone, Copy, Debug)]
pub struct BestFit;

impl Chooser for BestFit {
    type Cost = u64;
    fn cost(&self, candidate: &Candidate<'_>) -> u64 {
        Worth::of(candidate.left).memory()
    }
}
