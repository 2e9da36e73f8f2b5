//! Private readers of outside bytes, for the crate in `fuzz/`.

use crate::{
    api,
    cli::{self, document, output::Document},
    daemon::{self, RequestError, request},
    engine::{SliceId, placement},
    ledger::HistoryFilter,
};
use prost::Message;
use std::{error::Error, path::Path, time::Duration};
use vgpud_config::{ClassSettings, ClassWant, ConsumerName, Owner, PciAddress, Settings};

pub use crate::ledger::fuzzing::{Cell, Reading, Row, ledger};

/// Of `/proc/PID/stat`.
#[must_use]
pub fn start_time(stat: &[u8]) -> Option<u64> {
    daemon::holder::start_time(stat)
}

/// How long vgpuctl waits with these settings.
#[must_use]
pub fn patience(settings: &Settings) -> Duration {
    cli::client::patience(settings)
}

/// A point in time, as people type it.
///
/// # Errors
/// Where it is none.
pub fn since(text: &str) -> Result<(), Box<dyn Error>> {
    text.parse::<cli::history::Since>()?;
    Ok(())
}

/// What a request was understood as.
#[derive(Debug)]
pub enum Asked {
    Create(placement::Request),
    Profiles(Option<placement::Want>),
    History(HistoryFilter),
    Slice(SliceId),
    Gpu(PciAddress),
    Reason(String),
    Owner(Owner),
    Terms(Option<ConsumerName>, Option<Duration>),
}

/// The message as each request that has a content; left out where it is none.
#[must_use]
pub fn requests(message: &[u8]) -> Vec<Result<Asked, RequestError>> {
    let mut read = Vec::new();
    let classes = classes();
    if let Ok(message) = api::CreateSlicesRequest::decode(message) {
        read.push(request::create(&message, &classes).map(Asked::Create));
        read.extend(message.owner.map(|owner| owner_of(&owner)));
        read.push(terms(message.user.as_ref(), message.time_ms));
    }
    if let Ok(message) = api::ListProfilesRequest::decode(message) {
        let filter = request::profiles(&message, &classes);
        read.push(filter.map(|filter| Asked::Profiles(filter.want)));
    }
    if let Ok(message) = api::ListHistoryRequest::decode(message) {
        read.push(request::history(&message).map(Asked::History));
    }
    if let Ok(message) = api::LeaseSliceRequest::decode(message) {
        read.push(request::slice(&message.id).map(Asked::Slice));
        read.push(owner_of(&message.owner));
        read.push(terms(message.user.as_ref(), message.time_ms));
    }
    if let Ok(message) = api::ExtendLeaseRequest::decode(message) {
        read.push(request::slice(&message.id).map(Asked::Slice));
        read.push(terms(None, Some(message.time_ms)));
    }
    if let Ok(message) = api::QuarantineSliceRequest::decode(message) {
        read.push(request::slice(&message.id).map(Asked::Slice));
        read.push(request::reason(&message.reason).map(Asked::Reason));
    }
    if let Ok(message) = api::QuarantineGpuRequest::decode(message) {
        read.push(request::gpu_address(&message.gpu).map(Asked::Gpu));
        read.push(request::reason(&message.reason).map(Asked::Reason));
    }
    if let Ok(message) = api::VerifySliceRequest::decode(message) {
        read.push(request::slice(&message.id).map(Asked::Slice));
        read.extend(request::level(&message.level).err().map(Err));
    }
    read
}

/// One class, by the shortest name.
fn classes() -> request::Classes {
    let compute = "25%+".parse().ok();
    let class = ClassSettings { want: ClassWant::Size { memory: None, compute }, enforced: true };
    "a".parse().into_iter().map(|name| (name, class.clone())).collect()
}

fn owner_of(text: &str) -> Result<Asked, RequestError> {
    Ok(Asked::Owner(text.parse()?))
}

fn terms(user: Option<&String>, time_ms: Option<u64>) -> Result<Asked, RequestError> {
    Ok(Asked::Terms(request::consumer(user)?, request::time(time_ms)?))
}

/// What vgpuctl shows of the message as each answer, and as the details of an error.
#[must_use]
pub fn answers(message: &[u8]) -> Vec<String> {
    let mut shown = Vec::new();
    let mut show = |text: Option<String>| shown.extend(text);
    show(read(message, |status| document::Daemon::new(Path::new("/run/vgpud.sock"), status)));
    show(read(message, |answer: api::ListGpusResponse| {
        document::Gpus::new(answer.gpus.into_iter().map(document::Gpu::from))
    }));
    show(read(message, |answer: api::ListProfilesResponse| document::Profiles::new(answer.profiles)));
    show(read(message, |answer: api::ListSlicesResponse| document::Slices::new(answer.slices)));
    show(read(message, document::OneSlice::facts));
    show(read(message, document::DryRun::new));
    show(read(message, document::Checks::of_slice));
    show(read(message, |answer: api::ListHistoryResponse| document::History::new(answer.leases)));
    show(read(message, document::Quarantine::new));
    show(read(message, document::OneQuarantinedGpu::new));
    show(read(message, |answer: api::ClearGpuQuarantineResponse| {
        document::ClearedGpu::new("0000:41:00.0".to_owned(), answer.quarantined_slices)
    }));
    show(read(message, |event: api::Event| document::Event::from(event)));
    let status = tonic::Status::with_details(tonic::Code::Internal, "odd", message.to_vec().into());
    show(Some(cli::error::Error::from(status).to_report(None).text()));
    shown
}

fn read<M: Message + Default, D: Document>(message: &[u8], document: impl Fn(M) -> D) -> Option<String> {
    let document = document(M::decode(message).ok()?);
    // JSON has its own way to write what is no text.
    cli::output::json(&document).ok()?;
    Some(document.text())
}
