//! How large a slice is to be: amounts, and whether a profile that is named beside them has them.

use super::{
    client::Client,
    create::name_hint,
    error::Error,
    table::{compute, memory},
};
use crate::api;
use clap::Args;
use vgpud_config::{ComputeShare, Memory, PciAddress, ProfileName};

/// What a slice must have at least.
#[derive(Clone, Debug, Default, PartialEq, Eq, Args)]
pub struct Amounts {
    /// At least this much device memory, such as 20GiB
    #[arg(long)]
    memory: Option<Memory>,
    /// At least this share of the GPU's compute, such as 25%
    #[arg(long, value_name = "SHARE")]
    compute: Option<ComputeShare>,
}

impl Amounts {
    /// The request on the wire, for any profile that has these.
    #[must_use]
    pub fn request(&self, gpu: Option<PciAddress>) -> api::Request {
        api::Request {
            profile: None,
            memory_bytes: self.memory.map(Memory::bytes),
            compute_hundredths: self.compute.map(|share| share.hundredths().into()),
            gpu: gpu.map(|gpu| gpu.to_string()),
            numa: None,
        }
    }
}

/// The request for a profile that also has the amounts, where any are given. vgpud takes a profile
/// or amounts; both are fine here as long as they say the same.
///
/// # Errors
/// [`Error::Disagree`] with what the profile has.
pub async fn agreed(
    client: &Client,
    profile: &ProfileName,
    amounts: &Amounts,
    gpu: Option<PciAddress>,
) -> Result<api::Request, Error> {
    let of_gpu = |gpu: Option<PciAddress>| Amounts::default().request(gpu);
    let by_name = api::Request { profile: Some(profile.to_string()), ..of_gpu(gpu) };
    if *amounts == Amounts::default() {
        return Ok(by_name);
    }
    let known = match client.profiles(of_gpu(gpu)).await {
        Ok(known) => known,
        Err(error) => return Err(name_hint(client, &by_name, error).await),
    };
    let known: Vec<api::Profile> = known.into_iter().filter(|known| known.name == profile.as_ref()).collect();
    match known.iter().find(|known| !amounts.are_in(known)) {
        None => Ok(by_name),
        Some(lacking) => Err(Error::Disagree {
            profile: profile.to_string(),
            gpu: lacking.gpu.clone(),
            memory: memory(lacking.memory_bytes),
            compute: compute(lacking.compute_hundredths),
        }),
    }
}

impl Amounts {
    /// An amount that vgpud does not know of is not there.
    fn are_in(&self, profile: &api::Profile) -> bool {
        let wanted = self.request(None);
        let has = |wanted: Option<u64>, had: Option<u64>| wanted.is_none() || had >= wanted;
        has(wanted.memory_bytes, profile.memory_bytes)
            && has(wanted.compute_hundredths.map(u64::from), profile.compute_hundredths.map(u64::from))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_amount_agrees_with_a_profile_that_has_at_least_it() {
        let profile = api::Profile {
            memory_bytes: Some(24 << 30),
            compute_hundredths: None,
            ..api::Profile::default()
        };
        let agrees = |memory: Option<&str>, compute: Option<&str>| {
            let memory = memory.map(|text| text.parse().unwrap());
            Amounts { memory, compute: compute.map(|text| text.parse().unwrap()) }.are_in(&profile)
        };
        assert!(agrees(None, None) && agrees(Some("24GiB"), None) && agrees(Some("1GiB"), None));
        assert!(!agrees(Some("25GiB"), None));
        assert!(!agrees(None, Some("1%")), "nobody knows what share the profile has");
    }
}
