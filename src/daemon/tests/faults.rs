//! What the daemon does when something goes wrong: a clear error, nothing half done.

use super::bench::{Bench, Gate, MDEV, SECOND, SRIOV, Side, create, machine};
use crate::{api, daemon::message::Message};
use nix::errno::Errno;
use std::{
    process::{Command, Stdio},
    time::{Duration, Instant},
};
use vgpud_config::{Quota, Reuse};
use vgpud_mdev::fake::{FakeGpu, FakeHost};
use vgpud_vmm::scrub::{Stage, Verdict};

#[tokio::test(flavor = "multi_thread")]
async fn fewer_vfs_than_asked_is_said_and_undone() {
    let bench = Bench::started(&machine()).await;
    let before = bench.files();
    bench.fake.short_vfs(3);
    let refused = bench.create("vf-8", SRIOV, 2, None).await.unwrap_err();
    assert_eq!(refused.reason, "FEWER_VFS");
    assert!(refused.text.contains("enabled 3 of the 8 VFs"), "{}", refused.text);
    assert_eq!(bench.files(), before);
    assert!(bench.slices().await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn one_slice_that_fails_takes_its_request_along() {
    let bench = Bench::started(&machine()).await;
    let before = bench.files();
    bench.fake.fail("create", 2, Errno::ENOSPC);
    bench.create("sim-small", MDEV, 4, None).await.unwrap_err();
    assert_eq!(bench.files(), before);
    assert!(bench.slices().await.is_empty());
    assert_eq!(bench.create("sim-small", MDEV, 4, None).await.unwrap().len(), 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_held_device_stays_leased_and_its_holder_is_named() {
    let bench = Bench::started(&machine()).await;
    let made = bench.create("vf-8", SRIOV, 1, Some("pod-a")).await.unwrap();
    let node = made[0].lease.clone().unwrap().node.unwrap();
    bench.hold(&node, 4242);
    let refused = bench.release("s1").await.unwrap_err();
    assert_eq!(refused.reason, "IN_USE");
    assert!(refused.text.contains("process 4242 (qemu-system-x86)"), "{}", refused.text);
    assert_eq!(bench.phases().await["s1"], api::Phase::Leased);
    assert_eq!(bench.cdi_files().len(), 1, "it is handed over still");
    assert_eq!(bench.destroy("s1").await.unwrap_err().reason, "IN_USE");
    bench.let_go(4242);
    bench.destroy("s1").await.unwrap();
    bench.check().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_that_is_let_go_in_time_is_released() {
    let mut bench = Bench::new(&machine());
    bench.settings.timeouts.release = Duration::from_secs(15);
    bench.start(None).await;
    let made = bench.create("vf-8", SRIOV, 1, Some("pod-a")).await.unwrap();
    bench.hold(&made[0].lease.clone().unwrap().node.unwrap(), 4242);
    let mut client = bench.client();
    let release = tokio::spawn(async move {
        client.release_slice(api::ReleaseSliceRequest { id: "s1".into(), generation: None }).await
    });
    let waits = |slice: &api::Slice| slice.waiting_for.as_ref().is_some_and(|text| text.contains("4242"));
    let begin = Instant::now();
    while !bench.slices().await.iter().any(waits) {
        assert!(begin.elapsed() < Duration::from_secs(10));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    bench.let_go(4242);
    assert_eq!(release.await.unwrap().unwrap().into_inner().phase(), api::Phase::Ready);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_ends_with_its_holder() {
    let mut bench = Bench::started(&machine()).await;
    bench.create("vf-8", SRIOV, 2, None).await.unwrap();
    let mut holders = Vec::new();
    for id in ["s1", "s2"] {
        let child = Command::new("sleep").arg("1000").stdin(Stdio::null()).spawn().unwrap();
        let process = bench.host.path(format!("/proc/{}", child.id()));
        std::fs::create_dir_all(process.join("fd")).unwrap();
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", child.id())).unwrap();
        std::fs::write(process.join("stat"), stat).unwrap();
        let leased = bench.lease(id, Some(child.id())).await.unwrap();
        assert_eq!(leased.lease.unwrap().holder.unwrap().pid, child.id());
        holders.push(child);
    }
    let end = |child: &mut std::process::Child| {
        child.kill().unwrap();
        child.wait().unwrap();
    };
    end(&mut holders[0]);
    bench.until("s1 to be ready", |phases| phases["s1"] == api::Phase::Ready).await;
    assert_eq!(bench.phases().await["s2"], api::Phase::Leased);
    // One that ends while nobody watches is found after the next start.
    bench.crash().await;
    end(&mut holders[1]);
    bench.start(None).await;
    bench.until("s2 to be ready", |phases| phases["s2"] == api::Phase::Ready).await;
    bench.check().await;
    assert_eq!(bench.lease("s1", Some(u32::MAX)).await.unwrap_err().reason, "NO_SUCH_PROCESS");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stranger_in_the_group_keeps_the_slice_from_being_handed_over() {
    let gpu = FakeGpu::new(SRIOV).sriov(8);
    let bench = Bench::started(&FakeHost::machine().gpu(gpu).without_iommu()).await;
    let before = bench.files();
    bench.create("vf-8", SRIOV, 1, Some("pod-a")).await.unwrap_err();
    assert_eq!(bench.files(), before);
    assert!(bench.slices().await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gpu_that_cannot_be_read_is_not_taken_for_gone() {
    let mut bench = Bench::started(&machine()).await;
    bench.create("vf-8", SRIOV, 1, Some("pod-a")).await.unwrap();
    bench.create("vf-8", SRIOV, 1, None).await.unwrap();
    let vf_count = format!("sys/bus/pci/devices/{SRIOV}/sriov_totalvfs");
    bench.fake.set(&vf_count, "eight");
    bench.client().list_gpus(api::ListGpusRequest {}).await.unwrap();
    for _ in 0..2 {
        let phases = bench.phases().await;
        assert_eq!((phases["s1"], phases["s2"]), (api::Phase::Leased, api::Phase::Ready));
        // Nor is it where vgpud starts.
        bench.crash().await;
        bench.start(None).await;
    }
    bench.fake.set(&vf_count, "8");
    bench.client().list_gpus(api::ListGpusRequest {}).await.unwrap();
    bench.release("s1").await.unwrap();
    bench.check().await;

    // One that goes before it could be read again is gone.
    bench.fake.set(&vf_count, "eight");
    bench.crash().await;
    bench.start(None).await;
    bench.fake.vanish(SRIOV.parse().unwrap());
    bench.tell(Message::HostChanged);
    bench.until("quarantine", |phases| phases["s1"] == api::Phase::Quarantined).await;
}

/// The kernel has taken the VF from sysfs's view of its driver and waits for whoever has it open. A write
/// to the VF count, as after the last slice, would wait behind it.
#[tokio::test(flavor = "multi_thread")]
async fn a_vf_that_goes_away_under_its_holder_is_not_touched_before_it_is_let_go() {
    let bench = Bench::started(&machine()).await;
    let made = bench.create("vf-8", SRIOV, 1, Some("pod-a")).await.unwrap();
    let node = made[0].lease.clone().unwrap().node.unwrap();
    let vf = bench.host.pci_device(made[0].address.clone().unwrap().parse().unwrap());
    bench.hold(&node, 4242);
    std::fs::remove_file(vf.join("driver")).unwrap();
    std::fs::remove_dir_all(vf.join("vfio-dev")).unwrap();
    bench.tell(Message::HostChanged);
    bench.until("quarantine", |phases| phases["s1"] == api::Phase::Quarantined).await;
    let refused = bench.destroy("s1").await.unwrap_err();
    assert_eq!(refused.reason, "IN_USE");
    assert!(refused.text.contains("process 4242"), "{}", refused.text);
    assert_eq!(bench.phases().await["s1"], api::Phase::Quarantined);
    bench.let_go(4242);
    std::fs::remove_file(&node).unwrap();
    bench.destroy("s1").await.unwrap();
    bench.check().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gpu_with_slices_whose_driver_is_gone_says_so() {
    let bench = Bench::started(&machine()).await;
    bench.create("vf-8", SRIOV, 1, None).await.unwrap();
    std::fs::remove_file(bench.host.pci_device(SRIOV.parse().unwrap()).join("driver")).unwrap();
    let refused = bench.create("vf-8", SRIOV, 1, None).await.unwrap_err();
    assert!(refused.text.contains("no driver is bound"), "{}", refused.text);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gpu_that_vanishes_takes_its_slices_out_of_use() {
    let bench = Bench::started(&machine()).await;
    bench.create("vf-8", SRIOV, 2, Some("pod-a")).await.unwrap();
    bench.create("vf-4", SECOND, 1, None).await.unwrap();
    bench.fake.vanish(SRIOV.parse().unwrap());
    bench.tell(Message::HostChanged);
    bench.until("quarantine", |phases| phases["s1"] == api::Phase::Quarantined).await;
    let phases = bench.phases().await;
    assert_eq!((phases["s2"], phases["s3"]), (api::Phase::Quarantined, api::Phase::Ready));
    assert!(bench.slices().await[0].quarantine_reason.as_ref().unwrap().contains(SRIOV));
    bench.check().await;
    let events = bench.events().await;
    assert!(events.iter().any(|event| event.kind == "gpu-vanished" && event.gpu.as_deref() == Some(SRIOV)));
    assert_eq!(bench.lease("s1", None).await.unwrap_err().reason, "QUARANTINED");
    // Only an operator ends it.
    for id in ["s1", "s2"] {
        bench.destroy(id).await.unwrap();
    }
    assert_eq!(bench.slices().await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gpu_that_vanishes_in_the_middle_of_a_creation_leaves_nothing() {
    let bench = Bench::started(&machine()).await;
    bench.fake.vanish_at("sriov_numvfs", 0, SRIOV.parse().unwrap());
    bench.create("vf-8", SRIOV, 2, None).await.unwrap_err();
    assert!(bench.slices().await.is_empty(), "{:?}", bench.slices().await);
    bench.create("vf-4", SECOND, 1, None).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stuck_kernel_blocks_neither_other_gpus_nor_the_api() {
    let mut bench = Bench::new(&machine());
    bench.settings.timeouts.device = Duration::from_millis(600);
    let gate = Gate::new(bench.real_executor(), 0, Side::Before);
    bench.start(Some(gate.clone())).await;
    let client = bench.client();
    let stuck = tokio::spawn(async move { create(client, "vf-8", SRIOV, 3, None).await });
    assert_eq!(gate.until_reached().await, "create vf-8 for s1 (VF 0 of 0000:41:00.0)");
    bench.create("vf-4", SECOND, 1, None).await.unwrap();
    let refused = stuck.await.unwrap().unwrap_err();
    assert_eq!(refused.reason, "KERNEL_STUCK");
    assert!(refused.text.contains("create vf-8 for s1"), "{}", refused.text);
    let phases = bench.phases().await;
    assert_eq!(phases["s1"], api::Phase::Quarantined);
    assert_eq!(phases.len(), 2, "those behind it never began and are gone: {phases:?}");
    let refused = bench.create("vf-8", SRIOV, 1, None).await.unwrap_err();
    assert_eq!(refused.reason, "GPU_UNUSABLE");
    assert_eq!(bench.destroy("s1").await.unwrap_err().reason, "KERNEL_STUCK");
    gate.open();
    let begin = Instant::now();
    while !bench.events().await.iter().any(|event| event.kind == "late-result") {
        assert!(begin.elapsed() < Duration::from_secs(10));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    bench.destroy("s1").await.unwrap();
    bench.check().await;
    // Nothing new is cut from it until somebody has looked.
    let refused = bench.create("vf-8", SRIOV, 1, None).await.unwrap_err();
    assert!(refused.text.contains("vgpuctl quarantine clear 0000:41:00.0"), "{}", refused.text);
    let request = api::ClearGpuQuarantineRequest { gpu: SRIOV.to_owned() };
    bench.client().clear_gpu_quarantine(request).await.unwrap();
    bench.create("vf-8", SRIOV, 1, None).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_reset_quarantines_with_the_reason() {
    let mut bench = Bench::new(&machine());
    bench.settings.scrub.reuse = Reuse::Reset;
    bench.start(None).await;
    bench.create("vf-8", SRIOV, 1, Some("pod-a")).await.unwrap();
    bench.fake.fail("/reset", 0, Errno::ENOTTY);
    bench.release("s1").await.unwrap_err();
    let slices = bench.slices().await;
    assert_eq!(slices[0].phase(), api::Phase::Quarantined);
    assert!(slices[0].quarantine_reason.as_ref().unwrap().contains("reset"), "{slices:?}");
    bench.destroy("s1").await.unwrap();
    bench.check().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slice_that_is_not_seen_to_be_clean_is_quarantined_with_the_evidence() {
    let dirty = Verdict::Dirty { bar: 0, first_offset: 0x2000 };
    let unchecked = Verdict::Unchecked { why: "it shows no memory".to_owned() };
    for (verdict, told) in [(dirty, "0x2000 of BAR 0"), (unchecked, "it shows no memory")] {
        let bench = Bench::started(&machine()).await;
        bench.create("vf-8", SRIOV, 1, Some("pod-a")).await.unwrap();
        bench.devices.unclean.lock().unwrap().replace(verdict);
        assert_eq!(bench.release("s1").await.unwrap_err().reason, "NOT_CLEAN");
        let slices = bench.slices().await;
        assert_eq!(slices[0].phase(), api::Phase::Quarantined);
        let why = slices[0].quarantine_reason.as_ref().unwrap();
        assert!(why.contains(told) && why.contains("reuse"), "{why}");
        bench.destroy("s1").await.unwrap();
        bench.create("vf-8", SRIOV, 1, None).await.unwrap_err();
        bench.check().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mediated_device_that_is_not_clean_is_made_anew_and_looked_at_again() {
    let bench = Bench::started(&machine()).await;
    bench.create("sim-small", MDEV, 1, Some("pod-a")).await.unwrap();
    let unchecked = Verdict::Unchecked { why: "it shows no memory".to_owned() };
    bench.devices.unclean.lock().unwrap().replace(unchecked);
    bench.release("s1").await.unwrap_err();
    let slices = bench.slices().await;
    assert_eq!(slices[0].phase(), api::Phase::Quarantined);
    assert!(slices[0].quarantine_reason.as_ref().unwrap().contains("it shows no memory"), "{slices:?}");
    let kinds: Vec<_> = bench.events().await.into_iter().map(|event| event.kind).collect();
    assert!(kinds.contains(&"not-clean".to_owned()), "{kinds:?}");
    bench.destroy("s1").await.unwrap();
    bench.check().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_seen_stands_in_the_event_of_the_scrub() {
    let bench = Bench::started(&machine()).await;
    bench.create("vf-8", SRIOV, 1, Some("pod-a")).await.unwrap();
    bench.release("s1").await.unwrap();
    let events = bench.events().await;
    let scrubbed = events.iter().find(|event| event.kind == "slice-scrubbed").unwrap();
    assert!(scrubbed.message.contains("bytes of its memory read zero after its reset (flr)"), "{scrubbed:?}");
}

fn to_verify(id: &str) -> api::VerifySliceRequest {
    api::VerifySliceRequest { id: id.to_owned(), level: "full".to_owned() }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slice_that_is_checked_takes_no_command_until_that_has_ended() {
    let bench = Bench::started(&machine()).await;
    bench.create("vf-8", SRIOV, 1, None).await.unwrap();
    let turn = bench.devices.checking.lock().await;
    let verify = || {
        let mut client = bench.client();
        tokio::spawn(async move { client.verify_slice(to_verify("s1")).await })
    };
    // Whichever comes second is refused, and the first ends only after our turn.
    let (mut one, mut other) = (verify(), verify());
    let (refused, first) = tokio::select! {
        ended = &mut one => (ended, other),
        ended = &mut other => (ended, one),
    };
    let refused = refused.unwrap().unwrap_err();
    assert!(refused.message().contains("s1 is being checked just now"), "{refused}");
    assert_eq!(bench.destroy("s1").await.unwrap_err().reason, "BUSY");
    drop(turn);
    let answer = first.await.unwrap().unwrap().into_inner();
    assert_eq!((answer.checks.len(), answer.unfinished), (1, None));
    bench.destroy("s1").await.unwrap();
    bench.check().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leased_slice_is_not_checked_and_an_unknown_level_is_named() {
    let bench = Bench::started(&machine()).await;
    bench.create("vf-8", SRIOV, 1, Some("pod-a")).await.unwrap();
    let refused = bench.client().verify_slice(to_verify("s1")).await.unwrap_err();
    assert!(refused.message().contains("leased to pod-a"), "{refused}");
    let deep = api::VerifySliceRequest { id: "s1".to_owned(), level: "deep".to_owned() };
    let refused = bench.client().verify_slice(deep).await.unwrap_err();
    assert!(refused.message().contains("sysfs, open or full"), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_check_that_hangs_is_told_and_takes_the_slice_out_of_use() {
    let bench = Bench::started(&machine()).await;
    bench.create("vf-8", SRIOV, 1, None).await.unwrap();
    bench.devices.hangs.lock().unwrap().replace(Stage::Reset);
    let answer = bench.client().verify_slice(to_verify("s1")).await.unwrap().into_inner();
    assert!(answer.unfinished.unwrap().contains("the device's reset"));
    assert_eq!(answer.checks.len(), 1);
    assert_eq!(bench.phases().await["s1"], api::Phase::Quarantined);
    let found = bench.client().list_quarantine(api::ListQuarantineRequest {}).await.unwrap().into_inner();
    assert_eq!((found.gpus[0].gpu.as_str(), found.gpus[0].cause.as_str()), (SRIOV, "no-answer"));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_instance_that_somebody_removed_is_a_contradiction() {
    let mut bench = Bench::started(&machine()).await;
    let made = bench.create("sim-small", MDEV, 1, None).await.unwrap();
    bench.stop().await;
    let uuid = made[0].mdev_uuid.clone().unwrap();
    vgpud_mdev::mechanism(vgpud_config::MechanismKind::Mdev)
        .destroy(&bench.host, MDEV.parse().unwrap(), vgpud_mdev::InstanceName::Mdev(uuid.parse().unwrap()))
        .unwrap();
    bench.start(None).await;
    assert_eq!(bench.phases().await["s1"], api::Phase::Quarantined);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_of_the_host_closes_leases_and_makes_slices_again() {
    let mut bench = Bench::new(&machine());
    bench.boot("first");
    let first_boot = machine();
    bench.start(None).await;
    bench.create("vf-8", SRIOV, 2, Some("pod-a")).await.unwrap();
    bench.stop().await;
    // The same machine, after a restart: no VFs, no nodes.
    bench.fake = first_boot.build();
    bench.host = bench.fake.host();
    bench.boot("second");
    bench.start(None).await;
    bench.at_rest().await;
    assert!(bench.phases().await.values().all(|phase| *phase == api::Phase::Ready));
    assert_eq!(bench.slices().await.len(), 2);
    bench.check().await;
    let ended = bench.events().await.into_iter().filter(|event| event.kind == "lease-ended").count();
    assert_eq!(ended, 2);
    bench.destroy("s1").await.unwrap();
    bench.destroy("s2").await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_waits_for_a_gpu_that_is_just_being_put_back() {
    let mut bench = Bench::new(&machine());
    let none = Quota { slices: Some(0), memory: None };
    bench.settings.quota.owner = [("team-a".parse().unwrap(), none)].into();
    // create, destroy, retire
    let gate = Gate::new(bench.real_executor(), 2, Side::Before);
    bench.start(Some(gate.clone())).await;
    bench.create("vf-4", SECOND, 1, None).await.unwrap();
    let mut client = bench.client();
    let destroy = tokio::spawn(async move {
        client.destroy_slice(api::DestroySliceRequest { id: "s1".into(), release: false }).await
    });
    assert_eq!(gate.until_reached().await, "put 0000:43:00.0 back as it was before sriov");
    let next = tokio::spawn(create(bench.client(), "vf-2", SECOND, 2, None));
    let mut snapshot = bench.client();
    // The daemon answers others meanwhile, and does not refuse the request.
    snapshot.get_status(api::GetStatusRequest {}).await.unwrap();
    bench.create("vf-8", SRIOV, 1, None).await.unwrap();
    assert!(!next.is_finished() && !destroy.is_finished());
    // What no GPU can change is refused at once.
    let refused = create(bench.client(), "vf-8", SRIOV, 1, Some("team-a"));
    let refused = tokio::time::timeout(Duration::from_secs(5), refused).await.expect("it does not wait");
    assert_eq!(refused.unwrap_err().reason, "QUOTA");
    gate.open();
    destroy.await.unwrap().unwrap();
    assert_eq!(next.await.unwrap().unwrap().len(), 2);
    bench.check().await;
}
