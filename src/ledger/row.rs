//! Rows and the engine's types.

use super::{EndedHow, Error, Ledger};
use crate::engine::{
    Cut, Fate, Generation, GpuQuarantine, Phase, QuarantineCause, ReleaseCause, Slice, SliceId, State, Tie,
    UnixMillis,
};
use rusqlite::{Row, Transaction, params};
use serde::{Serialize, de::DeserializeOwned};
use vgpud_config::{PciAddress, Shown};

/// SQLite's integers are signed; what is stored here stays far below 2^63.
pub fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

pub fn unsigned(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}

/// None where no slice has that number: they count from 1.
pub fn slice_id(number: i64) -> Option<SliceId> {
    u64::try_from(number).ok().filter(|number| *number > 0).map(SliceId::new)
}

/// None where it lies before 1970.
pub fn millis(number: i64) -> Option<UnixMillis> {
    u64::try_from(number).ok().map(UnixMillis)
}

pub fn json<T: Serialize>(value: &T) -> rusqlite::Result<String> {
    serde_json::to_string(value).map_err(|error| rusqlite::Error::ToSqlConversionFailure(Box::new(error)))
}

/// A JSON string without its quotes, as newtypes serialise to it.
fn word<T: Serialize>(value: &T) -> rusqlite::Result<String> {
    Ok(json(value)?.trim_matches('"').to_owned())
}

pub fn write_slice(transaction: &Transaction<'_>, slice: &Slice) -> rusqlite::Result<()> {
    let tie = slice.tie.as_ref().map(json).transpose()?;
    transaction.execute(
        "INSERT OR REPLACE INTO slices (id, gpu, mechanism, profile, instance, memory, compute, phase, \
         detail, fate, tie, generation, created_ms, data_of) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14)",
        params![
            signed(slice.id.number()),
            slice.gpu.to_string(),
            slice.mechanism.to_string(),
            slice.profile.to_string(),
            json(&slice.name)?,
            slice.memory.map(|memory| signed(memory.bytes())),
            slice.compute.map(vgpud_config::ComputeShare::hundredths),
            slice.phase.word(),
            json(&slice.phase)?,
            json(&slice.fate)?,
            tie,
            signed(slice.generation.0),
            signed(slice.created.0),
            slice.data_of.as_ref().map(ToString::to_string),
        ],
    )?;
    Ok(())
}

pub fn delete_slice(transaction: &Transaction<'_>, id: SliceId) -> rusqlite::Result<()> {
    transaction.execute("DELETE FROM slices WHERE id = ?1", [signed(id.number())])?;
    Ok(())
}

pub fn write_cut(transaction: &Transaction<'_>, gpu: PciAddress, cut: &Cut) -> rusqlite::Result<()> {
    transaction.execute(
        "INSERT OR REPLACE INTO cuts (gpu, mechanism, detail) VALUES (?1, ?2, ?3)",
        params![gpu.to_string(), word(&cut.mechanism)?, json(cut)?],
    )?;
    Ok(())
}

pub fn delete_cut(transaction: &Transaction<'_>, gpu: PciAddress) -> rusqlite::Result<()> {
    transaction.execute("DELETE FROM cuts WHERE gpu = ?1", [gpu.to_string()])?;
    Ok(())
}

pub fn write_quarantined_gpu(
    transaction: &Transaction<'_>,
    gpu: PciAddress,
    why: &GpuQuarantine,
) -> rusqlite::Result<()> {
    transaction.execute(
        "INSERT OR REPLACE INTO quarantined_gpus (gpu, cause, since_ms, detail) VALUES (?1, ?2, ?3, ?4)",
        params![gpu.to_string(), why.cause.word(), signed(why.since.0), json(why)?],
    )?;
    Ok(())
}

pub fn delete_quarantined_gpu(transaction: &Transaction<'_>, gpu: PciAddress) -> rusqlite::Result<()> {
    transaction.execute("DELETE FROM quarantined_gpus WHERE gpu = ?1", [gpu.to_string()])?;
    Ok(())
}

pub fn write_meta(transaction: &Transaction<'_>, key: &str, value: &str) -> rusqlite::Result<()> {
    transaction.execute("INSERT OR REPLACE INTO meta (key, value) VALUES (?1, ?2)", [key, value])?;
    Ok(())
}

/// Starts, fills in or ends the row of a lease, whichever a change of its slice asks for.
pub fn write_lease(
    transaction: &Transaction<'_>,
    before: Option<&Slice>,
    after: Option<&Slice>,
    at: UnixMillis,
) -> rusqlite::Result<()> {
    if let Some((slice, lease)) = after.and_then(|slice| slice.phase.lease().map(|lease| (slice, lease))) {
        let handover = lease.handover.as_ref();
        transaction.execute(
            "INSERT INTO leases (slice, generation, gpu, owner, holder_pid, since_ms, node, cdi_device, \
             instance, address) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10) \
             ON CONFLICT (slice, generation) DO UPDATE SET node = ?7, cdi_device = ?8, address = ?10",
            params![
                signed(slice.id.number()),
                signed(slice.generation.0),
                slice.gpu.to_string(),
                lease.owner.to_string(),
                lease.holder.map(|holder| holder.pid),
                signed(lease.since.0),
                handover.map(|given| given.node.to_string_lossy()),
                handover.map(|given| given.cdi_device.clone()),
                json(&slice.name)?,
                handover.and_then(|given| given.address).map(|address| address.to_string()),
            ],
        )?;
    } else if let Some(slice) = before.filter(|slice| slice.phase.lease().is_some()) {
        let ended_by = match after.map(|slice| &slice.phase) {
            None => "gone",
            // A lease goes on while its GPU is quarantined; there it ends only with the host's restart.
            Some(Phase::Quarantined { why }) if why.cause == QuarantineCause::GpuQuarantined => {
                EndedHow::HostRestarted.word()
            }
            Some(phase) => phase.word(),
        };
        // Where it was taken back, why; a request for it is told by the phase alone, as ever.
        let ended_by = match slice.phase.lease().and_then(|lease| lease.ending) {
            Some(ReleaseCause::HolderEnded) if ended_by == "scrubbing" => EndedHow::HolderEnded.word(),
            Some(ReleaseCause::TimeIsUp) if ended_by == "scrubbing" => EndedHow::TimeIsUp.word(),
            _ => ended_by,
        };
        transaction.execute(
            "UPDATE leases SET ended_ms = ?3, ended_by = ?4 WHERE slice = ?1 AND generation = ?2",
            params![signed(slice.id.number()), signed(slice.generation.0), signed(at.0), ended_by],
        )?;
    }
    Ok(())
}

/// One row of `slices` as SQLite returns it, not yet understood.
struct RawSlice {
    id: i64,
    texts: [String; 7],
    tie: Option<String>,
    memory: Option<i64>,
    compute: Option<i64>,
    generation: i64,
    data_of: Option<String>,
    created: i64,
}

impl RawSlice {
    fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        let texts = ["gpu", "mechanism", "profile", "instance", "phase", "detail", "fate"];
        let [a, b, c, d, e, f, g] = texts.map(|column| row.get(column));
        Ok(Self {
            id: row.get("id")?,
            texts: [a?, b?, c?, d?, e?, f?, g?],
            tie: row.get("tie")?,
            memory: row.get("memory")?,
            compute: row.get("compute")?,
            generation: row.get("generation")?,
            // A file of before version 3 has no such column.
            data_of: match row.as_ref().column_index("data_of") {
                Ok(index) => row.get(index)?,
                Err(_) => None,
            },
            created: row.get("created_ms")?,
        })
    }

    /// None where a column holds something that no vgpud writes.
    fn understand(&self) -> Option<Slice> {
        let [gpu, mechanism, profile, instance, phase, detail, fate] = &self.texts;
        let compute = match self.compute {
            Some(hundredths) => Some(share(hundredths)?),
            None => None,
        };
        // Its word stands there once more, for queries.
        let phase = parse::<Phase>(detail).filter(|detail| detail.word() == phase)?;
        let data_of = match &self.data_of {
            Some(owner) => Some(owner.parse().ok()?),
            None => phase.lease().map(|lease| lease.owner.clone()),
        };
        Some(Slice {
            id: slice_id(self.id)?,
            gpu: gpu.parse().ok()?,
            mechanism: mechanism.parse().ok()?,
            profile: profile.parse().ok()?,
            name: parse(instance)?,
            memory: match self.memory {
                Some(bytes) => Some(memory(bytes)?),
                None => None,
            },
            compute,
            phase,
            fate: parse::<Fate>(fate)?,
            tie: match &self.tie {
                Some(tie) => Some(parse::<Tie>(tie)?),
                None => None,
            },
            generation: Generation(u64::try_from(self.generation).ok()?),
            data_of,
            created: millis(self.created)?,
        })
    }
}

fn memory(bytes: i64) -> Option<vgpud_config::Memory> {
    let bytes = u64::try_from(bytes).ok().filter(|bytes| *bytes > 0);
    bytes.map(vgpud_config::Memory::from_bytes)
}

fn share(hundredths: i64) -> Option<vgpud_config::ComputeShare> {
    let hundredths = u16::try_from(hundredths).ok()?;
    format!("{}.{:02}%", hundredths / 100, hundredths % 100).parse().ok()
}

fn parse<T: DeserializeOwned>(text: &str) -> Option<T> {
    serde_json::from_str(text).ok()
}

impl Ledger {
    /// The engine's state as it was committed last, where it is sound.
    pub(super) fn load(&self) -> Result<State, Error> {
        let state = self.stored_state()?;
        match crate::engine::invariants::of_state(&state).first() {
            Some(found) => Err(self.nonsense("slices", found.clone())),
            None => Ok(state),
        }
    }

    /// The same, sound or not.
    pub(super) fn stored_state(&self) -> Result<State, Error> {
        let mut state = State::default();
        for raw in self.rows("SELECT * FROM slices ORDER BY id", RawSlice::read)? {
            let slice = raw.understand().ok_or_else(|| self.nonsense("slices", format!("id {}", raw.id)))?;
            state.slices.insert(slice.id, slice);
        }
        let cuts = self.rows("SELECT gpu, detail FROM cuts ORDER BY gpu", |row| {
            Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?))
        })?;
        for (gpu, detail) in cuts {
            let cut = gpu.parse().ok().zip(parse::<Cut>(&detail));
            let (gpu, cut) = cut.ok_or_else(|| self.nonsense("cuts", Shown(&gpu).to_string()))?;
            state.cuts.insert(gpu, cut);
        }
        // A file of a former schema, which is only read, has no such table.
        let known = "SELECT name FROM sqlite_schema WHERE type = 'table' AND name = 'quarantined_gpus'";
        if !self.rows(known, |row| row.get::<_, String>(0))?.is_empty() {
            let quarantined = self.rows("SELECT gpu, detail FROM quarantined_gpus ORDER BY gpu", |row| {
                Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?))
            })?;
            for (gpu, detail) in quarantined {
                let why = gpu.parse().ok().zip(parse::<GpuQuarantine>(&detail));
                let (gpu, why) =
                    why.ok_or_else(|| self.nonsense("quarantined_gpus", Shown(&gpu).to_string()))?;
                state.quarantined_gpus.insert(gpu, why);
            }
        }
        if let Some(last) = self.meta("last_id")? {
            state.last_id =
                last.parse().map_err(|_| self.nonsense("meta", format!("last_id {}", Shown(&last))))?;
        }
        Ok(state)
    }

    pub(super) fn rows<T>(
        &self,
        sql: &str,
        read: impl FnMut(&Row<'_>) -> rusqlite::Result<T>,
    ) -> Result<Vec<T>, Error> {
        let query = || {
            let mut query = self.connection().prepare(sql)?;
            query.query_map([], read)?.collect::<rusqlite::Result<Vec<_>>>()
        };
        query().map_err(|source| self.unreadable(source))
    }

    /// One fact about the file.
    pub(super) fn meta(&self, key: &str) -> Result<Option<String>, Error> {
        let found =
            self.connection().query_row("SELECT value FROM meta WHERE key = ?1", [key], |row| row.get(0));
        match found {
            Ok(value) => Ok(Some(value)),
            Err(rusqlite::Error::QueryReturnedNoRows) => Ok(None),
            Err(source) => Err(self.unreadable(source)),
        }
    }
}
