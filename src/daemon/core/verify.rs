//! Checking a ready slice, beside everything else: a check is no effect, for it leaves nothing behind.
//! The slice takes no command until it has ended.

use super::{Cause, Core};
use crate::{
    daemon::{
        executor::{self, EffectError},
        message::{Message, Reply},
    },
    engine::{Event, GpuQuarantineCause, SliceId, Target},
    failure::Failure,
    ledger,
};
use std::sync::Arc;
use vgpud_vmm::{
    device::process::{Preflight, ProcessError},
    preflight::Level,
};

impl Core {
    pub(super) fn verify(&mut self, slice: SliceId, level: Level, reply: Reply<Preflight>) {
        let target = match self.may_be_verified(slice) {
            Ok(target) => target,
            Err(failure) => {
                // The client may have gone.
                let _ = reply.send(Err(failure));
                return;
            }
        };
        self.verifying.insert(slice);
        let (executor, reports) = (Arc::clone(&self.executor), self.sender.clone());
        tokio::task::spawn_blocking(move || {
            let result = Box::new(executor.verify(&target, level));
            let _ = reports.send(Message::Verified { slice, result, reply });
        });
    }

    fn may_be_verified(&self, slice: SliceId) -> Result<Target, Failure> {
        if let Some(failure) = self.obstacle(slice) {
            return Err(failure);
        }
        self.state.free(slice).map(Target::of).map_err(|rejected| Failure::from(&rejected))
    }

    pub(super) fn verified(
        &mut self,
        slice: SliceId,
        result: Result<Preflight, EffectError>,
        reply: Reply<Preflight>,
    ) -> Result<(), ledger::Error> {
        self.verifying.remove(&slice);
        // A process that did not end holds the device until the kernel lets it go.
        if let Ok(Preflight { ended: Err(late @ ProcessError::Late { .. }), .. }) = &result {
            let why = format!("the checks did not come to their end: {late}");
            let gpu = self.state.slices.get(&slice).map(|slice| slice.gpu);
            if let Some(gpu) = gpu.filter(|_| executor::unanswered(late)) {
                let failure = Failure::from(late).within(format!("Could not check {slice}"));
                self.put_out_of_use(gpu, GpuQuarantineCause::NoAnswer, failure.line(), &failure)?;
            }
            if let Err(rejected) = self.apply(Event::Contradiction { slice, why }, Cause::default())? {
                tracing::warn!(%slice, "{rejected}");
            }
            // Whoever is answered finds it so.
            self.publish();
        }
        let _ = reply.send(result.map_err(|error| Failure::from(&error)));
        Ok(())
    }
}
