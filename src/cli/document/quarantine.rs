//! Slices and GPUs out of use.

use super::{history::Scrub, slice::Slice, time};
use crate::{
    api,
    cli::{
        output::Document,
        table::{Field, Grid, Kind, facts, or_none},
    },
};
use serde::Serialize;
use vgpud_config::Shown;

#[derive(Debug, Serialize)]
pub struct Quarantine {
    quarantined: Vec<OutOfUse>,
    quarantined_gpus: Vec<QuarantinedGpu>,
}

#[derive(Debug, Serialize)]
struct OutOfUse {
    slice: Option<Slice>,
    cause: String,
    since_unix_ms: Option<u64>,
    /// vgpud, or a user.
    by: String,
    /// The last one since its last lease.
    scrub: Option<Scrub>,
}

/// A whole GPU out of use.
#[derive(Debug, Serialize)]
pub struct QuarantinedGpu {
    gpu: String,
    cause: String,
    evidence: String,
    since_unix_ms: u64,
    /// vgpud, or a user.
    by: String,
}

#[derive(Debug, Serialize)]
pub struct OneQuarantinedGpu {
    quarantined_gpu: QuarantinedGpu,
}

#[derive(Debug, Serialize)]
pub struct ClearedGpu {
    cleared_gpu: String,
    /// Its slices that stay out of use, each until it is cleared itself.
    quarantined_slices: Vec<String>,
}

impl From<api::QuarantinedGpu> for QuarantinedGpu {
    fn from(found: api::QuarantinedGpu) -> Self {
        Self {
            gpu: found.gpu,
            cause: found.cause,
            evidence: found.evidence,
            since_unix_ms: found.since_unix_ms,
            by: found.by,
        }
    }
}

impl QuarantinedGpu {
    /// Why, since when and by whom, without the GPU's name.
    pub fn sentence(&self) -> String {
        format!("{} (since {}, by {})", self.evidence, time(self.since_unix_ms), self.by)
    }

    /// The same with it.
    pub fn line(&self) -> String {
        format!("{}: {}", self.gpu, self.sentence())
    }
}

impl Quarantine {
    pub fn new(found: api::ListQuarantineResponse) -> Self {
        let slices = found.slices.into_iter().map(|found| OutOfUse {
            slice: found.slice.map(Slice::from),
            cause: found.cause,
            since_unix_ms: found.since_unix_ms,
            by: found.by,
            scrub: found.scrub.map(Scrub::from),
        });
        let gpus = found.gpus.into_iter().map(QuarantinedGpu::from);
        Self { quarantined: slices.collect(), quarantined_gpus: gpus.collect() }
    }

    pub const fn is_empty(&self) -> bool {
        self.quarantined.is_empty() && self.quarantined_gpus.is_empty()
    }
}

impl Document for Quarantine {
    /// One table: a row without a slice is the whole GPU.
    fn text(&self) -> String {
        let mut grid = Grid::new(&[
            ("SLICE", Kind::Name),
            ("GPU", Kind::Name),
            ("SINCE", Kind::Name),
            ("BY", Kind::Name),
            ("CAUSE", Kind::Name),
            ("WHAT WAS SEEN", Kind::Words),
        ]);
        for found in &self.quarantined_gpus {
            grid.row([
                Field::from("(all)"),
                (&found.gpu).into(),
                time(found.since_unix_ms).into(),
                (&found.by).into(),
                (&found.cause).into(),
                (&found.evidence).into(),
            ]);
        }
        for found in &self.quarantined {
            let Some(slice) = &found.slice else { continue };
            grid.row([
                Field::from(&slice.id),
                (&slice.gpu).into(),
                or_none(found.since_unix_ms.map(time)),
                (&found.by).into(),
                (&found.cause).into(),
                or_none(slice.quarantine_reason.as_ref()),
            ]);
            let scrub = found.scrub.as_ref().map(|scrub| format!("last scrub {}", scrub.sentence()));
            grid.note(&slice.id, scrub.as_ref());
        }
        grid.render()
    }
}

impl OneQuarantinedGpu {
    pub fn new(found: api::QuarantinedGpu) -> Self {
        Self { quarantined_gpu: found.into() }
    }
}

impl Document for OneQuarantinedGpu {
    fn text(&self) -> String {
        let found = &self.quarantined_gpu;
        facts(&[
            ("GPU", Some(found.gpu.clone())),
            ("quarantined by", Some(found.by.clone())),
            ("since", Some(time(found.since_unix_ms))),
            ("reason", Some(found.evidence.clone())),
        ])
    }
}

impl ClearedGpu {
    pub fn new(gpu: String, quarantined_slices: Vec<String>) -> Self {
        Self { cleared_gpu: gpu, quarantined_slices }
    }
}

impl Document for ClearedGpu {
    fn text(&self) -> String {
        let mut text = format!("{} may be used again", self.cleared_gpu);
        if !self.quarantined_slices.is_empty() {
            let slices = self.quarantined_slices.iter().map(|slice| Shown(slice).to_string());
            let slices = slices.collect::<Vec<_>>().join(", ");
            text += &format!("; still out of use, each until it is cleared itself: {slices}");
        }
        text
    }
}
