//! The terms of a lease: who gets it, who may open its node, and for how long.

use super::{BootMillis, Fate, Lease, Note, NoteKind, Phase, Rejected, ReleaseCause, SliceId, Transition};
use serde::{Deserialize, Serialize};
use std::time::Duration;
use vgpud_config::{Allowance, Consumer, Owner};

/// Somebody's request for a lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    pub owner: Owner,
    pub terms: Terms,
    /// How much the owner may have, by the settings of now.
    pub allowance: Allowance,
}

/// What a lease is to be like.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Terms {
    pub consumer: Consumer,
    /// From its start; none: until it is released.
    pub time: Option<Duration>,
}

impl Claim {
    /// On the usual terms, and without a quota.
    #[must_use]
    pub fn new(owner: Owner) -> Self {
        Self { owner, terms: Terms::default(), allowance: Allowance::default() }
    }
}

impl Lease {
    /// Since when its time is up, if it is.
    #[must_use]
    pub fn over_at(&self, now: BootMillis) -> Option<BootMillis> {
        self.until.filter(|until| *until <= now)
    }
}

impl Transition {
    /// Puts the end of a lease off to `until`, never forward. An end that is due already is put off too.
    pub(super) fn extend(&mut self, id: SliceId, until: BootMillis, message: &str) -> Result<(), Rejected> {
        let slice = self.get(id)?;
        let lease = match &mut slice.phase {
            Phase::Leased { lease } => lease,
            Phase::Releasing { .. } => return Err(Rejected::Busy { slice: id, phase: "being taken back" }),
            Phase::Quarantined { why } => {
                return Err(Rejected::Quarantined { slice: id, evidence: why.evidence.clone() });
            }
            phase => return Err(Rejected::NotLeased { slice: id, phase: phase.word() }),
        };
        match lease.until {
            None => return Err(Rejected::NoEnd(id)),
            Some(now) if until < now => return Err(Rejected::EndsLater(id)),
            Some(_) => lease.until = Some(until),
        }
        lease.overdue = None;
        let note = Note::slice(NoteKind::LeaseExtended, slice, format!("The lease of {id} {message}"));
        self.notes.push(note);
        Ok(())
    }

    /// The device of a lease that was to end is still held. The lease goes on: nothing is torn out of
    /// a VM. One whose time is up says so once, however often it is tried.
    pub(super) fn stays_leased(&mut self, id: SliceId, mut lease: Lease, why: &str) -> Result<(), Rejected> {
        let slice = self.get(id)?;
        slice.fate = Fate::Keep;
        if lease.ending != Some(ReleaseCause::TimeIsUp) {
            let message = format!("{id} stays leased: {why}");
            return self.enter(id, Phase::Leased { lease }, NoteKind::ReleaseRefused, message);
        }
        let told = lease.overdue.replace(why.to_owned()).is_some();
        let message = format!("The time of {id} is up and {} keeps it: {why}", lease.owner);
        slice.phase = Phase::Leased { lease };
        if !told {
            let note = Note::slice(NoteKind::LeaseOverdue, slice, message);
            self.notes.push(note);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
