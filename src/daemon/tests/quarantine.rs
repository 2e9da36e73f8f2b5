//! Whole GPUs out of use: by an operator, by vgpud itself, and back again.

use super::bench::{Bench, Gate, MDEV, Refused, SECOND, SRIOV, Side, create, machine};
use crate::{
    api::{self, create_progress::Step},
    daemon::message::Message,
    engine::{Effect, SliceId, Target},
};
use nix::errno::Errno;
use std::{
    os::unix::fs::{MetadataExt, chown},
    time::{Duration, Instant},
};
use tokio_stream::StreamExt;
use vgpud_config::{MechanismKind, Reuse};
use vgpud_mdev::{InstanceName, VfIndex};
use vgpud_vmm::scrub::Stage;

impl Bench {
    async fn quarantine_gpu(&self, gpu: &str, reason: &str) -> Result<api::QuarantinedGpu, Refused> {
        let request = api::QuarantineGpuRequest { gpu: gpu.into(), reason: reason.into() };
        Ok(self.client().quarantine_gpu(request).await?.into_inner())
    }

    async fn quarantine_slice(&self, id: &str, reason: &str) -> Result<api::Slice, Refused> {
        let request = api::QuarantineSliceRequest { id: id.into(), reason: reason.into() };
        Ok(self.client().quarantine_slice(request).await?.into_inner())
    }

    async fn clear_gpu(&self, gpu: &str) -> Result<Vec<String>, Refused> {
        let request = api::ClearGpuQuarantineRequest { gpu: gpu.into() };
        Ok(self.client().clear_gpu_quarantine(request).await?.into_inner().quarantined_slices)
    }

    async fn quarantined(&self) -> api::ListQuarantineResponse {
        self.client().list_quarantine(api::ListQuarantineRequest {}).await.unwrap().into_inner()
    }

    async fn cause_of(&self, gpu: &str) -> Option<String> {
        self.quarantined().await.gpus.into_iter().find(|found| found.gpu == gpu).map(|found| found.cause)
    }
}

/// This process, as the daemon names the caller.
fn me() -> String {
    match nix::unistd::geteuid().as_raw() {
        0 => "User root (0)".to_owned(),
        uid => format!("User {uid}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gpu_put_out_of_use_says_so_everywhere_and_comes_back_by_a_clear() {
    let mut bench = Bench::started(&machine()).await;
    bench.create("vf-8", SRIOV, 2, None).await.unwrap();
    bench.lease("s1", None).await.unwrap();
    let found = bench.quarantine_gpu(SRIOV, "fan broken").await.unwrap();
    let (cause, evidence, by) = (found.cause.as_str(), found.evidence.as_str(), found.by.clone());
    assert_eq!((cause, evidence, by), ("operator", "fan broken", me()));
    // A former daemon's word counts for the next one.
    bench.stop().await;
    bench.start(None).await;

    let refused = bench.lease("s2", None).await.unwrap_err();
    assert_eq!(refused.reason, "GPU_QUARANTINED");
    assert!(refused.text.contains("fan broken") && refused.text.contains("vgpuctl quarantine clear"));
    assert_eq!(bench.create("vf-8", SRIOV, 1, None).await.unwrap_err().reason, "GPU_UNUSABLE");
    let request = api::Request { memory_bytes: Some(1), ..Default::default() };
    let request =
        api::CreateSlicesRequest { request: Some(request), count: 1, dry_run: true, ..Default::default() };
    let mut steps = bench.client().create_slices(request).await.unwrap().into_inner();
    let Some(Step::Plan(plan)) = steps.next().await.unwrap().unwrap().step else { panic!("no plan") };
    let verdict = plan.considered.iter().find(|verdict| verdict.gpu == SRIOV).unwrap();
    assert!(!verdict.chosen && verdict.reason.contains("fan broken"), "{verdict:?}");

    let gpus = bench.client().list_gpus(api::ListGpusRequest {}).await.unwrap().into_inner().gpus;
    let gpu = gpus.iter().find(|gpu| gpu.address == SRIOV).unwrap();
    assert_eq!(gpu.quarantine.as_ref(), Some(&found));
    assert!(gpu.unusable.as_ref().unwrap().contains("fan broken"));
    assert!(gpus.iter().all(|gpu| gpu.address == SRIOV || gpu.quarantine.is_none()));
    let request = api::Request { gpu: Some(SRIOV.into()), ..Default::default() };
    let request = api::ListProfilesRequest { request: Some(request) };
    let profiles = bench.client().list_profiles(request).await.unwrap().into_inner().profiles;
    assert!(!profiles.is_empty());
    for profile in profiles {
        assert_eq!(profile.available, 0);
        assert!(profile.unavailable.as_ref().unwrap().contains("fan broken"), "{profile:?}");
    }
    let status = bench.client().get_status(api::GetStatusRequest {}).await.unwrap().into_inner();
    assert_eq!(status.quarantined_gpus, std::slice::from_ref(&found));
    assert_eq!(bench.quarantined().await.gpus, [found]);

    // The lease goes on; released, the slice is scrubbed and stays where it is.
    assert_eq!(bench.phases().await["s1"], api::Phase::Leased);
    assert_eq!(bench.release("s1").await.unwrap().phase(), api::Phase::Ready);
    assert_eq!(bench.lease("s1", None).await.unwrap_err().reason, "GPU_QUARANTINED");
    bench.create("vf-4", SECOND, 1, Some("pod-b")).await.unwrap();
    assert_eq!(bench.quarantine_gpu(SRIOV, "again").await.unwrap_err().reason, "GPU_QUARANTINED");

    assert_eq!(bench.clear_gpu(SRIOV).await.unwrap(), Vec::<String>::new());
    assert_eq!(bench.clear_gpu(SRIOV).await.unwrap_err().reason, "NOT_QUARANTINED");
    bench.lease("s2", None).await.unwrap();
    let events = bench.events().await;
    let of = |kind: &str| events.iter().find(|event| event.kind == kind).unwrap();
    let added = of("gpu-quarantined");
    assert_eq!((added.gpu.as_deref(), added.slice.as_deref()), (Some(SRIOV), None));
    assert!(added.message.contains(&me()) && added.message.contains("fan broken"), "{added:?}");
    assert!(of("gpu-cleared").message.contains(&me()));
    bench.check().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_words_about_a_quarantine_are_refused() {
    let bench = Bench::started(&machine()).await;
    assert_eq!(bench.quarantine_gpu("0000:99:00.0", "odd").await.unwrap_err().reason, "NO_SUCH_GPU");
    assert_eq!(bench.quarantine_gpu("gpu0", "odd").await.unwrap_err().reason, "BAD_REQUEST");
    for reason in ["", " ", "two\nlines"] {
        assert_eq!(bench.quarantine_gpu(SRIOV, reason).await.unwrap_err().reason, "BAD_REQUEST");
    }
    assert_eq!(bench.quarantine_slice("s9", "odd").await.unwrap_err().reason, "NO_SUCH_SLICE");
    assert!(bench.quarantined().await.gpus.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slice_is_put_aside_only_where_nobody_leases_it() {
    let bench = Bench::started(&machine()).await;
    bench.create("vf-8", SRIOV, 1, Some("pod-a")).await.unwrap();
    let refused = bench.quarantine_slice("s1", "reads ones").await.unwrap_err();
    assert_eq!(refused.reason, "LEASED");
    assert!(refused.text.contains("pod-a") && refused.text.contains("release it first"), "{}", refused.text);
    bench.release("s1").await.unwrap();
    let aside = bench.quarantine_slice("s1", "reads ones").await.unwrap();
    assert_eq!(
        (aside.phase(), aside.quarantine_reason.as_deref()),
        (api::Phase::Quarantined, Some("reads ones"))
    );
    let listed = bench.quarantined().await.slices;
    assert_eq!((listed[0].cause.as_str(), listed[0].by.clone()), ("operator", me()));
    assert_eq!(bench.lease("s1", None).await.unwrap_err().reason, "QUARANTINED");
    // With its GPU out of use, that one comes first.
    bench.quarantine_gpu(SRIOV, "fan broken").await.unwrap();
    assert_eq!(bench.clear("s1").await.unwrap_err().reason, "GPU_QUARANTINED");
    assert_eq!(bench.clear_gpu(SRIOV).await.unwrap(), ["s1"]);
    assert_eq!(bench.clear("s1").await.unwrap().phase(), api::Phase::Ready);
    bench.lease("s1", None).await.unwrap();
    bench.check().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_under_way_is_given_up_with_its_gpu() {
    let mut bench = Bench::new(&machine());
    let gate = Gate::new(bench.real_executor(), 1, Side::Before);
    bench.start(Some(gate.clone())).await;
    let client = bench.client();
    let request = tokio::spawn(async move { create(client, "vf-8", SRIOV, 3, Some("pod-a")).await });
    assert_eq!(gate.until_reached().await, "create vf-8 for s2 (VF 1 of 0000:41:00.0)");
    bench.quarantine_gpu(SRIOV, "fan broken").await.unwrap();
    gate.open();
    let refused = request.await.unwrap().unwrap_err();
    assert_eq!(refused.reason, "GPU_QUARANTINED");
    bench.at_rest().await;
    assert!(bench.slices().await.is_empty());
    bench.check().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reset_that_does_not_return_takes_the_gpu_out_of_use() {
    let mut bench = Bench::started(&machine()).await;
    bench.create("vf-8", SRIOV, 1, Some("pod-a")).await.unwrap();
    bench.devices.hangs.lock().unwrap().replace(Stage::Reset);
    assert_eq!(bench.release("s1").await.unwrap_err().reason, "TIMED_OUT");
    bench.devices.hangs.lock().unwrap().take();
    let found = bench.quarantined().await;
    let [gpu] = &found.gpus[..] else { panic!("{found:?}") };
    assert_eq!((gpu.cause.as_str(), gpu.by.as_str(), gpu.gpu.as_str()), ("no-answer", "vgpud", SRIOV));
    assert!(gpu.evidence.contains("the device's reset"), "{gpu:?}");
    assert_eq!(bench.phases().await["s1"], api::Phase::Quarantined);
    bench.create("vf-4", SECOND, 1, Some("pod-b")).await.unwrap();
    bench.crash().await;
    bench.start(None).await;
    assert_eq!(bench.cause_of(SRIOV).await.unwrap(), "no-answer");
    assert_eq!(bench.create("vf-8", SRIOV, 1, None).await.unwrap_err().reason, "GPU_UNUSABLE");
    bench.clear_gpu(SRIOV).await.unwrap();
    assert_eq!(bench.clear("s1").await.unwrap().phase(), api::Phase::Ready);
    // Slow is not silent.
    bench.lease("s1", None).await.unwrap();
    bench.devices.hangs.lock().unwrap().replace(Stage::ReadBack);
    assert_eq!(bench.release("s1").await.unwrap_err().reason, "TIMED_OUT");
    assert_eq!(bench.phases().await["s1"], api::Phase::Quarantined);
    assert_eq!(bench.cause_of(SRIOV).await, None);
    bench.check().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn failed_resets_of_two_slices_take_the_gpu_out_of_use_and_of_one_do_not() {
    let mut bench = Bench::new(&machine());
    bench.settings.scrub.reuse = Reuse::Reset;
    bench.start(None).await;
    bench.create("vf-8", SRIOV, 3, Some("pod-a")).await.unwrap();
    // Twice the same slice tells of that slice.
    for _ in 0..2 {
        bench.fake.fail("/reset", 0, Errno::ENOTTY);
        let refused = match bench.phases().await["s1"] {
            api::Phase::Quarantined => bench.clear("s1").await,
            _ => bench.release("s1").await,
        };
        assert_eq!(refused.unwrap_err().reason, "SYSFS_WRITE");
        assert_eq!(bench.cause_of(SRIOV).await, None);
    }
    bench.fake.fail("/reset", 0, Errno::ENOTTY);
    bench.release("s2").await.unwrap_err();
    let found = bench.quarantined().await;
    assert_eq!(found.gpus[0].cause, "resets-failed");
    let evidence = &found.gpus[0].evidence;
    assert!(evidence.contains("s1 and s2") && evidence.contains("ENOTTY"), "{evidence}");
    assert!(found.slices.iter().all(|slice| slice.cause == "reset-failed"), "{found:?}");
    // The third tenant is not disturbed.
    assert_eq!(bench.phases().await["s3"], api::Phase::Leased);
    bench.release("s3").await.unwrap();
    bench.check().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_of_the_host_makes_nothing_on_a_quarantined_gpu() {
    let first = machine();
    let mut bench = Bench::new(&first);
    bench.boot("first");
    bench.start(None).await;
    bench.create("vf-8", SRIOV, 1, Some("pod-a")).await.unwrap();
    bench.create("vf-8", SRIOV, 1, None).await.unwrap();
    bench.create("vf-4", SECOND, 1, None).await.unwrap();
    bench.quarantine_gpu(SRIOV, "fan broken").await.unwrap();
    bench.stop().await;
    bench.fake = first.build();
    bench.host = bench.fake.host();
    bench.boot("second");
    bench.start(None).await;
    bench.at_rest().await;
    let phases = bench.phases().await;
    assert_eq!((phases["s1"], phases["s2"]), (api::Phase::Quarantined, api::Phase::Quarantined));
    assert_eq!(phases["s3"], api::Phase::Ready);
    let history = bench.client().list_history(api::ListHistoryRequest::default()).await.unwrap().into_inner();
    let ended: Vec<_> = history.leases.iter().map(|lease| lease.ended.as_deref()).collect();
    assert_eq!(ended, [Some("host-restarted")]);
    let vfs = bench.host.path(format!("/sys/bus/pci/devices/{SRIOV}/sriov_numvfs"));
    assert_eq!(std::fs::read_to_string(&vfs).unwrap().trim(), "0");
    assert_eq!(bench.clear_gpu(SRIOV).await.unwrap(), ["s1", "s2"]);
    for id in ["s1", "s2"] {
        assert_eq!(bench.clear(id).await.unwrap().phase(), api::Phase::Ready);
    }
    bench.check().await;
}

/// A lease that ends in quarantine is not taken back, and its consumer may open the node until the slice
/// is used again.
#[tokio::test(flavor = "multi_thread")]
async fn a_slice_that_is_cleared_is_no_longer_its_last_consumers() {
    let mut bench = Bench::started(&machine()).await;
    bench.create("vf-8", SRIOV, 1, None).await.unwrap();
    let request = api::LeaseSliceRequest {
        id: "s1".to_owned(),
        owner: "pod-a".to_owned(),
        user: Some("1000:1001".to_owned()),
        ..Default::default()
    };
    let leased = bench.client().lease_slice(request).await.unwrap().into_inner();
    let node = leased.lease.unwrap().node.unwrap();
    let access = || {
        let found = std::fs::symlink_metadata(&node).unwrap();
        (found.uid(), found.gid(), found.mode() & 0o7777)
    };
    assert_eq!(access(), (1000, 1001, 0o660));
    // The GPU is away for a while.
    bench.settings.gpus.exclude.push(SRIOV.parse().unwrap());
    for phase in [api::Phase::Quarantined, api::Phase::Quarantined] {
        bench.crash().await;
        bench.start(None).await;
        assert_eq!(bench.phases().await["s1"], phase);
        bench.settings.gpus.exclude.clear();
    }
    assert_eq!(bench.clear("s1").await.unwrap().phase(), api::Phase::Ready);
    assert_eq!(access(), (0, 0, 0o600));
    bench.check().await;

    // Nor is an instance that is there before it is made.
    chown(&node, Some(1000), Some(1001)).unwrap();
    let (gpu, mechanism) = (SRIOV.parse().unwrap(), MechanismKind::Sriov);
    let target = Target { slice: SliceId::new(1), gpu, mechanism, name: InstanceName::Vf(VfIndex(0)) };
    let effect = Effect::Create { target, profile: "vf-8".parse().unwrap() };
    bench.real_executor().run(&effect).unwrap();
    assert_eq!(access(), (0, 0, 0o600));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gpu_that_is_away_or_stuck_is_not_cleared() {
    let mut bench = Bench::new(&machine());
    bench.settings.timeouts.device = Duration::from_millis(600);
    let gate = Gate::new(bench.real_executor(), 0, Side::Before);
    bench.start(Some(gate.clone())).await;
    assert_eq!(bench.create("vf-8", SRIOV, 1, None).await.unwrap_err().reason, "KERNEL_STUCK");
    let evidence = &bench.quarantined().await.gpus[0].evidence;
    let told = "did not come back within 600ms from this work: create vf-8 for s1";
    assert!(evidence.contains(told), "{evidence}");
    assert_eq!(bench.cause_of(SRIOV).await.unwrap(), "no-answer");
    let refused = bench.clear_gpu(SRIOV).await.unwrap_err();
    assert_eq!(refused.reason, "KERNEL_STUCK");
    assert!(refused.text.contains("create vf-8 for s1"), "{}", refused.text);
    gate.open();
    let begin = Instant::now();
    while bench.clear_gpu(SRIOV).await.is_err() {
        assert!(begin.elapsed() < Duration::from_secs(10));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }

    bench.quarantine_gpu(MDEV, "smells").await.unwrap();
    bench.fake.vanish(MDEV.parse().unwrap());
    bench.tell(Message::HostChanged);
    let refused = bench.clear_gpu(MDEV).await.unwrap_err();
    assert_eq!(refused.reason, "GPU_ABSENT");
    assert!(refused.text.contains(MDEV), "{}", refused.text);
    assert_eq!(bench.cause_of(MDEV).await.unwrap(), "operator");
}
