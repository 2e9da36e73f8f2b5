//! Requests in words that no mechanism has: classes, caps and guarantees.

use super::bench::{Bench, Refused, SECOND, SRIOV};
use crate::api::{self, create_progress::Step};
use tokio_stream::StreamExt;
use vgpud_config::{ClassSettings, ClassWant};
use vgpud_mdev::fake::{FakeGpu, FakeHost, FakeXe, XeShares};

/// An Intel GPU with 4 VFs, and one of which nothing is known.
async fn bench() -> Bench {
    let xe = FakeXe { shares: XeShares::SriovAdmin, vram: 16 << 30, vram_shown: true };
    let machine = FakeHost::machine().gpu(FakeGpu::new(SRIOV).xe(4, xe)).gpu(FakeGpu::new(SECOND).sriov(4));
    let mut bench = Bench::new(&machine);
    let quarter = |compute: &str, enforced| {
        let want = ClassWant::Size { memory: None, compute: Some(compute.parse().unwrap()) };
        ClassSettings { want, enforced }
    };
    let half = ClassSettings { want: ClassWant::Profile("vf-2".parse().unwrap()), enforced: false };
    for (name, class) in
        [("capped", quarter("25%", true)), ("quarter", quarter("25%+", false)), ("half", half)]
    {
        bench.settings.classes.insert(name.parse().unwrap(), class);
    }
    bench.start(None).await;
    bench
}

fn class(name: &str) -> api::Request {
    api::Request { class: Some(name.to_owned()), ..Default::default() }
}

fn compute(kind: api::ComputeKind, enforced: bool) -> api::Request {
    api::Request { compute_hundredths: Some(2500), compute_kind: kind.into(), enforced, ..Default::default() }
}

impl Bench {
    async fn ask(&self, request: api::Request, dry_run: bool) -> Result<Vec<Step>, Refused> {
        let request = api::CreateSlicesRequest { request: Some(request), dry_run, ..Default::default() };
        let mut stream = self.client().create_slices(request).await?.into_inner();
        let mut steps = Vec::new();
        while let Some(step) = stream.next().await {
            steps.extend(step?.step);
        }
        Ok(steps)
    }

    /// The slice that a dry run plans.
    async fn planned(&self, request: api::Request) -> api::PlannedSlice {
        let steps = self.ask(request, true).await.unwrap();
        let [Step::Plan(plan)] = &steps[..] else { panic!("{steps:?}") };
        plan.slices[0].clone()
    }

    async fn offered(&self, request: api::Request) -> Vec<(String, String, api::Hold, api::Hold)> {
        let request = api::ListProfilesRequest { request: Some(request) };
        let profiles = self.client().list_profiles(request).await.unwrap().into_inner().profiles;
        let row = |of: api::Profile| (of.gpu.clone(), of.name.clone(), of.compute_cap(), of.compute_floor());
        profiles.into_iter().map(row).collect()
    }

    /// As the operator does it by `.bulk_profile/sched_priority`.
    fn keep_the_turns_of_the_idle(&self, priorities: &str) {
        let admin = self.host.pci_device(SRIOV.parse().unwrap()).join("sriov_admin");
        for vf in 1..=4 {
            std::fs::write(admin.join(format!("vf{vf}/profile/sched_priority")), priorities).unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_class_is_looked_up_in_the_settings() {
    let bench = bench().await;
    assert_eq!(bench.planned(class("half")).await.profile, "vf-2");
    assert_eq!(bench.planned(class("quarter")).await.profile, "vf-4");
    let names = |offered: Vec<(String, String, api::Hold, api::Hold)>| {
        offered.into_iter().map(|(gpu, name, ..)| format!("{name} on {gpu}")).collect::<Vec<_>>()
    };
    let on_one = api::Request { gpu: Some(SRIOV.to_owned()), ..class("quarter") };
    assert_eq!(
        names(bench.offered(on_one).await),
        ["vf-1", "vf-2", "vf-4"].map(|name| format!("{name} on {SRIOV}"))
    );
    assert_eq!(
        names(bench.offered(class("half")).await),
        [SRIOV, SECOND].map(|gpu| format!("vf-2 on {gpu}"))
    );
    let refused = bench.ask(class("quater"), true).await.unwrap_err();
    assert_eq!(refused.reason, "NO_SUCH_CLASS");
    assert_eq!(
        refused.text.trim(),
        "There is no class quater; did you mean quarter? The settings have capped, half, quarter"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_insisted_on_is_served_where_it_is_enforced_and_refused_elsewhere() {
    let bench = bench().await;
    for request in [class("capped"), compute(api::ComputeKind::Cap, true)] {
        assert_eq!(bench.offered(request.clone()).await, []);
        let refused = bench.ask(request, false).await.unwrap_err();
        assert_eq!(refused.reason, "NOT_ENFORCED");
        let (first, second) = (
            format!("{SRIOV} has vf-4, whose cap is best effort"),
            format!("{SECOND} has vf-4, whose cap is not available"),
        );
        assert!(refused.text.contains(&first) && refused.text.contains(&second), "{}", refused.text);
    }
    let on_intel = api::Request { gpu: Some(SRIOV.to_owned()), ..compute(api::ComputeKind::Cap, false) };
    let unenforced = bench.planned(on_intel).await;
    assert_eq!(
        (unenforced.compute_hundredths, unenforced.compute_cap()),
        (Some(2500), api::Hold::BestEffort),
        "without insisting it is served, and told how it holds"
    );

    bench.keep_the_turns_of_the_idle("low [normal]");
    let capped = ["vf-1", "vf-2", "vf-4"]
        .map(|name| (SRIOV.to_owned(), name.to_owned(), api::Hold::Enforced, api::Hold::BestEffort));
    assert_eq!(bench.offered(class("capped")).await, capped);
    let steps = bench.ask(class("capped"), false).await.unwrap();
    let Some(Step::Done(done)) = steps.last() else { panic!("{steps:?}") };
    let made = &done.slices[0];
    assert_eq!((made.gpu.as_str(), made.profile.as_str()), (SRIOV, "vf-4"));
    assert_eq!((made.compute_cap(), made.compute_floor()), (api::Hold::Enforced, api::Hold::BestEffort));
    let refused = bench.ask(compute(api::ComputeKind::Guarantee, true), false).await.unwrap_err();
    assert!(refused.text.contains("vf-4, whose floor is best effort"), "{}", refused.text);

    // A slice is shown as its GPU is set now.
    bench.keep_the_turns_of_the_idle("[low] normal");
    bench.offered(api::Request::default()).await;
    assert_eq!(bench.slices().await[0].compute_cap(), api::Hold::BestEffort);
    bench.check().await;
}
