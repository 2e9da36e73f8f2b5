//! Readers that leave, and events that come later.

use crate::{
    canned::{Canned, Mood},
    process::{DEADLINE, Finished, command, finish, vgpuctl},
};
use std::{fs::File, process::Stdio};
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    time::timeout,
};

/// vgpuctl whose stdout nobody reads any more.
async fn unread(server: &Canned, args: &[&str]) -> Finished {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let mut command = command(server.socket(), args);
    command.stdout(Stdio::from(writer));
    finish(command).await
}

#[tokio::test]
async fn a_reader_that_left_is_no_failure() {
    let server = Canned::start(Mood::Talkative(20_000));
    for args in
        [&["events"][..], &["slices"], &["gpus", "--output", "json"], &["generate", "man"], &["--help"]]
    {
        let done = unread(&server, args).await;
        assert_eq!((done.code, done.stderr.as_str()), (0, ""), "{args:?}");
    }
}

#[tokio::test]
async fn a_full_disk_is_a_failure() {
    let server = Canned::start(Mood::Helpful);
    let mut command = command(server.socket(), &["slices"]);
    command.stdout(Stdio::from(File::options().write(true).open("/dev/full").unwrap()));
    let done = finish(command).await;
    assert_eq!(done.code, 2);
    assert!(done.stderr.contains("Cannot write the output\n  caused by: No space left"), "{}", done.stderr);
}

#[tokio::test]
async fn followed_events_are_shown_as_they_come() {
    let server = Canned::start(Mood::Helpful);
    let mut child = command(server.socket(), &["events", "--follow", "--after", "41"]).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    for sequence in ["42", "43"] {
        let line = timeout(DEADLINE, lines.next_line()).await.unwrap().unwrap().unwrap();
        assert!(line.contains(sequence), "{line}");
    }
    assert_eq!(child.try_wait().unwrap(), None, "it goes on until it is interrupted");
    child.kill().await.unwrap();
}

#[tokio::test]
async fn following_a_vgpud_that_stops_is_a_failure_that_says_how_to_go_on() {
    let server = Canned::start(Mood::Talkative(3));
    let done = vgpuctl(server.socket(), &["events", "--follow"]).await;
    assert_eq!(done.code, 2);
    assert!(done.stderr.contains("after number 3") && done.stderr.contains("--after 3"), "{}", done.stderr);
    assert_eq!(done.stdout.lines().count(), 3);
}
