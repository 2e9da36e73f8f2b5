//! The daemon dies before and after every single effect, and starts again: the points are counted
//! by running, not picked by hand.

use super::bench::{Bench, Gate, MDEV, SRIOV, Side, create, machine};
use crate::api;
use tonic::transport::Channel;

/// Every kind of effect, on a mechanism with reset and on one without.
async fn whole_life(client: api::vgpud_client::VgpudClient<Channel>) {
    for (profile, gpu) in [("vf-8", SRIOV), ("sim-small", MDEV)] {
        let Ok(made) = create(client.clone(), profile, gpu, 2, Some("pod-a")).await else { return };
        for slice in &made {
            let id = slice.id.clone();
            let release = api::ReleaseSliceRequest { id: id.clone(), generation: None };
            if client.clone().release_slice(release).await.is_err() {
                return;
            }
            let destroy = api::DestroySliceRequest { id, release: true };
            if client.clone().destroy_slice(destroy).await.is_err() {
                return;
            }
        }
    }
}

/// Runs until the n-th effect, dies there, and starts again; none where the life has fewer effects.
async fn die_at(point: usize, side: Side) -> Option<String> {
    let mut bench = Bench::new(&machine());
    let gate = Gate::new(bench.real_executor(), point, side);
    bench.start(Some(gate.clone())).await;
    let life = tokio::spawn(whole_life(bench.client()));
    while !life.is_finished() && gate.reached().is_none() {
        tokio::time::sleep(std::time::Duration::from_millis(2)).await;
    }
    let effect = gate.reached();
    bench.crash().await;
    life.abort();
    effect.as_ref()?;
    gate.bury();
    bench.start(None).await;
    bench.at_rest().await;
    let phases = bench.phases().await;
    let lost = phases.values().any(|phase| *phase == api::Phase::Quarantined);
    assert!(!lost, "{side:?} {effect:?}: {:#?}", bench.slices().await);
    bench.check().await;
    for id in phases.keys() {
        bench.destroy(id).await.unwrap();
    }
    bench.at_rest().await;
    bench.check().await;
    let vfs = bench.host.path(format!("/sys/bus/pci/devices/{SRIOV}/sriov_numvfs"));
    assert_eq!(std::fs::read_to_string(vfs).unwrap().trim(), "0", "{side:?} {effect:?}");
    effect
}

#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_that_dies_at_any_effect_loses_and_leaks_nothing() {
    let mut walked = 0;
    for side in [Side::Before, Side::After] {
        for point in 0.. {
            let Some(effect) = die_at(point, side).await else { break };
            println!("{side:?} {effect}");
            walked += 1;
        }
    }
    println!("kill points: {walked} walked");
    assert!(walked >= 40, "only {walked} kill points");
}
