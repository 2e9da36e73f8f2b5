//! What a quarantined GPU is not used for, and how it comes back.

use super::*;

fn refused() -> Rejected {
    Rejected::GpuQuarantined { gpu: gpu(1), evidence: "fan broken".to_owned() }
}

#[test]
fn nothing_begins_on_a_quarantined_gpu() {
    let mut ready = Driven::ready(2);
    ready.on(quarantine_gpu(1));
    assert!(ready.effects.is_empty());
    let lease = Event::Lease { slice: S1, claim: Claim::new(owner()), holder: None, at: AT };
    assert_eq!(ready.refuse(lease.clone()), refused());
    let text = refused().to_string();
    assert!(text.contains("fan broken") && text.contains("vgpuctl quarantine clear 0000:01:00.0"), "{text}");
    let plan = |bus| Event::Plan { slices: vec![planned(bus, 3)], claim: None, at: AT };
    assert_eq!(ready.refuse(plan(1)), refused());
    assert_eq!(ready.refuse(quarantine_gpu(1)), refused());
    // Others go on.
    ready.on(plan(2));
    ready.on(clear_gpu(1)).on(lease);
    assert_eq!((ready.phase(1), &ready.effects[..]), ("leased", &["hand-over"][..]));
}

#[test]
fn only_an_operators_word_ends_it_and_not_while_the_gpu_is_away_or_stuck() {
    let mut ready = Driven::ready(1);
    assert_eq!(ready.refuse(clear_gpu(1)), Rejected::GpuNotQuarantined(gpu(1)));
    ready.on(quarantine_gpu(1));
    ready.on(Event::GpuVanished { gpu: gpu(1) }).on(Event::GpuReturned { gpu: gpu(1) });
    let clear = |shown| Event::ClearGpu { gpu: gpu(1), shown, by: Actor::Vgpud };
    assert_eq!(ready.refuse(clear(GpuShown::Absent)), Rejected::QuarantinedGpuAbsent(gpu(1)));
    let stuck = ready.refuse(clear(GpuShown::Stuck("reset s1".to_owned())));
    assert!(stuck.to_string().contains("still waits to reset s1"), "{stuck}");
    // A GPU that nothing is cut from stays quarantined as well.
    ready.on(Event::Destroy { slice: S1, leased: LeasedSlice::Refuse }).on(Event::Destroyed { slice: S1 });
    ready.on(Event::Retired { gpu: gpu(1) });
    assert!(ready.state.cuts.is_empty());
    assert!(ready.state.quarantined_gpus.contains_key(&gpu(1)));
    ready.on(clear_gpu(1));
    assert_eq!(ready.state.quarantined_gpus.len(), 0);
}

#[test]
fn a_lease_goes_on_and_what_is_released_is_scrubbed_and_stays() {
    let mut leased = Driven::leased();
    leased.on(quarantine_gpu(1));
    assert_eq!((leased.phase(1), leased.effects.len()), ("leased", 0));
    leased.on(RELEASE).on(Event::Withdrawn { slice: S1 });
    assert_eq!(leased.effects, ["reset"]);
    leased.on(Event::Scrubbed { slice: S1, evidence: None });
    assert_eq!(leased.phase(1), "ready");
    let lease = Event::Lease { slice: S1, claim: Claim::new(owner()), holder: None, at: AT };
    assert_eq!(leased.refuse(lease), refused());
}

#[test]
fn an_instance_without_reset_is_not_made_anew() {
    let mut leased = Driven::leased();
    let fresh = InstanceName::Mdev(MdevUuid(Uuid::from_u128(7)));
    leased.on(quarantine_gpu(1)).on(RELEASE).on(Event::Withdrawn { slice: S1 });
    leased.on(Event::NoReset { slice: S1, fresh, why: None }).on(Event::Destroyed { slice: S1 });
    assert_eq!((leased.phase(1), leased.effects.len()), ("quarantined", 0));
    assert_eq!(leased.state.slices[&S1].name, fresh);
    let clear = Event::Clear { slice: S1, shown: Shown::Gone };
    assert_eq!(leased.refuse(clear.clone()), refused());
    leased.on(clear_gpu(1)).on(clear);
    assert_eq!((leased.phase(1), &leased.effects[..]), ("creating", &["create"][..]));
}

#[test]
fn a_restart_of_the_host_makes_nothing_again_on_it() {
    let mut leased = Driven::leased();
    leased.on(quarantine_gpu(1)).on(Event::Rebooted { slice: S1, origin: Origin::Ours });
    assert_eq!(leased.phase(1), "quarantined");
    assert_eq!(leased.effects, ["unpublish"]);
    let why = &leased.state.slices[&S1].phase;
    let Phase::Quarantined { why } = why else { panic!("{why:?}") };
    assert_eq!(why.cause, QuarantineCause::GpuQuarantined);
    assert!(why.evidence.contains("the host's restart") && why.evidence.contains("clear the GPU first"));
}

#[test]
fn a_request_that_is_not_complete_is_given_up_everywhere() {
    let mut request = Driven::new();
    let slices = vec![planned(1, 0), planned(2, 0), planned(1, 1)];
    request.on(Event::Plan { slices, claim: Some(Claim::new(owner())), at: AT });
    request.on(Event::Begin { slice: S1 }).on(Event::Begin { slice: S2 });
    request.on(Event::Created { slice: S2, at: AT });
    request.on(quarantine_gpu(1));
    assert_eq!((request.phase(1), request.phase(2), request.phase(3)), ("creating", "destroying", "gone"));
    request.on(Event::Created { slice: S1, at: AT });
    assert_eq!((request.phase(1), &request.effects[..]), ("destroying", &["destroy"][..]));
}

#[test]
fn an_operator_puts_a_slice_aside_that_nobody_leases() {
    let aside = || Event::Quarantine {
        slice: S1,
        reason: "odd".to_owned(),
        by: Actor::User("User alice (1000)".to_owned()),
    };
    let leased = Driven::leased();
    assert_eq!(leased.refuse(aside()), Rejected::Leased { slice: S1, owner: owner() });
    let planned = Driven::plan(1, None);
    assert_eq!(planned.refuse(aside()), Rejected::Busy { slice: S1, phase: "creating" });
    let mut ready = Driven::ready(1);
    ready.on(aside());
    let Phase::Quarantined { why } = &ready.state.slices[&S1].phase else { panic!() };
    assert_eq!((why.cause, why.by.to_string().as_str()), (QuarantineCause::Operator, "User alice (1000)"));
    assert!(matches!(ready.refuse(aside()), Rejected::Quarantined { .. }));
    ready.on(Event::Clear { slice: S1, shown: Shown::There });
    assert_eq!((ready.phase(1), &ready.effects[..]), ("scrubbing", &["reset"][..]));
}
