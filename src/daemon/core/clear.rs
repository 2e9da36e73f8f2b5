//! An operator's word that a quarantined slice may be used again.

use super::{
    Cause, Core,
    waiter::{Waiter, Want},
};
use crate::{
    daemon::{message::Reply, snapshot::Snapshot},
    engine::{Event, Origin, Rejected, Shown, Slice, SliceId},
    failure::Failure,
    ledger,
};

impl Core {
    pub(super) fn clear(&mut self, slice: SliceId, reply: Reply<SliceId>) -> Result<(), ledger::Error> {
        if let Some(failure) = self.obstacle(slice) {
            super::commands::refuse(reply, failure);
            return Ok(());
        }
        let Some(found) = self.state.slices.get(&slice) else {
            super::commands::refuse(reply, Failure::from(&Rejected::NoSuchSlice(slice)));
            return Ok(());
        };
        let (gpu, generation, shown) = (found.gpu, found.generation, self.shown(found));
        // What it was at when it was quarantined may still come to its end and leave an instance.
        self.resumed.insert(slice);
        if let Err(rejected) = self.apply(Event::Clear { slice, shown }, Cause::default())? {
            super::commands::refuse(reply, Failure::from(&rejected));
            return Ok(());
        }
        self.waiters.push(Waiter::new(Want::Released { slice, generation, reply }, [(slice, gpu)]));
        Ok(())
    }

    fn shown(&self, slice: &Slice) -> Shown {
        let Some(seen) = self.gpus.get(&slice.gpu) else { return Shown::GpuAbsent };
        match seen.instances.iter().find(|instance| instance.name == slice.name) {
            Some(instance) if !instance.may_be(&slice.profile) => Shown::Other(instance.profile.clone()),
            Some(_) => Shown::There,
            None if seen.instances.is_empty() && Snapshot::origin(seen, slice.mechanism) == Origin::Ours => {
                Shown::Undivided
            }
            None => Shown::Gone,
        }
    }
}
