//! `vgpuctl release SLICE`.

use super::{
    document::OneSlice, error::Error, exit::Exit, progress::Progress, session::Session,
    slices::with_slice_hint,
};
use crate::api;
use clap::Args;

/// Take a leased slice back: nobody may hold it, then it is reset and ready again
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  vgpuctl release s17")]
pub struct ReleaseArgs {
    slice: String,
}

/// Releases it.
///
/// # Errors
/// Where vgpud refuses (somebody still holds the device: it says who) or fails.
pub async fn execute(session: &Session, args: &ReleaseArgs) -> Result<Exit, Error> {
    let client = session.connect().await?;
    let progress = Progress::start(session, format!("taking {} back", args.slice));
    let request = api::ReleaseSliceRequest { id: args.slice.clone(), generation: None };
    let released = client.release(request).await;
    drop(progress);
    match released {
        Ok(slice) => session.print(&OneSlice::row(slice))?,
        Err(error) => return Err(with_slice_hint(&client, &args.slice, error).await),
    }
    Ok(Exit::Success)
}
