//! CDI files whose removal comes late, or not at all.

use super::bench::{Bench, Gate, MDEV, SRIOV, Side, machine};
use crate::{api, daemon::message::Message};
use std::time::Duration;

/// The removal of the CDI file of a former lease comes very late: it must not take the next one's.
#[tokio::test(flavor = "multi_thread")]
async fn a_late_removal_does_not_take_the_file_of_the_next_lease() {
    let mut bench = Bench::new(&machine());
    // create, hand over, and the removal when the slice is quarantined
    let gate = Gate::new(bench.real_executor(), 2, Side::Before);
    bench.start(Some(gate.clone())).await;
    let made = bench.create("sim-small", MDEV, 1, Some("pod-a")).await.unwrap();
    let uuid = made[0].mdev_uuid.clone().unwrap();
    vgpud_mdev::mechanism(vgpud_config::MechanismKind::Mdev)
        .destroy(&bench.host, MDEV.parse().unwrap(), vgpud_mdev::InstanceName::Mdev(uuid.parse().unwrap()))
        .unwrap();
    bench.tell(Message::HostChanged);
    assert_eq!(gate.until_reached().await, "remove the CDI file of s1");
    assert_eq!(bench.clear("s1").await.unwrap().phase(), api::Phase::Ready);
    let client = bench.client();
    let lease = tokio::spawn(async move {
        let request = api::LeaseSliceRequest { id: "s1".into(), owner: "pod-b".into(), ..Default::default() };
        client.clone().lease_slice(request).await
    });
    bench.until("the lease", |phases| phases["s1"] == api::Phase::Leased).await;
    // Other slices of the GPU are handed over meanwhile.
    bench.create("sim-small", MDEV, 1, Some("pod-c")).await.unwrap();
    gate.open();
    lease.await.unwrap().unwrap();
    gate.until_idle();
    assert_eq!(bench.cdi_files(), ["s1", "s2"].map(|id| id.parse().unwrap()));
    bench.check().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removal_that_never_ends_fails_the_handover_in_time() {
    let mut bench = Bench::new(&machine());
    bench.settings.timeouts.device = Duration::from_secs(2);
    let gate = Gate::new(bench.real_executor(), 0, Side::Before);
    let cdi = vgpud_kata::cdi::CdiFolder::new(&bench.host, &bench.settings.cdi).unwrap();
    cdi.publish("s1", std::path::Path::new("/dev/vfio/7")).unwrap();
    bench.start(Some(gate.clone())).await;
    assert_eq!(gate.until_reached().await, "remove the CDI file of s1");
    bench.create("vf-8", SRIOV, 1, None).await.unwrap();
    let refused = bench.lease("s1", None).await.unwrap_err();
    assert_eq!(refused.reason, "CDI_FILE");
    let folder = bench.settings.cdi.dir.display().to_string();
    for told in ["s1 is not yet removed from", &folder, "after 2s", "lease s1 again"] {
        assert!(refused.text.contains(told), "{}", refused.text);
    }
    bench.until("s1 to be ready", |phases| phases["s1"] == api::Phase::Ready).await;
    gate.open();
    gate.until_idle();
    bench.lease("s1", None).await.unwrap();
    bench.check().await;
}
