//! Layouts, over the API.

use super::bench::{Bench, Gate, MDEV, Refused, SECOND, SRIOV, Side, machine};
use crate::api::{self, apply_progress::Step};
use tokio_stream::StreamExt;
use vgpud_mdev::fake::{FakeGpu, FakeHost, FakeMdevType};

const LAYOUTS: &str = r#"
[layout.day.all]
slices = [{ profile = "vf-4", count = 3 }]
[layout.day."0000:42:00.0"]
slices = [{ memory = "20MiB", count = 2 }]
[layout.night.all]
slices = []
[layout.wide."0000:41:00.0"]
slices = [{ profile = "vf-8", count = 8 }]
[layout.wide."0000:43:00.0"]
slices = [{ compute = "40%", count = 2 }]
"#;

impl Bench {
    pub fn with_layouts(mut self, text: &str) -> Self {
        let path = self.folder.path().join("vgpud.toml");
        std::fs::write(&path, text).unwrap();
        self.settings.layouts = vgpud_config::Settings::load(&path).unwrap().layouts;
        self
    }

    pub async fn plan(&self, layout: &str) -> api::LayoutPlan {
        let request = api::PlanLayoutRequest { layout: Some(layout.into()) };
        self.client().plan_layout(request).await.unwrap().into_inner()
    }

    pub async fn apply(&self, layout: &str) -> Result<Vec<api::GpuLayoutResult>, Refused> {
        let shown = self.plan(layout).await;
        self.apply_shown(layout, shown).await
    }

    async fn apply_shown(
        &self,
        layout: &str,
        shown: api::LayoutPlan,
    ) -> Result<Vec<api::GpuLayoutResult>, Refused> {
        let request = api::ApplyLayoutRequest { layout: Some(layout.into()), shown: Some(shown) };
        let mut steps = self.client().apply_layout(request).await?.into_inner();
        while let Some(step) = steps.next().await {
            if let Some(Step::Done(done)) = step?.step {
                return Ok(done.gpus);
            }
        }
        panic!("the stream ended without an answer");
    }
}

/// `0000:41:00.0 done`, a line each.
pub fn told(results: &[api::GpuLayoutResult]) -> String {
    let line = |result: &api::GpuLayoutResult| {
        let outcome = format!("{:?}", result.outcome());
        format!("{} {outcome} -{} +{}", result.gpu, result.removed.len(), result.created.len())
    };
    results.iter().map(line).collect::<Vec<_>>().join("\n")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_layout_is_applied_once_and_then_there_is_nothing_to_do() {
    let mut bench = Bench::new(&machine()).with_layouts(LAYOUTS);
    bench.start(None).await;
    let before = bench.files();
    let plan = bench.plan("day").await;
    assert_eq!(plan.gpus.len(), 3);
    assert!(plan.gpus.iter().all(|gpu| gpu.blocked.is_none() && gpu.remove.is_empty()), "{plan:#?}");
    assert_eq!(bench.files(), before, "a plan changes nothing");
    let results = bench.apply("day").await.unwrap();
    assert_eq!(told(&results), "0000:41:00.0 Done -0 +3\n0000:42:00.0 Done -0 +2\n0000:43:00.0 Done -0 +3");
    let slices = bench.slices().await;
    assert_eq!(slices.len(), 8);
    assert!(slices.iter().all(|slice| slice.phase() == api::Phase::Ready && slice.lease.is_none()));
    let again = bench.apply("day").await.unwrap();
    assert!(again.iter().all(|gpu| gpu.outcome() == api::LayoutOutcome::NothingToDo), "{}", told(&again));
    assert_eq!(bench.slices().await.len(), 8);
    bench.check().await;
    let results = bench.apply("night").await.unwrap();
    assert_eq!(told(&results), "0000:41:00.0 Done -3 +0\n0000:42:00.0 Done -2 +0\n0000:43:00.0 Done -3 +0");
    assert_eq!(bench.files(), before, "every GPU is as it was found");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leased_slice_blocks_its_gpu_and_no_other() {
    let mut bench = Bench::new(&machine()).with_layouts(LAYOUTS);
    bench.start(None).await;
    bench.apply("day").await.unwrap();
    let slices = bench.slices().await;
    let on = |gpu: &str| slices.iter().find(|slice| slice.gpu == gpu).unwrap().id.clone();
    bench.lease(&on(SRIOV), None).await.unwrap();
    let plan = bench.plan("wide").await;
    assert_eq!(plan.gpus.len(), 2, "a GPU that the layout does not mean is left as it is");
    let blocked = plan.gpus[0].blocked.clone().unwrap();
    assert!(blocked.contains(&format!("{} (vf-4) is leased to pod-a", on(SRIOV))), "{blocked}");
    let results = bench.apply("wide").await.unwrap();
    assert_eq!(told(&results), "0000:41:00.0 Blocked -0 +0\n0000:43:00.0 Done -3 +2");
    let slices = bench.slices().await;
    let count = |gpu: &str, profile: &str| {
        slices.iter().filter(|slice| slice.gpu == gpu && slice.profile == profile).count()
    };
    assert_eq!((count(SRIOV, "vf-4"), count(SECOND, "vf-2"), count(MDEV, "sim-small")), (3, 2, 2));
    bench.release(&on(SRIOV)).await.unwrap();
    assert_eq!(
        told(&bench.apply("wide").await.unwrap()),
        "0000:41:00.0 Done -3 +8\n0000:43:00.0 NothingToDo -0 +0"
    );
    bench.check().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_has_changed_since_it_was_shown_is_not_done() {
    let mut bench = Bench::new(&machine()).with_layouts(LAYOUTS);
    bench.start(None).await;
    let shown = bench.plan("day").await;
    bench.create("vf-4", SRIOV, 1, None).await.unwrap();
    let refused = bench.apply_shown("day", shown).await.unwrap_err();
    assert_eq!(refused.reason, "PLAN_CHANGED");
    assert_eq!(bench.slices().await.len(), 1);
    let request = api::PlanLayoutRequest { layout: None };
    let refused = Refused::from(bench.client().plan_layout(request).await.unwrap_err());
    assert_eq!(refused.reason, "SEVERAL_LAYOUTS");
    assert!(refused.text.contains("day, night, wide"), "{}", refused.text);
    let request = api::PlanLayoutRequest { layout: Some("noon".into()) };
    let refused = Refused::from(bench.client().plan_layout(request).await.unwrap_err());
    assert_eq!(refused.reason, "NO_SUCH_LAYOUT");
}

/// vgpud dies before and after each effect of a layout; another run finishes it.
#[tokio::test(flavor = "multi_thread")]
async fn a_layout_that_was_interrupted_is_finished_by_another_run() {
    let types = [FakeMdevType::new("sim-small", 1, "num_heads=1, framebuffer=32M, max_instance=8")];
    for at in 0..7 {
        for side in [Side::Before, Side::After] {
            let machine = FakeHost::machine()
                .gpu(FakeGpu::new(SRIOV).sriov(8))
                .gpu(FakeGpu::new(MDEV).class(0x03_0000).mdev(8, &types));
            let layouts = "[layout.day.\"0000:41:00.0\"]\nslices = [{ profile = \"vf-8\", count = 2 }]";
            let mut bench = Bench::new(&machine).with_layouts(layouts);
            bench.start(None).await;
            bench.create("vf-4", SRIOV, 2, None).await.unwrap();
            bench.stop().await;
            let gate = Gate::new(bench.real_executor(), at, side);
            bench.start(Some(gate.clone())).await;
            let shown = bench.plan("day").await;
            let request = api::ApplyLayoutRequest { layout: None, shown: Some(shown) };
            let mut client = bench.client();
            let run = tokio::spawn(async move {
                let mut steps = client.apply_layout(request).await.unwrap().into_inner();
                while let Some(Ok(_)) = steps.next().await {}
            });
            // 2 destroyed, the GPU put back, 2 created: with fewer effects than that, it runs through.
            let reached = tokio::select! {
                effect = gate.until_reached() => Some(effect),
                ended = run => { ended.unwrap(); None }
            };
            assert_eq!(reached.is_some(), at < 5, "effect {at}: {reached:?}");
            if reached.is_some() {
                bench.crash().await;
                gate.bury();
                bench.start(None).await;
            }
            let results =
                bench.apply("day").await.unwrap_or_else(|error| panic!("{reached:?} {side:?}: {error:?}"));
            assert!(
                results.iter().all(|gpu| gpu.failure.is_none() && gpu.blocked.is_none()),
                "{reached:?} {side:?}: {results:#?}"
            );
            let slices = bench.slices().await;
            let ready = slices.iter().filter(|s| s.profile == "vf-8" && s.phase() == api::Phase::Ready);
            assert_eq!((ready.count(), slices.len()), (2, 2), "{reached:?} {side:?}: {slices:#?}");
            let again = bench.apply("day").await.unwrap();
            assert_eq!(told(&again), "0000:41:00.0 NothingToDo -0 +0");
            bench.check().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn another_count_of_gims_vfs_is_told_and_left_to_the_operator() {
    let machine = FakeHost::machine().gpu(FakeGpu::new(SRIOV).gim(8, 4)).gpu(FakeGpu::new(SECOND).gim(8, 2));
    let layouts = "[layout.day.\"0000:41:00.0\"]\nslices = [{ profile = \"vf-8\", count = 8 }]";
    let mut bench = Bench::new(&machine).with_layouts(layouts);
    bench.start(None).await;
    bench.create("vf-2", SECOND, 1, None).await.unwrap();
    let before = bench.files();
    let plan = bench.plan("day").await;
    assert!(plan.gpus[0].blocked.as_ref().unwrap().contains("vf-8"), "{plan:#?}");
    let [step] = &plan.operator[..] else { panic!("{plan:#?}") };
    assert_eq!(step.gpus, [SRIOV, SECOND]);
    assert_eq!(step.slices, ["s1"], "all slices on GPUs of gim have to go");
    assert_eq!(step.commands[0], "echo 'options gim vf_num=8,2' > /etc/modprobe.d/gim.conf");
    let results = bench.apply("day").await.unwrap();
    assert_eq!(told(&results), "0000:41:00.0 Blocked -0 +0");
    assert_eq!(bench.files(), before, "vgpud does nothing of it");
}
