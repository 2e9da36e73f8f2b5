use super::*;
use crate::engine::{
    Event, SliceId,
    tests::{AT, Driven, handover, owner},
};

const S1: SliceId = SliceId::new(1);

/// A slice leased for ten seconds and handed over.
fn leased() -> Driven {
    let mut driven = Driven::plan(1, None);
    driven.on(Event::Created { slice: S1, at: AT });
    let terms = Terms { time: Some(Duration::from_secs(10)), ..Terms::default() };
    driven.on(Event::Lease {
        slice: S1,
        claim: Claim { terms, ..Claim::new(owner()) },
        holder: None,
        at: AT,
    });
    driven.on(Event::HandedOver { slice: S1, handover: handover() });
    driven
}

fn lease(driven: &Driven) -> &Lease {
    driven.state.slices[&S1].phase.lease().unwrap()
}

fn extend(seconds: u64) -> Event {
    let until = AT.boot.after(Duration::from_secs(seconds));
    Event::Extend { slice: S1, until, message: format!("lasts {seconds}s") }
}

const TIME_IS_UP: Event = Event::Release { slice: S1, generation: None, cause: ReleaseCause::TimeIsUp };

#[test]
fn time_counts_by_the_clock_that_nobody_sets() {
    let driven = leased();
    assert_eq!(lease(&driven).until, Some(BootMillis(AT.boot.0 + 10_000)));
    assert_eq!(lease(&driven).over_at(BootMillis(10_499)), None);
    assert_eq!(lease(&driven).over_at(BootMillis(10_500)), Some(BootMillis(10_500)));
}

#[test]
fn a_created_slice_is_leased_on_the_terms_that_were_asked_for() {
    let mut driven = Driven::new();
    let consumer = Consumer { uid: 7, gid: Some(8) };
    let claim =
        Claim { terms: Terms { consumer, time: Some(Duration::from_secs(1)) }, ..Claim::new(owner()) };
    let slices = vec![crate::engine::tests::planned(1, 0)];
    driven.on(Event::Plan { slices, claim: Some(claim), at: AT }).on(Event::Begin { slice: S1 });
    // The time begins with the lease, not with the request.
    let later = super::super::Moment { boot: BootMillis(60_000), ..AT };
    driven.on(Event::Created { slice: S1, at: later });
    assert_eq!((lease(&driven).consumer, lease(&driven).until), (consumer, Some(BootMillis(61_000))));
}

#[test]
fn an_end_is_put_off_and_never_brought_forward() {
    let mut driven = leased();
    assert_eq!(driven.refuse(extend(5)), Rejected::EndsLater(S1));
    driven.on(extend(20));
    assert_eq!(lease(&driven).until, Some(BootMillis(AT.boot.0 + 20_000)));
    driven.on(TIME_IS_UP);
    assert!(matches!(driven.refuse(extend(30)), Rejected::Busy { .. }));
    driven.on(Event::Withdrawn { slice: S1 });
    assert!(matches!(driven.refuse(extend(30)), Rejected::NotLeased { .. }));

    let mut endless = Driven::plan(1, Some(owner()));
    endless.on(Event::Created { slice: S1, at: AT });
    assert_eq!(endless.refuse(extend(1)), Rejected::NoEnd(S1));
}

/// A device in use is left with its VM, and the audit trail says so once, however often it is tried.
#[test]
fn an_overdue_lease_goes_on_and_is_told_once() {
    let mut driven = leased();
    let held = || Event::StillHeld { slice: S1, why: "held by pid 7 (qemu)".to_owned() };
    let mut told = Vec::new();
    for _ in 0..3 {
        for event in [TIME_IS_UP, held()] {
            let next = crate::engine::step(&driven.state, event).unwrap();
            told.extend(next.notes.iter().map(|note| (note.kind, note.message.clone())));
            driven.state = next.state;
        }
        assert_eq!(lease(&driven).overdue.as_deref(), Some("held by pid 7 (qemu)"));
    }
    assert_eq!(
        told.iter().map(|(kind, _)| *kind).collect::<Vec<_>>(),
        [NoteKind::LeaseReleasing, NoteKind::LeaseOverdue]
    );
    assert!(told[1].1.contains("held by pid 7 (qemu)"), "{told:?}");
    // More time makes it a lease like others again.
    driven.on(extend(20));
    assert_eq!(lease(&driven).overdue, None);
}
