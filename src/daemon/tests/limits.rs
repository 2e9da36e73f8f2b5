//! Leases that end by themselves, and owners who may have only so much.

use super::bench::{Bench, Refused, SRIOV, create, machine};
use crate::api;
use std::time::Duration;
use vgpud_config::Quota;

async fn lease_for(
    bench: &Bench,
    id: &str,
    owner: &str,
    time: Option<Duration>,
) -> Result<api::Slice, Refused> {
    let request = api::LeaseSliceRequest {
        id: id.to_owned(),
        owner: owner.to_owned(),
        time_ms: time.map(|time| u64::try_from(time.as_millis()).unwrap()),
        ..Default::default()
    };
    Ok(bench.client().lease_slice(request).await?.into_inner())
}

async fn extend(bench: &Bench, id: &str, time_ms: u64) -> Result<api::Slice, Refused> {
    let request = api::ExtendLeaseRequest { id: id.to_owned(), time_ms };
    Ok(bench.client().extend_lease(request).await?.into_inner())
}

async fn ended(bench: &Bench) -> Vec<String> {
    let page = bench.client().list_history(api::ListHistoryRequest::default()).await.unwrap().into_inner();
    page.leases.into_iter().filter_map(|lease| lease.ended).collect()
}

const HOUR: u64 = 3_600_000;

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_ends_when_its_time_is_up_also_over_a_crash() {
    let mut bench = Bench::started(&machine()).await;
    let id = bench.create("vf-8", SRIOV, 1, None).await.unwrap().remove(0).id;
    let leased = lease_for(&bench, &id, "pod-a", Some(Duration::from_secs(4))).await.unwrap();
    let left = leased.lease.unwrap().ends_in_ms.unwrap();
    assert!((1..=4000).contains(&left), "{left}");
    tokio::time::sleep(Duration::from_secs(1)).await;
    bench.crash().await;
    bench.start(None).await;
    let left = bench.slices().await[0].lease.as_ref().map(|lease| lease.ends_in_ms.unwrap());
    assert!(left.is_none_or(|left| left <= 3000), "a restart gives no time: {left:?}");
    bench.until("its end", |phases| phases[&id] == api::Phase::Ready).await;
    assert_eq!(ended(&bench).await, ["time-is-up"]);
    bench.check().await;

    // An end that is put off, and a limit that is none.
    lease_for(&bench, &id, "pod-a", Some(Duration::from_secs(5))).await.unwrap();
    let left = extend(&bench, &id, HOUR).await.unwrap().lease.unwrap().ends_in_ms.unwrap();
    assert!(left > 3_000_000, "{left}");
    let page = bench.client().list_history(api::ListHistoryRequest::default()).await.unwrap().into_inner();
    assert!(page.leases[0].ends_in_ms.unwrap() > 3_000_000 && page.leases[1].ends_in_ms.is_none());
    assert_eq!(extend(&bench, &id, 1_000).await.unwrap_err().reason, "ENDS_LATER");
    tokio::time::sleep(Duration::from_secs(6)).await;
    assert_eq!(bench.slices().await[0].phase(), api::Phase::Leased);
    bench.release(&id).await.unwrap();
    assert_eq!(extend(&bench, &id, HOUR).await.unwrap_err().reason, "NOT_LEASED");
    assert_eq!(ended(&bench).await, ["released", "time-is-up"]);
    lease_for(&bench, &id, "pod-a", None).await.unwrap();
    assert_eq!(extend(&bench, &id, HOUR).await.unwrap_err().reason, "NO_LIMIT");
}

/// A device in use is never torn out of its VM.
#[tokio::test(flavor = "multi_thread")]
async fn a_lease_whose_device_is_held_is_overdue_and_ends_when_it_is_let_go() {
    let mut bench = Bench::started(&machine()).await;
    let id = bench.create("vf-8", SRIOV, 1, None).await.unwrap().remove(0).id;
    let leased = lease_for(&bench, &id, "pod-a", Some(Duration::from_secs(8))).await.unwrap();
    bench.hold(&leased.lease.unwrap().node.unwrap(), 4242);
    let begun = std::time::Instant::now();
    while bench.slices().await[0].lease.as_ref().unwrap().overdue.is_none() {
        assert!(begun.elapsed() < super::bench::LIMIT, "it never became overdue");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    // Past the pause of two seconds it was tried again, also after a crash, and told once.
    tokio::time::sleep(Duration::from_secs(4)).await;
    bench.crash().await;
    bench.start(None).await;
    bench.at_rest().await;
    let lease = bench.slices().await[0].lease.clone().unwrap();
    let why = lease.overdue.unwrap();
    assert!(why.contains("4242") && why.contains("qemu-system-x86"), "{why}");
    assert!(lease.ends_in_ms.unwrap() < 0);
    let told = bench.events().await.into_iter().filter(|event| event.kind == "lease-overdue");
    assert_eq!(told.count(), 1);
    bench.let_go(4242);
    bench.until("its end", |phases| phases[&id] == api::Phase::Ready).await;
    assert_eq!(ended(&bench).await, ["time-is-up"]);
    bench.check().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_clients_at_once_get_what_their_owner_may_have_and_no_more() {
    let mut bench = Bench::new(&machine());
    bench.settings.quota.owner =
        [("team-a".parse().unwrap(), Quota { slices: Some(3), memory: None })].into();
    bench.start(None).await;
    let made = bench.create("vf-8", SRIOV, 8, None).await.unwrap();
    let mut asks = tokio::task::JoinSet::new();
    for (number, slice) in made.iter().enumerate() {
        let request = api::LeaseSliceRequest {
            id: slice.id.clone(),
            owner: format!("team-a/job-{number}"),
            ..Default::default()
        };
        let mut client = bench.client();
        asks.spawn(async move { client.lease_slice(request).await.map_err(Refused::from) });
    }
    let answers = asks.join_all().await;
    let refused: Vec<_> = answers.iter().filter_map(|answer| answer.as_ref().err()).collect();
    assert_eq!((answers.len(), refused.len()), (8, 5));
    for refusal in refused {
        assert_eq!(refusal.reason, "QUOTA");
        assert!(refusal.text.contains("Owner team-a has 3 of 3 slices"), "{}", refusal.text);
        assert!(refusal.text.contains("[quota.owner.\"team-a\"]"), "{}", refusal.text);
    }
    let quotas = bench.client().get_status(api::GetStatusRequest {}).await.unwrap().into_inner().quotas;
    let told: Vec<_> = quotas.iter().map(|quota| (&*quota.owner, quota.slices, quota.slices_limit)).collect();
    assert_eq!(told, [("team-a", 3, Some(3))]);

    // Others are not limited; a creation for the owner is refused too, before anything is made.
    let before = bench.slices().await.len();
    let refusal = create(bench.client(), "vf-4", super::bench::SECOND, 1, Some("team-a")).await.unwrap_err();
    assert_eq!((refusal.reason.as_str(), bench.slices().await.len()), ("QUOTA", before));
    let mut free = 0;
    for slice in &made {
        free += u32::from(lease_for(&bench, &slice.id, "team-b", None).await.is_ok());
    }
    assert_eq!(free, 5);
}
