//! `vgpuctl plan [LAYOUT]`.

use super::{document::LayoutPlan, error::Error, exit::Exit, progress::Progress, session::Session};
use clap::Args;
use vgpud_config::LayoutName;

/// Show what would be done for a layout of the settings, and what stands in the way
///
/// Nothing is changed. Exits with 1 where something stands in the way.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  vgpuctl plan day")]
pub struct PlanArgs {
    /// Name of the layout; default: the only one
    layout: Option<LayoutName>,
}

/// Shows it.
///
/// # Errors
/// Where there is no such layout, or vgpud cannot be asked.
pub async fn execute(session: &Session, args: &PlanArgs) -> Result<Exit, Error> {
    let client = session.connect().await?;
    let progress = Progress::start(session, "asking vgpud");
    let plan = LayoutPlan::new(client.plan_layout(args.layout.as_ref().map(ToString::to_string)).await?);
    drop(progress);
    session.print(&plan)?;
    if plan.is_reached() {
        session.note("Nothing is to be done: the GPUs are cut as the layout says.");
    }
    Ok(if plan.is_blocked() { Exit::Negative } else { Exit::Success })
}
