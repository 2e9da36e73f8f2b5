//! Those who asked for something and wait until it is so.
//!
//! An answer is given when the slices stand still again, so that an error means that nothing is
//! half done; and at once where a GPU's worker is stuck, so that nobody waits for ever.

use super::Subject;
use crate::{
    daemon::{
        message::{Progress, Reply},
        snapshot::Snapshot,
    },
    engine::{Generation, Phase, Rejected, Retiring, Slice, SliceId},
    failure::Failure,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};
use tokio::sync::mpsc;
use vgpud_config::PciAddress;

#[derive(Debug)]
pub struct Waiter {
    slices: BTreeSet<SliceId>,
    gpus: BTreeSet<PciAddress>,
    /// The first thing that went wrong.
    failure: Option<Failure>,
    want: Option<Want>,
}

#[derive(Debug)]
pub enum Want {
    Leased {
        slice: SliceId,
        generation: Generation,
        reply: Reply<SliceId>,
    },
    /// Ready again, after a lease or a quarantine.
    Released {
        slice: SliceId,
        generation: Generation,
        reply: Reply<SliceId>,
    },
    Destroyed {
        slice: SliceId,
        reply: Reply<()>,
    },
    /// Its GPUs are divided anew.
    Partitioned {
        reply: Reply<()>,
    },
    /// Done already, and seen by everybody with the next snapshot.
    Applied {
        reply: Reply<()>,
    },
    Created {
        ids: Vec<SliceId>,
        /// What was reported last of each slice.
        reported: BTreeMap<SliceId, Phase>,
        progress: mpsc::UnboundedSender<Result<Progress, Failure>>,
    },
}

/// What a waiter gets.
enum Answer {
    NotYet,
    Ok,
    Err(Failure),
}

impl Waiter {
    pub fn new(want: Want, slices: impl IntoIterator<Item = (SliceId, PciAddress)>) -> Self {
        let (slices, gpus) = slices.into_iter().unzip();
        Self { slices, gpus, failure: None, want: Some(want) }
    }

    pub const fn of_gpus(want: Want, gpus: BTreeSet<PciAddress>) -> Self {
        Self { slices: BTreeSet::new(), gpus, failure: None, want: Some(want) }
    }

    /// Remembers what went wrong with one of its slices or GPUs.
    pub fn hear_of(&mut self, failure: &Failure, concerned: &BTreeSet<Subject>) {
        let ours = concerned.iter().any(|subject| match subject {
            Subject::Slice(slice) => self.slices.contains(slice),
            Subject::Gpu(gpu) => self.gpus.contains(gpu),
        });
        if ours {
            self.failure.get_or_insert_with(|| failure.clone());
        }
    }

    pub fn fail(mut self, failure: &Failure) {
        if let Some(want) = self.want.take() {
            want.fail(failure.clone());
        }
    }

    /// Answers if the time has come; then it waits no more.
    pub fn settle(&mut self, now: &Arc<Snapshot>) -> bool {
        if let Some(Want::Created { ids, reported, progress }) = &mut self.want {
            report_changes(ids, reported, progress, now);
        }
        let answer = match &self.want {
            None => return true,
            Some(want) => self.answer(want, now),
        };
        match (answer, self.want.take()) {
            (Answer::Ok, Some(want)) => want.fulfil(now),
            (Answer::Err(failure), Some(want)) => want.fail(failure),
            (Answer::NotYet, want) => {
                self.want = want;
                return false;
            }
            (_, None) => {}
        }
        true
    }

    fn answer(&self, want: &Want, now: &Snapshot) -> Answer {
        let stuck = self.gpus.iter().find_map(|gpu| now.stuck.get(gpu));
        let failed = |default: &dyn Fn() -> Failure| {
            let stuck = || stuck.map(|waiting| Failure::stuck(&waiting.what));
            Answer::Err(self.failure.clone().or_else(stuck).unwrap_or_else(default))
        };
        match want {
            Want::Leased { slice, generation, .. } => match now.state.slices.get(slice) {
                Some(found) if found.generation == *generation && handed_over(found) => Answer::Ok,
                Some(found) if !found.at_rest() && stuck.is_none() => Answer::NotYet,
                found => failed(&|| overtaken(*slice, found)),
            },
            Want::Released { slice, generation, .. } => match now.state.slices.get(slice) {
                Some(found) if found.phase == Phase::Ready || found.generation > *generation => Answer::Ok,
                Some(found) if !found.at_rest() && stuck.is_none() => Answer::NotYet,
                found => failed(&|| overtaken(*slice, found)),
            },
            Want::Destroyed { slice, .. } => match now.state.slices.get(slice) {
                None if self.retiring(now) && stuck.is_none() => Answer::NotYet,
                None if self.failure.is_none() => Answer::Ok,
                Some(found) if !found.at_rest() && stuck.is_none() => Answer::NotYet,
                found => failed(&|| overtaken(*slice, found)),
            },
            Want::Partitioned { .. } if !self.gpus.is_disjoint(&now.state.partitioning) => Answer::NotYet,
            Want::Partitioned { .. } => self.failure.clone().map_or(Answer::Ok, Answer::Err),
            Want::Applied { .. } => Answer::Ok,
            Want::Created { ids, .. } => {
                let found: Vec<_> = ids.iter().filter_map(|id| now.state.slices.get(id)).collect();
                let settled = |slice: &&Slice| slice.at_rest() && slice.tie.is_none();
                if !found.iter().all(settled) && stuck.is_none() {
                    return Answer::NotYet;
                }
                let good =
                    |slice: &&Slice| settled(slice) && !matches!(slice.phase, Phase::Quarantined { .. });
                if found.len() == ids.len() && found.iter().all(good) {
                    return Answer::Ok;
                }
                if self.retiring(now) && stuck.is_none() {
                    return Answer::NotYet;
                }
                failed(&|| Failure::overtaken("The request was given up".to_owned()))
            }
        }
    }

    /// Whether one of its GPUs is still being put back.
    fn retiring(&self, now: &Snapshot) -> bool {
        self.gpus.iter().any(|gpu| {
            now.state.cuts.get(gpu).is_some_and(|cut| cut.retiring == Retiring::Running)
                && now.state.slices_of(*gpu).next().is_none()
        })
    }
}

impl Want {
    /// Whoever asked may have gone; the work was done all the same.
    fn fulfil(self, now: &Arc<Snapshot>) {
        match self {
            Self::Leased { slice, reply, .. } | Self::Released { slice, reply, .. } => {
                let _ = reply.send(Ok(slice));
            }
            Self::Destroyed { reply, .. } | Self::Partitioned { reply } | Self::Applied { reply } => {
                let _ = reply.send(Ok(()));
            }
            Self::Created { ids, progress, .. } => {
                let _ = progress.send(Ok(Progress::Done(ids, Arc::clone(now))));
            }
        }
    }

    fn fail(self, failure: Failure) {
        tracing::error!(reason = failure.reason, "request failed: {}", failure.line());
        match self {
            Self::Leased { reply, .. } | Self::Released { reply, .. } => {
                let _ = reply.send(Err(failure));
            }
            Self::Destroyed { reply, .. } | Self::Partitioned { reply } | Self::Applied { reply } => {
                let _ = reply.send(Err(failure));
            }
            Self::Created { progress, .. } => {
                let _ = progress.send(Err(failure));
            }
        }
    }
}

fn report_changes(
    ids: &[SliceId],
    reported: &mut BTreeMap<SliceId, Phase>,
    progress: &mpsc::UnboundedSender<Result<Progress, Failure>>,
    now: &Arc<Snapshot>,
) {
    for id in ids {
        let Some(slice) = now.state.slices.get(id) else { continue };
        if reported.get(id) != Some(&slice.phase) {
            reported.insert(*id, slice.phase.clone());
            // The client may have gone; the work goes on to its end.
            let _ = progress.send(Ok(Progress::Changed(*id, Arc::clone(now))));
        }
    }
}

fn handed_over(slice: &Slice) -> bool {
    matches!(&slice.phase, Phase::Leased { lease } if lease.handover.is_some())
}

fn overtaken(id: SliceId, found: Option<&Slice>) -> Failure {
    match found.map(|slice| &slice.phase) {
        None => Failure::overtaken(format!("{id} was destroyed meanwhile")),
        Some(Phase::Quarantined { why }) => {
            Failure::from(&Rejected::Quarantined { slice: id, evidence: why.evidence.clone() })
        }
        Some(phase) => Failure::overtaken(format!("{id} is {phase} now, by another request")),
    }
}
