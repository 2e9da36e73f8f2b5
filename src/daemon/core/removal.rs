//! CDI files that are being removed, beside the queues of the GPUs, since a stuck GPU must not keep a
//! file in its place. A slice is handed over again only when the removal of its former file has ended:
//! a late one would remove the file of the new lease.

use super::{Core, Subject};
use crate::{
    daemon::{
        executor::{Done, EffectError},
        message::Message,
        worker::Finished,
    },
    engine::{Effect, SliceId},
    failure::Failure,
    ledger::{self, Intent, IntentId, Outcome},
};
use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

/// Removals under way, and what waits for them.
#[derive(Debug, Default)]
pub struct Removals {
    open: BTreeMap<IntentId, SliceId>,
    held_back: BTreeMap<SliceId, (Intent, Instant)>,
}

impl Removals {
    /// Keeps back a handover whose slice has a file to be removed yet; gives back what may begin.
    pub fn hold_back(&mut self, intent: Intent) -> Option<Intent> {
        match &intent.effect {
            Effect::HandOver { target, .. } if self.open.values().any(|slice| *slice == target.slice) => {
                self.held_back.insert(target.slice, (intent, Instant::now()));
                None
            }
            _ => Some(intent),
        }
    }

    /// A removal has ended: the handover that may begin now.
    fn ended(&mut self, id: IntentId) -> Option<Intent> {
        let slice = self.open.remove(&id)?;
        let others = self.open.values().any(|other| *other == slice);
        if others { None } else { self.held_back.remove(&slice).map(|(intent, _)| intent) }
    }

    /// The handover of a slice that does not begin any more.
    pub fn drop_held_back(&mut self, slice: SliceId) -> Option<Intent> {
        self.held_back.remove(&slice).map(|(intent, _)| intent)
    }

    fn take_overdue(&mut self, patience: Duration) -> Vec<Intent> {
        let late: Vec<SliceId> = self
            .held_back
            .iter()
            .filter(|(_, (_, since))| since.elapsed() >= patience)
            .map(|(slice, _)| *slice)
            .collect();
        late.into_iter().filter_map(|slice| self.drop_held_back(slice)).collect()
    }
}

impl Core {
    /// Removes a slice's CDI file on another thread.
    pub(super) fn start_removal(&mut self, slice: SliceId, intent: Intent) {
        self.removals.open.insert(intent.id, slice);
        let (executor, reports) = (Arc::clone(&self.executor), self.sender.clone());
        tokio::task::spawn_blocking(move || {
            let result = executor.run(&intent.effect);
            let _ = reports.send(Message::Finished(Box::new(Finished { intent, result, seen: Vec::new() })));
        });
    }

    pub(super) fn removed(
        &mut self,
        intent: &Intent,
        result: Result<Done, EffectError>,
    ) -> Result<(), ledger::Error> {
        let outcome = match result {
            Ok(_) => Outcome::Done,
            Err(error) => {
                let failure = Failure::from(&error);
                tracing::error!(effect = %intent.effect, "effect failed: {}", failure.line());
                Outcome::Failed(failure.line())
            }
        };
        self.ledger.close_intent(intent.id, &outcome, super::now())?;
        let Some(waiting) = self.removals.ended(intent.id) else { return Ok(()) };
        match waiting.effect.gpu() {
            Some(gpu) => self.enqueue(gpu, waiting),
            None => Ok(()),
        }
    }

    /// Fails handovers that waited too long for a removal. Whether there were any.
    pub(super) fn give_up_held_back(&mut self, patience: Duration) -> Result<bool, ledger::Error> {
        let late = self.removals.take_overdue(patience);
        let any = !late.is_empty();
        for intent in late {
            let Some(slice) = intent.effect.slice() else { continue };
            debug_assert!(self.current.contains_key(&Subject::Slice(slice)), "it is waited for");
            let folder = self.settings.borrow().cdi.dir.clone();
            let result = Err(EffectError::NotRemoved { slice, folder, waited: patience });
            self.conclude(Finished { intent, result, seen: Vec::new() })?;
        }
        Ok(any)
    }
}
