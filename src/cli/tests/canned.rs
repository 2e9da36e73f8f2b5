//! An API server that answers from [`crate::answers`] and remembers what it was asked.

use crate::answers;
use prost::Message as _;
use std::{
    fmt::Debug,
    path::{Path, PathBuf},
    pin::Pin,
    sync::{Arc, Mutex},
};
use tempfile::TempDir;
use tokio::net::UnixListener;
use tokio_stream::{Stream, StreamExt as _, wrappers::UnixListenerStream};
use tonic::{Code, Request, Response, Status, transport::Server};
use vgpud::api::{
    self,
    create_progress::Step,
    vgpud_server::{Vgpud, VgpudServer},
};

/// How the server behaves.
#[derive(Clone, Debug, Default)]
pub enum Mood {
    #[default]
    Helpful,
    /// There is nothing on this host.
    Empty,
    /// Every change is refused like this.
    Refusing(Code, api::Failure),
    /// Every change fails without details, as a foreign server would.
    Foreign(Code, &'static str),
    /// `CreateSlices` ends before its last message.
    BreakingOff,
    /// As many events as this, one after the other.
    Talkative(u64),
    /// Slices whose nodes are below the server's own folder.
    Lending,
    /// So too, and nothing that was lent is taken back.
    Keeping(Code, api::Failure),
}

/// A server in its own folder, gone with it.
#[derive(Debug)]
pub struct Canned {
    folder: Arc<TempDir>,
    socket: PathBuf,
    asked: Arc<Mutex<Vec<String>>>,
}

#[derive(Debug)]
struct Answering {
    mood: Mood,
    folder: PathBuf,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Canned {
    /// Starts it on the test's runtime.
    pub fn start(mood: Mood) -> Self {
        Self::start_in(Arc::new(tempfile::tempdir().unwrap()), mood)
    }

    /// Another server on the same socket, as after a restart.
    pub fn restarted(&self, mood: Mood) -> Self {
        std::fs::remove_file(&self.socket).unwrap();
        Self::start_in(Arc::clone(&self.folder), mood)
    }

    fn start_in(folder: Arc<TempDir>, mood: Mood) -> Self {
        let socket = folder.path().join("vgpud.sock");
        let listener = UnixListenerStream::new(UnixListener::bind(&socket).unwrap());
        let asked = Arc::new(Mutex::new(Vec::new()));
        let root = folder.path().to_owned();
        let service = VgpudServer::new(Answering { mood, folder: root, asked: Arc::clone(&asked) });
        tokio::spawn(Server::builder().add_service(service).serve_with_incoming(listener));
        Self { folder, socket, asked }
    }

    pub fn socket(&self) -> &Path {
        &self.socket
    }

    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// What was asked so far, in Debug form.
    pub fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }

    /// `text` without what differs from run to run.
    pub fn neutral(&self, text: &str) -> String {
        text.replace(&self.folder.path().display().to_string(), "$DIR")
    }
}

/// A refusal as vgpud sends it.
pub fn refusal(reason: &str, message: &str, causes: &[&str]) -> api::Failure {
    let causes = causes.iter().map(ToString::to_string).collect();
    api::Failure { reason: reason.into(), message: message.into(), causes }
}

pub fn status(code: Code, failure: &api::Failure) -> Status {
    Status::with_details(code, failure.message.clone(), failure.encode_to_vec().into())
}

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

fn stream<T: Send + 'static>(items: Vec<T>) -> Answers<T> {
    Box::pin(tokio_stream::iter(items.into_iter().map(Ok)))
}

impl Answering {
    fn note(&self, request: &impl Debug) {
        self.asked.lock().unwrap().push(format!("{request:?}"));
    }

    fn allow_change(&self) -> Result<(), Status> {
        match &self.mood {
            Mood::Refusing(code, failure) => Err(status(*code, failure)),
            Mood::Foreign(code, message) => Err(Status::new(*code, *message)),
            Mood::Helpful
            | Mood::Empty
            | Mood::BreakingOff
            | Mood::Talkative(_)
            | Mood::Lending
            | Mood::Keeping(..) => Ok(()),
        }
    }

    fn unless_empty<T>(&self, items: Vec<T>) -> Vec<T> {
        if matches!(self.mood, Mood::Empty) { Vec::new() } else { items }
    }

    fn find(&self, id: &str) -> Result<api::Slice, Status> {
        if id.strip_prefix('s').is_none_or(|number| number.parse::<u32>().is_err()) {
            let message = format!("{id:?} is not a slice; write its id, such as s17");
            return Err(status(Code::InvalidArgument, &refusal("BAD_REQUEST", &message, &[])));
        }
        let found = self.unless_empty(answers::slices()).into_iter().find(|slice| slice.id == id);
        let found = found.map(|slice| match self.mood {
            Mood::Lending | Mood::Keeping(..) => answers::below(&self.folder, slice),
            _ => slice,
        });
        found.ok_or_else(|| {
            let message = format!("There is no slice {id:?}; `vgpuctl slices` lists them");
            status(Code::NotFound, &refusal("NO_SUCH_SLICE", &message, &[]))
        })
    }
}

#[tonic::async_trait]
impl Vgpud for Answering {
    type CreateSlicesStream = Answers<api::CreateProgress>;
    type ApplyLayoutStream = Answers<api::ApplyProgress>;
    type WatchEventsStream = Answers<api::Event>;

    async fn get_status(&self, _: Request<api::GetStatusRequest>) -> Result<Response<api::Status>, Status> {
        Ok(Response::new(api::Status {
            version: "0.1.0".into(),
            pid: 812,
            started_unix_ms: 1_795_500_000_000,
            gpus: 3,
            slices: 3,
            leases: 1,
            denied_calls: Some(2),
            quarantined_gpus: answers::quarantined_gpus(),
            sandbox: Some("landlock ABI 6, seccomp, 4 capabilities".to_owned()),
            quotas: vec![api::QuotaUse {
                owner: "team-a".into(),
                slices: 1,
                slices_limit: Some(8),
                memory_bytes: 24 << 30,
                memory_limit_bytes: None,
            }],
        }))
    }

    async fn list_gpus(
        &self,
        _: Request<api::ListGpusRequest>,
    ) -> Result<Response<api::ListGpusResponse>, Status> {
        Ok(Response::new(api::ListGpusResponse { gpus: self.unless_empty(answers::gpus()) }))
    }

    async fn list_profiles(
        &self,
        request: Request<api::ListProfilesRequest>,
    ) -> Result<Response<api::ListProfilesResponse>, Status> {
        self.note(request.get_ref());
        let wanted = request.into_inner().request.unwrap_or_default();
        let fits = |profile: &api::Profile| {
            profile.memory_bytes >= wanted.memory_bytes
                && wanted.gpu.as_ref().is_none_or(|gpu| *gpu == profile.gpu)
        };
        let profiles = self.unless_empty(answers::profiles()).into_iter().filter(fits).collect();
        Ok(Response::new(api::ListProfilesResponse { profiles }))
    }

    async fn create_slices(
        &self,
        request: Request<api::CreateSlicesRequest>,
    ) -> Result<Response<Self::CreateSlicesStream>, Status> {
        self.note(request.get_ref());
        self.allow_change()?;
        let request = request.into_inner();
        let count = request.count;
        if let Some(class) = request.request.as_ref().and_then(|request| request.class.as_ref()) {
            let message = format!("There is no class {class}; the settings have inference-small");
            return Err(status(Code::NotFound, &refusal("NO_SUCH_CLASS", &message, &[])));
        }
        let known = |name: &String| answers::profiles().iter().any(|profile| profile.name == *name);
        if let Some(profile) = request.request.and_then(|request| request.profile).filter(|name| !known(name))
        {
            let message = format!("No GPU has a profile {profile}");
            return Err(status(Code::NotFound, &refusal("NO_SUCH_PROFILE", &message, &[])));
        }
        let step = |step| api::CreateProgress { step: Some(step) };
        let mut steps = vec![step(Step::Plan(answers::plan(count)))];
        if !request.dry_run {
            for phase in [api::Phase::Creating, api::Phase::Ready] {
                steps.extend(
                    answers::created(count, phase).into_iter().map(|slice| step(Step::Changed(slice))),
                );
            }
            if !matches!(self.mood, Mood::BreakingOff) {
                let slices = answers::created(count, api::Phase::Ready);
                steps.push(step(Step::Done(api::CreatedSlices { slices })));
            }
        }
        Ok(Response::new(stream(steps)))
    }

    async fn list_slices(
        &self,
        request: Request<api::ListSlicesRequest>,
    ) -> Result<Response<api::ListSlicesResponse>, Status> {
        self.note(request.get_ref());
        let wanted = request.into_inner();
        let fits = |slice: &api::Slice| wanted.gpu.as_ref().is_none_or(|gpu| *gpu == slice.gpu);
        let slices = self.unless_empty(answers::slices()).into_iter().filter(fits).collect();
        Ok(Response::new(api::ListSlicesResponse { slices }))
    }

    async fn get_slice(
        &self,
        request: Request<api::GetSliceRequest>,
    ) -> Result<Response<api::Slice>, Status> {
        self.find(&request.into_inner().id).map(Response::new)
    }

    async fn lease_slice(
        &self,
        request: Request<api::LeaseSliceRequest>,
    ) -> Result<Response<api::Slice>, Status> {
        self.note(request.get_ref());
        self.allow_change()?;
        let request = request.into_inner();
        let slice = self.find(&request.id)?;
        Ok(Response::new(answers::leased(slice, &request.owner, request.holder.map(|holder| holder.pid))))
    }

    async fn extend_lease(
        &self,
        request: Request<api::ExtendLeaseRequest>,
    ) -> Result<Response<api::Slice>, Status> {
        let request = request.into_inner();
        self.note(&request);
        self.allow_change()?;
        let mut slice = self.find(&request.id)?;
        if let Some(lease) = &mut slice.lease {
            lease.ends_in_ms = i64::try_from(request.time_ms).ok();
        }
        Ok(Response::new(slice))
    }

    async fn release_slice(
        &self,
        request: Request<api::ReleaseSliceRequest>,
    ) -> Result<Response<api::Slice>, Status> {
        self.note(request.get_ref());
        self.allow_change()?;
        if let Mood::Keeping(code, failure) = &self.mood {
            return Err(status(*code, failure));
        }
        let slice = self.find(&request.into_inner().id)?;
        Ok(Response::new(api::Slice { lease: None, phase: api::Phase::Ready.into(), ..slice }))
    }

    async fn destroy_slice(
        &self,
        request: Request<api::DestroySliceRequest>,
    ) -> Result<Response<api::DestroySliceResponse>, Status> {
        self.note(request.get_ref());
        self.allow_change()?;
        let request = request.into_inner();
        let slice = self.find(&request.id)?;
        if let (Some(lease), false) = (&slice.lease, request.release) {
            let message = format!("{} is leased to {}; release it first", slice.id, lease.owner);
            return Err(status(Code::FailedPrecondition, &refusal("LEASED", &message, &[])));
        }
        Ok(Response::new(api::DestroySliceResponse {}))
    }

    async fn verify_slice(
        &self,
        request: Request<api::VerifySliceRequest>,
    ) -> Result<Response<api::VerifySliceResponse>, Status> {
        self.note(request.get_ref());
        self.allow_change()?;
        Ok(Response::new(answers::checks()))
    }

    async fn list_history(
        &self,
        request: Request<api::ListHistoryRequest>,
    ) -> Result<Response<api::ListHistoryResponse>, Status> {
        self.note(request.get_ref());
        let request = request.into_inner();
        let mut leases = self.unless_empty(answers::history());
        leases.retain(|lease| request.slice.as_ref().is_none_or(|slice| *slice == lease.slice));
        // One lease a page.
        let place = |lease: &api::PastLease| api::HistoryPosition {
            from_unix_ms: lease.from_unix_ms,
            slice: lease.slice.clone(),
            generation: lease.generation,
        };
        if let Some(before) = request.before {
            let page = leases.iter().position(|lease| place(lease) == before);
            leases.drain(..=page.expect("a page is asked for by the end of the last"));
        }
        let more = leases.get(1).and(leases.first()).map(place);
        leases.truncate(1);
        Ok(Response::new(api::ListHistoryResponse { leases, more }))
    }

    async fn list_quarantine(
        &self,
        _: Request<api::ListQuarantineRequest>,
    ) -> Result<Response<api::ListQuarantineResponse>, Status> {
        let slices = self.unless_empty(answers::quarantine());
        let gpus = self.unless_empty(answers::quarantined_gpus());
        Ok(Response::new(api::ListQuarantineResponse { slices, gpus }))
    }

    async fn quarantine_slice(
        &self,
        request: Request<api::QuarantineSliceRequest>,
    ) -> Result<Response<api::Slice>, Status> {
        self.note(request.get_ref());
        self.allow_change()?;
        let request = request.into_inner();
        let slice = self.find(&request.id)?;
        if let Some(lease) = &slice.lease {
            let message = format!("Slice {} is leased to {}; release it first", slice.id, lease.owner);
            return Err(status(Code::FailedPrecondition, &refusal("LEASED", &message, &[])));
        }
        let phase = api::Phase::Quarantined.into();
        Ok(Response::new(api::Slice { phase, quarantine_reason: Some(request.reason), ..slice }))
    }

    async fn quarantine_gpu(
        &self,
        request: Request<api::QuarantineGpuRequest>,
    ) -> Result<Response<api::QuarantinedGpu>, Status> {
        self.note(request.get_ref());
        self.allow_change()?;
        let request = request.into_inner();
        let known = answers::gpus().iter().any(|gpu| gpu.address == request.gpu);
        if !known {
            let message = format!("There is no GPU {}", request.gpu);
            return Err(status(Code::NotFound, &refusal("NO_SUCH_GPU", &message, &[])));
        }
        let (gpu, evidence) = (request.gpu, request.reason);
        let by = "User root (0)".to_owned();
        let pattern = answers::quarantined_gpus().remove(0);
        Ok(Response::new(api::QuarantinedGpu { gpu, evidence, by, cause: "operator".to_owned(), ..pattern }))
    }

    async fn clear_gpu_quarantine(
        &self,
        request: Request<api::ClearGpuQuarantineRequest>,
    ) -> Result<Response<api::ClearGpuQuarantineResponse>, Status> {
        self.note(request.get_ref());
        self.allow_change()?;
        Ok(Response::new(api::ClearGpuQuarantineResponse { quarantined_slices: vec!["s19".to_owned()] }))
    }

    async fn clear_quarantine(
        &self,
        request: Request<api::ClearQuarantineRequest>,
    ) -> Result<Response<api::Slice>, Status> {
        self.note(request.get_ref());
        self.allow_change()?;
        let slice = self.find(&request.into_inner().id)?;
        if slice.phase() != api::Phase::Quarantined {
            let message = format!("Slice {} is not quarantined", slice.id);
            return Err(status(Code::FailedPrecondition, &refusal("NOT_QUARANTINED", &message, &[])));
        }
        let phase = api::Phase::Ready.into();
        Ok(Response::new(api::Slice { phase, quarantine_reason: None, waiting_for: None, ..slice }))
    }

    async fn plan_layout(
        &self,
        request: Request<api::PlanLayoutRequest>,
    ) -> Result<Response<api::LayoutPlan>, Status> {
        self.note(request.get_ref());
        let layout = request.into_inner().layout.unwrap_or_else(|| "day".to_owned());
        if layout == "night" {
            let message = "There is no layout night in the settings; there are day, idle";
            return Err(status(Code::NotFound, &refusal("NO_SUCH_LAYOUT", message, &[])));
        }
        Ok(Response::new(answers::layout_plan(&layout)))
    }

    async fn apply_layout(
        &self,
        request: Request<api::ApplyLayoutRequest>,
    ) -> Result<Response<Self::ApplyLayoutStream>, Status> {
        self.note(request.get_ref());
        self.allow_change()?;
        let request = request.into_inner();
        let layout = request.layout.unwrap_or_default();
        let plan = answers::layout_plan(&layout);
        if request.shown.as_ref() != Some(&plan) {
            let message = "What would be done for the layout is not what was shown";
            return Err(status(Code::Aborted, &refusal("PLAN_CHANGED", message, &[])));
        }
        use api::apply_progress::Step as Applying;
        let done = answers::layout_applied(&layout);
        let mut steps = vec![Applying::Plan(plan)];
        for gpu in &done.gpus {
            steps.extend(gpu.removed.iter().cloned().map(Applying::Removed));
            steps.push(Applying::Gpu(gpu.clone()));
        }
        steps.push(Applying::Done(done));
        Ok(Response::new(stream(
            steps.into_iter().map(|step| api::ApplyProgress { step: Some(step) }).collect(),
        )))
    }

    async fn watch_events(
        &self,
        request: Request<api::WatchEventsRequest>,
    ) -> Result<Response<Self::WatchEventsStream>, Status> {
        self.note(request.get_ref());
        let request = request.into_inner();
        if let Mood::Talkative(count) = self.mood {
            let pattern = answers::events().remove(0);
            let events = (1..=count).map(|sequence| api::Event { sequence, ..pattern.clone() });
            return Ok(Response::new(stream(events.collect())));
        }
        let past = answers::events().into_iter().filter(|event| event.sequence > request.after);
        let past = stream(self.unless_empty(past.collect()));
        if request.follow && matches!(self.mood, Mood::Helpful) {
            return Ok(Response::new(Box::pin(past.chain(tokio_stream::pending()))));
        }
        Ok(Response::new(past))
    }
}
