//! `vgpuctl profiles [GPU] [--memory] [--compute] [--enforced] [--class]`.

use super::{
    create::name_hint, document::Profiles, error::Error, exit::Exit, session::Session, size::Amounts,
};
use crate::api;
use clap::Args;
use vgpud_config::PciAddress;

/// List the sizes that can be created, how their shares of compute hold, and how many of each
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  vgpuctl profiles 0000:41:00.0 --memory 20GiB --compute 25%+\n  vgpuctl profiles --compute 50% --enforced"
)]
pub struct ProfilesArgs {
    /// Only those of this GPU, by PCI address
    #[arg(value_name = "GPU")]
    gpu: Option<PciAddress>,
    #[command(flatten)]
    amounts: Amounts,
}

/// Lists the profiles.
///
/// # Errors
/// Where vgpud cannot be asked, or refuses.
pub async fn execute(session: &Session, args: &ProfilesArgs) -> Result<Exit, Error> {
    let client = session.connect().await?;
    let request = args.amounts.request(args.gpu);
    let document = match client.profiles(request.clone()).await {
        Ok(profiles) => Profiles::new(profiles),
        Err(error) => return Err(name_hint(&client, &request, error).await),
    };
    if document.is_empty() {
        session.note(if request == api::Request::default() {
            "No GPU of this host can be cut; `vgpuctl gpus` says why."
        } else {
            "No profile fits; without conditions, `vgpuctl profiles` lists all."
        });
    }
    session.print(&document)?;
    Ok(Exit::Success)
}
