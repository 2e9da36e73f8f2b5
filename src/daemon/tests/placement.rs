//! What the settings say of placement reaches it.

use super::bench::{Bench, SECOND, SRIOV};
use crate::api::{self, create_progress::Step};
use tokio_stream::StreamExt;
use vgpud_config::PlacementStrategy;
use vgpud_mdev::fake::{FakeGpu, FakeHost};

/// Two GPUs alike, each on a NUMA node of its own.
async fn started() -> Bench {
    let gpu = |address, node| FakeGpu::new(address).sriov(8).numa_node(node);
    let machine = FakeHost::machine().gpu(gpu(SRIOV, 0)).gpu(gpu(SECOND, 1));
    let mut bench = Bench::new(&machine);
    bench.settings.placement.strategy = PlacementStrategy::Spread;
    bench.settings.placement.numa_node = Some("require:1".parse().unwrap());
    bench.start(None).await;
    bench
}

/// The GPUs that would serve a request for two slices, and the verdict on each GPU.
async fn planned(bench: &Bench, gpu: Option<&str>, numa: Option<u32>) -> (Vec<String>, Vec<String>) {
    let numa = numa.map(|node| api::NumaAffinity { node, required: false });
    let request = api::Request {
        profile: Some("vf-8".into()),
        gpu: gpu.map(str::to_owned),
        numa,
        ..Default::default()
    };
    let request =
        api::CreateSlicesRequest { request: Some(request), count: 2, dry_run: true, ..Default::default() };
    let mut stream = bench.client().create_slices(request).await.unwrap().into_inner();
    let Some(Step::Plan(plan)) = stream.next().await.unwrap().unwrap().step else { panic!("no plan") };
    let gpus = plan.slices.into_iter().map(|slice| slice.gpu).collect();
    (gpus, plan.considered.into_iter().map(|one| one.reason).collect())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_settings_say_which_node_unless_the_request_does() {
    let bench = started().await;
    let (gpus, reasons) = planned(&bench, None, None).await;
    assert_eq!(gpus, [SECOND, SECOND]);
    assert_eq!(reasons[0], "on NUMA node 0, 1 is required");
    // A request that names a GPU means it.
    assert_eq!(planned(&bench, Some(SRIOV), None).await.0, [SRIOV, SRIOV]);
    // Its own node counts instead, and is preferred only; spread would have used both GPUs else.
    assert_eq!(planned(&bench, None, Some(0)).await.0, [SRIOV, SRIOV]);
    // No GPU is on that node, so that nothing keeps the slices together.
    assert_eq!(planned(&bench, None, Some(7)).await.0, [SRIOV, SECOND]);
}
