//! The state machine by name, and under random events.

use super::*;
use std::path::PathBuf;
use uuid::Uuid;
use vgpud_config::{Owner, PciAddress};
use vgpud_mdev::{InstanceName, MdevUuid, MechanismKind, VfIndex};

mod gpu_quarantine;
mod model;
mod partition;
mod random;

pub(super) fn gpu(bus: u8) -> PciAddress {
    format!("0000:{bus:02x}:00.0").parse().unwrap()
}

pub(super) fn owner() -> Owner {
    "pod-a".parse().unwrap()
}

pub(super) fn planned(bus: u8, index: u16) -> PlannedSlice {
    PlannedSlice {
        gpu: gpu(bus),
        mechanism: MechanismKind::Sriov,
        profile: "vf-4".parse().unwrap(),
        name: InstanceName::Vf(VfIndex(index)),
        memory: None,
        compute: None,
        capacity: 4,
        origin: Origin::Ours,
    }
}

pub(super) fn handover() -> Handover {
    Handover { node: PathBuf::from("/dev/vfio/7"), cdi_device: "vgpud.io/slice=s1".to_owned(), address: None }
}

pub(super) fn quarantine_gpu(bus: u8) -> Event {
    let (cause, evidence) = (GpuQuarantineCause::Operator, "fan broken".to_owned());
    let why =
        GpuQuarantine { cause, evidence, since: AT.wall, by: Actor::User("User alice (1000)".to_owned()) };
    Event::QuarantineGpu { gpu: gpu(bus), why }
}

pub(super) fn clear_gpu(bus: u8) -> Event {
    Event::ClearGpu { gpu: gpu(bus), shown: GpuShown::There, by: Actor::Vgpud }
}

pub(super) const AT: Moment = Moment { wall: UnixMillis(1_000), boot: BootMillis(500) };

/// A state driven by events, with the effects of the last one.
pub(super) struct Driven {
    pub state: State,
    pub effects: Vec<&'static str>,
}

impl Driven {
    pub fn new() -> Self {
        Self { state: State::default(), effects: vec![] }
    }

    pub fn on(&mut self, event: Event) -> &mut Self {
        let next = step(&self.state, event).unwrap();
        self.state = next.state;
        self.effects = next.effects.iter().map(Effect::word).collect();
        self
    }

    pub fn plan(count: u16, owner: Option<Owner>) -> Self {
        let mut driven = Self::new();
        let slices = (0..count).map(|i| planned(1, i)).collect();
        driven.on(Event::Plan { slices, claim: owner.map(Claim::new), at: AT });
        for number in 1..=u64::from(count) {
            driven.on(Event::Begin { slice: SliceId::new(number) });
        }
        driven
    }

    pub fn ready(count: u16) -> Self {
        let mut driven = Self::plan(count, None);
        for number in 1..=u64::from(count) {
            driven.on(Event::Created { slice: SliceId::new(number), at: AT });
        }
        driven
    }

    pub fn leased() -> Self {
        let mut driven = Self::ready(1);
        driven.on(Event::Lease { slice: S1, claim: Claim::new(owner()), holder: None, at: AT });
        driven.on(Event::HandedOver { slice: S1, handover: handover() });
        driven
    }

    pub fn phase(&self, number: u64) -> &'static str {
        self.state.slices.get(&SliceId::new(number)).map_or("gone", |slice| slice.phase.word())
    }

    pub fn refuse(&self, event: Event) -> Rejected {
        step(&self.state, event).unwrap_err()
    }
}

const S1: SliceId = SliceId::new(1);
const S2: SliceId = SliceId::new(2);
const RELEASE: Event = Event::Release { slice: S1, generation: None, cause: ReleaseCause::Asked };

#[test]
fn a_whole_life() {
    let mut life = Driven::plan(1, None);
    assert_eq!((life.phase(1), &life.effects[..]), ("creating", &["create"][..]));
    life.on(Event::Created { slice: S1, at: AT });
    assert_eq!((life.phase(1), life.effects.len()), ("ready", 0));
    life.on(Event::Lease { slice: S1, claim: Claim::new(owner()), holder: None, at: AT });
    assert_eq!((life.phase(1), &life.effects[..]), ("leased", &["hand-over"][..]));
    life.on(Event::HandedOver { slice: S1, handover: handover() });
    assert!(life.state.slices[&S1].at_rest());
    life.on(RELEASE);
    assert_eq!((life.phase(1), &life.effects[..]), ("releasing", &["withdraw"][..]));
    life.on(Event::Withdrawn { slice: S1 });
    assert_eq!((life.phase(1), &life.effects[..]), ("scrubbing", &["reset"][..]));
    life.on(Event::Scrubbed { slice: S1, evidence: None });
    assert_eq!(life.phase(1), "ready");
    life.on(Event::Destroy { slice: S1, leased: LeasedSlice::Refuse });
    assert_eq!((life.phase(1), &life.effects[..]), ("destroying", &["destroy"][..]));
    life.on(Event::Destroyed { slice: S1 });
    assert_eq!((life.phase(1), &life.effects[..]), ("gone", &["retire"][..]));
    life.on(Event::Retired { gpu: gpu(1) });
    assert_eq!(life.state, State { last_id: 1, ..State::default() });
}

#[test]
fn a_slice_has_one_lease() {
    let leased = Driven::leased();
    let again = leased.refuse(Event::Lease { slice: S1, claim: Claim::new(owner()), holder: None, at: AT });
    assert_eq!(again, Rejected::Leased { slice: S1, owner: owner() });
    let destroy = leased.refuse(Event::Destroy { slice: S1, leased: LeasedSlice::Refuse });
    assert_eq!(destroy, Rejected::Leased { slice: S1, owner: owner() });
}

#[test]
fn a_release_of_an_earlier_lease_is_refused() {
    let mut leased = Driven::leased();
    leased.on(RELEASE).on(Event::Withdrawn { slice: S1 }).on(Event::Scrubbed { slice: S1, evidence: None });
    leased.on(Event::Lease { slice: S1, claim: Claim::new(owner()), holder: None, at: AT });
    leased.on(Event::HandedOver { slice: S1, handover: handover() });
    let stale = Event::Release { slice: S1, generation: Some(Generation(1)), cause: ReleaseCause::Asked };
    let (asked, current) = (Generation(1), Generation(2));
    assert_eq!(leased.refuse(stale), Rejected::OtherLease { slice: S1, asked, current });
}

#[test]
fn a_device_that_is_held_stays_leased() {
    let mut leased = Driven::leased();
    leased.on(Event::Destroy { slice: S1, leased: LeasedSlice::Release });
    leased.on(Event::StillHeld { slice: S1, why: "held by qemu (pid 9)".into() });
    assert_eq!((leased.phase(1), leased.effects.len()), ("leased", 0));
    // The destruction that was asked for is off too.
    leased.on(RELEASE).on(Event::Withdrawn { slice: S1 }).on(Event::Scrubbed { slice: S1, evidence: None });
    assert_eq!(leased.phase(1), "ready");
}

#[test]
fn destroy_with_release_ends_in_nothing() {
    let mut leased = Driven::leased();
    leased.on(Event::Destroy { slice: S1, leased: LeasedSlice::Release });
    leased.on(Event::Withdrawn { slice: S1 }).on(Event::Scrubbed { slice: S1, evidence: None });
    assert_eq!((leased.phase(1), &leased.effects[..]), ("destroying", &["destroy"][..]));
}

fn kept() -> Event {
    Event::Kept { slice: S1, why: "it shows no memory".into() }
}

#[test]
fn what_may_hold_an_owners_data_is_leased_to_that_owner_alone() {
    let other =
        || Event::Lease { slice: S1, claim: Claim::new("pod-b".parse().unwrap()), holder: None, at: AT };
    let mut slice = Driven::leased();
    slice.on(RELEASE).on(Event::Withdrawn { slice: S1 }).on(kept());
    assert_eq!((slice.phase(1), slice.effects.len()), ("ready", 0));
    assert_eq!(slice.refuse(other()), Rejected::Reserved { slice: S1, owner: owner() });
    slice.on(Event::Lease { slice: S1, claim: Claim::new(owner()), holder: None, at: AT });
    slice.on(Event::HandedOver { slice: S1, handover: handover() });
    slice.on(RELEASE).on(Event::Withdrawn { slice: S1 }).on(Event::Scrubbed { slice: S1, evidence: None });
    slice.on(other());
    assert_eq!(slice.phase(1), "leased");
}

#[test]
fn what_may_hold_anybodys_data_is_kept_for_nobody() {
    let mut slice = Driven::leased();
    slice.on(Event::Contradiction { slice: S1, why: "it was away".into() });
    slice.on(Event::Clear { slice: S1, shown: Shown::There }).on(kept());
    assert_eq!(slice.phase(1), "quarantined");
}

#[test]
fn a_slice_that_is_to_be_destroyed_is_kept_for_nobody() {
    let mut slice = Driven::leased();
    slice.on(Event::Destroy { slice: S1, leased: LeasedSlice::Release });
    slice.on(Event::Withdrawn { slice: S1 }).on(kept());
    assert_eq!((slice.phase(1), &slice.effects[..]), ("destroying", &["destroy"][..]));
}

#[test]
fn a_failed_handover_is_taken_back_and_scrubbed() {
    let mut ready = Driven::ready(1);
    ready.on(Event::Lease { slice: S1, claim: Claim::new(owner()), holder: None, at: AT });
    ready.on(Event::HandOverFailed { slice: S1, why: "a stranger in the group".into() });
    assert_eq!((ready.phase(1), &ready.effects[..]), ("releasing", &["withdraw"][..]));
    ready.on(Event::StillHeld { slice: S1, why: "held by qemu (pid 9)".into() });
    assert_eq!((ready.phase(1), &ready.effects[..]), ("quarantined", &["unpublish"][..]));
}

#[test]
fn one_failure_takes_the_whole_request_apart() {
    let mut request = Driven::plan(3, None);
    request.on(Event::Created { slice: S1, at: AT });
    assert_eq!(
        request.refuse(Event::Lease { slice: S1, claim: Claim::new(owner()), holder: None, at: AT }),
        Rejected::Busy { slice: S1, phase: "being created with others" }
    );
    request.on(Event::CreateFailed { slice: S2, why: "no room".into(), ran: Ran::Begun });
    assert_eq!(
        [request.phase(1), request.phase(2), request.phase(3)],
        ["destroying", "destroying", "creating"]
    );
    request.on(Event::Created { slice: SliceId::new(3), at: AT });
    assert_eq!(request.phase(3), "destroying");
}

#[test]
fn an_owner_gets_all_slices_or_none() {
    let mut request = Driven::plan(2, Some(owner()));
    request.on(Event::Created { slice: S1, at: AT });
    assert_eq!(request.phase(1), "ready");
    request.on(Event::Created { slice: S2, at: AT });
    assert_eq!(request.effects, ["hand-over", "hand-over"]);
    request.on(Event::HandedOver { slice: S1, handover: handover() });
    request.on(Event::HandOverFailed { slice: S2, why: "no node".into() });
    assert_eq!([request.phase(1), request.phase(2)], ["releasing", "releasing"]);
    request.on(Event::Withdrawn { slice: S1 }).on(Event::Scrubbed { slice: S1, evidence: None });
    assert_eq!(request.phase(1), "destroying");
}

#[test]
fn an_instance_without_reset_is_created_again() {
    let mut slice = Driven::leased();
    let fresh = InstanceName::Mdev(MdevUuid(Uuid::from_u128(7)));
    slice.on(RELEASE).on(Event::Withdrawn { slice: S1 }).on(Event::NoReset { slice: S1, fresh, why: None });
    assert_eq!((slice.phase(1), &slice.effects[..]), ("destroying", &["destroy"][..]));
    slice.on(Event::Destroyed { slice: S1 });
    assert_eq!((slice.phase(1), &slice.effects[..]), ("creating", &["create"][..]));
    assert_eq!(slice.state.slices[&S1].name, fresh);
}

#[test]
fn only_an_operator_ends_a_quarantine() {
    let mut slice = Driven::leased();
    slice.on(RELEASE).on(Event::Withdrawn { slice: S1 });
    slice.on(Event::Overdue { slice: S1, waiting_for: "the reset".into() });
    assert_eq!(slice.phase(1), "quarantined");
    assert!(matches!(
        slice.refuse(Event::Scrubbed { slice: S1, evidence: None }),
        Rejected::Unexpected { .. }
    ));
    slice.on(Event::LateResult { slice: S1, result: "reset done".into() });
    slice.on(Event::GpuVanished { gpu: gpu(1) }).on(Event::GpuReturned { gpu: gpu(1) });
    assert_eq!(slice.phase(1), "quarantined");
    slice.on(Event::Destroy { slice: S1, leased: LeasedSlice::Refuse });
    assert_eq!(slice.phase(1), "destroying");
}

#[test]
fn a_cleared_quarantine_leads_through_the_scrub() {
    let mut slice = Driven::leased();
    let clear = |shown| Event::Clear { slice: S1, shown };
    let not_yet = slice.refuse(clear(Shown::There));
    assert_eq!(not_yet, Rejected::NotQuarantined { slice: S1, phase: "leased" });
    slice.on(RELEASE).on(Event::Withdrawn { slice: S1 });
    slice.on(Event::ScrubFailed { slice: S1, why: "not clean".into() });
    assert_eq!(slice.refuse(clear(Shown::GpuAbsent)), Rejected::GpuAbsent { slice: S1, gpu: gpu(1) });
    let other = slice.refuse(clear(Shown::Other("vf-8".parse().unwrap())));
    assert!(other.to_string().contains("a vf-8 now, and not vf-4"), "{other}");
    slice.on(clear(Shown::There));
    assert_eq!((slice.phase(1), &slice.effects[..]), ("scrubbing", &["reset"][..]));
    slice.on(Event::ScrubFailed { slice: S1, why: "still not clean".into() });
    assert_eq!(slice.phase(1), "quarantined");
    slice.on(clear(Shown::There)).on(Event::Scrubbed { slice: S1, evidence: None });
    assert_eq!(slice.phase(1), "ready");
}

#[test]
fn a_cleared_slice_whose_instance_is_gone_is_created_again() {
    let mut slice = Driven::ready(1);
    slice.state.cuts.get_mut(&gpu(1)).unwrap().origin = Origin::Found;
    slice.on(Event::Contradiction { slice: S1, why: "it is gone".into() });
    let gone = Driven { state: slice.state.clone(), effects: vec![] };
    for (shown, origin) in [(Shown::Gone, Origin::Found), (Shown::Undivided, Origin::Ours)] {
        let mut cleared = Driven { state: gone.state.clone(), effects: vec![] };
        cleared.on(Event::Clear { slice: S1, shown });
        assert_eq!((cleared.phase(1), &cleared.effects[..]), ("creating", &["create"][..]));
        assert_eq!(cleared.state.cuts[&gpu(1)].origin, origin);
        cleared.on(Event::CreateFailed { slice: S1, why: "no room".into(), ran: Ran::Begun });
        assert_eq!(cleared.phase(1), "quarantined", "it is wanted still");
    }
}

#[test]
fn a_gpu_that_somebody_else_cut_is_never_put_back() {
    let mut found = Driven::new();
    let slice = PlannedSlice { origin: Origin::Found, ..planned(1, 0) };
    found.on(Event::Plan { slices: vec![slice], claim: None, at: AT });
    found.on(Event::Begin { slice: S1 }).on(Event::Created { slice: S1, at: AT });
    found.on(Event::Destroy { slice: S1, leased: LeasedSlice::Refuse });
    found.on(Event::Destroyed { slice: S1 });
    assert!(found.effects.is_empty() && found.state.cuts.is_empty());
}

#[test]
fn a_vanished_gpu_takes_its_slices_out_of_use() {
    let mut slice = Driven::leased();
    slice.on(Event::GpuVanished { gpu: gpu(1) });
    assert_eq!((slice.phase(1), &slice.effects[..]), ("quarantined", &["unpublish"][..]));
}

#[test]
fn a_restart_of_the_host_closes_leases_and_creates_again() {
    let mut slice = Driven::leased();
    slice.on(Event::Rebooted { slice: S1, origin: Origin::Ours });
    assert_eq!((slice.phase(1), &slice.effects[..]), ("creating", &["unpublish", "create"][..]));
}

#[test]
fn instances_have_one_slice_and_gpus_a_capacity() {
    let ready = Driven::ready(4);
    let plan = |slice| Event::Plan { slices: vec![slice], claim: None, at: AT };
    assert_eq!(ready.refuse(plan(planned(1, 0))), Rejected::NameTaken(gpu(1)));
    assert!(matches!(ready.refuse(plan(planned(1, 4))), Rejected::Full { capacity: 4, .. }));
    let other = PlannedSlice { mechanism: MechanismKind::Mdev, ..planned(1, 5) };
    assert!(matches!(ready.refuse(plan(other)), Rejected::OtherMechanism { .. }));
}

#[test]
fn a_handover_that_came_late_leaves_no_cdi_file() {
    let mut late = Driven::ready(1);
    late.on(Event::Lease { slice: S1, claim: Claim::new(owner()), holder: None, at: AT });
    late.on(Event::Overdue { slice: S1, waiting_for: "hand over s1".into() });
    late.on(Event::LateResult { slice: S1, result: "hand over s1 is done".into() });
    assert_eq!((late.phase(1), &late.effects[..]), ("quarantined", &["unpublish"][..]));
}

#[test]
fn slices_at_work_on_a_gpu_that_is_gone_at_the_start_come_to_their_end() {
    let mut gone = Driven::plan(2, None);
    let host = reconcile::HostView::default();
    let findings = reconcile::compare(&gone.state, &host).events;
    for event in findings {
        gone.on(event);
    }
    assert_eq!((gone.phase(2), &gone.effects[..]), ("creating", &["create"][..]));
    gone.on(Event::CreateFailed { slice: S2, why: "no such GPU".into(), ran: Ran::Begun });
    // The next start finds it where it is being destroyed.
    let findings = reconcile::compare(&gone.state, &host).events;
    assert!(findings.contains(&Event::Resume { slice: S2 }), "{findings:?}");
}
