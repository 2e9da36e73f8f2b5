use super::{Line, Places, Who, connection::IDLE, places::Full};
use std::{sync::Arc, time::Instant};

/// Takes places until there are no more.
fn fill(places: &Arc<Places>, who: Who) -> (Vec<super::places::Place>, Full) {
    let mut taken = Vec::new();
    loop {
        match places.take(who) {
            Ok(place) => taken.push(place),
            Err(full) => return (taken, full),
        }
    }
}

#[test]
fn nobody_takes_anothers_places_and_nobody_roots() {
    let places = Places::connections();
    let (own, full) = fill(&places, Who::User(1000));
    assert_eq!(own.len(), 64);
    assert!(full.to_string().starts_with("User 1000 already has 64 connections"), "{full}");
    // Somebody with very many uids.
    let more: Vec<_> = (0..1000).flat_map(|uid| fill(&places, Who::User(uid)).0).collect();
    assert_eq!(own.len() + more.len(), 512);
    let full = places.take(Who::Unknown).unwrap_err();
    assert!(full.to_string().contains("Everybody but root"), "{full}");
    let (root, full) = fill(&places, Who::Master);
    assert_eq!(root.len(), 2048);
    assert!(full.to_string().starts_with("Root"), "{full}");
    drop((own, more));
    assert_eq!(fill(&places, Who::User(1000)).0.len(), 64, "they are given back");
}

#[test]
fn a_connection_without_a_call_is_over_unless_it_is_roots() {
    let line = |who| Arc::new(Line::new(None, who, None, Places::connections().take(who).unwrap()));
    let later = Instant::now() + IDLE * 2;
    let (user, root) = (line(Who::User(1000)), line(Who::Master));
    assert!(!user.is_over(Instant::now()) && user.is_over(later) && !root.is_over(later));
    let call = user.begin().unwrap();
    assert!(!user.is_over(later), "a call goes on");
    drop(call);
    assert!(!user.is_over(Instant::now()), "the time runs from the end of the last call");
    assert!(user.is_over(later));
    root.cut_off();
    assert!(root.is_over(later), "who does not read is cut off, root too");
}

#[test]
fn a_connection_too_many_serves_no_call_and_ends() {
    let places = Places::connections();
    let (_own, full) = fill(&places, Who::User(1000));
    let place = Places::farewells().take(Who::User(1000)).unwrap();
    let line = Arc::new(Line::new(None, Who::User(1000), Some(full.clone()), place));
    assert_eq!(line.begin().unwrap_err(), full);
    assert!(!line.is_over(Instant::now()) && line.is_over(Instant::now() + IDLE));
}
