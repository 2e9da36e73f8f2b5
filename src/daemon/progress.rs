//! The steps of a creation on their way to a client, who may read slowly or not at all.

use super::{access::Admitted, convert, message::Progress};
use crate::{api, failure::Failure};
use tokio::sync::mpsc;
use tokio_stream::{Stream, StreamExt, wrappers::ReceiverStream};
use tonic::Status;

/// Steps of one creation that wait for a client to read them. Each holds all that was known at its time.
const UNREAD_STEPS: usize = 16;

/// The steps of a creation, which keeps its place until the last of them, also where nobody reads them. A
/// client that falls behind misses changes on the way: the plan and the end it gets.
fn to_the_end(
    mut steps: mpsc::UnboundedReceiver<Result<Progress, Failure>>,
    admitted: Option<Admitted>,
) -> mpsc::Receiver<Result<Progress, Failure>> {
    let (sender, read) = mpsc::channel(UNREAD_STEPS);
    tokio::spawn(async move {
        let mut end = None;
        while let Some(step) = steps.recv().await {
            match step {
                Ok(Progress::Planned { .. } | Progress::Changed(..)) => {
                    let _ = sender.try_send(step);
                }
                Ok(Progress::Done(..)) | Err(_) => end = Some(step),
            }
        }
        drop(admitted);
        if let Some(end) = end {
            // It may have gone; then nobody wants to know.
            let _ = sender.send(end).await;
        }
    });
    read
}

/// What the client reads.
pub fn stream(
    steps: mpsc::UnboundedReceiver<Result<Progress, Failure>>,
    admitted: Option<Admitted>,
) -> impl Stream<Item = Result<api::CreateProgress, Status>> {
    use api::create_progress::Step;
    ReceiverStream::new(to_the_end(steps, admitted)).filter_map(|step| {
        let step = match step {
            Err(failure) => return Some(Err(failure.into())),
            Ok(Progress::Planned { placement, effects }) => Step::Plan(convert::plan(&placement, effects)),
            Ok(Progress::Changed(id, now)) => Step::Changed(convert::slice(now.state.slices.get(&id)?, &now)),
            Ok(Progress::Done(ids, now)) => {
                let slices = ids.iter().filter_map(|id| now.state.slices.get(id));
                let slices = slices.map(|slice| convert::slice(slice, &now)).collect();
                Step::Done(api::CreatedSlices { slices })
            }
        };
        Some(Ok(api::CreateProgress { step: Some(step) }))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        daemon::snapshot::Snapshot,
        engine::{SliceId, State, UnixMillis},
    };
    use std::{collections::BTreeMap, sync::Arc, time::Duration};
    use vgpud_config::Settings;

    /// What is kept for a client that reads nothing does not grow with what it misses.
    #[tokio::test]
    async fn a_client_that_falls_behind_gets_the_end_and_costs_little() {
        let now = Arc::new(Snapshot {
            state: State::default(),
            gpus: BTreeMap::new(),
            waiting: BTreeMap::new(),
            stuck: BTreeMap::new(),
            last_sequence: 0,
            settings: Arc::new(Settings::default()),
            started: UnixMillis(0),
        });
        let (sender, steps) = mpsc::unbounded_channel();
        let mut read = to_the_end(steps, None);
        let slice = SliceId::new(1);
        for _ in 0..10_000 {
            sender.send(Ok(Progress::Changed(slice, Arc::clone(&now)))).unwrap();
        }
        sender.send(Ok(Progress::Done(vec![slice], Arc::clone(&now)))).unwrap();
        drop(sender);
        let dropped = async {
            while Arc::strong_count(&now) > UNREAD_STEPS + 2 {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), dropped).await.expect("what nobody reads is dropped");
        let mut kinds = Vec::new();
        while let Some(step) = read.recv().await {
            kinds.push(matches!(step.unwrap(), Progress::Done(..)));
        }
        assert_eq!(kinds.len(), UNREAD_STEPS + 1);
        assert_eq!(kinds.iter().position(|done| *done), Some(UNREAD_STEPS), "the end comes last");
    }
}
