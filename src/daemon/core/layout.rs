//! Slices that a layout does not want.

use super::{
    Core,
    commands::refuse,
    waiter::{Waiter, Want},
};
use crate::{
    daemon::message::Reply,
    engine::{LeasedSlice, Rejected, SliceId, layout::Removal},
    failure::Failure,
    ledger,
};

impl Core {
    /// Ends a slice that nobody has, by the rule that the plan went by: what has changed since is not taken
    /// away. One that is gone, or goes, is what was wanted.
    pub(super) fn remove(&mut self, slice: SliceId, reply: Reply<()>) -> Result<(), ledger::Error> {
        let Some(found) = self.state.slices.get(&slice) else {
            // Whoever asked may have gone.
            let _ = reply.send(Ok(()));
            return Ok(());
        };
        match Removal::of(found) {
            Removal::Free => self.destroy(slice, LeasedSlice::Refuse, reply),
            Removal::UnderWay => {
                let gpu = found.gpu;
                self.waiters.push(Waiter::new(Want::Destroyed { slice, reply }, [(slice, gpu)]));
                Ok(())
            }
            Removal::No => {
                let (phase, kept_for) = (found.phase.word(), found.reserved_for().cloned());
                let rejected = match (self.state.free(slice), kept_for) {
                    (Err(rejected), _) => rejected,
                    (Ok(_), Some(owner)) => Rejected::Reserved { slice, owner },
                    (Ok(_), None) => Rejected::Busy { slice, phase },
                };
                refuse(reply, Failure::from(&rejected));
                Ok(())
            }
        }
    }
}
