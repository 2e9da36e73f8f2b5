//! What is read from the ledger for a client: nothing changes by it.

use super::Core;
use crate::{
    daemon::message::{OutOfUse, Question, Reply},
    engine::Phase,
    failure::Failure,
    ledger,
};

/// Lines of the audit trail, or leases, in one answer.
pub const PAGE: u32 = 256;

impl Core {
    pub(super) fn tell(&self, question: Question) {
        match question {
            Question::Audit { after, reply } => answer(reply, self.ledger.audit(after, PAGE)),
            Question::History { filter, reply } => answer(reply, self.ledger.history(&filter, PAGE)),
            Question::Quarantine { reply } => answer(reply, self.out_of_use()),
        }
    }

    fn out_of_use(&self) -> Result<Vec<OutOfUse>, ledger::Error> {
        let quarantined = self.state.slices.values();
        let quarantined = quarantined.filter(|slice| matches!(slice.phase, Phase::Quarantined { .. }));
        quarantined
            .map(|slice| {
                Ok(OutOfUse {
                    slice: slice.id,
                    since: self.ledger.quarantined_since(slice.id)?,
                    scrub: self.ledger.scrubs(slice.id, slice.generation)?.pop(),
                })
            })
            .collect()
    }
}

fn answer<T>(reply: Reply<T>, found: Result<T, ledger::Error>) {
    // Whoever asked may have gone.
    let _ = reply.send(found.map_err(|error| Failure::from(&error)));
}
