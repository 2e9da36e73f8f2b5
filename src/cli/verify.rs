//! `vgpuctl verify SLICE`.

use super::{
    document::Checks, error::Error, exit::Exit, progress::Progress, session::Session, slices::with_slice_hint,
};
use crate::api;
use clap::Args;
use vgpud_vmm::preflight::Level;

/// Check whether a ready slice would work in a VM; each failed check says how to mend it
///
/// sysfs only reads; open opens the device, which resets it; full resets it and tries DMA, its
/// memory, a virtual CPU and interrupts. Exits with 1 where a check failed.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  vgpuctl verify s17 --level full")]
pub struct VerifyArgs {
    slice: String,
    /// How deep to look: sysfs, open or full
    #[arg(long, default_value_t)]
    level: Level,
}

/// Checks it.
///
/// # Errors
/// Where vgpud refuses (the slice is not ready) or fails.
pub async fn execute(session: &Session, args: &VerifyArgs) -> Result<Exit, Error> {
    let client = session.connect().await?;
    let progress = Progress::start(session, format!("checking {}", args.slice));
    let request = api::VerifySliceRequest { id: args.slice.clone(), level: args.level.to_string() };
    let verified = client.verify(request).await;
    drop(progress);
    let answer = match verified {
        Ok(answer) => answer,
        Err(error) => return Err(with_slice_hint(&client, &args.slice, error).await),
    };
    let unfinished = answer.unfinished.clone();
    let checks = Checks::of_slice(answer);
    session.print(&checks)?;
    session.note(&checks.summary());
    if let Some(why) = unfinished {
        session.note(&format!("Not all checks were made: {why}"));
    }
    Ok(if checks.is_ready() { Exit::Success } else { Exit::Negative })
}
