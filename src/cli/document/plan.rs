//! What `create --dry-run` would do.

use super::compute::Compute;
use crate::{
    api,
    cli::{
        output::Document,
        table::{Field, Grid, Kind, memory},
    },
};
use serde::Serialize;
use vgpud_config::printable;

#[derive(Debug, Serialize)]
pub struct DryRun {
    plan: Plan,
}

#[derive(Debug, Serialize)]
struct Plan {
    slices: Vec<PlannedSlice>,
    /// Every GPU and the verdict on it.
    considered: Vec<Consideration>,
    /// What would be done, in order.
    effects: Vec<String>,
}

#[derive(Debug, Serialize)]
struct PlannedSlice {
    gpu: String,
    mechanism: String,
    profile: String,
    memory_bytes: Option<u64>,
    #[serde(flatten)]
    compute: Compute,
}

#[derive(Debug, Serialize)]
struct Consideration {
    gpu: String,
    chosen: bool,
    reason: String,
}

impl DryRun {
    pub fn new(plan: api::Plan) -> Self {
        let slices = plan.slices.into_iter().map(|slice| PlannedSlice {
            gpu: slice.gpu,
            mechanism: slice.mechanism,
            profile: slice.profile,
            memory_bytes: slice.memory_bytes,
            compute: Compute::new(slice.compute_hundredths, slice.compute_cap, slice.compute_floor),
        });
        let considered = plan.considered.into_iter().map(|one| Consideration {
            gpu: one.gpu,
            chosen: one.chosen,
            reason: one.reason,
        });
        Self {
            plan: Plan { slices: slices.collect(), considered: considered.collect(), effects: plan.effects },
        }
    }
}

impl Document for DryRun {
    fn text(&self) -> String {
        let Plan { slices, considered, effects } = &self.plan;
        let [share, cap, floor] = Compute::COLUMNS;
        let mut planned = Grid::new(&[
            ("GPU", Kind::Name),
            ("PROFILE", Kind::Name),
            ("CUT BY", Kind::Name),
            ("MEMORY", Kind::Number),
            share,
            cap,
            floor,
        ]);
        for slice in slices {
            let [share, cap, floor] = slice.compute.fields();
            planned.row([
                Field::from(&slice.gpu),
                (&slice.profile).into(),
                (&slice.mechanism).into(),
                memory(slice.memory_bytes).into(),
                share,
                cap,
                floor,
            ]);
        }
        let mut verdicts = Grid::new(&[("GPU", Kind::Name), ("CHOSEN", Kind::Name), ("WHY", Kind::Words)]);
        for one in considered {
            let chosen = if one.chosen { "yes" } else { "no" };
            verdicts.row([Field::from(&one.gpu), chosen.into(), (&one.reason).into()]);
        }
        let steps: Vec<String> = effects
            .iter()
            .zip(1..)
            .map(|(effect, number)| format!("{number:>3}. {}", printable(effect)))
            .collect();
        [
            ("Slices that would be created", planned.render()),
            ("GPUs considered", verdicts.render()),
            ("Steps", steps.join("\n")),
        ]
        .into_iter()
        .filter(|(_, body)| !body.is_empty())
        .map(|(title, body)| format!("{title}:\n{body}"))
        .collect::<Vec<_>>()
        .join("\n\n")
    }
}
