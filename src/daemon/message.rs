//! What the core is told, and what it answers.

use super::{
    executor::{EffectError, HostSeen},
    holder::Watched,
    worker::Finished,
};
use crate::{
    engine::{Actor, Generation, LeasedSlice, Partition, SliceId, Terms, UnixMillis, placement},
    failure::Failure,
    ledger::{AuditEntry, HistoryFilter, Intent, PastLease, PastScrub},
};
use std::{collections::BTreeMap, sync::Arc, time::Duration};
use tokio::sync::{mpsc, oneshot};
use vgpud_config::{Owner, PciAddress, Settings};
use vgpud_mdev as mdev;
use vgpud_vmm::{device::process::Preflight, preflight::Level};

pub type Sender = mpsc::UnboundedSender<Message>;
pub type Reply<T> = oneshot::Sender<Result<T, Failure>>;

/// What somebody asks of the core.
#[derive(Debug)]
pub enum Command {
    Create(Create),
    Lease {
        slice: SliceId,
        owner: Owner,
        terms: Terms,
        holder: Option<Watched>,
        reply: Reply<SliceId>,
    },
    /// Makes a lease last this long from now on.
    Extend {
        slice: SliceId,
        time: Duration,
        reply: Reply<SliceId>,
    },
    Release {
        slice: SliceId,
        generation: Option<Generation>,
        reply: Reply<SliceId>,
    },
    Destroy {
        slice: SliceId,
        leased: LeasedSlice,
        reply: Reply<()>,
    },
    /// Ends a slice that a layout does not want, where nobody has it.
    Remove {
        slice: SliceId,
        reply: Reply<()>,
    },
    /// Divides the inside of GPUs without slices anew.
    Partition {
        partition: Partition,
        reply: Reply<()>,
    },
    Verify {
        slice: SliceId,
        level: Level,
        reply: Reply<Preflight>,
    },
    /// Makes a quarantined slice clean for use again.
    Clear {
        slice: SliceId,
        reply: Reply<SliceId>,
    },
    /// Keeps a slice that nobody leases out of use.
    Quarantine {
        slice: SliceId,
        reason: String,
        by: Actor,
        reply: Reply<()>,
    },
    QuarantineGpu {
        gpu: PciAddress,
        reason: String,
        by: Actor,
        reply: Reply<()>,
    },
    ClearGpu {
        gpu: PciAddress,
        by: Actor,
        reply: Reply<()>,
    },
    Tell(Question),
    /// Reads the host again and answers when that is done.
    Refresh {
        reply: oneshot::Sender<()>,
    },
    /// A call was denied; for the audit trail.
    Denied {
        message: String,
    },
    Reload(Arc<Settings>),
    Stop {
        reply: oneshot::Sender<()>,
    },
}

/// What is on record.
#[derive(Debug)]
pub enum Question {
    Audit { after: u64, reply: Reply<Vec<AuditEntry>> },
    History { filter: HistoryFilter, reply: Reply<Vec<PastLease>> },
    Quarantine { reply: Reply<Vec<OutOfUse>> },
}

/// A quarantined slice on record.
#[derive(Clone, Debug)]
pub struct OutOfUse {
    pub slice: SliceId,
    pub since: Option<UnixMillis>,
    /// The last scrub since its last lease.
    pub scrub: Option<PastScrub>,
}

/// A request for slices.
#[derive(Debug)]
pub struct Create {
    pub request: placement::Request,
    /// Leases each slice to this owner, on these terms.
    pub owner: Option<Owner>,
    pub terms: Terms,
    pub mode: Mode,
    /// Never blocks the core: a request makes a few messages a slice.
    pub progress: mpsc::UnboundedSender<Result<Progress, Failure>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    Run,
    /// Only says what would be done.
    DryRun,
}

/// How a request for slices goes on.
#[derive(Clone, Debug)]
pub enum Progress {
    Planned { placement: placement::Placement, effects: Vec<String> },
    Changed(SliceId, Arc<super::snapshot::Snapshot>),
    Done(Vec<SliceId>, Arc<super::snapshot::Snapshot>),
}

/// Everything that reaches the core.
#[derive(Debug)]
pub enum Message {
    Command(Command),
    Finished(Box<Finished>),
    /// An effect whose device was held is tried again.
    Retry(Intent),
    HolderEnded {
        slice: SliceId,
        generation: Generation,
    },
    /// A slice was checked.
    Verified {
        slice: SliceId,
        result: Box<Result<Preflight, EffectError>>,
        reply: Reply<Preflight>,
    },
    /// The host as it was read, with the change counters of its GPUs when the reading began.
    Seen {
        host: Result<HostSeen, mdev::Error>,
        epochs: BTreeMap<PciAddress, u64>,
    },
    /// The kernel says that something changed.
    HostChanged,
    /// Ends the core as SIGKILL would: nothing is finished or written.
    #[cfg(test)]
    Crash,
}
