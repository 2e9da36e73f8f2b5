use super::super::tests::{AT, Driven, gpu, owner};
use super::*;
use crate::engine::{Claim, Effect, step};
use std::path::PathBuf;
use vgpud_mdev::{VfIndex, VfioNodes};

fn instance(index: u16, profile: &str) -> Instance {
    Instance {
        gpu: gpu(1),
        name: InstanceName::Vf(VfIndex(index)),
        sysfs: PathBuf::from("/sys/bus/pci/devices/0000:01:00.1"),
        address: None,
        profile: profile.parse().unwrap(),
        driver: None,
        iommu_group: None,
        nodes: VfioNodes::default(),
    }
}

fn host(instances: Vec<Instance>) -> HostView {
    HostView { gpus: [(gpu(1), instances)].into(), ..HostView::default() }
}

const S1: SliceId = SliceId::new(1);

#[test]
fn what_is_there_as_recorded_is_adopted() {
    let ready = Driven::ready(1);
    assert_eq!(compare(&ready.state, &host(vec![instance(0, "vf-4")])), Findings::default());
    let leased = Driven::leased();
    assert_eq!(compare(&leased.state, &host(vec![instance(0, "vf-4")])), Findings::default());
}

#[test]
fn what_contradicts_is_quarantined() {
    let ready = Driven::ready(1);
    for host in [host(vec![]), host(vec![instance(0, "vf-8")])] {
        let found = compare(&ready.state, &host);
        assert!(matches!(found.events[..], [Event::Contradiction { slice: S1, .. }]), "{found:?}");
    }
}

#[test]
fn an_interrupted_effect_is_resumed() {
    let mut driven = Driven::plan(1, None);
    let resume = |state: &State| {
        let found = compare(state, &host(vec![instance(0, "vf-4")]));
        assert_eq!(found.events, [Event::Resume { slice: S1 }]);
        step(state, Event::Resume { slice: S1 }).unwrap().effects[0].word()
    };
    assert_eq!(resume(&driven.state), "create");
    driven.on(Event::Created { slice: S1, at: AT });
    driven.on(Event::Lease { slice: S1, claim: Claim::new(owner()), holder: None, at: AT });
    assert_eq!(resume(&driven.state), "hand-over");
    driven.on(Event::HandOverFailed { slice: S1, why: "x".into() });
    assert_eq!(resume(&driven.state), "withdraw");
    driven.on(Event::Withdrawn { slice: S1 });
    assert_eq!(resume(&driven.state), "reset");
    driven.on(Event::Scrubbed { slice: S1, evidence: None });
    driven.on(Event::Destroy { slice: S1, leased: crate::engine::LeasedSlice::Refuse });
    assert_eq!(resume(&driven.state), "destroy");
    driven.on(Event::Destroyed { slice: S1 });
    let found = compare(&driven.state, &host(vec![]));
    assert_eq!(found.events, [Event::ResumeRetire { gpu: gpu(1) }]);
    let effects = step(&driven.state, found.events[0].clone()).unwrap().effects;
    assert!(matches!(effects[..], [Effect::Retire { .. }]));
}

#[test]
fn a_lease_of_an_ended_holder_is_released() {
    let leased = Driven::leased();
    let view = HostView { ended_holders: [S1].into(), ..host(vec![instance(0, "vf-4")]) };
    let found = compare(&leased.state, &view);
    assert!(matches!(found.events[..], [Event::Release { cause: ReleaseCause::HolderEnded, .. }]));
}

#[test]
fn a_restart_of_the_host_makes_everything_again() {
    let leased = Driven::leased();
    let view = HostView { restart: Restart::Restarted, ..host(vec![]) };
    let found = compare(&leased.state, &view);
    assert_eq!(found.events, [Event::Rebooted { slice: S1, origin: Origin::Ours }]);
}

#[test]
fn what_somebody_has_divided_since_the_restart_is_not_taken_apart() {
    let ready = Driven::ready(1);
    let view = HostView { restart: Restart::Restarted, divided: [gpu(1)].into(), ..host(vec![]) };
    let found = compare(&ready.state, &view);
    assert_eq!(found.events, [Event::Rebooted { slice: S1, origin: Origin::Found }]);
}

#[test]
fn a_gpu_that_is_gone_is_said_once() {
    let ready = Driven::ready(2);
    let found = compare(&ready.state, &HostView::default());
    assert_eq!(found.events, [Event::GpuVanished { gpu: gpu(1) }]);
}

#[test]
fn a_gpu_that_cannot_be_read_is_as_it_was_unless_the_host_restarted() {
    let unreadable = HostView { unreadable: [gpu(1)].into(), ..HostView::default() };
    for driven in [Driven::ready(1), Driven::leased()] {
        assert_eq!(compare(&driven.state, &unreadable), Findings::default());
        let restarted = HostView { restart: Restart::Restarted, ..unreadable.clone() };
        assert_eq!(compare(&driven.state, &restarted).events, [Event::GpuVanished { gpu: gpu(1) }]);
    }
    // What was begun goes on, and so does putting it back.
    let mut ready = Driven::ready(1);
    ready.on(Event::Destroy { slice: S1, leased: crate::engine::LeasedSlice::Refuse });
    assert_eq!(compare(&ready.state, &unreadable).events, [Event::Resume { slice: S1 }]);
    ready.on(Event::Destroyed { slice: S1 });
    assert_eq!(compare(&ready.state, &unreadable).events, [Event::ResumeRetire { gpu: gpu(1) }]);
}

#[test]
fn strangers_are_left_alone_and_spares_are_our_own() {
    let none = State::default();
    let found = compare(&none, &host(vec![instance(0, "vf-4"), instance(1, "vf-4")]));
    assert_eq!((found.events.len(), found.foreign.len()), (0, 2));
    let ready = Driven::ready(1);
    let found = compare(&ready.state, &host(vec![instance(0, "vf-4"), instance(1, "vf-4")]));
    assert_eq!(found, Findings::default());
}
