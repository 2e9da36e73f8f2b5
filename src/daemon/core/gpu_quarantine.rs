//! What is kept out of use as a whole: on an operator's word, or because the GPU is not well.
//!
//! vgpud itself quarantines a GPU for two reasons, seen in its work on it:
//!
//! - The kernel did not come back from it before the deadline. Whatever the driver is doing, nothing
//!   new is cut from it until somebody has looked.
//! - A slice could not be reset, or not be opened, which resets it; and another slice of the GPU is out
//!   of use for the same: one may be broken by itself, two tell of the GPU.
//!
//! That is written down before the failure itself: after a crash in between the GPU is quarantined,
//! and the effect is run again.

use super::{
    Cause, Core, Running, Subject, commands,
    waiter::{Waiter, Want},
};
use crate::{
    daemon::{executor::EffectError, message::Reply},
    engine::{
        Actor, Effect, Event, GpuQuarantine, GpuQuarantineCause, GpuShown, Phase, QuarantineCause, Rejected,
        SliceId,
    },
    failure::Failure,
    ledger,
};
use std::collections::BTreeSet;
use vgpud_config::PciAddress;
use vgpud_mdev as mdev;

impl Core {
    pub(super) fn quarantine_slice(
        &mut self,
        slice: SliceId,
        reason: String,
        by: Actor,
        reply: Reply<()>,
    ) -> Result<(), ledger::Error> {
        if let Some(failure) = self.obstacle(slice) {
            commands::refuse(reply, failure);
            return Ok(());
        }
        self.apply_for(Event::Quarantine { slice, reason, by }, reply)
    }

    pub(super) fn quarantine_gpu(
        &mut self,
        gpu: PciAddress,
        reason: String,
        by: Actor,
        reply: Reply<()>,
    ) -> Result<(), ledger::Error> {
        if !self.gpus.contains_key(&gpu) && !self.state.cuts.contains_key(&gpu) {
            commands::refuse(reply, Failure::from(&mdev::Error::NoSuchGpu(gpu)));
            return Ok(());
        }
        let (cause, since) = (GpuQuarantineCause::Operator, super::now());
        let why = GpuQuarantine { cause, evidence: reason, since, by };
        self.apply_for(Event::QuarantineGpu { gpu, why }, reply)
    }

    pub(super) fn clear_gpu(
        &mut self,
        gpu: PciAddress,
        by: Actor,
        reply: Reply<()>,
    ) -> Result<(), ledger::Error> {
        let stuck = self.workers.get(&gpu).and_then(|worker| worker.stuck());
        let shown = match stuck {
            Some(running) => GpuShown::Stuck(running.intent.effect.to_string()),
            None if self.gpus.contains_key(&gpu) => GpuShown::There,
            None => GpuShown::Absent,
        };
        self.apply_for(Event::ClearGpu { gpu, shown, by }, reply)
    }

    /// Applies what takes effect at once, and answers when everybody can see it.
    fn apply_for(&mut self, event: Event, reply: Reply<()>) -> Result<(), ledger::Error> {
        if matches!(self.running, Running::Stopping { .. }) {
            commands::refuse(reply, Failure::stopping());
            return Ok(());
        }
        let failure = match &event {
            Event::QuarantineGpu { gpu, why } => {
                let evidence = why.evidence.clone();
                Some(Failure::from(&Rejected::GpuQuarantined { gpu: *gpu, evidence }))
            }
            _ => None,
        };
        match self.apply(event, Cause { failure, ..Cause::default() })? {
            Ok(()) => self.waiters.push(Waiter::new(Want::Applied { reply }, [])),
            Err(rejected) => commands::refuse(reply, Failure::from(&rejected)),
        }
        Ok(())
    }

    /// Quarantines the GPU of an effect whose failure tells of more than its slice.
    pub(super) fn suspect(
        &mut self,
        effect: &Effect,
        error: &EffectError,
        failure: &Failure,
    ) -> Result<(), ledger::Error> {
        let Some(gpu) = effect.gpu() else { return Ok(()) };
        if error.is_unanswered() {
            return self.put_out_of_use(gpu, GpuQuarantineCause::NoAnswer, failure.line(), failure);
        }
        let Effect::Reset { target } = effect else { return Ok(()) };
        // The slice itself is being scrubbed, so it is not among them.
        let other = self.state.slices_of(gpu).find(|slice| {
            matches!(&slice.phase, Phase::Quarantined { why } if why.cause == QuarantineCause::ResetFailed)
        });
        let Some(other) = other.filter(|_| error.is_failed_reset()) else { return Ok(()) };
        let (one, other, why) = (other.id, target.slice, failure.line());
        let evidence = format!("two of its slices could not be opened or reset, {one} and {other}: {why}");
        self.put_out_of_use(gpu, GpuQuarantineCause::ResetsFailed, evidence, failure)
    }

    /// Quarantines a GPU on vgpud's own account, unless it is already. `failure` is what requests are
    /// told that are given up with it.
    pub(super) fn put_out_of_use(
        &mut self,
        gpu: PciAddress,
        cause: GpuQuarantineCause,
        evidence: String,
        failure: &Failure,
    ) -> Result<(), ledger::Error> {
        if self.state.quarantined_gpus.contains_key(&gpu) {
            return Ok(());
        }
        let why = GpuQuarantine { cause, evidence, since: super::now(), by: Actor::Vgpud };
        tracing::error!(%gpu, cause = cause.word(), "the GPU is kept out of use: {}", why.evidence);
        let cause = Cause { failure: Some(failure.clone()), ..Cause::default() };
        if let Err(rejected) = self.apply(Event::QuarantineGpu { gpu, why }, cause)? {
            tracing::warn!(%gpu, "{rejected}");
        }
        Ok(())
    }

    /// The slices of requests that are given up with a GPU.
    pub(super) fn given_up_with(&self, gpu: PciAddress) -> BTreeSet<Subject> {
        let request = |slice: &crate::engine::Slice| slice.tie.as_ref().map(|tie| tie.request);
        let requests: BTreeSet<_> = self.state.slices_of(gpu).filter_map(request).collect();
        let slices = self.state.slices.values();
        let tied = slices.filter(|slice| request(slice).is_some_and(|found| requests.contains(&found)));
        tied.map(|slice| Subject::Slice(slice.id)).collect()
    }
}
