//! Several owners want the last slice at one time: one has it, and the others are told why not.

use super::bench::{Bench, MDEV, SRIOV, create, machine};
use std::sync::Arc;
use tokio::sync::Barrier;

const ROUNDS: usize = 12;

/// What became of one owner's call.
type Answer = Result<String, (String, String)>;

/// Starts `racers` calls at one instant and returns the id that the only winner got.
async fn race<F>(racers: usize, why_not: &[&str], call: impl Fn(String) -> F) -> String
where
    F: Future<Output = Answer> + Send + 'static,
{
    let start = Arc::new(Barrier::new(racers));
    let calls: Vec<_> = (0..racers)
        .map(|racer| {
            let (start, call) = (Arc::clone(&start), call(format!("pod-{racer}")));
            tokio::spawn(async move {
                start.wait().await;
                call.await
            })
        })
        .collect();
    let mut winners = Vec::new();
    for call in calls {
        match call.await.unwrap() {
            Ok(id) => winners.push(id),
            Err((reason, text)) => assert!(why_not.contains(&reason.as_str()), "{reason}: {text}"),
        }
    }
    assert_eq!(winners.len(), 1, "one of {racers} has it: {winners:?}");
    winners.remove(0)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_all_who_lease_a_slice_at_once_one_gets_it() {
    let bench = Bench::started(&machine()).await;
    bench.create("vf-8", SRIOV, 1, None).await.unwrap();
    for racers in [2, 8] {
        for _ in 0..ROUNDS {
            let owner = race(racers, &["LEASED", "BUSY"], |owner| {
                let mut client = bench.client();
                async move {
                    let request = crate::api::LeaseSliceRequest {
                        id: "s1".to_owned(),
                        owner: owner.clone(),
                        ..Default::default()
                    };
                    client.lease_slice(request).await.map_err(told)?;
                    Ok(owner)
                }
            })
            .await;
            let slice = bench.slices().await.remove(0);
            assert_eq!(slice.lease.unwrap().owner, owner);
            bench.release("s1").await.unwrap();
            bench.check().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_all_who_create_the_last_slice_at_once_one_gets_it() {
    let bench = Bench::started(&machine()).await;
    bench.create("sim-small", MDEV, 7, Some("first")).await.unwrap();
    for racers in [2, 8] {
        for _ in 0..ROUNDS {
            let id = race(racers, &["NO_CAPACITY", "BUSY"], |owner| {
                let client = bench.client();
                async move {
                    let made = create(client, "sim-small", MDEV, 1, Some(&owner)).await;
                    made.map(|slices| slices[0].id.clone()).map_err(|refused| (refused.reason, refused.text))
                }
            })
            .await;
            assert_eq!(bench.slices().await.len(), 8);
            bench.check().await;
            bench.destroy(&id).await.unwrap();
        }
    }
}

fn told(status: tonic::Status) -> (String, String) {
    let refused = super::bench::Refused::from(status);
    (refused.reason, refused.text)
}
