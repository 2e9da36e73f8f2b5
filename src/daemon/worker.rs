//! One thread a physical GPU: cards have card-wide rules, and a write to sysfs can block for ever,
//! so GPUs never wait for one another.
//!
//! The queue is kept on the core's side and the thread gets one effect at a time. While the thread
//! is stuck in the kernel, the core still knows what waits behind it.

use super::{
    executor::{Done, EffectError, Executor, GpuSeen},
    message::{Message, Sender},
};
use crate::{engine::Effect, ledger::Intent};
use std::{
    collections::VecDeque,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, mpsc},
    time::{Duration, Instant, SystemTime},
};
use vgpud_config::PciAddress;
use vgpud_mdev as mdev;

/// What a worker reports.
#[derive(Debug)]
pub struct Finished {
    pub intent: Intent,
    pub result: Result<Done, EffectError>,
    /// The GPUs that it touched, as they are afterwards.
    pub seen: Vec<(PciAddress, Result<Option<GpuSeen>, mdev::Error>)>,
}

/// The core's side of one GPU's thread.
#[derive(Debug)]
pub struct Worker {
    gpu: PciAddress,
    jobs: mpsc::Sender<Intent>,
    queue: VecDeque<Intent>,
    running: Option<Running>,
    executor: Arc<dyn Executor>,
}

/// The effect that the thread is at.
#[derive(Clone, Debug)]
pub struct Running {
    pub intent: Intent,
    pub since: Instant,
    pub since_wall: SystemTime,
    /// What the GPU's work had waited for other GPUs before.
    waited: Duration,
    pub patience: Patience,
}

/// Whether the effect is still waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Patience {
    Waiting,
    /// It passed its deadline; the thread is stuck.
    GivenUp,
}

impl Worker {
    /// Starts the thread. It ends when this value is dropped and its last effect has come back.
    ///
    /// # Errors
    /// Where the system gives no thread.
    pub fn start(gpu: PciAddress, executor: Arc<dyn Executor>, reports: Sender) -> std::io::Result<Self> {
        let (jobs, inbox) = mpsc::channel::<Intent>();
        let name = format!("gpu-{gpu}");
        let runs = Arc::clone(&executor);
        std::thread::Builder::new().name(name).spawn(move || {
            while let Ok(intent) = inbox.recv() {
                // A fault in the program must not look like a kernel that never answers.
                let run = AssertUnwindSafe(|| runs.run(&intent.effect));
                let result = catch_unwind(run).unwrap_or(Err(EffectError::WorkerLost(gpu)));
                let seen = intent.effect.gpus().into_iter().map(|gpu| (gpu, runs.look(gpu))).collect();
                let finished = Finished { intent, result, seen };
                if reports.send(Message::Finished(Box::new(finished))).is_err() {
                    break;
                }
            }
        })?;
        Ok(Self { gpu, jobs, queue: VecDeque::new(), running: None, executor })
    }

    pub fn enqueue(&mut self, intent: Intent) {
        self.queue.push_back(intent);
    }

    /// Gives the thread its next effect if it is free.
    ///
    /// # Errors
    /// The intent, where the thread has broken down.
    pub fn advance(&mut self) -> Result<Option<&Running>, Intent> {
        if self.running.is_some() {
            return Ok(None);
        }
        let Some(intent) = self.queue.pop_front() else { return Ok(None) };
        let waited = self.executor.waited_for_others(self.gpu);
        if let Err(lost) = self.jobs.send(intent.clone()) {
            return Err(lost.0);
        }
        let running = Running {
            intent,
            since: Instant::now(),
            since_wall: SystemTime::now(),
            waited,
            patience: Patience::Waiting,
        };
        Ok(Some(self.running.insert(running)))
    }

    /// The thread came back.
    pub fn finished(&mut self) -> Option<Running> {
        self.running.take()
    }

    #[must_use]
    pub const fn running(&self) -> Option<&Running> {
        self.running.as_ref()
    }

    /// The running effect, the first time that it is found to be past its deadline. Time in which it waited for
    /// work on another GPU does not count.
    pub fn give_up(&mut self, deadline: impl Fn(&Effect) -> Duration) -> Option<Intent> {
        let running = self.running.as_mut()?;
        let waited = self.executor.waited_for_others(self.gpu).saturating_sub(running.waited);
        let at_work = running.since.elapsed().saturating_sub(waited);
        if running.patience == Patience::GivenUp || at_work < deadline(&running.intent.effect) {
            return None;
        }
        running.patience = Patience::GivenUp;
        Some(running.intent.clone())
    }

    /// What it is stuck in, if it is.
    #[must_use]
    pub fn stuck(&self) -> Option<&Running> {
        self.running.as_ref().filter(|running| running.patience == Patience::GivenUp)
    }

    /// Takes effects that were not begun out of the queue.
    pub fn take_queued(&mut self, wanted: impl Fn(&Intent) -> bool) -> Vec<Intent> {
        let (taken, kept) = self.queue.drain(..).partition(|intent| wanted(intent));
        self.queue = kept;
        let taken: VecDeque<Intent> = taken;
        taken.into()
    }

    #[must_use]
    pub const fn gpu(&self) -> PciAddress {
        self.gpu
    }
}
