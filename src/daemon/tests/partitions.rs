//! Layouts that ask for modes of AMD's GPUs, over the API.

use super::{
    bench::{Bench, Gate, SECOND, SRIOV, Side},
    layouts::told,
};
use crate::api;
use tokio_stream::StreamExt;
use vgpud_mdev::fake::{FakeGpu, FakeHost, Machine};

const PEER: &str = "0000:42:00.0";

const LAYOUTS: &str = r#"
[layout.whole."0000:41:00.0"]
slices = [{ profile = "vf-1", count = 1 }]
accelerator_mode = "SPX"
memory_mode = "NPS1"
[layout.both."1002:74a1"]
slices = [{ profile = "vf-1", count = 1 }]
accelerator_mode = "SPX"
memory_mode = "NPS1"
[layout.torn."0000:41:00.0"]
slices = []
memory_mode = "NPS1"
[layout.torn."0000:42:00.0"]
slices = []
memory_mode = "NPS4"
[layout.never."0000:41:00.0"]
slices = []
accelerator_mode = "QPX"
[layout.other."0000:43:00.0"]
slices = [{ profile = "vf-4", count = 4 }]
memory_mode = "NPS1"
"#;

/// Two GPUs on gim, and one that is not.
fn hive() -> Machine {
    FakeHost::machine()
        .gpu(FakeGpu::new(SRIOV).gim(8, 1))
        .gpu(FakeGpu::new(PEER).gim(8, 1))
        .gpu(FakeGpu::new(SECOND).id("1234:0001").sriov(4))
}

async fn started() -> Bench {
    let mut bench = Bench::new(&hive()).with_layouts(LAYOUTS);
    bench.start(None).await;
    bench
}

impl Bench {
    fn modes(&self, gpu: &str) -> String {
        let read = |name: &str| {
            let path = self.host.path(format!("/sys/bus/pci/devices/{gpu}/{name}"));
            std::fs::read_to_string(path).unwrap()
        };
        let memory = read("memory_partition_mode");
        let word = memory.split_whitespace().nth(1).unwrap();
        format!("{word} {}", read("spatial_partition_mode").trim())
    }

    async fn kinds(&self, kind: &str) -> Vec<String> {
        let events = self.events().await;
        events.into_iter().filter(|event| event.kind == kind).map(|event| event.message).collect()
    }
}

fn blocked(plan: &api::LayoutPlan) -> &str {
    assert!(plan.partitions.is_empty(), "{plan:#?}");
    plan.gpus[0].blocked.as_deref().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn modes_are_set_between_the_removals_and_the_creations() {
    let bench = started().await;
    assert_eq!(bench.modes(SRIOV), "NPS4 CPX");
    bench.create("vf-1", SRIOV, 1, None).await.unwrap();
    let before = bench.files();
    let plan = bench.plan("whole").await;
    assert_eq!(bench.files(), before, "a plan changes nothing");
    let [step] = &plan.partitions[..] else { panic!("{plan:#?}") };
    assert_eq!((step.memory_mode.as_deref(), step.accelerator_mode.as_deref()), (Some("NPS1"), Some("SPX")));
    let gpus: Vec<_> = step.gpus.iter().map(|gpu| (gpu.gpu.as_str(), gpu.asked)).collect();
    assert_eq!(gpus, [(SRIOV, true), (PEER, false)], "all of the hive is shown");
    assert_eq!(step.gpus[1].memory_mode.as_deref(), Some("NPS4"));
    let [gpu] = &plan.gpus[..] else { panic!("{plan:#?}") };
    assert_eq!((gpu.keep.len(), gpu.remove.len(), gpu.create[0].count), (0, 1, 1), "the slice is made anew");

    let results = bench.apply("whole").await.unwrap();
    assert_eq!(told(&results), "0000:41:00.0 Done -1 +1");
    assert_eq!(results[0].modes.as_deref(), Some("NPS1 and SPX"));
    assert_eq!((bench.modes(SRIOV).as_str(), bench.modes(PEER).as_str()), ("NPS1 SPX", "NPS1 SPX"));
    assert_eq!(bench.kinds("gpu-partitioned").await, ["GPU 0000:41:00.0 is set to NPS1 and SPX"]);
    let writes = bench.fake.writes().len();
    assert_eq!(
        told(&bench.apply("both").await.unwrap()),
        "0000:41:00.0 NothingToDo -0 +0\n0000:42:00.0 Done -0 +1"
    );
    let modes = |(path, _): &(String, String)| path.contains("partition");
    assert!(!bench.fake.writes()[writes..].iter().any(modes), "what is so is not written");
    assert_eq!(told(&bench.apply("whole").await.unwrap()), "0000:41:00.0 NothingToDo -0 +0");
    bench.check().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_driver_does_not_do_is_told_and_nothing_is_created() {
    let bench = started().await;
    bench.fake.ignore("memory_partition_mode", 0);
    let results = bench.apply("both").await.unwrap();
    assert_eq!(told(&results), "0000:41:00.0 Failed -0 +0\n0000:42:00.0 Failed -0 +0");
    let failure = results[0].failure.as_ref().unwrap();
    let words = format!("{}: {}", failure.message, failure.causes.join(": "));
    assert!(
        words.contains("is NPS4 and CPX, although the kernel took the request for NPS1 and SPX"),
        "{words}"
    );
    assert_eq!((failure.reason.as_str(), bench.slices().await.len()), ("READ_BACK", 0));
    assert_eq!(bench.kinds("partition-failed").await.len(), 2);
    // It is no quarantine: another run does it.
    let results = bench.apply("both").await.unwrap();
    assert_eq!(told(&results), "0000:41:00.0 Done -0 +1\n0000:42:00.0 Done -0 +1");
    assert_eq!(bench.modes(PEER), "NPS1 SPX");
    bench.check().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hive_of_which_one_gpu_is_in_use_stays_as_it_is() {
    let bench = started().await;
    let free = bench.create("vf-1", SRIOV, 1, None).await.unwrap().remove(0).id;
    let leased = bench.create("vf-1", PEER, 1, Some("pod-a")).await.unwrap().remove(0).id;
    let before = bench.files();
    // Of a GPU that the layout does not mean.
    let plan = bench.plan("whole").await;
    let why = blocked(&plan);
    let wanted = format!(
        "changes all of {SRIOV}, {PEER}, and nothing may be in use there: on GPU {PEER}, {leased} (vf-1) is leased to pod-a"
    );
    assert!(why.contains(&wanted), "{why}");
    let results = bench.apply("whole").await.unwrap();
    assert_eq!(told(&results), "0000:41:00.0 Blocked -0 +0");
    assert_eq!(bench.files(), before, "nothing is written, and {free} stays");
    // Free there: it is no slice of the layout's, and not ended for it.
    bench.release(&leased).await.unwrap();
    let plan = bench.plan("whole").await;
    let why = blocked(&plan);
    assert!(
        why.contains(&format!("is {leased}, and the layout does not mean that GPU; `vgpuctl destroy")),
        "{why}"
    );
    assert_eq!(bench.modes(PEER), "NPS4 CPX");
    // Where it means both, both are made anew.
    assert_eq!(told(&bench.apply("both").await.unwrap()), "0000:41:00.0 Done -1 +1\n0000:42:00.0 Done -1 +1");
    bench.check().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_is_refused_with_what_can() {
    let bench = started().await;
    let before = bench.files();
    let torn = bench.plan("torn").await;
    assert!(blocked(&torn).contains("0000:41:00.0 NPS1, 0000:42:00.0 NPS4; ask all of them for the same"));
    let never = bench.plan("never").await;
    let why = blocked(&never);
    assert!(
        why.contains("cannot be set to QPX and stay NPS4 with its 1 VFs: its driver gim lists NPS1 and SPX"),
        "{why}"
    );
    let other = bench.plan("other").await;
    assert!(blocked(&other).contains("it is cut by sriov, which has no such modes"));
    // Somebody else's VF.
    let vf = format!("/sys/bus/pci/devices/{PEER}/virtfn0");
    let vf = std::fs::canonicalize(bench.host.path(&vf)).unwrap();
    let name = vf.file_name().unwrap().to_str().unwrap();
    bench.host.write_attr(&vf.join("driver_override"), "vfio-pci").unwrap();
    bench.host.write_attr(&bench.host.path("/sys/bus/pci/drivers_probe"), name).unwrap();
    let whole = bench.plan("whole").await;
    assert!(blocked(&whole).contains("VF 0 of GPU 0000:42:00.0 is in use by somebody else"), "{whole:#?}");
    bench.host.write_attr(&bench.host.path("/sys/bus/pci/drivers/vfio-pci/unbind"), name).unwrap();
    bench.host.write_attr(&vf.join("driver_override"), "\n").unwrap();
    assert_eq!(bench.files(), before);
}

/// vgpud dies before and after each effect; another run finishes it, and nothing is cut meanwhile.
#[tokio::test(flavor = "multi_thread")]
async fn an_interrupted_change_is_finished_by_another_run() {
    for at in 0..4 {
        for side in [Side::Before, Side::After] {
            let mut bench = started().await;
            bench.create("vf-1", SRIOV, 1, None).await.unwrap();
            bench.stop().await;
            let gate = Gate::new(bench.real_executor(), at, side);
            bench.start(Some(gate.clone())).await;
            let shown = bench.plan("whole").await;
            let request = api::ApplyLayoutRequest { layout: Some("whole".into()), shown: Some(shown) };
            let mut client = bench.client();
            let run = tokio::spawn(async move {
                let mut steps = client.apply_layout(request).await.unwrap().into_inner();
                while let Some(Ok(_)) = steps.next().await {}
            });
            // 1 destroyed, the modes, 1 created.
            let reached = tokio::select! {
                effect = gate.until_reached() => Some(effect),
                ended = run => { ended.unwrap(); None }
            };
            assert_eq!(reached.is_some(), at < 3, "effect {at}: {reached:?}");
            if at == 1 {
                assert_eq!(gate.kind(), Some("partition"));
                let gpus =
                    bench.client().list_gpus(api::ListGpusRequest::default()).await.unwrap().into_inner();
                let peer = gpus.gpus.into_iter().find(|gpu| gpu.address == PEER).unwrap();
                let unusable = peer.unusable.unwrap();
                assert!(unusable.contains("is just being partitioned anew"), "{unusable}");
            }
            if reached.is_some() {
                bench.crash().await;
                gate.bury();
                bench.start(None).await;
            }
            let results = bench.apply("whole").await.unwrap();
            assert!(
                results.iter().all(|gpu| gpu.failure.is_none() && gpu.blocked.is_none()),
                "{reached:?} {side:?}: {results:#?}"
            );
            assert_eq!(
                (bench.modes(SRIOV).as_str(), bench.slices().await.len()),
                ("NPS1 SPX", 1),
                "{reached:?} {side:?}"
            );
            assert_eq!(told(&bench.apply("whole").await.unwrap()), "0000:41:00.0 NothingToDo -0 +0");
            bench.check().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_waits_while_its_gpu_is_divided_anew() {
    let mut bench = Bench::new(&hive()).with_layouts(LAYOUTS);
    let gate = Gate::new(bench.real_executor(), 0, Side::Before);
    bench.start(Some(gate.clone())).await;
    let shown = bench.plan("whole").await;
    let request = api::ApplyLayoutRequest { layout: Some("whole".into()), shown: Some(shown) };
    let mut client = bench.client();
    let run = tokio::spawn(async move {
        let mut steps = client.apply_layout(request).await.unwrap().into_inner();
        while let Some(step) = steps.next().await {
            step.unwrap();
        }
    });
    assert!(
        gate.until_reached().await.contains("set 0000:41:00.0 to NPS1 and SPX, and 0000:42:00.0 with it")
    );
    let waiting = tokio::spawn(super::bench::create(bench.client(), "vf-1", PEER, 1, None));
    tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    assert!(!waiting.is_finished());
    gate.open();
    waiting.await.unwrap().unwrap();
    run.await.unwrap();
    assert_eq!((bench.modes(PEER).as_str(), bench.slices().await.len()), ("NPS1 SPX", 2));
    bench.check().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hive_whose_kernel_does_not_answer_is_kept_out_of_use() {
    let mut bench = Bench::new(&hive()).with_layouts(LAYOUTS);
    bench.settings.timeouts.device = std::time::Duration::from_millis(100);
    let gate = Gate::new(bench.real_executor(), 0, Side::Before);
    bench.start(Some(gate.clone())).await;
    let results = bench.apply("whole").await.unwrap();
    assert_eq!(told(&results), "0000:41:00.0 Failed -0 +0");
    assert_eq!(results[0].failure.as_ref().unwrap().reason, "KERNEL_STUCK");
    let refused = bench.create("vf-1", PEER, 1, None).await.unwrap_err();
    assert!(refused.text.contains("quarantined"), "{refused:?}");
    gate.open();
    gate.until_idle();
}
