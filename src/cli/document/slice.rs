//! Slices and their leases.

use super::{compute::Compute, time};
use crate::{
    api,
    cli::{
        error::Report,
        lease_time::told,
        output::Document,
        table::{Field, Grid, Kind, Tone, facts, memory, or_none},
    },
};
use serde::Serialize;
use std::fmt;
use vgpud_config::Consumer;

#[derive(Debug, Serialize)]
pub struct Slices {
    slices: Vec<Slice>,
}

#[derive(Debug, Serialize)]
pub struct OneSlice {
    slice: Slice,
    #[serde(skip)]
    form: Form,
}

/// How much of one slice people see; programs always see all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Facts,
    Row,
}

/// One slice.
#[derive(Debug, Serialize)]
pub struct Slice {
    pub id: String,
    pub gpu: String,
    mechanism: String,
    pub profile: String,
    phase: PhaseWord,
    /// A VF's PCI address.
    pub address: Option<String>,
    pub mdev_uuid: Option<String>,
    memory_bytes: Option<u64>,
    #[serde(flatten)]
    compute: Compute,
    lease: Option<Lease>,
    pub quarantine_reason: Option<String>,
    /// Grows with each lease.
    generation: u64,
    created_unix_ms: u64,
    sysfs_path: Option<String>,
    iommu_group: Option<u32>,
    group_node: Option<String>,
    cdev_node: Option<String>,
    /// What vgpud is doing to it, or waits to do.
    waiting_for: Option<String>,
    waiting_since_unix_ms: Option<u64>,
    /// A ready slice that may hold this owner's data, and that nobody else is given.
    reserved_for: Option<String>,
}

#[derive(Debug, Serialize)]
struct Lease {
    owner: String,
    since_unix_ms: u64,
    /// The VFIO node handed over.
    node: Option<String>,
    cdi_device: Option<String>,
    /// The process whose end ends the lease.
    holder_pid: Option<u32>,
    /// Where it has a limit of time; below 0: over for so long.
    ends_in_ms: Option<i64>,
    /// Its time is up and the device is held: by whom.
    overdue: Option<String>,
    /// Who may open the node.
    uid: u32,
    gid: Option<u32>,
}

impl Lease {
    /// When it ends by itself.
    fn end(&self) -> Option<String> {
        let ms = self.ends_in_ms?;
        let time = told(ms.unsigned_abs());
        Some(match &self.overdue {
            Some(why) => format!("over for {time}, and still held: {why}"),
            None if ms < 0 => format!("over for {time}"),
            None => format!("ends in {time}"),
        })
    }

    fn consumer(&self) -> String {
        Consumer { uid: self.uid, gid: self.gid }.to_string()
    }
}

/// A phase as people and programs read it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum PhaseWord {
    Planned,
    Creating,
    Ready,
    Leased,
    Releasing,
    Scrubbing,
    Destroying,
    Quarantined,
    Gone,
    /// A phase that this vgpuctl does not know: vgpud is newer.
    Unknown,
}

impl PhaseWord {
    /// From the number on the wire.
    #[must_use]
    pub fn of(number: i32) -> Self {
        match api::Phase::try_from(number) {
            Ok(api::Phase::Planned) => Self::Planned,
            Ok(api::Phase::Creating) => Self::Creating,
            Ok(api::Phase::Ready) => Self::Ready,
            Ok(api::Phase::Leased) => Self::Leased,
            Ok(api::Phase::Releasing) => Self::Releasing,
            Ok(api::Phase::Scrubbing) => Self::Scrubbing,
            Ok(api::Phase::Destroying) => Self::Destroying,
            Ok(api::Phase::Quarantined) => Self::Quarantined,
            Ok(api::Phase::Gone) => Self::Gone,
            Ok(api::Phase::Unspecified) | Err(_) => Self::Unknown,
        }
    }

    /// Whether a slice that was asked for has come to where its user wants it.
    #[must_use]
    pub const fn is_ready(self) -> bool {
        matches!(self, Self::Ready | Self::Leased)
    }
}

impl fmt::Display for PhaseWord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Planned => "planned",
            Self::Creating => "creating",
            Self::Ready => "ready",
            Self::Leased => "leased",
            Self::Releasing => "releasing",
            Self::Scrubbing => "scrubbing",
            Self::Destroying => "destroying",
            Self::Quarantined => "quarantined",
            Self::Gone => "gone",
            Self::Unknown => "unknown",
        })
    }
}

impl From<api::Slice> for Slice {
    fn from(slice: api::Slice) -> Self {
        Self {
            id: slice.id,
            gpu: slice.gpu,
            mechanism: slice.mechanism,
            profile: slice.profile,
            phase: PhaseWord::of(slice.phase),
            address: slice.address,
            mdev_uuid: slice.mdev_uuid,
            memory_bytes: slice.memory_bytes,
            compute: Compute::new(slice.compute_hundredths, slice.compute_cap, slice.compute_floor),
            lease: slice.lease.map(|lease| Lease {
                owner: lease.owner,
                since_unix_ms: lease.since_unix_ms,
                node: lease.node,
                cdi_device: lease.cdi_device,
                holder_pid: lease.holder.map(|holder| holder.pid),
                ends_in_ms: lease.ends_in_ms,
                overdue: lease.overdue,
                uid: lease.uid,
                gid: lease.gid,
            }),
            quarantine_reason: slice.quarantine_reason,
            generation: slice.generation,
            created_unix_ms: slice.created_unix_ms,
            sysfs_path: slice.sysfs_path,
            iommu_group: slice.iommu_group,
            group_node: slice.group_node,
            cdev_node: slice.cdev_node,
            waiting_for: slice.waiting_for,
            waiting_since_unix_ms: slice.waiting_since_unix_ms,
            reserved_for: slice.reserved_for,
        }
    }
}

impl Slice {
    fn waiting(&self) -> Option<String> {
        let what = self.waiting_for.as_ref()?;
        Some(match self.waiting_since_unix_ms {
            Some(since) => format!("{what}, since {}", time(since)),
            None => what.clone(),
        })
    }

    const fn tone(&self) -> Tone {
        match self.phase {
            PhaseWord::Quarantined => Tone::Alarm,
            PhaseWord::Unknown => Tone::Warning,
            PhaseWord::Planned
            | PhaseWord::Creating
            | PhaseWord::Ready
            | PhaseWord::Leased
            | PhaseWord::Releasing
            | PhaseWord::Scrubbing
            | PhaseWord::Destroying
            | PhaseWord::Gone => Tone::Calm,
        }
    }
}

impl Slices {
    pub fn new(slices: Vec<api::Slice>) -> Self {
        Self { slices: slices.into_iter().map(Slice::from).collect() }
    }

    pub const fn is_empty(&self) -> bool {
        self.slices.is_empty()
    }
}

impl Document for Slices {
    fn text(&self) -> String {
        table(&self.slices)
    }
}

fn table<'a>(slices: impl IntoIterator<Item = &'a Slice>) -> String {
    let mut grid = Grid::new(&[
        ("SLICE", Kind::Name),
        ("GPU", Kind::Name),
        ("PROFILE", Kind::Name),
        ("MEMORY", Kind::Number),
        ("COMPUTE", Kind::Number),
        ("PHASE", Kind::Name),
        ("OWNER", Kind::Words),
    ]);
    for slice in slices {
        grid.row([
            Field::from(&slice.id),
            (&slice.gpu).into(),
            (&slice.profile).into(),
            memory(slice.memory_bytes).into(),
            slice.compute.share().into(),
            Field::toned(slice.phase.to_string(), slice.tone()),
            or_none(slice.lease.as_ref().map(|lease| &lease.owner)),
        ]);
        grid.note(&slice.id, slice.quarantine_reason.as_ref());
        grid.note(
            &slice.id,
            slice.reserved_for.as_ref().map(|owner| format!("reserved for {owner}")).as_ref(),
        );
        let end = slice.lease.as_ref().and_then(Lease::end);
        grid.note(&slice.id, end.map(|end| format!("lease {end}")).as_ref());
        grid.note(&slice.id, slice.waiting().map(|what| format!("in hand: {what}")).as_ref());
    }
    grid.render()
}

impl OneSlice {
    /// With everything that is known of it.
    pub fn facts(slice: api::Slice) -> Self {
        Self { slice: slice.into(), form: Form::Facts }
    }

    /// As in the list of slices.
    pub fn row(slice: api::Slice) -> Self {
        Self { slice: slice.into(), form: Form::Row }
    }
}

impl Document for OneSlice {
    fn text(&self) -> String {
        let slice = &self.slice;
        if self.form == Form::Row {
            return table([slice]);
        }
        let lease = slice.lease.as_ref();
        facts(&[
            ("slice", Some(slice.id.clone())),
            ("GPU", Some(slice.gpu.clone())),
            ("cut by", Some(slice.mechanism.clone())),
            ("profile", Some(slice.profile.clone())),
            ("memory", slice.memory_bytes.map(|bytes| memory(Some(bytes)))),
            ("compute", slice.compute.told()),
            ("phase", Some(slice.phase.to_string())),
            ("quarantined", slice.quarantine_reason.clone()),
            ("reserved for", slice.reserved_for.clone()),
            ("in hand", slice.waiting()),
            ("address", slice.address.clone()),
            ("mdev", slice.mdev_uuid.clone()),
            ("IOMMU group", slice.iommu_group.map(|group| group.to_string())),
            ("group node", slice.group_node.clone()),
            ("cdev node", slice.cdev_node.clone()),
            ("sysfs", slice.sysfs_path.clone()),
            ("created", Some(time(slice.created_unix_ms))),
            ("leases so far", Some(slice.generation.to_string())),
            ("owner", lease.map(|lease| lease.owner.clone())),
            ("leased since", lease.map(|lease| time(lease.since_unix_ms))),
            ("node handed over", lease.and_then(|lease| lease.node.clone())),
            ("opened by", lease.map(Lease::consumer)),
            ("CDI device", lease.and_then(|lease| lease.cdi_device.clone())),
            ("time", lease.and_then(Lease::end)),
            ("ends with process", lease.and_then(|lease| lease.holder_pid).map(|pid| pid.to_string())),
        ])
    }
}

/// What `destroy` did.
#[derive(Debug, Default, Serialize)]
pub struct Destroyed {
    pub destroyed: Vec<String>,
    pub failed: Vec<Undestroyed>,
}

#[derive(Debug, Serialize)]
pub struct Undestroyed {
    pub id: String,
    pub error: Report,
}

impl Document for Destroyed {
    /// Nothing: what happened was told slice by slice.
    fn text(&self) -> String {
        String::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whom_a_slice_is_reserved_for_is_told_below_it_and_among_its_facts() {
        let slice = || api::Slice {
            id: "s17".into(),
            phase: api::Phase::Ready.into(),
            reserved_for: Some("team-a".into()),
            ..api::Slice::default()
        };
        assert!(Slices::new(vec![slice()]).text().contains("s17:  reserved for team-a"));
        let facts = OneSlice::facts(slice()).text();
        assert!(
            facts.lines().any(|line| line.starts_with("reserved for") && line.ends_with("team-a")),
            "{facts}"
        );
    }
}
