//! `vgpuctl extend SLICE --for TIME`.

use super::{
    document::OneSlice, error::Error, exit::Exit, lease_time::LeaseTime, session::Session,
    slices::with_slice_hint,
};
use crate::api;
use clap::Args;

/// Let a lease that ends by itself last longer
///
/// It never ends earlier by this. A lease whose time is up and whose device is still held goes on too.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  vgpuctl extend s17 --for 2h")]
pub struct ExtendArgs {
    slice: String,
    /// How long it is to last from now on, such as 2h or 90min
    #[arg(long = "for", value_name = "TIME")]
    time: LeaseTime,
}

/// Extends it.
///
/// # Errors
/// Where vgpud refuses: nobody leases the slice, or its lease has no end or a later one.
pub async fn execute(session: &Session, args: &ExtendArgs) -> Result<Exit, Error> {
    let client = session.connect().await?;
    let request = api::ExtendLeaseRequest { id: args.slice.clone(), time_ms: args.time.ms() };
    match client.extend(request).await {
        Ok(slice) => session.print(&OneSlice::row(slice))?,
        Err(error) => return Err(with_slice_hint(&client, &args.slice, error).await),
    }
    Ok(Exit::Success)
}
