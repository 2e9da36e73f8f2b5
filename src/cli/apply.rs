//! `vgpuctl apply [LAYOUT] [--yes]`.

use super::{
    args::OutputFormat,
    document::{AppliedLayout, LayoutPlan},
    error::Error,
    exit::Exit,
    output::Document as _,
    progress::Progress,
    session::Session,
};
use crate::api::{self, apply_progress::Step};
use clap::Args;
use std::io::{self, IsTerminal as _, Write as _};
use vgpud_config::LayoutName;

/// Cut the GPUs as a layout of the settings says
///
/// Slices that nobody has and that the layout does not want are ended first, then those that are missing
/// are created; each GPU by itself, but for those that AMD's driver divides anew as one. A leased slice is
/// never ended: a GPU where one is in the way stays as it is, and the exit code tells. What was interrupted is
/// finished by another run.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  vgpuctl apply day --yes")]
pub struct ApplyArgs {
    /// Name of the layout; default: the only one
    layout: Option<LayoutName>,
    /// End slices without asking
    #[arg(long)]
    yes: bool,
}

/// Shows the plan, asks where slices are to end, and does it.
///
/// # Errors
/// Where vgpud refuses, or what would be done has changed since it was shown.
pub async fn execute(session: &Session, args: &ApplyArgs) -> Result<Exit, Error> {
    let client = session.connect().await?;
    let mut progress = Progress::start(session, "asking vgpud");
    let shown = client.plan_layout(args.layout.as_ref().map(ToString::to_string)).await?;
    let plan = LayoutPlan::new(shown.clone());
    let removals = plan.removals();
    if removals > 0 && !args.yes {
        drop(progress);
        match ask(session, &plan, removals)? {
            Answer::Yes => progress = Progress::start(session, "asking vgpud"),
            Answer::No => {
                session.note("Nothing was done.");
                return Ok(Exit::Negative);
            }
        }
    }
    let layout = Some(shown.layout.clone());
    let mut steps = client.apply_layout(api::ApplyLayoutRequest { layout, shown: Some(shown) }).await?;
    let mut tally = Tally { removals, creations: plan.creations(), ..Tally::default() };
    while let Some(message) = steps.next().await? {
        match message.step {
            Some(Step::Removed(_)) => {
                tally.removed += 1;
                progress.tell(&tally.text());
            }
            Some(Step::Gpu(result)) => {
                tally.created += result.created.len();
                if tally.removals > 0 || tally.creations > 0 {
                    progress.tell(&tally.text());
                }
            }
            Some(Step::Done(done)) => {
                drop(progress);
                let applied = AppliedLayout::new(plan.name(), done);
                session.print(&applied)?;
                for entry in plan.unmatched() {
                    session.note(&format!("{entry} means no GPU of this host; `vgpuctl gpus` lists them."));
                }
                if !plan.unmatched().is_empty() {
                    return Ok(applied.exit().worse(Exit::Negative));
                }
                if applied.had_nothing_to_do() {
                    session.note("Nothing was to be done: the GPUs are cut as the layout says.");
                }
                return Ok(applied.exit());
            }
            // A step that tells nothing more, or that this vgpuctl does not know: vgpud is newer.
            Some(Step::Plan(_) | Step::Changed(_)) | None => {}
        }
    }
    Err(Error::Incomplete { asked: "apply a layout" })
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answer {
    Yes,
    No,
}

/// Asks on a terminal; elsewhere nobody could answer.
fn ask(session: &Session, plan: &LayoutPlan, removals: usize) -> Result<Answer, Error> {
    let talks = io::stdin().is_terminal() && io::stderr().is_terminal();
    if !talks || session.format() == OutputFormat::Json {
        return Err(Error::Unconfirmed { removals });
    }
    // Nobody can be asked where stderr itself is gone; then there is no answer either.
    let _ = write!(io::stderr(), "{}\n\nEnd {removals} slices? [y/N] ", plan.text());
    let mut answer = String::new();
    io::stdin().read_line(&mut answer).map_err(Error::Input)?;
    let yes = matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes");
    Ok(if yes { Answer::Yes } else { Answer::No })
}

/// How far it has come.
#[derive(Debug, Default)]
struct Tally {
    removals: usize,
    removed: usize,
    creations: u32,
    created: usize,
}

impl Tally {
    fn text(&self) -> String {
        let Self { removals, removed, creations, created } = self;
        format!("{removed} of {removals} ended, {created} of {creations} created")
    }
}
