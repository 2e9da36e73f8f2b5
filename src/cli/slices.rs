//! `vgpuctl slices [--gpu] [--owner]`.

use super::{document::Slices, error::Error, exit::Exit, session::Session};
use crate::api;
use clap::Args;
use vgpud_config::{Owner, PciAddress};

/// List the slices, their phases and owners
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  vgpuctl slices --gpu 0000:41:00.0")]
pub struct SlicesArgs {
    /// Only those of this GPU
    #[arg(long, value_name = "GPU")]
    gpu: Option<PciAddress>,
    /// Only those leased to this owner
    #[arg(long)]
    owner: Option<Owner>,
}

/// Lists the slices.
///
/// # Errors
/// Where vgpud cannot be asked.
pub async fn execute(session: &Session, args: &SlicesArgs) -> Result<Exit, Error> {
    let request = api::ListSlicesRequest {
        gpu: args.gpu.map(|gpu| gpu.to_string()),
        owner: args.owner.clone().map(String::from),
    };
    let is_filtered = request != api::ListSlicesRequest::default();
    let document = Slices::new(session.connect().await?.slices(request).await?);
    if document.is_empty() {
        let which = if is_filtered { "No such slices." } else { "No slices; `vgpuctl create` makes one." };
        session.note(which);
    }
    session.print(&document)?;
    Ok(Exit::Success)
}

/// Ids of every slice, for a hint.
pub async fn known(client: &super::client::Client) -> Vec<String> {
    let slices = client.slices(api::ListSlicesRequest::default()).await;
    slices.unwrap_or_default().into_iter().map(|slice| slice.id).collect()
}

/// The failure of a call about slice `id`, with the slice that was most likely meant.
pub async fn with_slice_hint(client: &super::client::Client, id: &str, error: Error) -> Error {
    if !error.is_about_a_name() {
        return error;
    }
    let known = known(client).await;
    error.with_hint(super::slice_hint::slice_hint(id, &known))
}
