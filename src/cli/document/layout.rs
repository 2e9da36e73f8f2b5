//! What a layout would change, and what came of it.

use super::slice::Slice;
use crate::{
    api,
    cli::{
        error::{self, Report},
        exit::Exit,
        output::Document,
        table::{Field, Grid, Kind, Tone},
    },
};
use serde::Serialize;
use vgpud_config::printable;

#[derive(Debug, Serialize)]
pub struct LayoutPlan {
    plan: Plan,
}

#[derive(Debug, Serialize)]
struct Plan {
    layout: String,
    gpus: Vec<GpuLayout>,
    /// Between the removals on their GPUs and the creations.
    partitions: Vec<PartitionStep>,
    operator_steps: Vec<OperatorStep>,
    /// Entries that mean no GPU of this host.
    unmatched: Vec<String>,
}

#[derive(Debug, Serialize)]
struct GpuLayout {
    gpu: String,
    keep: Vec<LayoutSlice>,
    /// First.
    remove: Vec<LayoutSlice>,
    create: Vec<Creation>,
    /// What stands in the way; nothing is done then.
    blocked: Option<String>,
    /// Whether all that is created fits is the device's to say, as it comes to that.
    unsure: bool,
}

#[derive(Debug, Serialize)]
struct LayoutSlice {
    id: String,
    profile: String,
}

#[derive(Debug, Serialize)]
struct Creation {
    profile: String,
    count: u32,
}

/// The inside of GPUs is divided anew.
#[derive(Debug, Serialize)]
struct PartitionStep {
    gpus: Vec<PartitionedGpu>,
    memory_mode: Option<String>,
    accelerator_mode: Option<String>,
}

/// A GPU as it is now.
#[derive(Debug, Serialize)]
struct PartitionedGpu {
    gpu: String,
    memory_mode: Option<String>,
    accelerator_mode: Option<String>,
    /// Whether the layout asks it of this GPU, or it changes with another one.
    asked: bool,
}

/// `NPS1 and CPX`.
fn modes(memory: Option<&String>, accelerator: Option<&String>) -> Option<String> {
    let words: Vec<&str> = memory.into_iter().chain(accelerator).map(String::as_str).collect();
    (!words.is_empty()).then(|| printable(&words.join(" and ")))
}

impl From<api::PartitionStep> for PartitionStep {
    fn from(step: api::PartitionStep) -> Self {
        let gpu = |api::PartitionedGpu { gpu, memory_mode, accelerator_mode, asked }| PartitionedGpu {
            gpu,
            memory_mode,
            accelerator_mode,
            asked,
        };
        let (memory_mode, accelerator_mode) = (step.memory_mode, step.accelerator_mode);
        Self { gpus: step.gpus.into_iter().map(gpu).collect(), memory_mode, accelerator_mode }
    }
}

impl PartitionStep {
    fn text(&self) -> String {
        let wanted = modes(self.memory_mode.as_ref(), self.accelerator_mode.as_ref());
        let mut lines = vec![format!(
            "When what ends is gone, before anything is created, GPUs are set to {}:",
            or_dash(wanted.unwrap_or_default())
        )];
        lines.extend(self.gpus.iter().map(|gpu| {
            let now = modes(gpu.memory_mode.as_ref(), gpu.accelerator_mode.as_ref());
            let now = now.unwrap_or_else(|| "not known".to_owned());
            let why = if gpu.asked { "" } else { "; changes with the others" };
            format!("  {} (now {now}{why})", printable(&gpu.gpu))
        }));
        lines.join("\n")
    }
}

/// What the host's operator has to do.
#[derive(Debug, Serialize)]
struct OperatorStep {
    gpus: Vec<String>,
    what: String,
    /// On these GPUs; they have to go before.
    slices: Vec<String>,
    /// For root, in order.
    commands: Vec<String>,
}

impl From<api::OperatorStep> for OperatorStep {
    fn from(step: api::OperatorStep) -> Self {
        let api::OperatorStep { gpus, what, slices, commands } = step;
        Self { gpus, what, slices, commands }
    }
}

impl OperatorStep {
    fn text(&self) -> String {
        let mut lines = vec![format!("For this host's operator: {}", printable(&self.what))];
        let mut commands = self.commands.clone();
        if !self.slices.is_empty() && !commands.is_empty() {
            lines.push("Slices on these GPUs have to go first; release those that are leased.".to_owned());
            commands.insert(0, format!("vgpuctl destroy {}", self.slices.join(" ")));
        }
        lines.extend(commands.iter().map(|command| format!("  {}", printable(command))));
        lines.join("\n")
    }
}

impl LayoutPlan {
    pub fn new(plan: api::LayoutPlan) -> Self {
        let slices = |slices: Vec<api::LayoutSlice>| {
            slices.into_iter().map(|api::LayoutSlice { id, profile }| LayoutSlice { id, profile }).collect()
        };
        let gpu = |gpu: api::GpuLayout| GpuLayout {
            gpu: gpu.gpu,
            keep: slices(gpu.keep),
            remove: slices(gpu.remove),
            create: gpu
                .create
                .into_iter()
                .map(|api::LayoutCreation { profile, count }| Creation { profile, count })
                .collect(),
            blocked: gpu.blocked,
            unsure: gpu.unsure,
        };
        Self {
            plan: Plan {
                layout: plan.layout,
                gpus: plan.gpus.into_iter().map(gpu).collect(),
                partitions: plan.partitions.into_iter().map(PartitionStep::from).collect(),
                operator_steps: plan.operator.into_iter().map(OperatorStep::from).collect(),
                unmatched: plan.unmatched,
            },
        }
    }

    #[must_use]
    pub fn name(&self) -> &str {
        &self.plan.layout
    }

    #[must_use]
    pub fn removals(&self) -> usize {
        self.plan.gpus.iter().map(|gpu| gpu.remove.len()).sum()
    }

    #[must_use]
    pub fn creations(&self) -> u32 {
        self.plan.gpus.iter().flat_map(|gpu| &gpu.create).map(|creation| creation.count).sum()
    }

    /// Whether something stands in the way.
    #[must_use]
    pub fn is_blocked(&self) -> bool {
        self.plan.gpus.iter().any(|gpu| gpu.blocked.is_some()) || !self.plan.operator_steps.is_empty()
    }

    /// Whether all is as the layout says.
    #[must_use]
    pub fn is_reached(&self) -> bool {
        let has_steps = self.removals() > 0 || self.creations() > 0 || !self.plan.partitions.is_empty();
        !has_steps && !self.is_blocked() && self.plan.unmatched.is_empty()
    }

    /// Entries of the layout that mean no GPU of this host.
    #[must_use]
    pub fn unmatched(&self) -> &[String] {
        &self.plan.unmatched
    }
}

/// `2 vf-8 (s1 s2), vf-4 (s3)`.
fn listed(slices: &[LayoutSlice]) -> String {
    let mut kinds: Vec<(&str, Vec<&str>)> = Vec::new();
    for slice in slices {
        match kinds.iter_mut().find(|(profile, _)| *profile == slice.profile) {
            Some((_, ids)) => ids.push(&slice.id),
            None => kinds.push((&slice.profile, vec![&slice.id])),
        }
    }
    let kind = |(profile, ids): (&str, Vec<&str>)| match &ids[..] {
        [id] => format!("{profile} ({id})"),
        ids => format!("{} {profile} ({})", ids.len(), ids.join(" ")),
    };
    or_dash(kinds.into_iter().map(kind).collect::<Vec<_>>().join(", "))
}

fn or_dash(text: String) -> String {
    if text.is_empty() { "-".to_owned() } else { text }
}

impl Document for LayoutPlan {
    fn text(&self) -> String {
        let Plan { gpus, partitions, operator_steps, unmatched, .. } = &self.plan;
        let columns =
            [("GPU", Kind::Name), ("STAYS", Kind::Words), ("ENDS", Kind::Words), ("IS CREATED", Kind::Words)];
        let mut grid = Grid::new(&columns);
        for gpu in gpus {
            let created = gpu.create.iter().map(|Creation { profile, count }| format!("{count} {profile}"));
            let created = match &gpu.blocked {
                Some(_) => Field::toned("blocked", Tone::Warning),
                None => or_dash(created.collect::<Vec<_>>().join(", ")).into(),
            };
            grid.row([Field::from(&gpu.gpu), listed(&gpu.keep).into(), listed(&gpu.remove).into(), created]);
            grid.note(&gpu.gpu, gpu.blocked.as_ref());
            let unsure = "whether all of it fits is the device's to say, as it comes to that".to_owned();
            grid.note(&gpu.gpu, gpu.unsure.then_some(&unsure));
        }
        for entry in unmatched {
            grid.note(entry, Some(&"means no GPU of this host".to_owned()));
        }
        let steps = partitions.iter().map(PartitionStep::text);
        let steps = steps.chain(operator_steps.iter().map(OperatorStep::text));
        let parts: Vec<String> =
            std::iter::once(grid.render()).chain(steps).filter(|part| !part.is_empty()).collect();
        parts.join("\n\n")
    }
}

/// What `apply` did.
#[derive(Debug, Serialize)]
pub struct AppliedLayout {
    applied: Applied,
}

#[derive(Debug, Serialize)]
struct Applied {
    layout: String,
    gpus: Vec<GpuResult>,
    operator_steps: Vec<OperatorStep>,
}

#[derive(Debug, Serialize)]
struct GpuResult {
    gpu: String,
    outcome: Outcome,
    removed: Vec<String>,
    created: Vec<Slice>,
    /// That it was set to.
    modes: Option<String>,
    blocked: Option<String>,
    error: Option<Report>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Outcome {
    Done,
    NothingToDo,
    Blocked,
    Failed,
    /// A word of a newer vgpud.
    Unknown,
}

impl Outcome {
    fn of(number: i32) -> Self {
        match api::LayoutOutcome::try_from(number) {
            Ok(api::LayoutOutcome::Done) => Self::Done,
            Ok(api::LayoutOutcome::NothingToDo) => Self::NothingToDo,
            Ok(api::LayoutOutcome::Blocked) => Self::Blocked,
            Ok(api::LayoutOutcome::Failed) => Self::Failed,
            Ok(api::LayoutOutcome::Unspecified) | Err(_) => Self::Unknown,
        }
    }

    const fn words(self) -> (&'static str, Tone) {
        match self {
            Self::Done => ("done", Tone::Calm),
            Self::NothingToDo => ("nothing to do", Tone::Calm),
            Self::Blocked => ("blocked", Tone::Warning),
            Self::Failed => ("failed", Tone::Alarm),
            Self::Unknown => ("unknown", Tone::Warning),
        }
    }
}

impl AppliedLayout {
    pub fn new(layout: &str, done: api::LayoutApplied) -> Self {
        let gpu = |result: api::GpuLayoutResult| GpuResult {
            gpu: result.gpu,
            outcome: Outcome::of(result.outcome),
            removed: result.removed,
            created: result.created.into_iter().map(Slice::from).collect(),
            modes: result.modes,
            blocked: result.blocked,
            error: result.failure.map(|failure| error::told_by_vgpud(result.code, failure)),
        };
        Self {
            applied: Applied {
                layout: layout.to_owned(),
                gpus: done.gpus.into_iter().map(gpu).collect(),
                operator_steps: done.operator.into_iter().map(OperatorStep::from).collect(),
            },
        }
    }

    #[must_use]
    pub fn had_nothing_to_do(&self) -> bool {
        self.applied.gpus.iter().all(|gpu| gpu.outcome == Outcome::NothingToDo)
    }

    /// The graver of what came of each GPU.
    #[must_use]
    pub fn exit(&self) -> Exit {
        let each = self.applied.gpus.iter().map(|gpu| match (gpu.outcome, &gpu.error) {
            (Outcome::Done | Outcome::NothingToDo, _) => Exit::Success,
            (Outcome::Failed, Some(report)) if report.exit_code == Exit::Negative.code() => Exit::Negative,
            (Outcome::Failed | Outcome::Unknown, _) => Exit::Trouble,
            (Outcome::Blocked, _) => Exit::Negative,
        });
        each.fold(Exit::Success, Exit::worse)
    }
}

impl Document for AppliedLayout {
    fn text(&self) -> String {
        let Applied { gpus, operator_steps, .. } = &self.applied;
        let columns =
            [("GPU", Kind::Name), ("RESULT", Kind::Name), ("ENDED", Kind::Words), ("CREATED", Kind::Words)];
        let mut grid = Grid::new(&columns);
        for gpu in gpus {
            let (word, tone) = gpu.outcome.words();
            let created: Vec<LayoutSlice> = gpu.created.iter().map(LayoutSlice::from).collect();
            let removed = or_dash(gpu.removed.join(" "));
            grid.row([
                Field::from(&gpu.gpu),
                Field::toned(word, tone),
                removed.into(),
                listed(&created).into(),
            ]);
            let set = gpu.modes.as_ref().map(|modes| format!("is set to {modes}"));
            grid.note(&gpu.gpu, set.as_ref());
            grid.note(&gpu.gpu, gpu.blocked.as_ref());
            let error = gpu.error.as_ref().map(Report::line);
            grid.note(&gpu.gpu, error.as_ref());
        }
        let steps = operator_steps.iter().map(OperatorStep::text);
        let parts: Vec<String> =
            std::iter::once(grid.render()).chain(steps).filter(|part| !part.is_empty()).collect();
        parts.join("\n\n")
    }
}

impl From<&Slice> for LayoutSlice {
    fn from(slice: &Slice) -> Self {
        Self { id: slice.id.clone(), profile: slice.profile.clone() }
    }
}
