//! Who had which slice when, and how it was made clean afterwards; also of slices that are gone.

use super::{Error, Ledger, PastScrub, row};
use crate::engine::{Generation, SliceId, UnixMillis};
use rusqlite::{OptionalExtension as _, Row, params};
use vgpud_config::{Owner, PciAddress};
use vgpud_mdev::InstanceName;

/// Which leases are asked for; all where nothing is said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HistoryFilter {
    pub slice: Option<SliceId>,
    pub owner: Option<Owner>,
    pub gpu: Option<PciAddress>,
    /// Not those that had ended by then.
    pub since: Option<UnixMillis>,
    /// Only those older than this one: how a next page is asked for.
    pub before: Option<HistoryPosition>,
}

/// The place of a lease in the history.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HistoryPosition {
    pub from: UnixMillis,
    pub slice: SliceId,
    pub generation: Generation,
}

/// One lease, ended or not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PastLease {
    pub position: HistoryPosition,
    pub gpu: String,
    pub owner: String,
    /// None in leases that a vgpud without this record wrote.
    pub instance: Option<InstanceName>,
    /// The PCI address of a VF that was handed over.
    pub address: Option<String>,
    pub ended: Option<Ended>,
    /// In order; empty where none was made, or by a vgpud that kept no record of them.
    pub scrubs: Vec<PastScrub>,
}

/// The end of a lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ended {
    pub at: UnixMillis,
    pub how: EndedHow,
}

/// How a lease ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndedHow {
    /// Taken back as somebody asked, after the proof that nobody held the device.
    Released,
    /// The same, because the process that held the lease had ended.
    HolderEnded,
    /// The same, because its time was up.
    TimeIsUp,
    /// Given up before the owner got the device.
    NotHandedOver,
    /// The slice was taken out of use.
    Quarantined,
    /// With the host's restart.
    HostRestarted,
}

impl EndedHow {
    /// One stable word.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Released => "released",
            Self::HolderEnded => "holder-ended",
            Self::TimeIsUp => "time-is-up",
            Self::NotHandedOver => "not-handed-over",
            Self::Quarantined => "quarantined",
            Self::HostRestarted => "host-restarted",
        }
    }

    /// From the phase that followed the lease, or why it was taken back, and the node that was handed
    /// over.
    fn of(phase: &str, node: Option<&str>) -> Option<Self> {
        Some(match phase {
            "scrubbing" if node.is_none() => Self::NotHandedOver,
            "scrubbing" => Self::Released,
            "holder-ended" => Self::HolderEnded,
            "time-is-up" => Self::TimeIsUp,
            "quarantined" => Self::Quarantined,
            "creating" | "destroying" | "host-restarted" => Self::HostRestarted,
            _ => return None,
        })
    }
}

struct RawLease {
    slice: i64,
    generation: i64,
    gpu: String,
    owner: String,
    since_ms: i64,
    node: Option<String>,
    instance: Option<String>,
    address: Option<String>,
    ended_ms: Option<i64>,
    ended_by: Option<String>,
}

impl RawLease {
    fn read(line: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            slice: line.get(0)?,
            generation: line.get(1)?,
            gpu: line.get(2)?,
            owner: line.get(3)?,
            since_ms: line.get(4)?,
            node: line.get(5)?,
            instance: line.get(6)?,
            address: line.get(7)?,
            ended_ms: line.get(8)?,
            ended_by: line.get(9)?,
        })
    }

    fn understand(self) -> Option<PastLease> {
        let ended = match (self.ended_ms, self.ended_by) {
            (None, None) => None,
            (Some(at), Some(phase)) => {
                Some(Ended { at: row::millis(at)?, how: EndedHow::of(&phase, self.node.as_deref())? })
            }
            _ => return None,
        };
        let instance = match self.instance {
            Some(text) => Some(serde_json::from_str(&text).ok()?),
            None => None,
        };
        let position = HistoryPosition {
            from: row::millis(self.since_ms)?,
            slice: row::slice_id(self.slice)?,
            generation: Generation(u64::try_from(self.generation).ok()?),
        };
        let Self { gpu, owner, address, .. } = self;
        Some(PastLease { position, gpu, owner, instance, address, ended, scrubs: vec![] })
    }
}

impl Ledger {
    /// Up to `limit` leases, newest first.
    ///
    /// # Errors
    /// Where the ledger cannot be read, or a row makes no sense.
    pub fn history(&self, filter: &HistoryFilter, limit: u32) -> Result<Vec<PastLease>, Error> {
        let read = || {
            let sql = "SELECT slice, generation, gpu, owner, since_ms, node, instance, address, ended_ms, \
                       ended_by FROM leases \
                       WHERE (?1 IS NULL OR slice = ?1) AND (?2 IS NULL OR owner = ?2) \
                       AND (?3 IS NULL OR gpu = ?3) AND (?4 IS NULL OR ended_ms IS NULL OR ended_ms > ?4) \
                       AND (?5 IS NULL OR (since_ms, slice, generation) < (?5, ?6, ?7)) \
                       ORDER BY since_ms DESC, slice DESC, generation DESC LIMIT ?8";
            let before = filter.before;
            let mut query = self.connection().prepare_cached(sql)?;
            let asked = params![
                filter.slice.map(|id| row::signed(id.number())),
                filter.owner.as_ref().map(ToString::to_string),
                filter.gpu.map(|gpu| gpu.to_string()),
                filter.since.map(|at| row::signed(at.0)),
                before.map(|last| row::signed(last.from.0)),
                before.map(|last| row::signed(last.slice.number())),
                before.map(|last| row::signed(last.generation.0)),
                limit,
            ];
            query.query_map(asked, RawLease::read)?.collect::<rusqlite::Result<Vec<_>>>()
        };
        let mut leases = Vec::new();
        for raw in read().map_err(|source| self.unreadable(source))? {
            let which = format!("slice {}, generation {}", raw.slice, raw.generation);
            let mut lease = raw.understand().ok_or_else(|| self.nonsense("leases", which))?;
            lease.scrubs = self.scrubs(lease.position.slice, lease.position.generation)?;
            leases.push(lease);
        }
        Ok(leases)
    }

    /// When a slice that is quarantined was taken out of use.
    ///
    /// # Errors
    /// Where the ledger cannot be read.
    pub fn quarantined_since(&self, slice: SliceId) -> Result<Option<UnixMillis>, Error> {
        let read = || {
            let sql =
                "SELECT unix_ms FROM audit WHERE slice = ?1 AND kind = ?2 ORDER BY sequence DESC LIMIT 1";
            let kind = crate::engine::NoteKind::SliceQuarantined.word();
            let mut query = self.connection().prepare_cached(sql)?;
            let key = params![row::signed(slice.number()), kind];
            query.query_row(key, |line| line.get::<_, i64>(0)).optional()
        };
        let at = read().map_err(|source| self.unreadable(source))?;
        Ok(at.map(|at| UnixMillis(row::unsigned(at))))
    }
}

#[cfg(test)]
mod tests;
