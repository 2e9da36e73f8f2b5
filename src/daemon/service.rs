//! The API: requests are checked at the border, commands go to the core, answers come from its
//! snapshots.

use super::{
    access::{Admitted, Caller, Guard, Peer},
    admission::Line,
    consumer, convert,
    core::Handle,
    holder::{HolderError, Watched},
    layout::{self, LayoutError, Planned},
    message::{Command, Create, Message, Mode, Question, Reply},
    progress,
    request::{self, RequestError},
    snapshot::Snapshot,
};
use crate::{
    api::{self, Rpc, vgpud_server::Vgpud},
    engine::{Actor, Generation, LeasedSlice, Phase, Rejected, SliceId, Terms},
    failure::Failure,
    ledger::AuditEntry,
};
use std::{
    pin::Pin,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::sync::{
    mpsc::{self, error::SendTimeoutError},
    oneshot,
};
use tokio_stream::{Stream, wrappers::ReceiverStream};
use tonic::{Request, Response, Status};
use vgpud_config::{Owner, PciAddress};
use vgpud_mdev::Host;

/// How long a reading of the host is waited for before the last one has to do: a GPU that is stuck
/// can block it.
const FRESHNESS: Duration = Duration::from_secs(3);

/// How long a plan waits for what is under way on the GPUs of its layout.
const SETTLING: Duration = Duration::from_secs(20);

/// Events that a client may be behind before its stream waits for it.
const STREAM_BUFFER: usize = 64;

/// How long the core may take from its last answer to its end.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// How long a stream of events waits for a client that does not read.
const STALL: Duration = Duration::from_secs(10);

/// How often it is looked whether somebody may still follow the events: settings tell when they change,
/// and accounts do not.
const RECHECK: Duration = Duration::from_secs(5);

/// The service; one for all clients.
#[derive(Clone, Debug)]
pub struct Service {
    core: Handle,
    host: Host,
    guard: Arc<Guard>,
    sandbox: String,
}

type Answer<T> = Result<Response<T>, Status>;
type Streamed<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

fn refuse(error: &RequestError) -> Status {
    Failure::from(error).into()
}

/// On whose word something is done.
fn actor<T>(request: &Request<T>) -> Actor {
    let caller = request.extensions().get::<Caller>();
    Actor::User(caller.map_or_else(|| "A caller unknown to the kernel".to_owned(), |caller| caller.0.clone()))
}

/// What the call took up, for work that goes on after the answer.
fn admitted<T>(request: &Request<T>) -> Option<Admitted> {
    request.extensions().get().cloned()
}

impl Service {
    pub const fn new(core: Handle, host: Host, guard: Arc<Guard>, sandbox: String) -> Self {
        Self { core, host, guard, sandbox }
    }

    fn now(&self) -> Arc<Snapshot> {
        Arc::clone(&self.core.snapshot.borrow())
    }

    /// Asks the core and waits for its answer.
    async fn ask<T>(&self, command: impl FnOnce(Reply<T>) -> Command) -> Result<T, Status> {
        self.asked(command).await.map_err(Status::from)
    }

    pub(super) async fn asked<T>(&self, command: impl FnOnce(Reply<T>) -> Command) -> Result<T, Failure> {
        let (reply, answer) = oneshot::channel();
        self.send(Message::Command(command(reply))).await?;
        match answer.await {
            Ok(answer) => answer,
            Err(_) => Err(self.why_stopped().await),
        }
    }

    pub(super) async fn send(&self, message: Message) -> Result<(), Failure> {
        match self.core.sender.send(message) {
            Ok(()) => Ok(()),
            Err(_) => Err(self.why_stopped().await),
        }
    }

    /// Why there is no answer from the core.
    pub(super) async fn why_stopped(&self) -> Failure {
        let mut last_words = self.core.last_words.clone();
        let ended = tokio::time::timeout(LAST_WORDS, last_words.wait_for(Option::is_some)).await;
        let told = ended.ok().and_then(|told| told.ok()?.clone());
        told.unwrap_or_else(Failure::stopping)
    }

    /// The host as it is now, or as it was last where it cannot be read in time.
    async fn fresh(&self) -> Arc<Snapshot> {
        let (reply, done) = oneshot::channel();
        let asked = self.core.sender.send(Message::Command(Command::Refresh { reply })).is_ok();
        if asked && tokio::time::timeout(FRESHNESS, done).await.is_err() {
            tracing::warn!("the host was not read within {FRESHNESS:?}; what is shown may be older");
        }
        self.now()
    }

    /// What is to be done for a layout, when what is under way on its GPUs has come to its end.
    async fn layout(&self, name: Option<&str>) -> Result<(Planned, api::LayoutPlan), Status> {
        let mut changes = self.core.snapshot.clone();
        let settled = changes.wait_for(|now| !layout::is_unsettled(now, name));
        // Else the plan says what is under way.
        let _ = tokio::time::timeout(SETTLING, settled).await;
        let now = self.fresh().await;
        let planned = layout::planned(&now, name).map_err(|error| Failure::from(&error))?;
        let told = layout::to_wire(&planned, &now);
        Ok((planned, told))
    }

    fn slice_now(&self, id: SliceId) -> Result<api::Slice, Status> {
        let now = self.now();
        let slice = now.state.slices.get(&id);
        let slice = slice.ok_or_else(|| Failure::from(&Rejected::NoSuchSlice(id)))?;
        Ok(convert::slice(slice, &now))
    }

    /// The terms that a request asks for, with the settings' consumer where it names none.
    async fn terms(&self, user: Option<&String>, time_ms: Option<u64>) -> Result<Terms, Status> {
        let named = request::consumer(user).map_err(|error| refuse(&error))?;
        let time = request::time(time_ms).map_err(|error| refuse(&error))?;
        let named = named.unwrap_or_else(|| self.now().settings.vfio.consumer());
        let consumer = consumer::resolve(named).await.map_err(|error| Failure::from(&error))?;
        Ok(Terms { consumer, time })
    }

    fn holder(&self, holder: Option<&api::Holder>) -> Result<Option<Watched>, HolderError> {
        holder.map(|holder| Watched::open(&self.host, holder.pid)).transpose()
    }
}

#[tonic::async_trait]
impl Vgpud for Service {
    type CreateSlicesStream = Streamed<api::CreateProgress>;
    type ApplyLayoutStream = Streamed<api::ApplyProgress>;
    type WatchEventsStream = Streamed<api::Event>;

    async fn get_status(&self, _: Request<api::GetStatusRequest>) -> Answer<api::Status> {
        let now = self.now();
        let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
        let leases = now.state.slices.values().filter(|slice| slice.phase.lease().is_some()).count();
        Ok(Response::new(api::Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            started_unix_ms: now.started.0,
            gpus: count(now.gpus.len()),
            slices: count(now.state.slices.len()),
            leases: count(leases),
            denied_calls: Some(self.guard.denied()),
            quarantined_gpus: convert::quarantined_gpus(&now.state),
            sandbox: Some(self.sandbox.clone()),
            quotas: convert::quotas(&now),
        }))
    }

    async fn list_gpus(&self, _: Request<api::ListGpusRequest>) -> Answer<api::ListGpusResponse> {
        let now = self.fresh().await;
        let gpus = now.gpus.values().map(|seen| convert::gpu(seen, &now)).collect();
        Ok(Response::new(api::ListGpusResponse { gpus }))
    }

    async fn list_profiles(
        &self,
        request: Request<api::ListProfilesRequest>,
    ) -> Answer<api::ListProfilesResponse> {
        let settings = Arc::clone(&self.now().settings);
        let filter =
            request::profiles(request.get_ref(), &settings.classes).map_err(|error| refuse(&error))?;
        let now = self.fresh().await;
        if let Some(gpu) = filter.gpu.filter(|gpu| !now.gpus.contains_key(gpu)) {
            return Err(no_such_gpu(gpu));
        }
        let wanted = now.gpus.values().filter(|seen| filter.gpu.is_none_or(|gpu| gpu == seen.gpu.address));
        let mut profiles = Vec::new();
        for seen in wanted {
            let Some((mechanism, offered)) = now.offers(seen) else { continue };
            let fitting = offered
                .iter()
                .filter(|profile| filter.want.as_ref().is_none_or(|want| want.accepts(profile)));
            profiles.extend(fitting.map(|profile| convert::profile(seen, mechanism, profile, &now)));
        }
        Ok(Response::new(api::ListProfilesResponse { profiles }))
    }

    async fn create_slices(
        &self,
        request: Request<api::CreateSlicesRequest>,
    ) -> Answer<Self::CreateSlicesStream> {
        let admitted = admitted(&request);
        let asked = request.into_inner();
        let settings = Arc::clone(&self.now().settings);
        let request = request::create(&asked, &settings.classes).map_err(|error| refuse(&error))?;
        let owner = asked.owner.as_deref().map(str::parse::<Owner>).transpose();
        let owner = owner.map_err(|error| refuse(&error.into()))?;
        let terms = self.terms(asked.user.as_ref(), asked.time_ms).await?;
        let mode = if asked.dry_run { Mode::DryRun } else { Mode::Run };
        self.fresh().await;
        let (sender, steps) = mpsc::unbounded_channel();
        let create = Create { request, owner, terms, mode, progress: sender };
        self.send(Message::Command(Command::Create(create))).await?;
        Ok(Response::new(Box::pin(progress::stream(steps, admitted))))
    }

    async fn list_slices(&self, request: Request<api::ListSlicesRequest>) -> Answer<api::ListSlicesResponse> {
        let request = request.into_inner();
        let gpu = request.gpu.as_deref().map(str::parse::<PciAddress>).transpose();
        let gpu = gpu.map_err(|error| refuse(&error.into()))?;
        let owner = request.owner.as_deref().map(str::parse::<Owner>).transpose();
        let owner = owner.map_err(|error| refuse(&error.into()))?;
        let now = self.now();
        let slices = now
            .state
            .slices
            .values()
            .filter(|slice| gpu.is_none_or(|gpu| gpu == slice.gpu))
            .filter(|slice| {
                let leased_to = slice.phase.lease().map(|lease| &lease.owner);
                owner.as_ref().is_none_or(|owner| leased_to == Some(owner))
            })
            .map(|slice| convert::slice(slice, &now))
            .collect();
        Ok(Response::new(api::ListSlicesResponse { slices }))
    }

    async fn get_slice(&self, request: Request<api::GetSliceRequest>) -> Answer<api::Slice> {
        let id = request::slice(&request.into_inner().id).map_err(|error| refuse(&error))?;
        self.slice_now(id).map(Response::new)
    }

    async fn lease_slice(&self, request: Request<api::LeaseSliceRequest>) -> Answer<api::Slice> {
        let request = request.into_inner();
        let slice = request::slice(&request.id).map_err(|error| refuse(&error))?;
        let owner: Owner = request.owner.parse().map_err(|error| refuse(&RequestError::Name(error)))?;
        let holder = self.holder(request.holder.as_ref()).map_err(|error| Failure::from(&error))?;
        let terms = self.terms(request.user.as_ref(), request.time_ms).await?;
        self.ask(|reply| Command::Lease { slice, owner, terms, holder, reply }).await?;
        self.slice_now(slice).map(Response::new)
    }

    async fn extend_lease(&self, request: Request<api::ExtendLeaseRequest>) -> Answer<api::Slice> {
        let request = request.into_inner();
        let slice = request::slice(&request.id).map_err(|error| refuse(&error))?;
        let time = request::time(Some(request.time_ms)).map_err(|error| refuse(&error))?;
        let time = time.unwrap_or_default();
        self.ask(|reply| Command::Extend { slice, time, reply }).await?;
        self.slice_now(slice).map(Response::new)
    }

    async fn release_slice(&self, request: Request<api::ReleaseSliceRequest>) -> Answer<api::Slice> {
        let request = request.into_inner();
        let slice = request::slice(&request.id).map_err(|error| refuse(&error))?;
        let generation = request.generation.map(Generation);
        self.ask(|reply| Command::Release { slice, generation, reply }).await?;
        self.slice_now(slice).map(Response::new)
    }

    async fn destroy_slice(
        &self,
        request: Request<api::DestroySliceRequest>,
    ) -> Answer<api::DestroySliceResponse> {
        let request = request.into_inner();
        let slice = request::slice(&request.id).map_err(|error| refuse(&error))?;
        let leased = if request.release { LeasedSlice::Release } else { LeasedSlice::Refuse };
        self.ask(|reply| Command::Destroy { slice, leased, reply }).await?;
        Ok(Response::new(api::DestroySliceResponse {}))
    }

    async fn verify_slice(
        &self,
        request: Request<api::VerifySliceRequest>,
    ) -> Answer<api::VerifySliceResponse> {
        let request = request.into_inner();
        let slice = request::slice(&request.id).map_err(|error| refuse(&error))?;
        let level = request::level(&request.level).map_err(|error| refuse(&error))?;
        let preflight = self.ask(|reply| Command::Verify { slice, level, reply }).await?;
        Ok(Response::new(convert::preflight(preflight)))
    }

    async fn list_history(
        &self,
        request: Request<api::ListHistoryRequest>,
    ) -> Answer<api::ListHistoryResponse> {
        let filter = request::history(request.get_ref()).map_err(|error| refuse(&error))?;
        let page = self.ask(|reply| Command::Tell(Question::History { filter, reply })).await?;
        Ok(Response::new(convert::history(page, &self.now().state)))
    }

    async fn list_quarantine(
        &self,
        _: Request<api::ListQuarantineRequest>,
    ) -> Answer<api::ListQuarantineResponse> {
        let out_of_use = self.ask(|reply| Command::Tell(Question::Quarantine { reply })).await?;
        let now = self.now();
        let slices = out_of_use.into_iter().filter_map(|found| convert::quarantined(found, &now)).collect();
        let gpus = convert::quarantined_gpus(&now.state);
        Ok(Response::new(api::ListQuarantineResponse { slices, gpus }))
    }

    async fn quarantine_slice(&self, request: Request<api::QuarantineSliceRequest>) -> Answer<api::Slice> {
        let by = actor(&request);
        let request = request.into_inner();
        let slice = request::slice(&request.id).map_err(|error| refuse(&error))?;
        let reason = request::reason(&request.reason).map_err(|error| refuse(&error))?;
        self.ask(|reply| Command::Quarantine { slice, reason, by, reply }).await?;
        self.slice_now(slice).map(Response::new)
    }

    async fn quarantine_gpu(
        &self,
        request: Request<api::QuarantineGpuRequest>,
    ) -> Answer<api::QuarantinedGpu> {
        let by = actor(&request);
        let request = request.into_inner();
        let gpu = request::gpu_address(&request.gpu).map_err(|error| refuse(&error))?;
        let reason = request::reason(&request.reason).map_err(|error| refuse(&error))?;
        self.fresh().await;
        self.ask(|reply| Command::QuarantineGpu { gpu, reason, by, reply }).await?;
        let now = self.now();
        let why = now.state.quarantined_gpus.get(&gpu);
        let why = why.ok_or_else(|| Failure::overtaken(format!("GPU {gpu} was cleared meanwhile")))?;
        Ok(Response::new(convert::quarantined_gpu(gpu, why)))
    }

    async fn clear_gpu_quarantine(
        &self,
        request: Request<api::ClearGpuQuarantineRequest>,
    ) -> Answer<api::ClearGpuQuarantineResponse> {
        let by = actor(&request);
        let gpu = request::gpu_address(&request.get_ref().gpu).map_err(|error| refuse(&error))?;
        // Whether it is there.
        self.fresh().await;
        self.ask(|reply| Command::ClearGpu { gpu, by, reply }).await?;
        let now = self.now();
        let slices = now.state.slices_of(gpu);
        let quarantined = slices.filter(|slice| matches!(slice.phase, Phase::Quarantined { .. }));
        let quarantined_slices = quarantined.map(|slice| slice.id.to_string()).collect();
        Ok(Response::new(api::ClearGpuQuarantineResponse { quarantined_slices }))
    }

    async fn clear_quarantine(&self, request: Request<api::ClearQuarantineRequest>) -> Answer<api::Slice> {
        let slice = request::slice(&request.into_inner().id).map_err(|error| refuse(&error))?;
        // Its way depends on whether the instance is there.
        self.fresh().await;
        self.ask(|reply| Command::Clear { slice, reply }).await?;
        self.slice_now(slice).map(Response::new)
    }

    async fn plan_layout(&self, request: Request<api::PlanLayoutRequest>) -> Answer<api::LayoutPlan> {
        let (_, plan) = self.layout(request.get_ref().layout.as_deref()).await?;
        Ok(Response::new(plan))
    }

    async fn apply_layout(
        &self,
        request: Request<api::ApplyLayoutRequest>,
    ) -> Answer<Self::ApplyLayoutStream> {
        let admitted = admitted(&request);
        let request = request.into_inner();
        let (planned, plan) = self.layout(request.layout.as_deref()).await?;
        if request.shown.is_some_and(|shown| !layout::same_steps(&shown, &plan)) {
            return Err(Failure::from(&LayoutError::Changed(planned.name)).into());
        }
        Ok(Response::new(Box::pin(layout::apply(self.clone(), planned, plan, admitted))))
    }

    async fn watch_events(
        &self,
        request: Request<api::WatchEventsRequest>,
    ) -> Answer<Self::WatchEventsStream> {
        let line = request.extensions().get::<Arc<Line>>().map(Arc::clone);
        let admitted = admitted(&request);
        let request = request.into_inner();
        let (sender, receiver) = mpsc::channel(STREAM_BUFFER + 1);
        // The last place is for the word that ends the stream, also where the client does not read.
        let farewell = sender.clone().try_reserve_owned();
        let farewell = farewell.map_err(|_| Status::internal("a new stream has no room"))?;
        let follower =
            Follower { service: self.clone(), line, sender, after: request.after, checked: Instant::now() };
        tokio::spawn(async move {
            // Also where its client has gone: it may have a question in the core's queue.
            let _admitted = admitted;
            if let Err(Ended::With(status)) = follower.replay(request.follow).await {
                farewell.send(Err(status));
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }
}

/// Why a stream of events ends before its end.
enum Ended {
    ClientGone,
    With(Status),
}

/// A stream of events to one client.
struct Follower {
    service: Service,
    line: Option<Arc<Line>>,
    sender: mpsc::Sender<Result<api::Event, Status>>,
    /// Number of the last event that was sent.
    after: u64,
    /// When its role was looked up last.
    checked: Instant,
}

impl Follower {
    /// Sends the audit trail page by page, then what is added to it. A slow client makes this wait,
    /// never the core; and not for ever. Who may not see the events any more is told so.
    async fn replay(mut self, follow: bool) -> Result<(), Ended> {
        let mut changes = self.service.core.snapshot.clone();
        let mut recheck = tokio::time::interval(RECHECK);
        let mut settings = Arc::clone(&changes.borrow().settings);
        loop {
            changes.mark_unchanged();
            let after = self.after;
            let page = self.service.ask(|reply| Command::Tell(Question::Audit { after, reply })).await;
            let page = page.map_err(Ended::With)?;
            let empty = page.is_empty();
            for entry in page {
                self.send(entry).await?;
            }
            if empty && !follow {
                return Ok(());
            }
            // The guard of the value must not live over an await.
            let grown = async {
                let news = |now: &Arc<Snapshot>| {
                    now.last_sequence > self.after || !Arc::ptr_eq(&now.settings, &settings)
                };
                changes.wait_for(news).await.ok().map(|now| Arc::clone(&now.settings))
            };
            tokio::select! {
                biased;
                _ = recheck.tick() => self.check().await?,
                () = self.sender.closed() => return Err(Ended::ClientGone),
                changed = grown, if empty => {
                    let Some(now) = changed else {
                        return Err(Ended::With(self.service.why_stopped().await.into()));
                    };
                    if !Arc::ptr_eq(&now, &settings) {
                        settings = now;
                        self.check().await?;
                    }
                }
                () = std::future::ready(()), if !empty => {}
            }
        }
    }

    async fn check(&mut self) -> Result<(), Ended> {
        self.checked = Instant::now();
        let peer: Option<Peer> = self.line.as_ref().and_then(|line| line.peer);
        self.service.guard.allow(Rpc::WatchEvents, peer).await.map(drop).map_err(Ended::With)
    }

    async fn send(&mut self, entry: AuditEntry) -> Result<(), Ended> {
        if self.checked.elapsed() >= RECHECK {
            self.check().await?;
        }
        let sequence = entry.sequence;
        match self.sender.send_timeout(Ok(convert::event(entry)), STALL).await {
            Ok(()) => {
                self.after = sequence;
                Ok(())
            }
            Err(SendTimeoutError::Closed(_)) => Err(Ended::ClientGone),
            Err(SendTimeoutError::Timeout(_)) => {
                if let Some(line) = &self.line {
                    line.cut_off();
                }
                tracing::warn!(after = self.after, "a client that does not read its events is cut off");
                Err(Ended::With(Failure::behind(self.after).into()))
            }
        }
    }
}

fn no_such_gpu(gpu: PciAddress) -> Status {
    Failure::from(&vgpud_mdev::Error::NoSuchGpu(gpu)).into()
}
