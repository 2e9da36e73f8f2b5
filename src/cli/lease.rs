//! `vgpuctl lease SLICE --owner OWNER`.

use super::{
    document::OneSlice, error::Error, exit::Exit, lease_time::LeaseTime, progress::Progress,
    session::Session, slices::with_slice_hint,
};
use crate::api;
use clap::Args;
use vgpud_config::{ConsumerName, Owner};

/// Give a ready slice to an owner and hand its VFIO node over
///
/// The lease lasts until `vgpuctl release`, or for the time that --for says. The answer has the VFIO node and the CDI device.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  vgpuctl lease s17 --owner team-a/train-3")]
pub struct LeaseArgs {
    slice: String,
    /// Who gets it: a pod, a VM, a person
    #[arg(long)]
    owner: Owner,
    /// Who may open the node: a user, or user:group; default: `user` and `group` under [vfio], root
    #[arg(long, value_name = "USER[:GROUP]")]
    user: Option<ConsumerName>,
    /// Let the lease end by itself after this time, such as 2h or 90min; see `vgpuctl extend`
    #[arg(long = "for", value_name = "TIME")]
    time: Option<LeaseTime>,
}

/// Leases it.
///
/// # Errors
/// Where vgpud refuses or fails.
pub async fn execute(session: &Session, args: &LeaseArgs) -> Result<Exit, Error> {
    let client = session.connect().await?;
    let progress = Progress::start(session, format!("handing {} over", args.slice));
    let request = api::LeaseSliceRequest {
        id: args.slice.clone(),
        owner: args.owner.to_string(),
        holder: None,
        user: args.user.as_ref().map(ToString::to_string),
        time_ms: args.time.map(LeaseTime::ms),
    };
    let leased = client.lease(request).await;
    drop(progress);
    match leased {
        Ok(slice) => session.print(&OneSlice::facts(slice))?,
        Err(error) => return Err(with_slice_hint(&client, &args.slice, error).await),
    }
    Ok(Exit::Success)
}
