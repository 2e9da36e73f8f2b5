//! `vgpuctl quarantine list|clear`.

use super::{
    document::{OneSlice, Quarantine},
    error::Error,
    exit::Exit,
    progress::Progress,
    session::Session,
    slices::with_slice_hint,
};
use crate::api;
use clap::{Args, Subcommand};

/// List the slices kept out of use, or let one be used again
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  vgpuctl quarantine list")]
pub struct QuarantineArgs {
    #[command(subcommand)]
    command: QuarantineCommand,
}

#[derive(Debug, Subcommand)]
enum QuarantineCommand {
    /// List the slices kept out of use: why, since when, and what their last scrub saw
    #[command(after_help = "Example:\n  vgpuctl quarantine list")]
    List,
    /// Say that a slice may be used again; it is made clean first, and ready where that succeeds
    ///
    /// An instance that is gone is created again. A slice that does not come clean stays in
    /// quarantine; `vgpuctl destroy` ends it.
    #[command(after_help = "Example:\n  vgpuctl quarantine clear s17")]
    Clear { slice: String },
}

/// Does it.
///
/// # Errors
/// Where vgpud refuses (the slice is not quarantined, its GPU is not there) or fails.
pub async fn execute(session: &Session, args: &QuarantineArgs) -> Result<Exit, Error> {
    let client = session.connect().await?;
    match &args.command {
        QuarantineCommand::List => {
            let document = Quarantine::new(client.quarantine().await?);
            if document.is_empty() {
                session.note("No slice is quarantined.");
            }
            session.print(&document)?;
        }
        QuarantineCommand::Clear { slice } => {
            let progress = Progress::start(session, format!("making {slice} clean"));
            let cleared = client.clear(api::ClearQuarantineRequest { id: slice.clone() }).await;
            drop(progress);
            match cleared {
                Ok(slice) => session.print(&OneSlice::row(slice))?,
                Err(error) => return Err(with_slice_hint(&client, slice, error).await),
            }
        }
    }
    Ok(Exit::Success)
}
