//! How large a slice is to be: amounts or a class, and whether a profile that is named beside amounts has them.

use super::{
    client::Client,
    create::name_hint,
    error::Error,
    table::{compute, hold, memory},
};
use crate::api;
use clap::Args;
use vgpud_config::{ClassName, ComputeKind, ComputeRequest, Memory, PciAddress, ProfileName};

/// What a slice must have.
#[derive(Clone, Debug, Default, PartialEq, Eq, Args)]
pub struct Amounts {
    /// At least this much device memory, such as 20GiB
    #[arg(long)]
    memory: Option<Memory>,
    /// At least this share of the GPU's compute: 25% as a cap, so that the slice has its share and no
    /// more even while its neighbours are idle; 25%+ as a floor, with what they leave idle
    #[arg(long, value_name = "SHARE")]
    compute: Option<ComputeRequest>,
    /// Only where that is enforced, and not best effort; `vgpuctl profiles` says where
    #[arg(long, requires = "compute")]
    enforced: bool,
    /// What the settings say of this class, by [class.NAME]
    #[arg(long, value_name = "NAME", conflicts_with_all = ["memory", "compute", "enforced"])]
    class: Option<ClassName>,
}

impl Amounts {
    /// The request on the wire, for any profile that has these.
    #[must_use]
    pub fn request(&self, gpu: Option<PciAddress>) -> api::Request {
        let kind = self.compute.map_or(api::ComputeKind::Unspecified, |compute| match compute.kind {
            ComputeKind::Cap => api::ComputeKind::Cap,
            ComputeKind::Guarantee => api::ComputeKind::Guarantee,
        });
        api::Request {
            profile: None,
            memory_bytes: self.memory.map(Memory::bytes),
            compute_hundredths: self.compute.map(|compute| compute.share.hundredths().into()),
            gpu: gpu.map(|gpu| gpu.to_string()),
            numa: None,
            class: self.class.as_ref().map(ToString::to_string),
            compute_kind: kind.into(),
            enforced: self.enforced,
        }
    }
}

/// The request for a profile that also has the amounts, where any are given. vgpud takes a profile
/// or amounts; both are fine here as long as vgpud offers this profile for these amounts.
///
/// # Errors
/// [`Error::Disagree`] with what the profile has.
pub async fn agreed(
    client: &Client,
    profile: &ProfileName,
    amounts: &Amounts,
    gpu: Option<PciAddress>,
) -> Result<api::Request, Error> {
    let any = Amounts::default().request(gpu);
    let by_name = api::Request { profile: Some(profile.to_string()), ..any.clone() };
    if *amounts == Amounts::default() {
        return Ok(by_name);
    }
    let of_name = async |request| match client.profiles(request).await {
        Ok(known) => Ok(known.into_iter().filter(|known| known.name == profile.as_ref()).collect::<Vec<_>>()),
        Err(error) => Err(name_hint(client, &by_name, error).await),
    };
    let fitting = of_name(amounts.request(gpu)).await?;
    let known = of_name(any).await?;
    match known.iter().find(|known| !fitting.iter().any(|fitting| fitting.gpu == known.gpu)) {
        None => Ok(by_name),
        Some(lacking) => Err(Error::Disagree {
            profile: profile.to_string(),
            gpu: lacking.gpu.clone(),
            has: format!(
                "{} of memory and {} of compute (cap: {}, floor: {})",
                memory(lacking.memory_bytes),
                compute(lacking.compute_hundredths),
                hold(lacking.compute_cap),
                hold(lacking.compute_floor)
            ),
        }),
    }
}
