//! Carrying out the plan of a layout, all GPUs at once but for those that are divided anew together, for a client who may read slowly or leave.

use super::{
    super::{
        access::Admitted,
        convert,
        message::{Command, Create, Message, Mode, Progress},
        service::Service,
    },
    Planned, wire,
};
use crate::{
    api::{self, apply_progress::Step},
    engine::{
        Partition, Terms,
        layout::{GpuPlan, LayoutPlan, PartitionStep},
        placement,
    },
    failure::Failure,
};
use tokio::{sync::mpsc, task::JoinSet};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

/// Steps that wait for a client to read them; it misses some on the way where it is slow.
const UNREAD_STEPS: usize = 64;

type Told = mpsc::Sender<Result<api::ApplyProgress, Status>>;

/// Does what was planned. The work keeps its place until its end, whoever reads what comes of it.
pub fn apply(
    service: Service,
    planned: Planned,
    plan: api::LayoutPlan,
    admitted: Option<Admitted>,
) -> ReceiverStream<Result<api::ApplyProgress, Status>> {
    let (told, read) = mpsc::channel(UNREAD_STEPS);
    tokio::spawn(async move {
        tell(&told, Step::Plan(plan));
        let operator = planned.plan.operator.iter().map(wire::operator).collect();
        let mut work = JoinSet::new();
        for unit in units(planned.plan) {
            let (service, told) = (service.clone(), told.clone());
            work.spawn(async move {
                let results = on_unit(&service, unit, &told).await;
                results.iter().for_each(|result| tell(&told, Step::Gpu(result.clone())));
                results
            });
        }
        // A task that panicked has said so in the log; its GPU is missing in the answer.
        let mut gpus: Vec<api::GpuLayoutResult> = Vec::new();
        while let Some(results) = work.join_next().await {
            gpus.extend(results.into_iter().flatten());
        }
        gpus.sort_by(|one, other| one.gpu.cmp(&other.gpu));
        drop(admitted);
        let done = Step::Done(api::LayoutApplied { gpus, operator });
        // The client may have gone; the work is done all the same.
        let _ = told.send(Ok(api::ApplyProgress { step: Some(done) })).await;
    });
    ReceiverStream::new(read)
}

/// Where the client reads.
fn tell(told: &Told, step: Step) {
    let _ = told.try_send(Ok(api::ApplyProgress { step: Some(step) }));
}

/// GPUs whose work goes together.
struct Unit {
    gpus: Vec<GpuPlan>,
    partition: Option<Partition>,
}

/// Each GPU by itself, but for those that are divided anew together.
fn units(plan: LayoutPlan) -> Vec<Unit> {
    let mut rest = plan.gpus;
    let mut units = Vec::new();
    for PartitionStep { partition, .. } in plan.partitions {
        let (gpus, others) = rest.into_iter().partition(|gpu| partition.gpus.contains(&gpu.gpu));
        rest = others;
        units.push(Unit { gpus, partition: Some(partition) });
    }
    units.extend(rest.into_iter().map(|gpu| Unit { gpus: vec![gpu], partition: None }));
    units
}

/// The work on one GPU, and what has come of it so far.
struct Site {
    plan: GpuPlan,
    result: api::GpuLayoutResult,
    failure: Option<Failure>,
}

impl Site {
    fn new(plan: GpuPlan) -> Self {
        let result = api::GpuLayoutResult { gpu: plan.gpu.to_string(), ..api::GpuLayoutResult::default() };
        Self { plan, result, failure: None }
    }

    /// Whether the work goes on.
    const fn goes_on(&self) -> bool {
        self.failure.is_none() && self.plan.blocked.is_none()
    }

    fn end(mut self) -> api::GpuLayoutResult {
        let outcome = match self.failure {
            _ if self.plan.blocked.is_some() => {
                self.result.blocked = self.plan.blocked;
                api::LayoutOutcome::Blocked
            }
            Some(failure) => {
                tracing::error!(gpu = %self.plan.gpu, reason = failure.reason, "a layout is not reached: {}", failure.line());
                self.result.code = failure.code.into();
                self.result.failure = Some(failure.into());
                api::LayoutOutcome::Failed
            }
            None if self.plan.has_steps() || self.result.modes.is_some() => api::LayoutOutcome::Done,
            None => api::LayoutOutcome::NothingToDo,
        };
        self.result.outcome = outcome.into();
        self.result
    }

    /// All at once; what fails is told when the others have ended too.
    async fn remove(mut self, service: Service, told: Told) -> Self {
        if !self.goes_on() {
            return self;
        }
        let mut removals = JoinSet::new();
        for slice in self.plan.remove.iter().copied() {
            let service = service.clone();
            removals
                .spawn(async move { (slice, service.asked(|reply| Command::Remove { slice, reply }).await) });
        }
        while let Some(removal) = removals.join_next().await {
            match removal {
                Ok((slice, Ok(()))) => {
                    tell(&told, Step::Removed(slice.to_string()));
                    self.result.removed.push(slice.to_string());
                }
                Ok((_, Err(error))) => self.failure = self.failure.or(Some(error)),
                Err(error) => {
                    self.failure = self.failure.or_else(|| Some(Failure::overtaken(error.to_string())));
                }
            }
        }
        self.result.removed.sort_by_key(|id| (id.len(), id.clone()));
        self
    }

    async fn create(mut self, service: Service, told: Told) -> Self {
        for (profile, count) in self.goes_on().then_some(&self.plan.create).into_iter().flatten() {
            let request = placement::Request {
                want: placement::Want::Profile(profile.clone()),
                gpu: Some(self.plan.gpu),
                numa: None,
                count: *count,
            };
            match create(&service, request, &told).await {
                Ok(created) => self.result.created.extend(created),
                Err(failure) => {
                    self.failure = Some(failure);
                    break;
                }
            }
        }
        self
    }
}

/// Removals first; what fails ends the work on its GPU, and where GPUs are divided anew on all of them.
async fn on_unit(service: &Service, unit: Unit, told: &Told) -> Vec<api::GpuLayoutResult> {
    let sites = unit.gpus.into_iter().map(Site::new).collect();
    let mut sites = each(sites, |site| site.remove(service.clone(), told.clone())).await;
    if let Some(partition) = unit.partition {
        let modes = partition.modes.to_string();
        let failed =
            sites.iter().find_map(|site| site.failure.clone().map(|failure| (site.plan.gpu, failure)));
        let done = match failed {
            Some((gpu, failure)) => {
                let message = format!("Nothing is set to {modes}, as slices of GPU {gpu} could not go");
                Err(failure.within(message))
            }
            None => {
                let asked = partition.asked.clone();
                service.asked(|reply| Command::Partition { partition, reply }).await.map(|()| asked)
            }
        };
        for site in sites.iter_mut().filter(|site| site.goes_on()) {
            match &done {
                Ok(asked) => site.result.modes = asked.contains(&site.plan.gpu).then(|| modes.clone()),
                Err(failure) => site.failure = Some(failure.clone()),
            }
        }
    }
    let sites = each(sites, |site| site.create(service.clone(), told.clone())).await;
    sites.into_iter().map(Site::end).collect()
}

/// The same for all of them at once.
async fn each<F>(sites: Vec<Site>, work: impl Fn(Site) -> F) -> Vec<Site>
where
    F: Future<Output = Site> + Send + 'static,
{
    let mut running = JoinSet::new();
    for site in sites {
        running.spawn(work(site));
    }
    // A task that panicked has said so in the log; its GPU is missing in the answer.
    let mut sites = Vec::new();
    while let Some(site) = running.join_next().await {
        sites.extend(site.ok());
    }
    sites.sort_by_key(|site| site.plan.gpu);
    sites
}

/// Slices without a lease, all or none.
async fn create(
    service: &Service,
    request: placement::Request,
    told: &Told,
) -> Result<Vec<api::Slice>, Failure> {
    let (progress, mut steps) = mpsc::unbounded_channel();
    let create = Create { request, owner: None, terms: Terms::default(), mode: Mode::Run, progress };
    service.send(Message::Command(Command::Create(create))).await?;
    while let Some(step) = steps.recv().await {
        match step? {
            Progress::Planned { .. } => {}
            Progress::Changed(id, now) => {
                if let Some(slice) = now.state.slices.get(&id) {
                    tell(told, Step::Changed(convert::slice(slice, &now)));
                }
            }
            Progress::Done(ids, now) => {
                let slices = ids.iter().filter_map(|id| now.state.slices.get(id));
                return Ok(slices.map(|slice| convert::slice(slice, &now)).collect());
            }
        }
    }
    Err(service.why_stopped().await)
}
