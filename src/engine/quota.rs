//! How much an owner has, against how much they may have: pure.
//!
//! Counted are the slices that the owner has leased, in any phase of the lease, and those that are being
//! created for them. [`Owner::root`] says who is counted as one.

use super::{Slice, SliceId, State};
use std::collections::BTreeMap;
use vgpud_config::{Allowance, Memory, Owner};

/// What one owner has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Use {
    pub slices: Vec<SliceId>,
    /// Of those slices whose memory is known.
    pub memory: u64,
}

/// More than the owner may have.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OverQuota {
    #[error(
        "Owner {owner} has {has} of {limit} slices{names}{more}; release one, or raise slices under {table} in the settings",
        has = has.len(), names = names(has), more = asks(*asked)
    )]
    Slices { owner: Owner, has: Vec<SliceId>, asked: usize, limit: u32, table: String },
    #[error(
        "Owner {owner} has {has} of {limit} of memory{names} and asks for {asked} more; release a slice, or raise memory under {table} in the settings",
        names = names(slices)
    )]
    Memory { owner: Owner, slices: Vec<SliceId>, has: Memory, asked: Memory, limit: Memory, table: String },
    #[error(
        "Owner {owner} may have {limit} of memory, and nobody knows how much this slice has; choose a profile whose memory is known, or give a limit of slices instead of memory under {table} in the settings"
    )]
    UnknownMemory { owner: Owner, limit: Memory, table: String },
}

/// As many as a sentence can hold.
const NAMED: usize = 8;

fn names(slices: &[SliceId]) -> String {
    let mut named: Vec<String> = slices.iter().take(NAMED).map(ToString::to_string).collect();
    if slices.len() > NAMED {
        named.push("…".to_owned());
    }
    if named.is_empty() { String::new() } else { format!(" ({})", named.join(", ")) }
}

fn asks(slices: usize) -> String {
    if slices == 1 { String::new() } else { format!(" and asks for {slices} more") }
}

/// The owner whose quota a slice counts against.
fn counted(slice: &Slice) -> Option<&Owner> {
    let leased = slice.phase.lease().map(|lease| &lease.owner);
    leased.or_else(|| slice.tie.as_ref()?.owner.as_ref())
}

/// What everybody has, by [`Owner::root`].
#[must_use]
pub fn uses(state: &State) -> BTreeMap<Owner, Use> {
    let mut uses: BTreeMap<Owner, Use> = BTreeMap::new();
    for slice in state.slices.values() {
        let Some(owner) = counted(slice) else { continue };
        let of_owner = uses.entry(owner.root()).or_default();
        of_owner.slices.push(slice.id);
        of_owner.memory += slice.memory.map_or(0, Memory::bytes);
    }
    uses
}

/// Whether the owner may have slices of these sizes beside what they have.
///
/// # Errors
/// What they would have too much of.
pub fn check(
    state: &State,
    owner: &Owner,
    allowance: &Allowance,
    asked: &[Option<Memory>],
) -> Result<(), OverQuota> {
    let Allowance { quota, table } = allowance;
    if quota.is_none() {
        return Ok(());
    }
    let (owner, table) = (owner.root(), table.clone());
    let has = uses(state).remove(&owner).unwrap_or_default();
    if let Some(limit) = quota.slices
        && has.slices.len() + asked.len() > usize::try_from(limit).unwrap_or(usize::MAX)
    {
        return Err(OverQuota::Slices { owner, has: has.slices, asked: asked.len(), limit, table });
    }
    let Some(limit) = quota.memory else { return Ok(()) };
    let mut more = 0_u64;
    for memory in asked {
        let Some(memory) = memory else { return Err(OverQuota::UnknownMemory { owner, limit, table }) };
        more = more.saturating_add(memory.bytes());
    }
    if has.memory.saturating_add(more) > limit.bytes() {
        let (has, asked, slices) = (Memory::from_bytes(has.memory), Memory::from_bytes(more), has.slices);
        return Err(OverQuota::Memory { owner, slices, has, asked, limit, table });
    }
    Ok(())
}

#[cfg(test)]
mod tests;
