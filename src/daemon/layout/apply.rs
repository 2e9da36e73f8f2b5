//! Carrying out the plan of a layout, all GPUs at once, for a client who may read slowly or leave.

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
    engine::{Terms, layout::GpuPlan, placement},
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
        for gpu in planned.plan.gpus {
            let (service, told) = (service.clone(), told.clone());
            work.spawn(async move {
                let result = on_gpu(&service, gpu, &told).await;
                tell(&told, Step::Gpu(result.clone()));
                result
            });
        }
        // A task that panicked has said so in the log; its GPU is missing in the answer.
        let mut gpus: Vec<api::GpuLayoutResult> = Vec::new();
        while let Some(result) = work.join_next().await {
            gpus.extend(result.ok());
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

async fn on_gpu(service: &Service, plan: GpuPlan, told: &Told) -> api::GpuLayoutResult {
    let mut result = api::GpuLayoutResult { gpu: plan.gpu.to_string(), ..api::GpuLayoutResult::default() };
    if plan.blocked.is_some() {
        result.outcome = api::LayoutOutcome::Blocked.into();
        result.blocked = plan.blocked;
        return result;
    }
    if !plan.has_steps() {
        result.outcome = api::LayoutOutcome::NothingToDo.into();
        return result;
    }
    let outcome = match carry_out(service, &plan, told, &mut result).await {
        Ok(()) => api::LayoutOutcome::Done,
        Err(failure) => {
            tracing::error!(gpu = %plan.gpu, reason = failure.reason, "a layout is not reached: {}", failure.line());
            result.code = failure.code.into();
            result.failure = Some(failure.into());
            api::LayoutOutcome::Failed
        }
    };
    result.outcome = outcome.into();
    result
}

/// Removals first; what fails ends the work on this GPU.
async fn carry_out(
    service: &Service,
    plan: &GpuPlan,
    told: &Told,
    result: &mut api::GpuLayoutResult,
) -> Result<(), Failure> {
    let mut removals = JoinSet::new();
    for slice in plan.remove.iter().copied() {
        let service = service.clone();
        removals.spawn(async move { (slice, service.asked(|reply| Command::Remove { slice, reply }).await) });
    }
    let mut failure = None;
    while let Some(removal) = removals.join_next().await {
        match removal {
            Ok((slice, Ok(()))) => {
                tell(told, Step::Removed(slice.to_string()));
                result.removed.push(slice.to_string());
            }
            Ok((_, Err(error))) => failure = failure.or(Some(error)),
            Err(error) => failure = failure.or_else(|| Some(Failure::overtaken(error.to_string()))),
        }
    }
    result.removed.sort_by_key(|id| (id.len(), id.clone()));
    if let Some(failure) = failure {
        return Err(failure);
    }
    for (profile, count) in &plan.create {
        let request = placement::Request {
            want: placement::Want::Profile(profile.clone()),
            gpu: Some(plan.gpu),
            numa: None,
            count: *count,
        };
        result.created.extend(create(service, request, told).await?);
    }
    Ok(())
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
