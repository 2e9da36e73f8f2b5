//! Effects on their way to the workers and back.

use super::{Cause, Core, Current, Running, Subject, limits::moment};
use crate::{
    daemon::{
        executor::{Done, EffectError},
        message::Message,
        worker::{Finished, Worker},
    },
    engine::{Effect, Event, GpuQuarantineCause, Phase, Ran, SliceId, State},
    failure::Failure,
    ledger::{self, Intent, IntentId, Outcome},
};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use vgpud_config::PciAddress;

/// Pause before a held device is looked at again.
const HELD_PAUSE: Duration = Duration::from_millis(200);

/// Whether a deadline has passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GivenUp {
    None,
    Some,
}

fn subject(effect: &Effect) -> Option<Subject> {
    match effect {
        Effect::Create { target, .. }
        | Effect::HandOver { target, .. }
        | Effect::Withdraw { target, .. }
        | Effect::Reset { target }
        | Effect::Destroy { target } => Some(Subject::Slice(target.slice)),
        Effect::Retire { .. } | Effect::Partition(_) => effect.gpu().map(Subject::Gpu),
        // Runs at once and is waited for by nobody.
        Effect::Unpublish { .. } => None,
    }
}

impl Core {
    /// Sends a journalled effect on its way.
    pub(super) fn dispatch(&mut self, intent: Intent) -> Result<(), ledger::Error> {
        if let Effect::Unpublish { slice } = intent.effect {
            self.start_removal(slice, intent);
            return Ok(());
        }
        let (Some(subject), Some(gpu)) = (subject(&intent.effect), intent.effect.gpu()) else {
            return Ok(());
        };
        let under_way = self.current.get(&subject).is_some_and(|now| now.intent.effect == intent.effect);
        if under_way {
            let outcome = Outcome::GivenUp("the same effect is under way already".to_owned());
            return self.ledger.close_intent(intent.id, &outcome, super::now());
        }
        let current = Current { intent: intent.clone(), since: super::now(), held: None };
        self.current.insert(subject, current);
        match self.removals.hold_back(intent) {
            Some(intent) => self.enqueue(gpu, intent),
            None => Ok(()),
        }
    }

    pub(super) fn enqueue(&mut self, gpu: PciAddress, intent: Intent) -> Result<(), ledger::Error> {
        if !self.workers.contains_key(&gpu) {
            match Worker::start(gpu, Arc::clone(&self.executor), self.sender.clone()) {
                Ok(worker) => {
                    self.workers.insert(gpu, worker);
                }
                Err(error) => {
                    tracing::error!(%gpu, %error, "no thread for the worker");
                    return self.lost(gpu, intent);
                }
            }
        }
        if let Some(worker) = self.workers.get_mut(&gpu) {
            worker.enqueue(intent);
        }
        self.advance(gpu)
    }

    /// Gives a worker its next effect. A daemon that stops begins nothing new: the phases of the
    /// slices say what is left to do.
    pub(super) fn advance(&mut self, gpu: PciAddress) -> Result<(), ledger::Error> {
        if matches!(self.running, Running::Stopping { .. } | Running::Reconciling) {
            return Ok(());
        }
        let Some(worker) = self.workers.get_mut(&gpu) else { return Ok(()) };
        match worker.advance() {
            Ok(None) => Ok(()),
            Ok(Some(running)) => {
                tracing::debug!(%gpu, effect = %running.intent.effect, "effect begins");
                for gpu in running.intent.effect.gpus() {
                    *self.epochs.entry(gpu).or_default() += 1;
                }
                Ok(())
            }
            Err(intent) => {
                self.workers.remove(&gpu);
                self.lost(gpu, intent)
            }
        }
    }

    fn lost(&mut self, gpu: PciAddress, intent: Intent) -> Result<(), ledger::Error> {
        let result = Err(EffectError::WorkerLost(gpu));
        self.conclude(Finished { intent, result, seen: Vec::new() })
    }

    /// A worker came back.
    pub(super) fn finished(&mut self, mut finished: Finished) -> Result<(), ledger::Error> {
        let gpu = finished.intent.effect.gpu();
        if let Some(worker) = gpu.and_then(|gpu| self.workers.get_mut(&gpu)) {
            worker.finished();
        }
        let mut gone = Vec::new();
        for gpu in finished.intent.effect.gpus() {
            *self.epochs.entry(gpu).or_default() += 1;
        }
        for (gpu, seen) in std::mem::take(&mut finished.seen) {
            match seen {
                Ok(Some(seen)) => {
                    self.gpus.insert(gpu, seen);
                }
                Ok(None) if self.gpus.contains_key(&gpu) => gone.push(gpu),
                Ok(None) => {}
                Err(error) => {
                    tracing::warn!(%gpu, "cannot look at the GPU: {}", Failure::from(&error).line());
                }
            }
        }
        let frees = matches!(finished.intent.effect, Effect::Retire { .. } | Effect::Partition(_));
        self.conclude(finished)?;
        for gpu in gone {
            self.vanish(gpu)?;
        }
        if let Some(gpu) = gpu {
            self.advance(gpu)?;
        }
        if frees {
            self.create_deferred()?;
        }
        self.release_ended()
    }

    pub(super) fn conclude(&mut self, finished: Finished) -> Result<(), ledger::Error> {
        let Finished { intent, result, .. } = finished;
        let Some(subject) = subject(&intent.effect) else {
            return self.removed(&intent, result);
        };
        let expected = self.current.get(&subject).is_some_and(|current| current.intent.id == intent.id);
        if !expected {
            return self.came_late(&intent, &result);
        }
        let result = match result {
            Err(error) if error.is_held() && self.may_wait(&intent, subject, &error) => return Ok(()),
            result => result,
        };
        self.current.remove(&subject);
        let scrub = self.scrub(&intent.effect, &result);
        let (event, cause) = match result {
            Ok(done) => {
                let cause = Cause { outcome: Some((intent.id, Outcome::Done)), failure: None, scrub };
                (success(&intent.effect, done), cause)
            }
            Err(error) => {
                // The engine's notes say themselves what failed.
                let failure = Failure::from(&error);
                let why = failure.line();
                let failure = failure.within(format!("Could not {}", intent.effect));
                tracing::warn!(reason = failure.reason, "{}", failure.line());
                self.suspect(&intent.effect, &error, &failure)?;
                let outcome = Some((intent.id, Outcome::Failed(why.clone())));
                let event = failed(&intent.effect, &error, why);
                (event, Cause { outcome, failure: Some(failure), scrub })
            }
        };
        if let Some(Event::StillHeld { slice, .. }) = &event {
            self.postpone(*slice);
            self.try_again_later(*slice);
        }
        let Some(event) = event else {
            tracing::error!(effect = %intent.effect, "the executor answered for another effect");
            return self.ledger.close_intent(intent.id, &Outcome::Interrupted, super::now());
        };
        if let Err(rejected) = self.apply(event, cause)? {
            tracing::warn!(effect = %intent.effect, "outcome not taken: {rejected}");
        }
        Ok(())
    }

    /// A lease whose holder has ended is not left alone because somebody else holds the device, such
    /// as a VMM that outlived the holder.
    fn try_again_later(&self, slice: SliceId) {
        let Some(found) = self.state.slices.get(&slice) else { return };
        let watched = self.holders.get(&slice).is_some_and(|(_, task)| !task.is_finished());
        if watched || found.phase.lease().is_none_or(|lease| lease.holder.is_none()) {
            return;
        }
        let (reports, generation) = (self.sender.clone(), found.generation);
        let pause = self.retry_pause();
        tokio::spawn(async move {
            tokio::time::sleep(pause).await;
            let _ = reports.send(Message::HolderEnded { slice, generation });
        });
    }

    /// An effect that was given up came back after all: its slice does not move by it.
    fn came_late(
        &mut self,
        intent: &Intent,
        result: &Result<Done, EffectError>,
    ) -> Result<(), ledger::Error> {
        let result = match result {
            Ok(_) => format!("{} is done", intent.effect),
            Err(error) => format!("{} failed: {}", intent.effect, Failure::from(error).line()),
        };
        tracing::warn!("late result: {result}");
        self.ledger.close_intent(intent.id, &Outcome::GivenUp(result.clone()), super::now())?;
        if let Some(slice) = intent.effect.slice().filter(|id| self.state.slices.contains_key(id)) {
            let late = self.apply(Event::LateResult { slice, result }, Cause::default())?;
            debug_assert_eq!(late, Ok(()), "a late result is always taken");
        }
        Ok(())
    }

    /// Whether a held device is looked at again: until `timeouts.release` is over.
    fn may_wait(&mut self, intent: &Intent, subject: Subject, error: &EffectError) -> bool {
        let patient = matches!(
            intent.effect,
            Effect::Withdraw { .. } | Effect::Reset { .. } | Effect::Destroy { .. } | Effect::Retire { .. }
        );
        let deadline = self.settings.borrow().timeouts.release;
        let Some(current) = self.current.get_mut(&subject) else { return false };
        let since = current.held.as_ref().map_or_else(Instant::now, |(since, _)| *since);
        if matches!(self.running, Running::Stopping { .. }) {
            // The next start goes on with it.
            return patient;
        }
        if !patient || since.elapsed() >= deadline {
            return false;
        }
        current.held = Some((since, Failure::from(error)));
        let (reports, intent) = (self.sender.clone(), intent.clone());
        tokio::spawn(async move {
            tokio::time::sleep(HELD_PAUSE).await;
            let _ = reports.send(Message::Retry(intent));
        });
        true
    }

    pub(super) fn retry(&mut self, intent: Intent) -> Result<(), ledger::Error> {
        let wanted = subject(&intent.effect).and_then(|subject| self.current.get(&subject));
        let wanted = wanted.is_some_and(|current| current.intent.id == intent.id);
        match intent.effect.gpu() {
            Some(gpu) if wanted => self.enqueue(gpu, intent),
            _ => Ok(()),
        }
    }

    /// Gives up effects that passed their deadline, and what waits behind them without having begun.
    /// The GPU is kept out of use from then on.
    pub(super) fn look_at_deadlines(&mut self) -> Result<GivenUp, ledger::Error> {
        let mut given_up = GivenUp::None;
        let settings = Arc::clone(&self.settings.borrow());
        let deadline = |effect: &Effect| match effect {
            // These make the instance clean too, which has a deadline of its own.
            Effect::Create { .. } | Effect::Reset { .. } => {
                settings.timeouts.device + settings.scrub.deadline
            }
            // The memory mode and then the compute mode, of one GPU after the other.
            Effect::Partition(partition) => {
                let gpus = u32::try_from(partition.asked.len()).unwrap_or(u32::MAX);
                settings.timeouts.device.saturating_mul(gpus.saturating_mul(2))
            }
            _ => settings.timeouts.device,
        };
        if self.give_up_held_back(settings.timeouts.device)? {
            given_up = GivenUp::Some;
        }
        let gpus: Vec<PciAddress> = self.workers.keys().copied().collect();
        for gpu in gpus {
            let Some(worker) = self.workers.get_mut(&gpu) else { continue };
            let Some(intent) = worker.give_up(deadline) else { continue };
            given_up = GivenUp::Some;
            let creations = worker.take_queued(|queued| matches!(queued.effect, Effect::Create { .. }));
            let waiting_for = intent.effect.to_string();
            let failure = Failure::stuck(&waiting_for);
            let within = humantime::format_duration(deadline(&intent.effect));
            tracing::error!(%gpu, effect = %intent.effect, "the kernel does not answer within {within}");
            let evidence =
                format!("the kernel did not come back within {within} from this work: {waiting_for}");
            for gpu in intent.effect.gpus() {
                self.put_out_of_use(gpu, GpuQuarantineCause::NoAnswer, evidence.clone(), &failure)?;
            }
            self.give_up(&intent, &waiting_for, &failure)?;
            for creation in creations {
                let Some(slice) = creation.effect.slice() else { continue };
                self.current.remove(&Subject::Slice(slice));
                let why = failure.line();
                let outcome = Some((creation.id, Outcome::GivenUp(why.clone())));
                let cause = Cause { outcome, failure: Some(failure.clone()), scrub: None };
                // The instance of one that was interrupted by the last stop may be there.
                let ran = if self.resumed.contains(&slice) { Ran::Begun } else { Ran::Never };
                let event = Event::CreateFailed { slice, why, ran };
                if let Err(rejected) = self.apply(event, cause)? {
                    tracing::warn!(%slice, "{rejected}");
                }
            }
        }
        if given_up == GivenUp::Some {
            self.create_deferred()?;
        }
        Ok(given_up)
    }

    fn give_up(
        &mut self,
        intent: &Intent,
        waiting_for: &str,
        failure: &Failure,
    ) -> Result<(), ledger::Error> {
        let Some(subject) = subject(&intent.effect) else { return Ok(()) };
        if self.current.get(&subject).is_none_or(|current| current.intent.id != intent.id) {
            return Ok(());
        }
        self.current.remove(&subject);
        let outcome = Some((intent.id, Outcome::GivenUp(failure.line())));
        let scrub = self.scrub_given_up(&intent.effect, failure);
        let cause = Cause { outcome, failure: Some(failure.clone()), scrub };
        let event = match (subject, &intent.effect) {
            (Subject::Slice(slice), _) => Event::Overdue { slice, waiting_for: waiting_for.to_owned() },
            (Subject::Gpu(_), Effect::Partition(partition)) => {
                Event::PartitionFailed { partition: partition.clone(), why: failure.line() }
            }
            (Subject::Gpu(gpu), _) => Event::RetireFailed { gpu, why: failure.line() },
        };
        if let Err(rejected) = self.apply(event, cause)? {
            tracing::warn!(effect = waiting_for, "{rejected}");
        }
        Ok(())
    }

    /// Effects of slices that are quarantined now are not begun any more; one that runs already will
    /// come late.
    pub(super) fn drop_quarantined(&mut self, before: &State) -> Result<(), ledger::Error> {
        let quarantined = |state: &State, id: &SliceId| {
            state.slices.get(id).is_some_and(|slice| matches!(slice.phase, Phase::Quarantined { .. }))
        };
        let fresh =
            self.state.slices.keys().filter(|id| quarantined(&self.state, id) && !quarantined(before, id));
        for id in fresh.copied().collect::<Vec<_>>() {
            let Some(current) = self.current.remove(&Subject::Slice(id)) else { continue };
            let held_back = self.removals.drop_held_back(id).is_some();
            let worker = current.intent.effect.gpu().and_then(|gpu| self.workers.get_mut(&gpu));
            let wanted: IntentId = current.intent.id;
            let waiting = worker.map(|worker| worker.take_queued(|queued| queued.id == wanted));
            if held_back || current.held.is_some() || waiting.is_some_and(|taken| !taken.is_empty()) {
                let outcome = Outcome::GivenUp("the slice is quarantined".to_owned());
                self.ledger.close_intent(wanted, &outcome, super::now())?;
            }
        }
        Ok(())
    }
}

/// What the success of an effect means; none where the executor's answer does not fit it.
fn success(effect: &Effect, done: Done) -> Option<Event> {
    let slice = effect.slice();
    Some(match (effect, done) {
        (Effect::Create { .. }, Done::Created(_)) => Event::Created { slice: slice?, at: moment() },
        (Effect::HandOver { .. }, Done::HandedOver(handover)) => {
            Event::HandedOver { slice: slice?, handover }
        }
        (Effect::Withdraw { .. }, Done::Withdrawn) => Event::Withdrawn { slice: slice? },
        (Effect::Reset { .. }, Done::Reset(evidence)) => {
            Event::Scrubbed { slice: slice?, evidence: evidence.map(|evidence| evidence.to_string()) }
        }
        (Effect::Reset { .. }, Done::Kept(evidence)) => {
            Event::Kept { slice: slice?, why: evidence.to_string() }
        }
        (Effect::Reset { target }, Done::Unclean(evidence)) => {
            let fresh = target.name.renewed();
            Event::NoReset { slice: slice?, fresh, why: evidence.map(|evidence| evidence.to_string()) }
        }
        (Effect::Destroy { .. }, Done::Destroyed) => Event::Destroyed { slice: slice? },
        (Effect::Retire { gpu, .. }, Done::Retired) => Event::Retired { gpu: *gpu },
        (Effect::Partition(partition), Done::Partitioned) => Event::Partitioned(partition.clone()),
        _ => return None,
    })
}

fn failed(effect: &Effect, error: &EffectError, why: String) -> Option<Event> {
    let slice = effect.slice();
    Some(match effect {
        Effect::Create { .. } => Event::CreateFailed { slice: slice?, why, ran: Ran::Begun },
        Effect::HandOver { .. } => Event::HandOverFailed { slice: slice?, why },
        Effect::Withdraw { .. } if error.is_held() => Event::StillHeld { slice: slice?, why },
        Effect::Withdraw { .. } => Event::WithdrawFailed { slice: slice?, why },
        Effect::Reset { .. } if error.is_failed_reset() => Event::ResetFailed { slice: slice?, why },
        Effect::Reset { .. } => Event::ScrubFailed { slice: slice?, why },
        Effect::Destroy { .. } => Event::DestroyFailed { slice: slice?, why },
        Effect::Retire { gpu, .. } => Event::RetireFailed { gpu: *gpu, why },
        Effect::Partition(partition) => Event::PartitionFailed { partition: partition.clone(), why },
        Effect::Unpublish { .. } => return None,
    })
}
