//! `vgpuctl gpus [GPU]`.

use super::{
    document::{Gpu, Gpus},
    error::Error,
    exit::Exit,
    session::Session,
};
use crate::{api, nearest::did_you_mean};
use clap::Args;
use vgpud_config::PciAddress;

/// List the physical GPUs and how they can be cut
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  vgpuctl gpus\n  vgpuctl gpus 0000:41:00.0 --output json")]
pub struct GpusArgs {
    /// Only this one, by PCI address
    #[arg(value_name = "GPU")]
    gpu: Option<PciAddress>,
}

/// Lists the GPUs.
///
/// # Errors
/// Where vgpud cannot be asked, or knows no such GPU.
pub async fn execute(session: &Session, args: &GpusArgs) -> Result<Exit, Error> {
    let gpus = session.connect().await?.gpus().await?;
    let gpus = match args.gpu {
        Some(address) => vec![find(gpus, address)?],
        None => gpus,
    };
    let document = Gpus::new(gpus.into_iter().map(Gpu::from));
    if document.is_empty() {
        session.note("This host has no GPU that vgpud knows; `vgpuctl doctor` may say why.");
    }
    session.print(&document)?;
    Ok(Exit::Success)
}

/// The GPU with this address.
///
/// # Errors
/// [`Error::NoSuch`] with the nearest address.
pub fn find(gpus: Vec<api::Gpu>, address: PciAddress) -> Result<api::Gpu, Error> {
    let name = address.to_string();
    let hint = did_you_mean(&name, gpus.iter().map(|gpu| gpu.address.as_str()));
    gpus.into_iter().find(|gpu| gpu.address == name).ok_or(Error::NoSuch {
        what: "GPU",
        name,
        list: "`vgpuctl gpus` lists those of this host",
        hint,
    })
}
