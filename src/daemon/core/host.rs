//! What the host shows: at the start, and whenever the kernel says that something changed.

use super::{Cause, Core, Running};
use crate::{
    daemon::{
        executor::{GpuSeen, HostSeen},
        holder::Watched,
        message::Message,
        worker::Worker,
    },
    engine::{
        Effect, Event, Note, NoteKind, Phase, SliceId,
        reconcile::{self, HostView, Restart},
    },
    failure::Failure,
    ledger::{self, Outcome},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::sync::oneshot;
use vgpud_config::PciAddress;
use vgpud_mdev as mdev;

/// At most one reading of the host at a time; those who ask meanwhile get the next one.
#[derive(Debug, Default)]
pub struct Refresh {
    reading: Reading,
    waiting: Vec<oneshot::Sender<()>>,
    served: Vec<oneshot::Sender<()>>,
    done: Vec<oneshot::Sender<()>>,
    /// When the reading in progress began.
    since: Option<Instant>,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Reading {
    #[default]
    Idle,
    Running,
    /// And once more when it is done.
    RunningAgain,
}

impl Refresh {
    /// Tells those whose reading is published.
    pub fn answer(&mut self) {
        for reply in self.done.drain(..) {
            // Whoever asked may have gone.
            let _ = reply.send(());
        }
    }
}

impl Core {
    /// Compares the ledger with the host after a start, before anything is served. Blocks: nobody
    /// waits yet.
    ///
    /// # Errors
    /// Where the host cannot be read, or the ledger written.
    pub fn reconcile(&mut self) -> Result<(), super::super::StartError> {
        let seen = self.executor.look_at_all(&[]).map_err(super::super::StartError::Inventory)?;
        self.gpus = seen.gpus.into_iter().map(|seen| (seen.gpu.address, seen)).collect();
        let unreadable = seen.unreadable.into_iter().collect();
        for intent in self.ledger.open_intents()? {
            tracing::info!(effect = %intent.effect, "interrupted by the last stop");
            self.ledger.close_intent(intent.id, &Outcome::Interrupted, super::now())?;
        }
        let boot = self.boot_id();
        let restart = match self.ledger.boot_id()? {
            Some(before) if before != boot => Restart::Restarted,
            Some(_) | None => Restart::SameBoot,
        };
        if restart == Restart::Restarted {
            let note = Note::daemon(NoteKind::HostRestarted, "The host was restarted since vgpud ran last");
            self.record(vec![note], vec![])?;
        }
        // Files of leases that end below are removed with them.
        self.remove_orphan_files(restart)?;
        let ended_holders = self.watch_holders();
        let gpus = self.gpus.iter().map(|(gpu, seen)| (*gpu, seen.instances.clone())).collect();
        let is_divided = |seen: &&GpuSeen| seen.gpu.has_vfs();
        let divided = self.gpus.values().filter(is_divided).map(|seen| seen.gpu.address).collect();
        let view = HostView { restart, gpus, unreadable, divided, ended_holders };
        let findings = reconcile::compare(&self.state, &view);
        for event in findings.events {
            if let Event::GpuVanished { gpu } = &event {
                self.vanished.insert(*gpu);
            }
            if let Event::Resume { slice } = &event {
                self.resumed.insert(*slice);
            }
            if let Err(rejected) = self.apply(event, Cause::default())? {
                tracing::warn!("not reconciled: {rejected}");
            }
        }
        for (gpu, name) in findings.foreign {
            tracing::info!(%gpu, instance = %name, "in use by somebody else; left alone");
        }
        self.ledger.set_boot_id(&boot)?;
        self.running = Running::Yes;
        for gpu in self.workers.keys().copied().collect::<Vec<_>>() {
            self.advance(gpu)?;
        }
        let text = format!("vgpud {} has started", env!("CARGO_PKG_VERSION"));
        self.record(vec![Note::daemon(NoteKind::DaemonStarted, text)], vec![])?;
        self.publish();
        Ok(())
    }

    /// The kernel's name for this boot (proc_sys_kernel(5)); a tree without one is always the same.
    fn boot_id(&self) -> String {
        let path = self.host.path("/proc/sys/kernel/random/boot_id");
        std::fs::read_to_string(path).map_or_else(|_| "unknown".to_owned(), |id| id.trim().to_owned())
    }

    /// Watches the holders of all leases again, and returns the slices whose holder has ended.
    fn watch_holders(&mut self) -> BTreeSet<SliceId> {
        let mut ended = BTreeSet::new();
        let held: Vec<_> = self
            .state
            .slices
            .values()
            .filter_map(|slice| Some((slice.id, slice.generation, slice.phase.lease()?.holder?)))
            .collect();
        for (slice, generation, holder) in held {
            match Watched::reopen(&self.host, holder) {
                Ok(Some(watched)) => self.watch(watched, slice, generation),
                Ok(None) => {
                    ended.insert(slice);
                    self.ended_holders.insert((slice, generation));
                }
                Err(error) => tracing::error!(%slice, "{}", Failure::from(&error).line()),
            }
        }
        ended
    }

    /// CDI files of slices that are not leased would give a device to whoever asks for it.
    fn remove_orphan_files(&mut self, restart: Restart) -> Result<(), ledger::Error> {
        let published = match self.executor.published() {
            Ok(published) => published,
            Err(error) => {
                tracing::error!("cannot look for CDI files: {}", Failure::from(&error).line());
                return Ok(());
            }
        };
        let leased =
            |id: &SliceId| self.state.slices.get(id).is_some_and(|slice| slice.phase.lease().is_some());
        let orphans: Vec<_> = published.iter().copied().filter(|id| !leased(id)).collect();
        for slice in self.state.slices.values() {
            let handed_over = matches!(&slice.phase, Phase::Leased { lease } if lease.handover.is_some());
            if restart == Restart::SameBoot && handed_over && !published.contains(&slice.id) {
                tracing::warn!(slice = %slice.id, "its CDI file is gone; runtimes do not find it until it is leased anew");
            }
        }
        for slice in orphans {
            let text = format!("A CDI file of {slice}, which nobody leases, is removed");
            let note = Note { slice: Some(slice), ..Note::daemon(NoteKind::OrphanFile, text) };
            self.record(vec![note], vec![Effect::Unpublish { slice }])?;
        }
        Ok(())
    }

    /// Reads the host for somebody; at once with what is known where a reading hangs.
    pub(super) fn read_for(&mut self, reply: oneshot::Sender<()>) {
        let hangs = self.refresh.reading != Reading::Idle
            && self.refresh.since.is_some_and(|since| since.elapsed() > HANGING);
        if hangs {
            self.refresh.done.push(reply);
        } else {
            // A reading can take for ever, and those who asked have gone meanwhile.
            self.refresh.waiting.retain(|waiting| !waiting.is_closed());
            self.refresh.waiting.push(reply);
        }
        self.start_refresh();
    }

    /// The GPUs that workers are at.
    fn at_work(&self) -> BTreeSet<PciAddress> {
        self.workers
            .values()
            .filter_map(Worker::running)
            .flat_map(|running| running.intent.effect.gpus())
            .collect()
    }

    /// Reads the host on another thread.
    pub(super) fn start_refresh(&mut self) {
        match self.refresh.reading {
            Reading::Idle => {}
            Reading::Running | Reading::RunningAgain => {
                self.refresh.reading = Reading::RunningAgain;
                return;
            }
        }
        self.refresh.reading = Reading::Running;
        self.refresh.served = std::mem::take(&mut self.refresh.waiting);
        self.refresh.since = Some(Instant::now());
        let (executor, reports, epochs) =
            (Arc::clone(&self.executor), self.sender.clone(), self.epochs.clone());
        let at_work: Vec<PciAddress> = self.at_work().into_iter().collect();
        tokio::task::spawn_blocking(move || {
            let host = executor.look_at_all(&at_work);
            let _ = reports.send(Message::Seen { host, epochs });
        });
    }

    /// A reading of the host is there.
    pub(super) fn seen(
        &mut self,
        host: Result<HostSeen, mdev::Error>,
        epochs: &BTreeMap<PciAddress, u64>,
    ) -> Result<(), ledger::Error> {
        match host {
            Ok(host) => self.take_in(host, epochs)?,
            Err(error) => tracing::error!("cannot read the host: {}", Failure::from(&error).line()),
        }
        let again = self.refresh.reading == Reading::RunningAgain;
        self.refresh.reading = Reading::Idle;
        self.refresh.done.append(&mut self.refresh.served);
        if again {
            self.start_refresh();
        }
        Ok(())
    }

    fn take_in(&mut self, host: HostSeen, epochs: &BTreeMap<PciAddress, u64>) -> Result<(), ledger::Error> {
        let settled = |core: &Self, gpu: &PciAddress| {
            !core.at_work().contains(gpu) && core.epochs.get(gpu) == epochs.get(gpu)
        };
        let HostSeen { gpus, unreadable } = host;
        let mut now: BTreeMap<_, _> = gpus.into_iter().map(|seen| (seen.gpu.address, seen)).collect();
        // What cannot be read is not gone: it is as it was last seen.
        let there = |gpu: &PciAddress| now.contains_key(gpu) || unreadable.contains(gpu);
        // One that could not be read at the start is known by its slices alone.
        let known: BTreeSet<_> = self.gpus.keys().chain(self.state.cuts.keys()).collect();
        let gone: Vec<_> = known.into_iter().filter(|gpu| !there(gpu)).copied().collect();
        for gpu in gone.into_iter().filter(|gpu| settled(self, gpu)).collect::<Vec<_>>() {
            self.vanish(gpu)?;
        }
        let returned: Vec<_> = now.keys().filter(|gpu| self.vanished.contains(gpu)).copied().collect();
        for gpu in returned {
            self.vanished.remove(&gpu);
            let taken = self.apply(Event::GpuReturned { gpu }, Cause::default())?;
            debug_assert_eq!(taken, Ok(()), "a GPU may always return");
        }
        now.retain(|gpu, _| settled(self, gpu) || !self.gpus.contains_key(gpu));
        let trusted = now.iter().filter(|(gpu, _)| settled(self, gpu));
        let view = HostView {
            gpus: trusted.map(|(gpu, seen)| (*gpu, seen.instances.clone())).collect(),
            ..HostView::default()
        };
        let contradictions = reconcile::compare(&self.state, &view).events.into_iter().filter(|event| {
            // A release is one whose device went with its VM; the ends of holders are told by others.
            let (Event::Contradiction { slice, .. } | Event::Release { slice, .. }) = event else {
                return false;
            };
            self.state.slices.get(slice).is_some_and(|slice| view.gpus.contains_key(&slice.gpu))
        });
        let contradictions: Vec<_> = contradictions.collect();
        self.gpus.extend(now);
        for event in contradictions {
            if let Err(rejected) = self.apply(event, Cause::default())? {
                tracing::warn!("{rejected}");
            }
        }
        Ok(())
    }

    /// A GPU is gone.
    pub(super) fn vanish(&mut self, gpu: PciAddress) -> Result<(), ledger::Error> {
        if self.gpus.remove(&gpu).is_none() && self.vanished.contains(&gpu) {
            return Ok(());
        }
        self.vanished.insert(gpu);
        let failure = Failure::vanished(format!("GPU {gpu} is no longer there"));
        let cause = Cause { failure: Some(failure), ..Cause::default() };
        if let Err(rejected) = self.apply(Event::GpuVanished { gpu }, cause)? {
            tracing::warn!(%gpu, "{rejected}");
        }
        Ok(())
    }
}

/// A reading that takes longer is not waited for.
const HANGING: Duration = Duration::from_secs(3);

/// How long the kernel's events are gathered before the host is read again.
pub const GATHERING: Duration = Duration::from_millis(100);
