//! The daemon dies before and after every single effect, and starts again: the points are counted
//! by running each flow, not picked by hand, and every kind of effect has to come up in them.

use super::bench::{Bench, Gate, LIMIT, MDEV, SRIOV, Side, create, machine};
use crate::{api, engine::Effect};
use std::{collections::BTreeSet, io::Write as _, sync::Arc};
use tonic::transport::Channel;
use vgpud_mdev::fake::FakeGpu;

type Client = api::vgpud_client::VgpudClient<Channel>;

/// What is under way when the daemon dies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flow {
    /// Created with an owner, taken back, destroyed, the GPU put back.
    Life,
    /// Created, then leased, taken back and leased again.
    Lease,
    /// Destroyed while leased.
    Destroy,
    /// Put out of use and cleared, a slice and then its whole GPU, with the scrub in between.
    Quarantine,
    /// The first start after a restart of the host with slices ready and leased.
    Reboot,
    /// A start that finds the CDI file of a slice that is no more.
    Orphan,
    /// A layout by which a GPU is divided anew before a slice is created.
    Partition,
    /// The start after a death at each point of a life: it dies again.
    Again,
}

const FLOWS: [Flow; 8] = [
    Flow::Life,
    Flow::Lease,
    Flow::Destroy,
    Flow::Quarantine,
    Flow::Reboot,
    Flow::Orphan,
    Flow::Partition,
    Flow::Again,
];

const LAYOUT: &str = r#"
[layout.whole."0000:44:00.0"]
slices = [{ profile = "vf-1", count = 1 }]
accelerator_mode = "SPX"
memory_mode = "NPS1"
"#;

/// A mechanism with reset, and one whose instances are made anew.
const PLACES: [(&str, &str); 2] = [("vf-8", SRIOV), ("sim-small", MDEV)];

async fn lease(client: &Client, id: &str) -> Result<(), tonic::Status> {
    let request = api::LeaseSliceRequest { id: id.into(), owner: "pod-b".into(), ..Default::default() };
    client.clone().lease_slice(request).await.map(|_| ())
}

async fn release(client: &Client, id: &str) -> Result<(), tonic::Status> {
    let request = api::ReleaseSliceRequest { id: id.into(), generation: None };
    client.clone().release_slice(request).await.map(|_| ())
}

async fn destroy(client: &Client, id: &str) -> Result<(), tonic::Status> {
    let request = api::DestroySliceRequest { id: id.into(), release: true };
    client.clone().destroy_slice(request).await.map(|_| ())
}

/// Puts a leased slice out of use when it has come back, and then its GPU; nothing of that is an effect
/// but what the slice is made clean with.
async fn quarantine_and_clear(client: &Client, slice: &api::Slice) -> Result<(), tonic::Status> {
    release(client, &slice.id).await?;
    let (id, gpu, reason) = (slice.id.clone(), slice.gpu.clone(), "fan broken".to_owned());
    let mut client = client.clone();
    client.quarantine_slice(api::QuarantineSliceRequest { id: id.clone(), reason: reason.clone() }).await?;
    client.clear_quarantine(api::ClearQuarantineRequest { id: id.clone() }).await?;
    client.quarantine_gpu(api::QuarantineGpuRequest { gpu: gpu.clone(), reason }).await?;
    client.clear_gpu_quarantine(api::ClearGpuQuarantineRequest { gpu }).await?;
    lease(&client, &id).await
}

/// Works with the daemon until it is dead; an error only says that it is.
async fn work(flow: Flow, mut client: Client) -> Result<(), tonic::Status> {
    if flow == Flow::Partition {
        let shown = client.plan_layout(api::PlanLayoutRequest { layout: None }).await?.into_inner();
        let request = api::ApplyLayoutRequest { layout: None, shown: Some(shown) };
        let mut steps = client.apply_layout(request).await?.into_inner();
        while steps.message().await?.is_some() {}
        return Ok(());
    }
    for (profile, gpu) in PLACES {
        let owner = (flow != Flow::Lease).then_some("pod-a");
        let Ok(made) = create(client.clone(), profile, gpu, 2, owner).await else { return Ok(()) };
        for slice in &made {
            match flow {
                Flow::Life | Flow::Again => {
                    release(&client, &slice.id).await?;
                    destroy(&client, &slice.id).await?;
                }
                Flow::Lease => {
                    lease(&client, &slice.id).await?;
                    release(&client, &slice.id).await?;
                    lease(&client, &slice.id).await?;
                }
                Flow::Destroy => destroy(&client, &slice.id).await?,
                Flow::Quarantine => quarantine_and_clear(&client, slice).await?,
                Flow::Reboot | Flow::Orphan | Flow::Partition => {}
            }
        }
    }
    Ok(())
}

/// Starts the daemon with a gate, and goes on until it stands there or there is nothing left to do.
async fn until_the_gate(bench: &mut Bench, gate: &Arc<Gate>, flow: Option<Flow>) {
    bench.start(Some(gate.clone())).await;
    let client = bench.client();
    let life = tokio::spawn(async move {
        if let Some(flow) = flow {
            // It dies in the middle; what it had come to is looked at later.
            let _ = work(flow, client).await;
        }
    });
    // A CDI file is removed a moment before its removal stands at the gate.
    let begun = std::time::Instant::now();
    while gate.reached().is_none() && !(life.is_finished() && bench.is_settled() && gate.is_idle()) {
        assert!(begun.elapsed() < LIMIT, "{flow:?} neither reached its gate nor ended");
        tokio::time::sleep(std::time::Duration::from_millis(2)).await;
    }
    bench.crash().await;
    life.abort();
}

/// Brings the daemon to the n-th effect of the flow and kills it there; none where there are fewer.
async fn dead_at(flow: Flow, point: usize, side: Side) -> Option<(Bench, &'static str, String)> {
    let (first, layout) = match flow {
        Flow::Partition => (machine().gpu(FakeGpu::new("0000:44:00.0").gim(8, 1)), LAYOUT),
        _ => (machine(), ""),
    };
    let mut bench = Bench::new(&first).with_layouts(layout);
    bench.boot("first");
    let before = match flow {
        Flow::Life | Flow::Lease | Flow::Destroy | Flow::Quarantine | Flow::Partition => Some(flow),
        Flow::Reboot => {
            bench.start(None).await;
            for (profile, gpu) in PLACES {
                bench.create(profile, gpu, 1, None).await.unwrap();
                bench.create(profile, gpu, 1, Some("pod-a")).await.unwrap();
            }
            bench.crash().await;
            bench.fake = first.build();
            bench.host = bench.fake.host();
            bench.boot("second");
            None
        }
        Flow::Orphan => {
            let cdi = vgpud_kata::cdi::CdiFolder::new(&bench.host, &bench.settings.cdi).unwrap();
            cdi.publish("s9", std::path::Path::new("/dev/vfio/7")).unwrap();
            None
        }
        Flow::Again => {
            let gate = Gate::new(bench.real_executor(), point, Side::Before);
            until_the_gate(&mut bench, &gate, Some(flow)).await;
            gate.reached()?;
            gate.bury();
            None
        }
    };
    let at = if flow == Flow::Again { 0 } else { point };
    let gate = Gate::new(bench.real_executor(), at, side);
    until_the_gate(&mut bench, &gate, before).await;
    let (kind, effect) = gate.kind().zip(gate.reached())?;
    gate.bury();
    Some((bench, kind, effect))
}

/// The next start loses and leaks nothing, and all can be taken apart.
async fn comes_back(mut bench: Bench) {
    bench.start(None).await;
    bench.at_rest().await;
    let phases = bench.phases().await;
    let lost = phases.values().any(|phase| *phase == api::Phase::Quarantined);
    assert!(!lost, "{:#?}", bench.slices().await);
    bench.check().await;
    for id in phases.keys() {
        bench.destroy(id).await.unwrap();
    }
    bench.at_rest().await;
    bench.check().await;
    let vfs = bench.host.path(format!("/sys/bus/pci/devices/{SRIOV}/sriov_numvfs"));
    assert_eq!(std::fs::read_to_string(vfs).unwrap().trim(), "0");
}

#[derive(Debug, Default)]
struct Walk {
    walked: usize,
    failed: usize,
    kinds: BTreeSet<&'static str>,
}

async fn walk(flow: Flow, side: Side) -> Walk {
    let mut walk = Walk::default();
    for point in 0.. {
        let Some((bench, kind, effect)) = dead_at(flow, point, side).await else { break };
        walk.walked += 1;
        walk.kinds.insert(kind);
        println!("{flow:?} {point} {side:?}: {effect}");
        if let Err(failure) = tokio::spawn(comes_back(bench)).await {
            println!("FAILED: {flow:?} {point} {side:?} {effect}: {failure}");
            walk.failed += 1;
        }
    }
    walk
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_daemon_that_dies_at_any_effect_loses_and_leaks_nothing() {
    let walks =
        FLOWS.map(|flow| [Side::Before, Side::After].map(|side| (flow, tokio::spawn(walk(flow, side)))));
    let mut all = Walk::default();
    for (flow, walk) in walks.into_iter().flatten() {
        let walk = walk.await.unwrap();
        assert!(walk.walked > 0, "{flow:?} has no effects");
        all.walked += walk.walked;
        all.failed += walk.failed;
        all.kinds.extend(walk.kinds);
    }
    // Past libtest's capture: the figure is what this test is run for.
    writeln!(std::io::stderr(), "kill points: {} walked, {} failed", all.walked, all.failed).unwrap();
    assert_eq!(all.failed, 0);
    assert_eq!(all.kinds, BTreeSet::from(Effect::WORDS), "every kind of effect is walked");
}
