//! From tenant to tenant, many times over: what one leaves, the next never reads. The owners here are
//! small VFIO programs, which are quick, and micro-VMs, which are what it is for.

#![allow(clippy::unwrap_used)]

mod support;

use std::time::{Duration, Instant};
use support::{Daemon, Model, SimGpu, Tenant, assert_nothing_left, tell};

const MINUTE: Duration = Duration::from_secs(60);
const PAGE: u64 = 4096;

/// A GPU, a size to cut from it, and that size's memory in bytes.
const KINDS: [(Model, &str, u64); 2] =
    [(Model::Sim, "vf-8", 16 << 20), (Model::Simmdev, "simgpu_mdev-small", 16 << 20)];

/// One slice of each kind goes from tenant to tenant, each of whom looks for what others left and then
/// writes all of it. No reset clears anything, nor that of opening the device: what the next one does not
/// find, the scrub has taken away.
fn hand_over(what: &str, each: u64, mut tenant: impl FnMut(&Daemon, &str, u64) -> u64) {
    let daemon = Daemon::start();
    let (mut handovers, mut leaked) = (0, 0);
    for (model, profile, _) in KINDS {
        let gpu = SimGpu::find(model);
        let id = daemon.create(&format!("{profile} --gpu {}", gpu.address)).remove(0);
        let begun = Instant::now();
        let _knob = gpu.set("flr", "leave", "clear");
        // The first tenant follows nobody.
        for number in 0..=each {
            leaked += tenant(&daemon, &id, number);
        }
        handovers += each;
        tell!("{profile}: {each} handovers between {what} in {:?}", begun.elapsed());
        daemon.ok(&format!("destroy {id}"));
    }
    tell!("handovers: {handovers}, {leaked} bytes leaked");
    assert_eq!(leaked, 0);
    assert_nothing_left(&daemon);
}

/// A tenant that is a VFIO program; returns how many bytes it found.
fn program(daemon: &Daemon, id: &str, number: u64) -> u64 {
    let slice = daemon.json(&format!("lease {id} --owner tenant-{number}"))["slice"].take();
    let tenant = Tenant::open(&slice);
    let found = tenant.found();
    assert_eq!(tenant.write(), slice["memory_bytes"].as_u64().unwrap());
    drop(tenant);
    daemon.ok(&format!("release {id}"));
    found
}

/// What the first program in a micro-VM found in its GPU's memory.
struct Found {
    pages: u64,
    of_pages: u64,
    text: String,
}

/// A tenant that is a micro-VM: its guest looks for what others left, fills all of its memory with its
/// secret and checks that it is there.
fn guest(daemon: &Daemon, id: &str, number: u64) -> Found {
    let secret = format!("secret-of-{number}");
    let output = daemon.run(&format!("{id} --owner tenant-{number} -- gpu read write {secret}")).wait();
    assert_eq!(output.code, 0, "{output:#?}");
    daemon.wait_for_phase(id, "ready", MINUTE);
    let line = output.stdout.lines().find(|line| line.contains(" nonzero "));
    let line = line.unwrap_or_else(|| panic!("the guest did not look: {output:#?}"));
    let (_, counts) = line.split_once(" nonzero ").unwrap();
    let (counts, text) = counts.split_once(" pages, text ").unwrap();
    let (pages, of_pages) = counts.split_once(" of ").unwrap();
    let written = format!("wrote {secret}: 0 of {of_pages} pages differ");
    assert!(output.stdout.contains(&written), "{output:#?}");
    Found {
        pages: pages.parse().unwrap(),
        of_pages: of_pages.parse().unwrap(),
        text: text.trim_end().to_owned(),
    }
}

fn found_by_guest(daemon: &Daemon, id: &str, number: u64) -> u64 {
    let found = guest(daemon, id, number);
    let size = daemon.slice(id)["memory_bytes"].as_u64().unwrap();
    assert_eq!(found.of_pages * PAGE, size, "the guest looked at all of it");
    found.pages * PAGE
}

#[test]
fn between_vfio_programs() {
    hand_over("VFIO programs", 100, program);
}

#[test]
#[ignore = "long: `./x test --long` hands over a thousand times"]
fn a_thousand_times_between_vfio_programs() {
    hand_over("VFIO programs", 500, program);
}

#[test]
fn between_micro_vms() {
    hand_over("micro-VMs", 2, found_by_guest);
}

#[test]
#[ignore = "long: `./x test --long` boots twenty-two micro-VMs one after the other"]
fn many_times_between_micro_vms() {
    hand_over("micro-VMs", 10, found_by_guest);
}

/// The same with the check switched off leaks, which is what makes the tests above tests.
#[test]
fn without_the_check_a_guest_reads_what_the_last_one_wrote() {
    let daemon = Daemon::start_with("[scrub]\nreuse = \"reset\"");
    for (model, profile, size) in KINDS {
        let gpu = SimGpu::find(model);
        let id = daemon.create(&format!("{profile} --gpu {}", gpu.address)).remove(0);
        let _knob = gpu.set("flr", "leave", "clear");
        guest(&daemon, &id, 1);
        let found = guest(&daemon, &id, 2);
        let leaked = found.pages * PAGE;
        tell!("{profile} with reuse = \"reset\" and a reset that leaves memory: {leaked} bytes leaked");
        assert_eq!((leaked, found.text.as_str()), (size, "secret-of-1"));
        daemon.ok(&format!("destroy {id}"));
        gpu.turn("flr", "clear");
    }
    assert_nothing_left(&daemon);
}
