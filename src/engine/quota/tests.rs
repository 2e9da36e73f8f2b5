use super::*;
use crate::engine::{
    Claim, Event, PlannedSlice, Rejected,
    tests::{AT, Driven, planned},
};
use vgpud_config::Quota;

fn owner(name: &str) -> Owner {
    name.parse().unwrap()
}

fn gib(number: u64) -> Memory {
    Memory::from_bytes(number << 30)
}

fn claim(name: &str, slices: Option<u32>, memory: Option<Memory>) -> Claim {
    let allowance = Allowance { quota: Quota { slices, memory }, table: "[quota.default]".to_owned() };
    Claim { allowance, ..Claim::new(owner(name)) }
}

/// Slices of 20 GiB planned for somebody.
fn plan(bus: u8, count: u16, claim: Claim) -> Event {
    let slice = |index| PlannedSlice { memory: Some(gib(20)), ..planned(bus, index) };
    Event::Plan { slices: (0..count).map(slice).collect(), claim: Some(claim), at: AT }
}

#[test]
fn slices_that_are_promised_count_like_those_that_are_leased() {
    let mut driven = Driven::new();
    driven.on(plan(1, 2, claim("team-a/x", Some(3), None)));
    // Two promised, and two more would be four; those of another owner do not count.
    let refused = driven.refuse(plan(2, 2, claim("team-a/y", Some(3), None)));
    assert_eq!(
        refused.to_string(),
        "Owner team-a has 2 of 3 slices (s1, s2) and asks for 2 more; release one, or raise slices under \
         [quota.default] in the settings"
    );
    driven.on(plan(2, 2, claim("team-b", Some(3), None)));
    for number in 1..=2 {
        let slice = SliceId::new(number);
        driven.on(Event::Begin { slice }).on(Event::Created { slice, at: AT });
    }
    let slices = |driven: &Driven, name| uses(&driven.state)[&owner(name)].slices.len();
    assert_eq!((slices(&driven, "team-a"), slices(&driven, "team-b")), (2, 2));
    assert!(matches!(driven.refuse(plan(3, 2, claim("team-a", Some(3), None))), Rejected::Quota(_)));
    driven.on(plan(3, 1, claim("team-a", Some(3), None)));
    let full = driven.refuse(plan(4, 1, claim("team-a", Some(3), None))).to_string();
    assert!(full.starts_with("Owner team-a has 3 of 3 slices (s1, s2, s5); release one"), "{full}");
}

#[test]
fn memory_is_counted_and_must_be_known() {
    let mut driven = Driven::new();
    driven.on(plan(1, 3, claim("a", None, Some(gib(80)))));
    let refused = driven.refuse(plan(2, 2, claim("a", None, Some(gib(80))))).to_string();
    assert!(refused.starts_with("Owner a has 60GiB of 80GiB of memory (s1, s2, s3) and asks for 40GiB more"));
    driven.on(plan(2, 1, claim("a", None, Some(gib(80)))));
    let unknown =
        Event::Plan { slices: vec![planned(3, 0)], claim: Some(claim("b", None, Some(gib(80)))), at: AT };
    let refused = driven.refuse(unknown).to_string();
    assert!(refused.contains("choose a profile whose memory is known"), "{refused}");
}

#[test]
fn a_quota_of_nothing_allows_nothing_and_none_allows_all() {
    let state = State::default();
    let check = |slices, memory| check(&state, &owner("a"), &claim("a", slices, memory).allowance, &[None]);
    assert!(check(Some(0), None).is_err());
    assert_eq!(check(None, None), Ok(()));
    assert_eq!(check(Some(1), None), Ok(()));
}

#[test]
fn many_slices_are_not_all_named() {
    let ids: Vec<_> = (1..=9).map(SliceId::new).collect();
    assert_eq!(names(&ids), " (s1, s2, s3, s4, s5, s6, s7, s8, …)");
}
