//! Requests of the API, understood and checked at the border.

use crate::{
    api,
    engine::{Generation, SliceId, SliceIdError, UnixMillis, placement},
    ledger::{HistoryFilter, HistoryPosition},
};
use std::time::Duration;
use vgpud_config::{
    AffinityStrength, ComputeShare, ConsumerName, ConsumerNameError, Memory, NameError, NumaAffinity,
    PciAddress, PciNameError,
};
use vgpud_vmm::preflight::{Level, NoLevel};

/// More slices than any host has.
const MOST: u32 = 4096;

/// Longest reason of an operator, in characters: it stands in tables and in the audit trail.
const LONGEST_REASON: usize = 400;

/// A request that makes no sense.
#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    #[error(transparent)]
    Slice(#[from] SliceIdError),
    #[error(transparent)]
    Gpu(#[from] PciNameError),
    #[error(transparent)]
    Name(#[from] NameError),
    #[error(transparent)]
    Level(#[from] NoLevel),
    #[error(transparent)]
    Consumer(#[from] ConsumerNameError),
    #[error("A lease of no time at all cannot be; give at least a millisecond")]
    Time,
    #[error("The request names no size; give a profile, or memory, or compute")]
    Nothing,
    #[error("The request names a profile and a size; give one of them")]
    Both,
    #[error("A slice of 0 bytes cannot be; give at least one")]
    Memory,
    #[error("A share of {0} hundredths of a percent cannot be; give 1 to 10000")]
    Compute(u32),
    #[error("{0} slices at once are too many; ask for up to {MOST}")]
    Count(u32),
    #[error("The request lacks {0}")]
    Missing(&'static str),
    #[error("A reason is one line of up to {LONGEST_REASON} characters; this one has {0}")]
    Reason(String),
}

/// The size that a request names; none where it names none.
fn want(request: &api::Request) -> Result<Option<placement::Want>, RequestError> {
    let memory = match request.memory_bytes {
        Some(0) => return Err(RequestError::Memory),
        other => other.map(Memory::from_bytes),
    };
    let compute = request.compute_hundredths.map(share).transpose()?;
    match (&request.profile, memory, compute) {
        (None, None, None) => Ok(None),
        (None, memory, compute) => Ok(Some(placement::Want::Size { memory, compute })),
        (Some(profile), None, None) => Ok(Some(placement::Want::Profile(profile.parse()?))),
        (Some(_), ..) => Err(RequestError::Both),
    }
}

fn share(hundredths: u32) -> Result<ComputeShare, RequestError> {
    let text = format!("{}.{:02}%", hundredths / 100, hundredths % 100);
    text.parse().map_err(|_| RequestError::Compute(hundredths))
}

/// How long a lease is to last.
pub fn time(milliseconds: Option<u64>) -> Result<Option<Duration>, RequestError> {
    match milliseconds {
        Some(0) => Err(RequestError::Time),
        other => Ok(other.map(Duration::from_millis)),
    }
}

/// Who is to open the node; none where the request leaves it to the settings.
pub fn consumer(name: Option<&String>) -> Result<Option<ConsumerName>, RequestError> {
    Ok(name.map(|name| name.parse()).transpose()?)
}

/// How deep to check; the default where nothing is said.
pub fn level(text: &str) -> Result<Level, RequestError> {
    if text.is_empty() { Ok(Level::default()) } else { Ok(text.parse()?) }
}

fn gpu(request: &api::Request) -> Result<Option<PciAddress>, RequestError> {
    Ok(request.gpu.as_deref().map(str::parse).transpose()?)
}

fn numa(asked: api::NumaAffinity) -> NumaAffinity {
    let strength = if asked.required { AffinityStrength::Require } else { AffinityStrength::Prefer };
    NumaAffinity { node: asked.node, strength }
}

/// What a list of profiles is narrowed to.
#[derive(Clone, Debug, Default)]
pub struct ProfileFilter {
    pub want: Option<placement::Want>,
    pub gpu: Option<PciAddress>,
}

impl TryFrom<api::ListProfilesRequest> for ProfileFilter {
    type Error = RequestError;
    fn try_from(request: api::ListProfilesRequest) -> Result<Self, RequestError> {
        let request = request.request.unwrap_or_default();
        Ok(Self { want: want(&request)?, gpu: gpu(&request)? })
    }
}

impl TryFrom<&api::CreateSlicesRequest> for placement::Request {
    type Error = RequestError;
    fn try_from(request: &api::CreateSlicesRequest) -> Result<Self, RequestError> {
        let asked = request.request.as_ref().ok_or(RequestError::Nothing)?;
        let count = request.count.max(1);
        if count > MOST {
            return Err(RequestError::Count(count));
        }
        let want = want(asked)?.ok_or(RequestError::Nothing)?;
        Ok(Self { want, gpu: gpu(asked)?, numa: asked.numa.map(numa), count })
    }
}

/// Which leases are asked for.
///
/// # Errors
/// Where a slice, GPU or owner has an impossible name.
pub fn history(request: &api::ListHistoryRequest) -> Result<HistoryFilter, RequestError> {
    let before = request.before.as_ref().map(|last| {
        Ok::<_, RequestError>(HistoryPosition {
            from: UnixMillis(last.from_unix_ms),
            slice: slice(&last.slice)?,
            generation: Generation(last.generation),
        })
    });
    Ok(HistoryFilter {
        slice: request.slice.as_deref().map(slice).transpose()?,
        owner: request.owner.as_deref().map(str::parse).transpose()?,
        gpu: request.gpu.as_deref().map(str::parse).transpose()?,
        since: request.since_unix_ms.map(UnixMillis),
        before: before.transpose()?,
    })
}

/// The slice that a request is about.
///
/// # Errors
/// Where the text names none.
pub fn slice(id: &str) -> Result<SliceId, RequestError> {
    if id.is_empty() {
        return Err(RequestError::Missing("the id of a slice"));
    }
    Ok(id.parse()?)
}

/// The GPU that a request is about.
///
/// # Errors
/// Where the text is no PCI address.
pub fn gpu_address(gpu: &str) -> Result<PciAddress, RequestError> {
    if gpu.is_empty() {
        return Err(RequestError::Missing("the address of a GPU"));
    }
    Ok(gpu.parse()?)
}

/// An operator's reason, for a later reader.
///
/// # Errors
/// Where there is none, or it is no line.
pub fn reason(text: &str) -> Result<String, RequestError> {
    let text = text.trim();
    if text.is_empty() {
        return Err(RequestError::Missing("a reason"));
    }
    let length = text.chars().count();
    if length > LONGEST_REASON {
        return Err(RequestError::Reason(format!("{length}")));
    }
    if let Some(odd) = text.chars().find(|character| character.is_control()) {
        return Err(RequestError::Reason(format!("the control character {odd:?}")));
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_is_one_line() {
        assert_eq!(reason(" fan broken\n").unwrap(), "fan broken");
        assert!(matches!(reason(" "), Err(RequestError::Missing("a reason"))));
        let refused = reason("fan\nbroken").unwrap_err().to_string();
        assert!(refused.contains("the control character '\\n'"), "{refused}");
        let long = reason(&"x".repeat(401)).unwrap_err().to_string();
        assert!(long.contains("up to 400 characters; this one has 401"), "{long}");
    }

    fn create(request: api::Request, count: u32) -> Result<placement::Request, RequestError> {
        let request = api::CreateSlicesRequest { request: Some(request), count, ..Default::default() };
        placement::Request::try_from(&request)
    }

    #[test]
    fn a_request_is_a_profile_or_a_size() {
        let profile = || Some("vf-8".to_owned());
        let by_name = create(api::Request { profile: profile(), ..Default::default() }, 0).unwrap();
        assert_eq!((by_name.count, by_name.want.to_string().as_str()), (1, "vf-8"));
        let size = api::Request {
            memory_bytes: Some(1 << 30),
            compute_hundredths: Some(2500),
            ..Default::default()
        };
        assert_eq!(create(size, 2).unwrap().want.to_string(), "1GiB and 25% of compute");
        let both = api::Request { profile: profile(), memory_bytes: Some(1), ..Default::default() };
        assert!(matches!(create(both, 1), Err(RequestError::Both)));
        assert!(matches!(create(api::Request::default(), 1), Err(RequestError::Nothing)));
    }

    #[test]
    fn nonsense_is_refused() {
        let memory = |bytes| api::Request { memory_bytes: Some(bytes), ..Default::default() };
        assert!(matches!(create(memory(0), 1), Err(RequestError::Memory)));
        assert!(matches!(create(memory(1), 5000), Err(RequestError::Count(5000))));
        let compute = |share| api::Request { compute_hundredths: Some(share), ..Default::default() };
        assert!(matches!(create(compute(0), 1), Err(RequestError::Compute(0))));
        assert!(matches!(create(compute(10_001), 1), Err(RequestError::Compute(10_001))));
        let gpu = api::Request { gpu: Some("gpu0".to_owned()), ..memory(1) };
        assert!(matches!(create(gpu, 1), Err(RequestError::Gpu(_))));
        assert!(matches!(slice(""), Err(RequestError::Missing(_))));
        assert!(matches!(slice("17"), Err(RequestError::Slice(_))));
        let before = api::HistoryPosition { from_unix_ms: 1, slice: "17".to_owned(), generation: 1 };
        let page = api::ListHistoryRequest { before: Some(before), ..Default::default() };
        assert!(matches!(history(&page), Err(RequestError::Slice(_))));
        let of_nobody = api::ListHistoryRequest { owner: Some("a,b".to_owned()), ..Default::default() };
        assert!(matches!(history(&of_nobody), Err(RequestError::Name(_))));
    }
}
