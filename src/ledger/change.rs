//! One transaction: everything that belongs together.

use super::{AuditEntry, Error, Intent, IntentId, Ledger, Outcome, Scrub, audit, intent, row, scrub};
use crate::engine::{State, Transition, UnixMillis};
use rusqlite::Transaction;
use std::collections::BTreeSet;

/// What is to be written at once.
#[derive(Debug)]
pub struct Change<'a> {
    pub before: &'a State,
    /// The new state, the effects whose intents are recorded, and the notes.
    pub transition: &'a Transition,
    /// The effect that led here, and what came of it.
    pub outcome: Option<(IntentId, Outcome)>,
    /// How a slice was made clean by it, or why not.
    pub scrub: Option<&'a Scrub>,
    pub at: UnixMillis,
}

impl Ledger {
    /// Writes a change durably, all of it or nothing, and returns the intents in the order of the
    /// transition's effects, and the audit entries.
    ///
    /// # Errors
    /// [`Error::Write`] once, then [`Error::Stopped`]: nothing is written after a failure.
    pub fn commit(&mut self, change: &Change<'_>) -> Result<(Vec<Intent>, Vec<AuditEntry>), Error> {
        self.write(|transaction| {
            if let Some((id, outcome)) = &change.outcome {
                intent::close(transaction, *id, outcome, change.at)?;
            }
            if let Some(scrub) = change.scrub {
                scrub::record(transaction, scrub, change.at)?;
            }
            write_state(transaction, change)?;
            let intents = change.transition.effects.iter();
            let intents = intents.map(|effect| intent::record(transaction, effect, change.at));
            let intents = intents.collect::<rusqlite::Result<_>>()?;
            let notes = change.transition.notes.iter();
            let notes = notes.map(|note| audit::record(transaction, note, change.at));
            Ok((intents, notes.collect::<rusqlite::Result<_>>()?))
        })
    }

    /// Records what came of an effect where it changes no state.
    ///
    /// # Errors
    /// As [`commit`](Self::commit).
    pub fn close_intent(&mut self, id: IntentId, outcome: &Outcome, at: UnixMillis) -> Result<(), Error> {
        self.write(|transaction| intent::close(transaction, id, outcome, at))
    }

    /// Records which boot of the host the ledger speaks of from now on.
    ///
    /// # Errors
    /// As [`commit`](Self::commit).
    pub fn set_boot_id(&mut self, boot_id: &str) -> Result<(), Error> {
        self.write(|transaction| row::write_meta(transaction, "boot_id", boot_id))
    }

    /// The boot that the ledger speaks of; none in a new one.
    ///
    /// # Errors
    /// Where the ledger cannot be read.
    pub fn boot_id(&self) -> Result<Option<String>, Error> {
        self.meta("boot_id")
    }
}

fn write_state(transaction: &Transaction<'_>, change: &Change<'_>) -> rusqlite::Result<()> {
    let (before, after) = (change.before, &change.transition.state);
    let ids: BTreeSet<_> = before.slices.keys().chain(after.slices.keys()).copied().collect();
    // Removals first: an instance's name may pass from one slice to the next in one step.
    for id in ids.iter().filter(|id| !after.slices.contains_key(id)) {
        row::write_lease(transaction, before.slices.get(id), None, change.at)?;
        row::delete_slice(transaction, *id)?;
    }
    for id in ids {
        let (was, now) = (before.slices.get(&id), after.slices.get(&id));
        if let Some(slice) = now.filter(|slice| was != Some(*slice)) {
            row::write_lease(transaction, was, now, change.at)?;
            row::write_slice(transaction, slice)?;
        }
    }
    let gpus: BTreeSet<_> = before.cuts.keys().chain(after.cuts.keys()).copied().collect();
    for gpu in gpus {
        match after.cuts.get(&gpu) {
            Some(cut) if before.cuts.get(&gpu) != Some(cut) => row::write_cut(transaction, gpu, cut)?,
            Some(_) => {}
            None => row::delete_cut(transaction, gpu)?,
        }
    }
    let gpus = before.quarantined_gpus.keys().chain(after.quarantined_gpus.keys());
    for gpu in gpus.copied().collect::<BTreeSet<_>>() {
        match after.quarantined_gpus.get(&gpu) {
            Some(why) if before.quarantined_gpus.get(&gpu) != Some(why) => {
                row::write_quarantined_gpu(transaction, gpu, why)?;
            }
            Some(_) => {}
            None => row::delete_quarantined_gpu(transaction, gpu)?,
        }
    }
    if before.last_id != after.last_id {
        row::write_meta(transaction, "last_id", &after.last_id.to_string())?;
    }
    Ok(())
}
