//! The one task that owns the state and the ledger.
//!
//! Whoever wants something enqueues a [`Message`]; this task alone applies it. Each change goes the
//! same way: [`step`] decides, the ledger records the change with the intents of its effects, the
//! effects go to the workers of their GPUs, a new [`Snapshot`] is published, and those who wait are
//! answered. Nothing here waits for a device.
//!
//! A failed write to the ledger ends the task: what is in memory is then no longer what is on disk.

mod clear;
mod commands;
mod effects;
mod gpu_quarantine;
mod host;
mod layout;
mod limits;
mod partition;
mod questions;
mod removal;
mod scrub;
mod verify;
mod waiter;

pub use host::GATHERING;
pub use limits::boot_now;
pub use questions::PAGE;

use super::{
    executor::{Executor, GpuSeen},
    message::{Command, Create, Message, Sender},
    snapshot::{Snapshot, Waiting},
    worker::Worker,
};
use crate::{
    engine::{
        Effect, Event, Generation, Note, NoteKind, Rejected, SliceId, State, Transition, UnixMillis, step,
    },
    failure::Failure,
    ledger::{self, Change, Intent, IntentId, Ledger, Outcome, Scrub},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};
use tokio::{
    sync::{mpsc, oneshot, watch},
    task::AbortHandle,
};
use vgpud_config::{PciAddress, Settings};
use vgpud_mdev::Host;
use waiter::Waiter;

/// How often deadlines are looked at.
const TICK: Duration = Duration::from_millis(250);

/// What an effect works for: at most one effect is waited for at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Subject {
    Slice(SliceId),
    Gpu(PciAddress),
}

/// An effect that is waited for.
#[derive(Debug)]
struct Current {
    intent: Intent,
    since: UnixMillis,
    /// Since when the device is found to be held, and by whom.
    held: Option<(Instant, Failure)>,
}

/// Whether effects are begun and commands are taken.
#[derive(Debug)]
enum Running {
    /// The ledger is being compared with the host. No effect begins before the ledger knows the boot
    /// that it was compared in: an effect's own work, seen after a crash, would be taken for somebody
    /// else's.
    Reconciling,
    Yes,
    Stopping {
        by: Instant,
        reply: Option<oneshot::Sender<()>>,
    },
    #[cfg(test)]
    Crashed,
}

/// What a change is owed to.
#[derive(Debug, Default)]
struct Cause {
    outcome: Option<(IntentId, Outcome)>,
    failure: Option<Failure>,
    /// How the slice was made clean, or why not.
    scrub: Option<Scrub>,
}

#[derive(Debug)]
pub struct Core {
    state: State,
    ledger: Ledger,
    host: Host,
    settings: watch::Sender<Arc<Settings>>,
    executor: Arc<dyn Executor>,
    sender: Sender,
    inbox: mpsc::UnboundedReceiver<Message>,
    gpus: BTreeMap<PciAddress, GpuSeen>,
    vanished: BTreeSet<PciAddress>,
    /// Slices whose effect may have begun before this daemon started, or before their quarantine.
    resumed: BTreeSet<SliceId>,
    /// Grows with each beginning and end of an effect: a reading of the host that overlaps with one
    /// is not believed for that GPU.
    epochs: BTreeMap<PciAddress, u64>,
    workers: BTreeMap<PciAddress, Worker>,
    current: BTreeMap<Subject, Current>,
    waiters: Vec<Waiter>,
    removals: removal::Removals,
    /// Slices that are being checked, which stay as they are meanwhile.
    verifying: BTreeSet<SliceId>,
    /// Requests that wait until a GPU is put back.
    deferred: Vec<Create>,
    holders: BTreeMap<SliceId, (Generation, AbortHandle)>,
    ended_holders: BTreeSet<(SliceId, Generation)>,
    retries: limits::Retries,
    refresh: host::Refresh,
    snapshot: watch::Sender<Arc<Snapshot>>,
    last_words: watch::Sender<Option<Failure>>,
    last_sequence: u64,
    started: UnixMillis,
    running: Running,
}

/// Everything that a core is made of.
#[derive(Debug)]
pub struct Parts {
    pub state: State,
    pub ledger: Ledger,
    pub host: Host,
    pub settings: watch::Sender<Arc<Settings>>,
    pub executor: Arc<dyn Executor>,
}

/// How to reach a core.
#[derive(Clone, Debug)]
pub struct Handle {
    pub sender: Sender,
    pub snapshot: watch::Receiver<Arc<Snapshot>>,
    /// Why the core ended by itself; nobody sends any more once it has ended.
    pub last_words: watch::Receiver<Option<Failure>>,
}

pub fn now() -> UnixMillis {
    millis(SystemTime::now())
}

fn millis(time: SystemTime) -> UnixMillis {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    UnixMillis(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

impl Core {
    pub fn new(parts: Parts) -> (Self, Handle) {
        let Parts { state, ledger, host, settings, executor } = parts;
        let (sender, inbox) = mpsc::unbounded_channel();
        let started = now();
        let first = Snapshot {
            state: state.clone(),
            gpus: BTreeMap::new(),
            waiting: BTreeMap::new(),
            stuck: BTreeMap::new(),
            last_sequence: 0,
            settings: Arc::clone(&settings.borrow()),
            started,
        };
        let (publisher, snapshot) = watch::channel(Arc::new(first));
        let (speaker, last_words) = watch::channel(None);
        let handle = Handle { sender: sender.clone(), snapshot, last_words };
        let core = Self {
            state,
            ledger,
            host,
            settings,
            executor,
            sender,
            inbox,
            gpus: BTreeMap::new(),
            vanished: BTreeSet::new(),
            resumed: BTreeSet::new(),
            epochs: BTreeMap::new(),
            workers: BTreeMap::new(),
            current: BTreeMap::new(),
            waiters: Vec::new(),
            removals: removal::Removals::default(),
            verifying: BTreeSet::new(),
            deferred: Vec::new(),
            holders: BTreeMap::new(),
            ended_holders: BTreeSet::new(),
            retries: limits::Retries::default(),
            refresh: host::Refresh::default(),
            snapshot: publisher,
            last_words: speaker,
            last_sequence: 0,
            started,
            running: Running::Reconciling,
        };
        (core, handle)
    }

    /// Works until it is told to stop and the running effects have come to their end.
    ///
    /// # Errors
    /// Where the ledger cannot be written any more.
    pub async fn run(mut self) -> Result<(), ledger::Error> {
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            // Both branches only take a message or a tick: nothing is lost when the other wins.
            let result = tokio::select! {
                Some(message) = self.inbox.recv() => self.handle(message),
                _ = tick.tick() => self.tick(),
            };
            if let Err(error) = result {
                self.end_with(&Failure::from(&error));
                return Err(error);
            }
            match self.running {
                Running::Yes | Running::Reconciling => {}
                #[cfg(test)]
                Running::Crashed => return Ok(()),
                Running::Stopping { .. } if self.may_stop() => return self.stop(),
                Running::Stopping { .. } => {}
            }
        }
    }

    /// Tells all who wait, or whose request was not yet looked at, why nothing comes of it.
    fn end_with(mut self, failure: &Failure) {
        for waiter in self.waiters.drain(..) {
            waiter.fail(failure);
        }
        let mut creates = std::mem::take(&mut self.deferred);
        while let Ok(message) = self.inbox.try_recv() {
            if let Message::Command(Command::Create(create)) = message {
                creates.push(create);
            }
        }
        for create in creates {
            // The client may have gone.
            let _ = create.progress.send(Err(failure.clone()));
        }
        self.last_words.send_replace(Some(failure.clone()));
    }

    fn tick(&mut self) -> Result<(), ledger::Error> {
        let given_up = self.look_at_deadlines()? == effects::GivenUp::Some;
        if self.end_overtime()? || given_up {
            self.publish();
        }
        Ok(())
    }

    /// Takes one message, and then tells what has become of it: nobody sees a change half applied.
    fn handle(&mut self, message: Message) -> Result<(), ledger::Error> {
        if let Message::Command(Command::Tell(question)) = message {
            self.tell(question);
            return Ok(());
        }
        self.take(message)?;
        self.publish();
        self.refresh.answer();
        Ok(())
    }

    fn take(&mut self, message: Message) -> Result<(), ledger::Error> {
        match message {
            Message::Command(command) => self.command(command),
            Message::Finished(finished) => self.finished(*finished),
            Message::Retry(intent) => self.retry(intent),
            Message::HolderEnded { slice, generation } => self.holder_ended(slice, generation),
            Message::Verified { slice, result, reply } => self.verified(slice, *result, reply),
            Message::Seen { host, epochs } => self.seen(host, &epochs),
            Message::HostChanged => {
                self.start_refresh();
                Ok(())
            }
            #[cfg(test)]
            Message::Crash => {
                self.running = Running::Crashed;
                Ok(())
            }
        }
    }

    /// Applies one event: the way that every change goes.
    fn apply(&mut self, event: Event, cause: Cause) -> Result<Result<(), Rejected>, ledger::Error> {
        let concerned = self.concerned(&event);
        let transition = match step(&self.state, event) {
            Ok(transition) => transition,
            Err(rejected) => {
                if let Some((intent, outcome)) = &cause.outcome {
                    self.ledger.close_intent(*intent, outcome, now())?;
                }
                return Ok(Err(rejected));
            }
        };
        let change = Change {
            before: &self.state,
            transition: &transition,
            outcome: cause.outcome,
            scrub: cause.scrub.as_ref(),
            at: now(),
        };
        let (intents, entries) = self.ledger.commit(&change)?;
        for entry in &entries {
            tracing::info!(
                kind = entry.kind,
                slice = entry.slice.map(tracing::field::display),
                gpu = entry.gpu,
                owner = entry.owner,
                "{}",
                entry.message
            );
            self.last_sequence = entry.sequence;
        }
        let before = std::mem::replace(&mut self.state, transition.state);
        if let Some(failure) = &cause.failure {
            for waiter in &mut self.waiters {
                waiter.hear_of(failure, &concerned);
            }
        }
        self.drop_quarantined(&before)?;
        for intent in intents {
            self.dispatch(intent)?;
        }
        self.forget_ended_leases();
        Ok(Ok(()))
    }

    /// Records notes and effects that change no state.
    fn record(&mut self, notes: Vec<Note>, effects: Vec<Effect>) -> Result<(), ledger::Error> {
        let transition = Transition { state: self.state.clone(), effects, notes };
        let change =
            Change { before: &self.state, transition: &transition, outcome: None, scrub: None, at: now() };
        let (intents, entries) = self.ledger.commit(&change)?;
        for entry in &entries {
            tracing::info!(kind = entry.kind, gpu = entry.gpu, "{}", entry.message);
            self.last_sequence = entry.sequence;
        }
        for intent in intents {
            self.dispatch(intent)?;
        }
        Ok(())
    }

    /// The slices and GPUs that an event is about, for those who wait for them.
    fn concerned(&self, event: &Event) -> BTreeSet<Subject> {
        match event {
            Event::GpuVanished { gpu } => {
                let slices = self.state.slices_of(*gpu).map(|slice| Subject::Slice(slice.id));
                slices.chain([Subject::Gpu(*gpu)]).collect()
            }
            Event::QuarantineGpu { gpu, .. } => self.given_up_with(*gpu),
            Event::RetireFailed { gpu, .. } => [Subject::Gpu(*gpu)].into(),
            Event::PartitionFailed { partition, .. } => {
                partition.gpus.iter().copied().map(Subject::Gpu).collect()
            }
            Event::CreateFailed { slice, .. }
            | Event::HandOverFailed { slice, .. }
            | Event::StillHeld { slice, .. }
            | Event::WithdrawFailed { slice, .. }
            | Event::ScrubFailed { slice, .. }
            | Event::ResetFailed { slice, .. }
            | Event::DestroyFailed { slice, .. }
            | Event::Overdue { slice, .. }
            | Event::Contradiction { slice, .. } => [Subject::Slice(*slice)].into(),
            _ => BTreeSet::new(),
        }
    }

    /// Publishes what is known now and answers those for whom that is enough.
    fn publish(&mut self) {
        let snapshot = Arc::new(self.make_snapshot());
        self.snapshot.send_replace(Arc::clone(&snapshot));
        self.waiters.retain_mut(|waiter| !waiter.settle(&snapshot));
    }

    fn make_snapshot(&self) -> Snapshot {
        let waiting = self.current.iter().filter_map(|(subject, current)| {
            let Subject::Slice(slice) = subject else { return None };
            let what = match &current.held {
                Some((_, failure)) => failure.message.clone(),
                None => current.intent.effect.to_string(),
            };
            Some((*slice, Waiting { what, since: current.since }))
        });
        let stuck = self.workers.values().filter_map(|worker| {
            let running = worker.stuck()?;
            let what = running.intent.effect.to_string();
            Some((worker.gpu(), Waiting { what, since: millis(running.since_wall) }))
        });
        Snapshot {
            state: self.state.clone(),
            gpus: self.gpus.clone(),
            waiting: waiting.collect(),
            stuck: stuck.collect(),
            last_sequence: self.last_sequence,
            settings: Arc::clone(&self.settings.borrow()),
            started: self.started,
        }
    }

    fn may_stop(&self) -> bool {
        let Running::Stopping { by, .. } = &self.running else { return false };
        let busy = |worker: &Worker| worker.running().is_some() && worker.stuck().is_none();
        !self.workers.values().any(busy) || Instant::now() >= *by
    }

    fn stop(mut self) -> Result<(), ledger::Error> {
        let failure = Failure::stopping();
        for waiter in self.waiters.drain(..) {
            waiter.fail(&failure);
        }
        for create in self.deferred.drain(..) {
            // The client may have gone.
            let _ = create.progress.send(Err(failure.clone()));
        }
        let note = Note::daemon(NoteKind::DaemonStopped, "vgpud has stopped");
        self.record(vec![note], vec![])?;
        if let Running::Stopping { reply: Some(reply), .. } = self.running {
            // Whoever asked may have gone.
            let _ = reply.send(());
        }
        Ok(())
    }

    fn command(&mut self, command: Command) -> Result<(), ledger::Error> {
        match command {
            Command::Create(create) => {
                let progress = create.progress.clone();
                // The client may have gone.
                self.create(create).inspect_err(|error| drop(progress.send(Err(Failure::from(error)))))
            }
            Command::Lease { slice, owner, terms, holder, reply } => {
                let claim = self.claim(owner, terms);
                self.lease(slice, claim, holder, reply)
            }
            Command::Extend { slice, time, reply } => self.extend(slice, time, reply),
            Command::Release { slice, generation, reply } => self.release(slice, generation, reply),
            Command::Destroy { slice, leased, reply } => self.destroy(slice, leased, reply),
            Command::Remove { slice, reply } => self.remove(slice, reply),
            Command::Partition { partition, reply } => self.partition(partition, reply),
            Command::Verify { slice, level, reply } => {
                self.verify(slice, level, reply);
                Ok(())
            }
            Command::Clear { slice, reply } => self.clear(slice, reply),
            Command::Quarantine { slice, reason, by, reply } => {
                self.quarantine_slice(slice, reason, by, reply)
            }
            Command::QuarantineGpu { gpu, reason, by, reply } => self.quarantine_gpu(gpu, reason, by, reply),
            Command::ClearGpu { gpu, by, reply } => self.clear_gpu(gpu, by, reply),
            Command::Tell(question) => {
                self.tell(question);
                Ok(())
            }
            Command::Refresh { reply } => {
                self.read_for(reply);
                Ok(())
            }
            Command::Denied { message } => {
                self.record(vec![Note::daemon(NoteKind::AccessDenied, message)], vec![])
            }
            Command::Reload(settings) => {
                self.settings.send_replace(settings);
                self.start_refresh();
                Ok(())
            }
            Command::Stop { reply } => {
                let by = Instant::now() + self.settings.borrow().timeouts.device;
                self.running = Running::Stopping { by, reply: Some(reply) };
                Ok(())
            }
        }
    }
}
