//! What Intel's cards have for their virtual functions.

use crate::{Memory, PciId};
use serde::Deserialize;

/// What the virtual functions of a card have together: each gets its share of it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Provisioning {
    pub cards: Vec<PciId>,
    pub source: String,
    /// Counts of virtual functions for which Intel publishes a profile.
    pub vf_counts: Vec<u16>,
    /// Local memory.
    pub memory: Memory,
    /// With error correction, which takes some of it.
    pub memory_with_ecc: Option<Memory>,
    /// Contexts of each virtual function, however many there are.
    pub contexts_each: Option<u32>,
    pub doorbells: Option<u32>,
    /// Of the graphics translation table, in bytes of addresses.
    pub ggtt: Option<Memory>,
}
