//! `vgpuctl quarantine list|add|clear`.

use super::{
    client::Client,
    document::{ClearedGpu, OneQuarantinedGpu, OneSlice, Quarantine},
    error::Error,
    exit::Exit,
    progress::Progress,
    session::Session,
    slices::with_slice_hint,
};
use crate::{api, nearest::did_you_mean};
use clap::{Args, Subcommand};
use std::{convert::Infallible, str::FromStr};
use vgpud_config::PciAddress;

/// List the slices and GPUs kept out of use, put one out of use, or let it be used again
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  vgpuctl quarantine list")]
pub struct QuarantineArgs {
    #[command(subcommand)]
    command: QuarantineCommand,
}

#[derive(Debug, Subcommand)]
enum QuarantineCommand {
    /// List what is kept out of use: why, since when, by whom, and what the last scrub saw
    #[command(after_help = "Example:\n  vgpuctl quarantine list")]
    List,
    /// Keep a slice that nobody leases, or a whole GPU, out of use until it is cleared
    ///
    /// Nothing is cut from a quarantined GPU, no lease begins on it, and no slice is made again on it
    /// after a restart of the host. Leases that run go on; what is released is scrubbed as ever.
    #[command(after_help = "Example:\n  vgpuctl quarantine add 0000:41:00.0 --reason \"fan broken\"")]
    Add {
        #[arg(value_name = "SLICE|GPU")]
        what: What,
        /// Why, for whoever finds it later; one line
        #[arg(long)]
        reason: String,
    },
    /// Say that a slice or a GPU may be used again
    ///
    /// A slice is made clean first, and ready where that succeeds; an instance that is gone is created
    /// again. A slice that does not come clean stays in quarantine; `vgpuctl destroy` ends it. A GPU
    /// has to be there, and the kernel to have come back from all work on it; its slices that are
    /// quarantined themselves stay so.
    #[command(
        after_help = "Example:\n  vgpuctl quarantine clear s17\n  vgpuctl quarantine clear 0000:41:00.0"
    )]
    Clear {
        #[arg(value_name = "SLICE|GPU")]
        what: What,
    },
}

/// A GPU by its address, or else a slice: vgpud says what is no slice.
#[derive(Clone, Debug)]
enum What {
    Slice(String),
    Gpu(PciAddress),
}

impl FromStr for What {
    type Err = Infallible;
    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(text.parse().map_or_else(|_| Self::Slice(text.to_owned()), Self::Gpu))
    }
}

/// Does it.
///
/// # Errors
/// Where vgpud refuses (the slice is leased, or not quarantined, the GPU is not there) or fails.
pub async fn execute(session: &Session, args: &QuarantineArgs) -> Result<Exit, Error> {
    let client = session.connect().await?;
    match &args.command {
        QuarantineCommand::List => {
            let document = Quarantine::new(client.quarantine().await?);
            if document.is_empty() {
                session.note("Nothing is quarantined.");
            }
            session.print(&document)?;
        }
        QuarantineCommand::Add { what: What::Gpu(gpu), reason } => {
            let request = api::QuarantineGpuRequest { gpu: gpu.to_string(), reason: reason.clone() };
            match client.quarantine_gpu(request).await {
                Ok(found) => session.print(&OneQuarantinedGpu::new(found))?,
                Err(error) => return Err(with_gpu_hint(&client, *gpu, error).await),
            }
        }
        QuarantineCommand::Add { what: What::Slice(slice), reason } => {
            let request = api::QuarantineSliceRequest { id: slice.clone(), reason: reason.clone() };
            match client.quarantine_slice(request).await {
                Ok(slice) => session.print(&OneSlice::row(slice))?,
                Err(error) => return Err(with_slice_hint(&client, slice, error).await),
            }
        }
        QuarantineCommand::Clear { what: What::Gpu(gpu) } => {
            let request = api::ClearGpuQuarantineRequest { gpu: gpu.to_string() };
            match client.clear_gpu(request).await {
                Ok(cleared) => {
                    session.print(&ClearedGpu::new(gpu.to_string(), cleared.quarantined_slices))?;
                }
                Err(error) => return Err(with_gpu_hint(&client, *gpu, error).await),
            }
        }
        QuarantineCommand::Clear { what: What::Slice(slice) } => {
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

/// The failure of a call about a GPU, with the one that was most likely meant.
async fn with_gpu_hint(client: &Client, gpu: PciAddress, error: Error) -> Error {
    if !error.is_about_a_name() {
        return error;
    }
    let gpus = client.gpus().await.unwrap_or_default();
    error.with_hint(did_you_mean(&gpu.to_string(), gpus.iter().map(|gpu| gpu.address.as_str())))
}
