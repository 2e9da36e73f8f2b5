//! Requests of the API, understood and checked at the border.

use crate::{
    api,
    engine::{
        Generation, SliceId, SliceIdError, UnixMillis,
        placement::{self, ComputeWant, Want},
    },
    ledger::{HistoryFilter, HistoryPosition},
    nearest::did_you_mean,
};
use std::{collections::BTreeMap, time::Duration};
use vgpud_config::{
    AffinityStrength, ClassName, ClassNameError, ClassSettings, ComputeKind, ComputeRequest, ComputeShare,
    ConsumerName, ConsumerNameError, Memory, NameError, NumaAffinity, PciAddress, PciNameError,
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
    #[error("The request names no size; give a profile, or memory, or compute, or a class")]
    Nothing,
    #[error("The request names more than one of a profile, a size and a class; give one of them")]
    Several,
    #[error(transparent)]
    ClassName(#[from] ClassNameError),
    #[error("There is no class {class}; {way_out}")]
    NoSuchClass { class: ClassName, way_out: String },
    #[error("The request says how a share of compute is to hold, and asks for none; give one")]
    NoCompute,
    #[error("{0} is no kind of share of compute; give 1 for a cap or 2 for a guarantee")]
    ComputeKind(i32),
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

/// The requests that have a name.
pub type Classes = BTreeMap<ClassName, ClassSettings>;

/// What a request asks for; none where it says nothing of it.
fn want(request: &api::Request, classes: &Classes) -> Result<Option<Want>, RequestError> {
    let memory = match request.memory_bytes {
        Some(0) => return Err(RequestError::Memory),
        other => other.map(Memory::from_bytes),
    };
    let compute = compute(request)?;
    let size = (memory.is_some() || compute.is_some()).then_some(Want::Size { memory, compute });
    match (&request.profile, size, &request.class) {
        (None, size, None) => Ok(size),
        (Some(profile), None, None) => Ok(Some(Want::Profile(profile.parse()?))),
        (None, None, Some(class)) => Ok(Some(of_class(class.parse()?, classes)?)),
        _ => Err(RequestError::Several),
    }
}

fn of_class(class: ClassName, classes: &Classes) -> Result<Want, RequestError> {
    if let Some(settings) = classes.get(&class) {
        return Ok(settings.into());
    }
    let names: Vec<_> = classes.keys().map(ToString::to_string).collect();
    let known = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
    let way_out = match did_you_mean(&class.to_string(), names.iter().map(String::as_str)) {
        Some(near) => format!("{near} The settings have {known}"),
        None => format!("the settings have {known}"),
    };
    Err(RequestError::NoSuchClass { class, way_out })
}

fn compute(request: &api::Request) -> Result<Option<ComputeWant>, RequestError> {
    let kind = match api::ComputeKind::try_from(request.compute_kind) {
        Ok(api::ComputeKind::Unspecified | api::ComputeKind::Cap) => ComputeKind::Cap,
        Ok(api::ComputeKind::Guarantee) => ComputeKind::Guarantee,
        Err(_) => return Err(RequestError::ComputeKind(request.compute_kind)),
    };
    let enforced = request.enforced;
    match request.compute_hundredths {
        Some(hundredths) => {
            let request = ComputeRequest { share: share(hundredths)?, kind };
            Ok(Some(ComputeWant { request, enforced }))
        }
        None if enforced || request.compute_kind != 0 => Err(RequestError::NoCompute),
        None => Ok(None),
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
    pub want: Option<Want>,
    pub gpu: Option<PciAddress>,
}

/// What a list of profiles is narrowed to.
///
/// # Errors
/// Where the request makes no sense, or names a class that there is not.
pub fn profiles(
    request: &api::ListProfilesRequest,
    classes: &Classes,
) -> Result<ProfileFilter, RequestError> {
    let Some(request) = &request.request else { return Ok(ProfileFilter::default()) };
    Ok(ProfileFilter { want: want(request, classes)?, gpu: gpu(request)? })
}

/// A request for slices.
///
/// # Errors
/// Where it makes no sense, or names a class that there is not.
pub fn create(
    request: &api::CreateSlicesRequest,
    classes: &Classes,
) -> Result<placement::Request, RequestError> {
    let asked = request.request.as_ref().ok_or(RequestError::Nothing)?;
    let count = request.count.max(1);
    if count > MOST {
        return Err(RequestError::Count(count));
    }
    let want = want(asked, classes)?.ok_or(RequestError::Nothing)?;
    Ok(placement::Request { want, gpu: gpu(asked)?, numa: asked.numa.map(numa), count })
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
    use vgpud_config::ClassWant;

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
        super::create(&request, &classes(&["small", "inference-small"]))
    }

    fn classes(names: &[&str]) -> Classes {
        let compute = Some("25%+".parse().unwrap());
        let want = ClassWant::Size { memory: Some(Memory::from_bytes(1 << 30)), compute };
        let settings = ClassSettings { want, enforced: true };
        names.iter().map(|name| (name.parse().unwrap(), settings.clone())).collect()
    }

    fn of_class(class: &str) -> api::Request {
        api::Request { class: Some(class.to_owned()), ..Default::default() }
    }

    #[test]
    fn a_class_is_what_the_settings_say_of_it() {
        let small = create(of_class("small"), 3).unwrap();
        assert_eq!((small.count, small.want.to_string().as_str()), (3, "1GiB and 25%+ of compute, enforced"));
        let told = |class: &str| create(of_class(class), 1).unwrap_err().to_string();
        assert_eq!(
            told("inferense-small"),
            "There is no class inferense-small; did you mean inference-small? The settings have inference-small, small"
        );
        assert_eq!(told("huge"), "There is no class huge; the settings have inference-small, small");
        assert!(told("Two Words").contains("cannot be the name of a class"));
        let request = api::ListProfilesRequest { request: Some(of_class("huge")) };
        let nothing = profiles(&request, &Classes::new()).unwrap_err().to_string();
        assert_eq!(nothing, "There is no class huge; the settings have none");
        let gpu = Some("0000:41:00.0".to_owned());
        assert!(create(api::Request { gpu, ..of_class("small") }, 1).unwrap().gpu.is_some());
    }

    #[test]
    fn compute_is_a_cap_or_a_guarantee_and_perhaps_enforced() {
        let told = |compute: Option<u32>, compute_kind: i32, enforced| {
            let request =
                api::Request { compute_hundredths: compute, compute_kind, enforced, ..Default::default() };
            create(request, 1).map(|request| request.want.to_string())
        };
        assert_eq!(told(Some(2500), 0, false).unwrap(), "25% of compute");
        assert_eq!(told(Some(2500), 1, true).unwrap(), "25% of compute, enforced");
        assert_eq!(told(Some(1250), 2, false).unwrap(), "12.5%+ of compute");
        assert!(matches!(told(Some(2500), 3, false), Err(RequestError::ComputeKind(3))));
        assert!(matches!(told(None, 2, false), Err(RequestError::NoCompute)));
        assert!(matches!(told(None, 0, true), Err(RequestError::NoCompute)));
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
        assert!(matches!(create(both, 1), Err(RequestError::Several)));
        for more in [
            api::Request { profile: profile(), ..of_class("small") },
            api::Request { memory_bytes: Some(1), ..of_class("small") },
            api::Request { compute_hundredths: Some(1), ..of_class("small") },
        ] {
            assert!(matches!(create(more, 1), Err(RequestError::Several)));
        }
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
