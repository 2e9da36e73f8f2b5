//! What must hold whatever happens, written once. The engine asserts it after each step in debug
//! builds; tests of every layer call it.

use super::{Event, Fate, Generation, Phase, SliceId, State};
use std::collections::BTreeSet;
use vgpud_config::PciAddress;

/// What is broken in a state; empty where it is sound.
#[must_use]
pub fn of_state(state: &State) -> Vec<String> {
    let mut broken = Vec::new();
    let mut names = BTreeSet::new();
    for (id, slice) in &state.slices {
        if *id != slice.id || id.number() > state.last_id {
            broken.push(format!("{id} is filed under a wrong or a future id"));
        }
        let next = slice.next_name().filter(|next| *next != slice.name);
        for name in [Some(slice.name), next].into_iter().flatten() {
            if !names.insert((slice.gpu, name)) {
                broken.push(format!("{name:?} of {} is in two slices", slice.gpu));
            }
        }
        match state.cuts.get(&slice.gpu) {
            None => broken.push(format!("{id} is on {}, which is recorded as not cut", slice.gpu)),
            Some(cut) if cut.mechanism != slice.mechanism => {
                broken.push(format!("{id} is of {}, its GPU is cut by {}", slice.mechanism, cut.mechanism));
            }
            Some(_) => {}
        }
        if state.partitioning.contains(&slice.gpu) {
            broken.push(format!("{id} is on {}, which is being partitioned anew", slice.gpu));
        }
        if slice.tie.is_some() && state.quarantined_gpus.contains_key(&slice.gpu) {
            broken.push(format!("{id} is of a request that goes on, and {} is quarantined", slice.gpu));
        }
        if slice.phase.lease().is_some() && slice.generation == Generation::default() {
            broken.push(format!("{id} is leased without a generation"));
        }
        let is_of = slice.data_of.as_ref();
        if slice.phase.lease().is_some_and(|lease| is_of != Some(&lease.owner)) {
            broken.push(format!("{id} is leased to somebody else than {is_of:?}, whose data it may hold"));
        }
        let anybodys = matches!(slice.phase, Phase::Planned | Phase::Creating | Phase::Quarantined { .. });
        if anybodys && is_of.is_some() {
            broken.push(format!("{id} is {} and kept for {is_of:?}", slice.phase));
        }
        if matches!(slice.fate, Fate::Recreate { .. }) && slice.phase != Phase::Destroying {
            broken.push(format!("{id} waits to be created again while it is {}", slice.phase));
        }
        if slice.fate == Fate::Destroy && matches!(slice.phase, Phase::Ready | Phase::Quarantined { .. }) {
            broken.push(format!("{id} is {} and yet to be destroyed", slice.phase));
        }
    }
    for (gpu, cut) in &state.cuts {
        for (profile, capacity) in &cut.capacity {
            let used = state.slices_of(*gpu).filter(|slice| slice.profile == *profile).count();
            if used > usize::try_from(*capacity).unwrap_or(usize::MAX) {
                broken.push(format!("{gpu} has {used} of {profile} and room for {capacity}"));
            }
        }
    }
    broken
}

/// What may leave its quarantine by an event: only what an operator's word is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MayLeave {
    Nothing,
    Slice(SliceId),
    Gpu(PciAddress),
}

impl MayLeave {
    #[must_use]
    pub const fn by(event: &Event) -> Self {
        match event {
            Event::Destroy { slice, .. } | Event::Clear { slice, .. } => Self::Slice(*slice),
            Event::ClearGpu { gpu, .. } => Self::Gpu(*gpu),
            _ => Self::Nothing,
        }
    }
}

/// What is broken between two states.
#[must_use]
pub fn after_step(before: &State, after: &State, may_leave: MayLeave) -> Vec<String> {
    let mut broken = of_state(after);
    for (gpu, was) in &before.quarantined_gpus {
        if after.quarantined_gpus.get(gpu) != Some(was) && may_leave != MayLeave::Gpu(*gpu) {
            broken.push(format!("GPU {gpu} left its quarantine by itself"));
        }
    }
    if after.last_id < before.last_id {
        broken.push("ids of slices went backwards".to_owned());
    }
    for (id, now) in &after.slices {
        let Some(was) = before.slices.get(id) else {
            if id.number() <= before.last_id {
                broken.push(format!("{id} was used before"));
            }
            if after.quarantined_gpus.contains_key(&now.gpu) {
                broken.push(format!("{id} is planned, and its GPU {} is quarantined", now.gpu));
            }
            continue;
        };
        if now.generation < was.generation {
            broken.push(format!("the generation of {id} went backwards"));
        }
        if was.data_of.is_some() && now.data_of.is_some() && was.data_of != now.data_of {
            broken.push(format!("{id} with the data of {:?} is given to {:?}", was.data_of, now.data_of));
        }
        let new_lease = now.generation > was.generation;
        let unusable = after.quarantined_gpus.contains_key(&now.gpu);
        if new_lease && unusable {
            broken.push(format!("{id} is leased, and its GPU {} is quarantined", now.gpu));
        }
        if unusable && now.phase == Phase::Creating && was.phase != Phase::Creating {
            broken.push(format!("{id} is being created, and its GPU {} is quarantined", now.gpu));
        }
        if new_lease && was.phase.lease().is_some() {
            broken.push(format!("{id} was leased twice"));
        }
        if let (false, Some(was), Some(now)) = (new_lease, was.phase.lease(), now.phase.lease())
            && (was.consumer, was.until.is_none()) != (now.consumer, now.until.is_none())
        {
            broken.push(format!("the lease of {id} changed its consumer, or came to a limit or lost it"));
        }
        if let (false, Some(was), Some(now)) = (new_lease, was.phase.lease(), now.phase.lease())
            && now.until < was.until
        {
            broken.push(format!("the lease of {id} was cut short"));
        }
        if was.phase.lease().is_none() && now.phase.lease().is_some() && !new_lease {
            broken.push(format!("{id} is leased without a lease of its own"));
        }
    }
    for (id, was) in &before.slices {
        let left = after.slices.get(id).is_none_or(|now| !matches!(now.phase, Phase::Quarantined { .. }));
        if matches!(was.phase, Phase::Quarantined { .. }) && left && may_leave != MayLeave::Slice(*id) {
            broken.push(format!("{id} left its quarantine by itself"));
        }
        let usable =
            after.slices.get(id).is_some_and(|now| matches!(now.phase, Phase::Ready | Phase::Leased { .. }));
        if matches!(was.phase, Phase::Quarantined { .. }) && usable {
            broken.push(format!("{id} left its quarantine without being made clean"));
        }
        if was.phase.lease().is_some_and(|lease| lease.handover.is_some()) && !after.slices.contains_key(id) {
            broken.push(format!("{id} vanished with its lease"));
        }
    }
    broken
}
