//! `vgpuctl destroy SLICE… [--release]`.

use super::{
    args::OutputFormat,
    document::{Destroyed, Undestroyed},
    error::{self, Error},
    exit::Exit,
    progress::Progress,
    session::Session,
    slices::with_slice_hint,
};
use crate::api;
use clap::Args;

/// End slices; a GPU without slices is left as vgpud found it
///
/// Where one cannot be destroyed, the others still are, and the exit code tells.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  vgpuctl destroy s17 s18 --release")]
pub struct DestroyArgs {
    #[arg(required = true, value_name = "SLICE")]
    slices: Vec<String>,
    /// Take leased slices back first; refused while a process holds the device
    #[arg(long)]
    release: bool,
}

/// Destroys them, one after the other.
///
/// # Errors
/// Where vgpud cannot be asked at all.
pub async fn execute(session: &Session, args: &DestroyArgs) -> Result<Exit, Error> {
    let client = session.connect().await?;
    let mut outcome = Destroyed::default();
    let mut exit = Exit::Success;
    for id in &args.slices {
        let progress = Progress::start(session, format!("destroying {id}"));
        let request = api::DestroySliceRequest { id: id.clone(), release: args.release };
        let destroyed = client.destroy(request).await;
        drop(progress);
        match destroyed {
            Ok(()) => {
                session.note(&format!("{id} is gone"));
                outcome.destroyed.push(id.clone());
            }
            Err(failure) => {
                let failure = with_slice_hint(&client, id, failure).await;
                let report = failure.to_report(None);
                if session.format() == OutputFormat::Table {
                    error::tell(&report, session.format());
                }
                outcome.failed.push(Undestroyed { id: id.clone(), error: report });
                exit = exit.worse(failure.exit());
            }
        }
    }
    session.print(&outcome)?;
    Ok(exit)
}
