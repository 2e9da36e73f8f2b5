//! The record of leases and scrubs, and the way out of a quarantine.

use super::bench::{Bench, MDEV, Refused, SRIOV, machine};
use crate::{
    api,
    daemon::{convert, core::PAGE, message::Message},
    engine::{Generation, SliceId, State, UnixMillis},
    ledger::{HistoryPosition, PastLease},
};
use vgpud_vmm::scrub::Verdict;

async fn history(bench: &Bench, request: api::ListHistoryRequest) -> Vec<api::PastLease> {
    bench.client().list_history(request).await.unwrap().into_inner().leases
}

async fn quarantine(bench: &Bench) -> Vec<api::QuarantinedSlice> {
    bench.client().list_quarantine(api::ListQuarantineRequest {}).await.unwrap().into_inner().slices
}

fn dirty() -> Verdict {
    Verdict::Dirty { bar: 0, first_offset: 0x2000 }
}

fn results(lease: &api::PastLease) -> Vec<(&str, &str)> {
    lease.scrubs.iter().map(|scrub| (scrub.work.as_str(), scrub.result.as_str())).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_is_told_with_its_scrub_when_its_slice_is_long_gone() {
    let mut bench = Bench::started(&machine()).await;
    let made = bench.create("vf-8", SRIOV, 1, Some("pod-a")).await.unwrap();
    bench.release("s1").await.unwrap();
    bench.destroy("s1").await.unwrap();
    let mdev = bench.create("sim-small", MDEV, 1, Some("pod-b")).await.unwrap();
    bench.release("s2").await.unwrap();
    bench.lease("s2", None).await.unwrap();
    bench.stop().await;
    bench.start(None).await;

    let all = history(&bench, api::ListHistoryRequest::default()).await;
    let [now, before, first] = &all[..] else { panic!("{all:?}") };
    assert_eq!((first.slice.as_str(), first.gpu.as_str(), first.owner.as_str()), ("s1", SRIOV, "pod-a"));
    assert_eq!(first.address, made[0].address);
    assert!(first.address.is_some() && first.to_unix_ms.is_some());
    assert_eq!(first.ended.as_deref(), Some("released"));
    assert_eq!(results(first), [("reset", "clean")]);
    let evidence = first.scrubs[0].evidence.as_ref().unwrap();
    assert_eq!((evidence.verdict.as_str(), evidence.bytes_checked), ("clean", 16 << 20));
    // What has no reset is made anew, and that is looked at.
    assert_eq!(before.mdev_uuid, mdev[0].mdev_uuid);
    assert_eq!(results(before), [("reset", "remade"), ("create", "clean")]);
    assert_eq!((now.slice.as_str(), now.generation, &now.to_unix_ms, &now.ended), ("s2", 2, &None, &None));
    assert_ne!(now.mdev_uuid, before.mdev_uuid);

    let of = api::ListHistoryRequest { owner: Some("pod-b".into()), ..Default::default() };
    assert_eq!(history(&bench, of).await.len(), 1);
    let of = api::ListHistoryRequest { gpu: Some("gpu0".into()), ..Default::default() };
    let refused = Refused::from(bench.client().list_history(of).await.unwrap_err());
    assert_eq!(refused.reason, "BAD_REQUEST");
}

#[test]
fn a_full_page_says_where_the_next_one_begins() {
    let lease = |number: u64| PastLease {
        position: HistoryPosition {
            from: UnixMillis(1_000 - number),
            slice: SliceId::new(7),
            generation: Generation(number),
        },
        gpu: SRIOV.to_owned(),
        owner: "pod-a".to_owned(),
        instance: None,
        address: None,
        ended: None,
        scrubs: vec![],
    };
    let leases: Vec<_> = (1..=u64::from(PAGE)).map(lease).collect();
    assert_eq!(convert::history(leases[1..].to_vec(), &State::default()).more, None);
    let more = convert::history(leases, &State::default()).more.unwrap();
    assert_eq!((more.from_unix_ms, more.slice.as_str(), more.generation), (744, "s7", 256));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cleared_slice_is_ready_only_when_it_was_seen_to_be_clean() {
    let bench = Bench::started(&machine()).await;
    bench.create("vf-8", SRIOV, 2, Some("pod-a")).await.unwrap();
    assert!(quarantine(&bench).await.is_empty());
    assert_eq!(bench.clear("s1").await.unwrap_err().reason, "NOT_QUARANTINED");
    assert_eq!(bench.clear("s9").await.unwrap_err().reason, "NO_SUCH_SLICE");
    bench.devices.unclean.lock().unwrap().replace(dirty());
    bench.release("s1").await.unwrap_err();

    let listed = quarantine(&bench).await;
    let [found] = &listed[..] else { panic!("{listed:?}") };
    assert_eq!((found.slice.as_ref().unwrap().id.as_str(), found.cause.as_str()), ("s1", "scrub-failed"));
    let scrub = found.scrub.as_ref().unwrap();
    assert_eq!((scrub.result.as_str(), found.since_unix_ms), ("failed", Some(scrub.at_unix_ms)));
    assert_eq!(scrub.evidence.as_ref().unwrap().verdict, "dirty");
    assert!(scrub.why.as_ref().unwrap().contains("0x2000 of BAR 0"), "{scrub:?}");

    // An operator's word does not make it clean.
    assert_eq!(bench.clear("s1").await.unwrap_err().reason, "NOT_CLEAN");
    assert_eq!(bench.phases().await["s1"], api::Phase::Quarantined);
    bench.devices.unclean.lock().unwrap().take();
    assert_eq!(bench.clear("s1").await.unwrap().phase(), api::Phase::Ready);
    assert!(quarantine(&bench).await.is_empty());
    let of_s1 = api::ListHistoryRequest { slice: Some("s1".into()), ..Default::default() };
    let leases = history(&bench, of_s1).await;
    assert_eq!(results(&leases[0]), [("reset", "failed"), ("reset", "failed"), ("reset", "clean")]);
    let kinds: Vec<_> = bench.events().await.into_iter().map(|event| event.kind).collect();
    assert_eq!(kinds.iter().filter(|kind| *kind == "quarantine-cleared").count(), 2, "{kinds:?}");
    bench.check().await;
    bench.lease("s1", None).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_held_device_does_not_leave_its_quarantine() {
    let bench = Bench::started(&machine()).await;
    let made = bench.create("vf-8", SRIOV, 1, Some("pod-a")).await.unwrap();
    bench.devices.unclean.lock().unwrap().replace(dirty());
    bench.release("s1").await.unwrap_err();
    bench.devices.unclean.lock().unwrap().take();
    bench.hold(&made[0].lease.clone().unwrap().node.unwrap(), 4242);
    let refused = bench.clear("s1").await.unwrap_err();
    assert_eq!(refused.reason, "IN_USE");
    assert!(refused.text.contains("process 4242"), "{}", refused.text);
    assert_eq!(bench.phases().await["s1"], api::Phase::Quarantined);
    bench.let_go(4242);
    assert_eq!(bench.clear("s1").await.unwrap().phase(), api::Phase::Ready);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_instance_that_is_gone_is_made_again_and_one_without_its_gpu_is_not() {
    let mut bench = Bench::started(&machine()).await;
    let made = bench.create("sim-small", MDEV, 1, None).await.unwrap();
    bench.create("vf-8", SRIOV, 1, None).await.unwrap();
    bench.stop().await;
    let uuid = made[0].mdev_uuid.clone().unwrap();
    vgpud_mdev::mechanism(vgpud_config::MechanismKind::Mdev)
        .destroy(&bench.host, MDEV.parse().unwrap(), vgpud_mdev::InstanceName::Mdev(uuid.parse().unwrap()))
        .unwrap();
    bench.start(None).await;
    let causes: Vec<_> = quarantine(&bench).await.into_iter().map(|found| found.cause).collect();
    assert_eq!(causes, ["contradiction"]);
    let again = bench.clear("s1").await.unwrap();
    assert_eq!((again.phase(), again.mdev_uuid), (api::Phase::Ready, Some(uuid)));
    bench.check().await;

    bench.fake.vanish(SRIOV.parse().unwrap());
    bench.tell(Message::HostChanged);
    bench.until("quarantine", |phases| phases["s2"] == api::Phase::Quarantined).await;
    let refused = bench.clear("s2").await.unwrap_err();
    assert_eq!(refused.reason, "GPU_ABSENT");
    assert!(refused.text.contains(SRIOV) && refused.text.contains("vgpuctl destroy s2"), "{}", refused.text);
    assert_eq!(bench.phases().await["s2"], api::Phase::Quarantined);
}
