//! `vgpuctl show SLICE|GPU`.

use super::{
    client::Client,
    document::{OneGpu, OneSlice},
    error::Error,
    exit::Exit,
    gpus,
    session::Session,
    slices::with_slice_hint,
};
use crate::api;
use clap::Args;
use vgpud_config::PciAddress;

/// Show everything about one slice or GPU
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  vgpuctl show s17")]
pub struct ShowArgs {
    /// A slice's id (or the address or UUID of its device), or a GPU's address
    #[arg(value_name = "SLICE|GPU")]
    name: String,
}

/// Shows it.
///
/// # Errors
/// Where vgpud cannot be asked, or knows nothing of that name.
pub async fn execute(session: &Session, args: &ShowArgs) -> Result<Exit, Error> {
    let client = session.connect().await?;
    if let Ok(address) = args.name.parse::<PciAddress>() {
        let gpus = client.gpus().await?;
        let found = gpus::find(gpus, address);
        match (found, by_device(&client, &address.to_string()).await?) {
            (Ok(gpu), _) => session.print(&OneGpu::new(gpu.into()))?,
            (Err(_), Some(slice)) => session.print(&OneSlice::facts(slice))?,
            (Err(error), None) => return Err(error),
        }
        return Ok(Exit::Success);
    }
    let slice = match client.slice(&args.name).await {
        Ok(slice) => slice,
        Err(error) => match by_device(&client, &args.name).await? {
            Some(slice) => slice,
            None => return Err(with_slice_hint(&client, &args.name, error).await),
        },
    };
    session.print(&OneSlice::facts(slice))?;
    Ok(Exit::Success)
}

/// The slice whose device has this PCI address or UUID.
async fn by_device(client: &Client, device: &str) -> Result<Option<api::Slice>, Error> {
    let slices = client.slices(api::ListSlicesRequest::default()).await?;
    Ok(slices.into_iter().find(|slice| {
        [&slice.address, &slice.mdev_uuid]
            .into_iter()
            .flatten()
            .any(|known| known.eq_ignore_ascii_case(device))
    }))
}
