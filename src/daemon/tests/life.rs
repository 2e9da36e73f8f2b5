//! What the daemon does when all goes well.

use super::bench::{Bench, MDEV, SECOND, SRIOV, machine};
use crate::api::{self, create_progress::Step};
use tokio_stream::StreamExt;

#[tokio::test(flavor = "multi_thread")]
async fn slices_are_created_leased_released_and_destroyed_without_a_trace() {
    let bench = Bench::started(&machine()).await;
    // The CDI folder is made by the first lease and stays.
    let warm_up = bench.create("vf-8", SRIOV, 1, Some("pod-a")).await.unwrap();
    bench.destroy(&warm_up[0].id).await.unwrap();
    let before = bench.files();
    for (profile, gpu) in [("vf-8", SRIOV), ("sim-small", MDEV)] {
        let made = bench.create(profile, gpu, 3, None).await.unwrap();
        assert!(made.iter().all(|slice| slice.phase() == api::Phase::Ready && slice.group_node.is_some()));
        let id = &made[0].id;
        let leased = bench.lease(id, None).await.unwrap();
        let lease = leased.lease.clone().unwrap();
        assert_eq!((lease.owner.as_str(), leased.generation), ("pod-a", 1));
        assert_eq!(lease.cdi_device.unwrap(), format!("vgpud.io/slice={id}"));
        assert_eq!(lease.node, leased.group_node);
        assert_eq!(bench.cdi_files(), [id.parse().unwrap()]);
        bench.check().await;
        assert_eq!(bench.lease(id, None).await.unwrap_err().reason, "LEASED");
        let released = bench.release(id).await.unwrap();
        assert_eq!(released.phase(), api::Phase::Ready);
        assert!(bench.cdi_files().is_empty());
        if gpu == MDEV {
            assert_ne!(released.mdev_uuid, leased.mdev_uuid, "an mdev has no reset and is made anew");
        }
        for slice in &made {
            bench.destroy(&slice.id).await.unwrap();
        }
        assert_eq!(bench.files(), before);
    }
    assert!(bench.slices().await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_with_an_owner_comes_back_leased() {
    let bench = Bench::started(&machine()).await;
    let made = bench.create("vf-4", SECOND, 4, Some("pod-b")).await.unwrap();
    assert_eq!(made.len(), 4);
    assert!(made.iter().all(|slice| slice.lease.as_ref().unwrap().owner == "pod-b"));
    let mut nodes: Vec<_> = made.iter().map(|slice| slice.lease.clone().unwrap().node).collect();
    nodes.dedup();
    assert_eq!(nodes.len(), 4, "each has a node of its own");
    bench.check().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dry_run_names_the_effects_and_changes_nothing() {
    let bench = Bench::started(&machine()).await;
    let before = bench.files();
    let request = api::Request { profile: Some("vf-8".into()), ..Default::default() };
    let owner = Some("pod-a".to_owned());
    let request = api::CreateSlicesRequest {
        request: Some(request),
        count: 2,
        owner,
        dry_run: true,
        ..Default::default()
    };
    let stream = bench.client().create_slices(request).await.unwrap().into_inner();
    let steps: Vec<_> = stream.map(|step| step.unwrap().step.unwrap()).collect().await;
    let [Step::Plan(plan)] = &steps[..] else { panic!("{steps:?}") };
    assert_eq!(
        plan.effects,
        [
            "create vf-8 for s1 (VF 0 of 0000:41:00.0)",
            "create vf-8 for s2 (VF 1 of 0000:41:00.0)",
            "hand over s1 (VF 0 of 0000:41:00.0)",
            "hand over s2 (VF 1 of 0000:41:00.0)",
        ]
    );
    assert_eq!(plan.considered.iter().filter(|gpu| gpu.chosen).count(), 1);
    assert_eq!(plan.considered.len(), 3);
    assert_eq!(bench.files(), before);
    assert!(bench.slices().await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_never_fits_names_what_would() {
    let bench = Bench::started(&machine()).await;
    let request =
        api::Request { memory_bytes: Some(20 << 30), gpu: Some(SRIOV.into()), ..Default::default() };
    let request = api::CreateSlicesRequest { request: Some(request), count: 1, ..Default::default() };
    let mut stream = bench.client().create_slices(request).await.unwrap().into_inner();
    let refused = super::bench::Refused::from(stream.next().await.unwrap().unwrap_err());
    assert_eq!(refused.reason, "TOO_LARGE");
    assert!(refused.text.contains("Asked 20GiB; the largest on 0000:41:00.0 is 16MiB"), "{}", refused.text);
    let refused = bench.create("vf-8", "0000:99:00.0", 1, None).await.unwrap_err();
    assert_eq!(refused.reason, "NO_SUCH_GPU");
    let refused = bench.create("vf-8", SRIOV, 9, None).await.unwrap_err();
    assert_eq!(refused.reason, "TOO_MANY");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clean_stop_leaves_leases_alone() {
    let mut bench = Bench::started(&machine()).await;
    let made = bench.create("vf-8", SRIOV, 2, Some("pod-a")).await.unwrap();
    let (files, slices) = (bench.files(), bench.slices().await);
    bench.stop().await;
    assert!(!bench.socket().try_exists().unwrap());
    assert_eq!(bench.files(), files);
    bench.start(None).await;
    assert_eq!(bench.slices().await, slices);
    assert_eq!(bench.files(), files);
    bench.check().await;
    bench.release(&made[0].id).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn events_are_replayed_and_then_followed() {
    let bench = Bench::started(&machine()).await;
    let made = bench.create("vf-8", SRIOV, 1, None).await.unwrap();
    let kinds: Vec<_> = bench.events().await.into_iter().map(|event| event.kind).collect();
    assert_eq!(kinds, ["daemon-started", "slice-planned", "slice-creating", "slice-ready"]);
    let request = api::WatchEventsRequest { follow: true, after: 3 };
    let mut follow = bench.client().watch_events(request).await.unwrap().into_inner();
    assert_eq!(follow.next().await.unwrap().unwrap().kind, "slice-ready");
    bench.lease(&made[0].id, None).await.unwrap();
    let next = follow.next().await.unwrap().unwrap();
    assert_eq!(
        (next.kind.as_str(), next.owner.as_deref(), next.sequence),
        ("lease-started", Some("pod-a"), 5)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_goes_away_does_not_stop_the_work() {
    let bench = Bench::started(&machine()).await;
    let request = api::Request { profile: Some("vf-8".into()), ..Default::default() };
    let request = api::CreateSlicesRequest { request: Some(request), count: 5, ..Default::default() };
    drop(bench.client().create_slices(request).await.unwrap());
    bench
        .until("five slices", |phases| phases.values().filter(|p| **p == api::Phase::Ready).count() == 5)
        .await;
    bench.check().await;
}
