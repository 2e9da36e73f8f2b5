//! What a slice may be used for after a scrub that does not show that it is clean.

use super::bench::{Bench, SECOND, SRIOV, machine};
use crate::api;
use vgpud_config::Reuse;
use vgpud_vmm::scrub::{ResetEvidence, VendorClear, Verdict};

fn unchecked() -> Verdict {
    Verdict::Unchecked { why: "it shows no memory".to_owned() }
}

async fn bench(policy: Reuse) -> Bench {
    let mut bench = Bench::new(&machine());
    bench.settings.scrub.reuse = policy;
    bench.start(None).await;
    bench
}

impl Bench {
    fn scrubs_come_to(&self, verdict: Option<Verdict>) {
        *self.devices.unclean.lock().unwrap() = verdict;
    }

    async fn reserved_for(&self) -> Option<String> {
        self.slices().await[0].reserved_for.clone()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slice_that_is_not_shown_to_be_clean_stays_with_its_owner_where_that_is_the_policy() {
    let mut bench = bench(Reuse::SameOwner).await;
    bench.create("vf-8", SRIOV, 1, Some("pod-a")).await.unwrap();
    bench.scrubs_come_to(Some(unchecked()));
    bench.release("s1").await.unwrap();
    assert_eq!(bench.phases().await["s1"], api::Phase::Ready);
    assert_eq!(bench.reserved_for().await.as_deref(), Some("pod-a"));
    let kept = bench.events().await.into_iter().find(|event| event.kind == "slice-kept").unwrap();
    assert!(kept.message.contains("pod-a alone") && kept.message.contains("shows no memory"), "{kept:?}");

    // Over a crash too.
    bench.crash().await;
    bench.start(None).await;
    let refused = bench.lease_to("pod-b", "s1", None).await.unwrap_err();
    assert_eq!(refused.reason, "RESERVED");
    assert!(
        refused.text.contains("pod-a alone") && refused.text.contains("vgpuctl destroy s1"),
        "{refused:?}"
    );
    bench.lease_to("pod-a", "s1", None).await.unwrap();

    // What is shown to be clean at last is anybody's.
    bench.scrubs_come_to(None);
    bench.release("s1").await.unwrap();
    assert_eq!(bench.reserved_for().await, None);
    bench.lease_to("pod-b", "s1", None).await.unwrap();
    bench.destroy("s1").await.unwrap();
    bench.check().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_is_known_to_have_had_is_kept_for_nobody() {
    let bench = bench(Reuse::SameOwner).await;
    bench.scrubs_come_to(Some(unchecked()));
    assert_eq!(bench.create("vf-8", SRIOV, 1, Some("pod-a")).await.unwrap_err().reason, "NOT_CLEAN");
    bench.scrubs_come_to(None);
    let id = bench.create("vf-8", SRIOV, 1, Some("pod-a")).await.unwrap()[0].id.clone();
    // Destroyed, its memory is some other slice's next.
    bench.scrubs_come_to(Some(unchecked()));
    bench.release(&id).await.unwrap();
    bench.destroy(&id).await.unwrap();
    assert_eq!(bench.create("vf-8", SRIOV, 1, Some("pod-a")).await.unwrap_err().reason, "NOT_CLEAN");
    bench.check().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_vendors_word_counts_where_the_settings_of_the_gpu_say_so() {
    let mut bench = Bench::new(&machine());
    let trusting = vgpud_config::GpuSettings { reuse: Some(Reuse::Vendor), ..Default::default() };
    bench.settings.gpu.insert(SRIOV.parse().unwrap(), trusting);
    bench.start(None).await;
    bench.scrubs_come_to(Some(unchecked()));
    *bench.devices.vendor_clear.lock().unwrap() = VendorClear::Reported { by: "clrvffb".to_owned() };
    assert_eq!(bench.create("vf-4", SECOND, 1, None).await.unwrap_err().reason, "NOT_CLEAN");
    let id = bench.create("vf-8", SRIOV, 1, Some("pod-a")).await.unwrap()[0].id.clone();
    bench.release(&id).await.unwrap();
    bench.lease_to("pod-b", &id, None).await.unwrap();
    *bench.devices.vendor_clear.lock().unwrap() = VendorClear::Failed { why: "it is in use".to_owned() };
    let refused = bench.release(&id).await.unwrap_err();
    assert!(refused.text.contains("its vendor's clear failed: it is in use"), "{refused:?}");
    assert_eq!(bench.phases().await[&id], api::Phase::Quarantined);
    bench.destroy(&id).await.unwrap();
    bench.check().await;
}

/// Quarantine breaks the custody: what is cleared by an operator is shown to be clean or stays.
#[tokio::test(flavor = "multi_thread")]
async fn a_slice_out_of_quarantine_is_kept_for_nobody() {
    let bench = bench(Reuse::SameOwner).await;
    bench.create("vf-8", SRIOV, 1, Some("pod-a")).await.unwrap();
    let failed = ResetEvidence::Failed { why: "it is gone".to_owned(), errno: None };
    *bench.devices.reset.lock().unwrap() = Some(failed);
    bench.scrubs_come_to(Some(unchecked()));
    bench.release("s1").await.unwrap_err();
    assert_eq!(bench.phases().await["s1"], api::Phase::Quarantined);
    *bench.devices.reset.lock().unwrap() = None;
    let clear = api::ClearQuarantineRequest { id: "s1".to_owned() };
    bench.client().clear_quarantine(clear).await.unwrap_err();
    assert_eq!(bench.phases().await["s1"], api::Phase::Quarantined);
    assert_eq!(bench.reserved_for().await, None);
    bench.check().await;
    bench.destroy("s1").await.unwrap();
    bench.check().await;
}
