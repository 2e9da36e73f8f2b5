//! `vgpuctl run`, with a program that stands in for QEMU.

use crate::{
    canned::{Canned, Mood, refusal},
    golden,
    process::{DEADLINE, Finished, command, finish, vgpuctl},
};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use std::{
    fs::{self, File},
    process::Stdio,
};
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::Command,
    time::timeout,
};
use tonic::Code;

const STAND_IN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/src/cli/tests/stand_in_qemu.sh");

/// A server, and a host that has all that a micro-VM needs.
fn host(mood: Mood) -> Canned {
    let server = Canned::start(mood);
    let root = server.folder();
    fs::create_dir_all(root.join("dev/vfio/devices")).unwrap();
    fs::create_dir_all(root.join("proc/self")).unwrap();
    // CAP_IPC_LOCK, so that the limit of whoever runs the tests does not matter.
    fs::write(root.join("proc/self/status"), "CapEff:\t0000000000004000\n").unwrap();
    for file in ["dev/kvm", "dev/vfio/vfio", "dev/vfio/31", "dev/vfio/32", "vmlinuz"] {
        File::create(root.join(file)).unwrap();
    }
    server
}

fn arguments(server: &Canned, options: &[&str], guest: &str) -> Vec<String> {
    let root = server.folder().display();
    let mut line: Vec<String> = options.iter().map(ToString::to_string).collect();
    line.splice(..0, ["run".to_owned(), "s18".to_owned(), "--root".to_owned(), root.to_string()]);
    line.extend(["--kernel".to_owned(), format!("{root}/vmlinuz"), "--qemu".to_owned(), STAND_IN.to_owned()]);
    line.push("--".to_owned());
    line.extend(guest.split(' ').map(ToOwned::to_owned));
    line
}

fn run_command(server: &Canned, options: &[&str], guest: &str) -> Command {
    let arguments = arguments(server, options, guest);
    command(server.socket(), &arguments.iter().map(String::as_str).collect::<Vec<_>>())
}

async fn run(server: &Canned, options: &[&str], guest: &str) -> Finished {
    finish(run_command(server, options, guest)).await
}

/// The owner's default name has the process number.
fn without_pid(text: &str) -> String {
    let Some((before, after)) = text.split_once("vgpuctl-run@") else { return text.to_owned() };
    let after = after.trim_start_matches(|letter: char| letter.is_ascii_digit());
    format!("{before}vgpuctl-run@PID{}", without_pid(after))
}

fn was_released(server: &Canned) -> bool {
    server.asked().last().is_some_and(|asked| asked.starts_with("ReleaseSliceRequest"))
}

#[tokio::test]
async fn the_console_is_data_and_the_slice_is_leased_and_released() {
    let server = host(Mood::Lending);
    let child = run_command(&server, &[], "poweroff").spawn().unwrap();
    let pid = child.id().unwrap();
    let output = timeout(DEADLINE, child.wait_with_output()).await.unwrap().unwrap();
    assert_eq!(output.status.code(), Some(0));
    let stdout = String::from_utf8(output.stdout).unwrap();
    assert_eq!(stdout, "the guest has vfio-pci,id=slice,host=0000:41:00.2\n");
    let stderr = without_pid(&String::from_utf8(output.stderr).unwrap());
    let expected = "\
s18: leased to vgpuctl-run@PID
s18: starting a micro-VM on $DIR/dev/vfio/32
s18: the guest powered off
s18: taken back
";
    assert_eq!(server.neutral(&stderr), expected);
    let uid = nix::unistd::geteuid();
    let expected = format!(
        "LeaseSliceRequest {{ id: \"s18\", owner: \"vgpuctl-run@{pid}\", holder: Some(Holder {{ pid: {pid} }}), user: Some(\"{uid}\"), time_ms: None }}\n\
         ReleaseSliceRequest {{ id: \"s18\", generation: Some(1) }}"
    );
    assert_eq!(server.asked().join("\n"), expected);
}

#[tokio::test]
async fn the_guests_code_is_passed_through() {
    for code in [1, 2, 7, 127] {
        let server = host(Mood::Lending);
        let done = run(&server, &["--quiet"], &format!("exit {code}")).await;
        assert_eq!((done.code, done.stderr.as_str()), (code, ""));
        assert!(was_released(&server));
    }
}

#[tokio::test]
async fn what_went_wrong_is_told_and_the_slice_is_released() {
    for (guest, code, words) in [
        ("fail", 125, "error: QEMU ended with code 1 and said: qemu-system-x86_64: -device vfio-pci"),
        ("panic", 125, "error: The guest's kernel panicked: Kernel panic - not syncing"),
        ("die", 137, "s18: QEMU was killed by signal 9 (SIGKILL)"),
    ] {
        let server = host(Mood::Lending);
        let done = run(&server, &[], guest).await;
        assert_eq!(done.code, code, "{guest}: {}", done.stderr);
        assert!(done.stderr.contains(words), "{guest}: {}", done.stderr);
        assert!(was_released(&server), "{guest}");
    }
}

#[tokio::test]
async fn a_program_reads_how_it_ended() {
    let server = host(Mood::Lending);
    let done = run(&server, &["--output", "json", "--owner", "me"], "exit 3").await;
    let expected = "{\"version\":1,\"run\":{\"slice\":\"s18\",\"owner\":\"me\",\"outcome\":\"exited\",\
                    \"exit_code\":3,\"lease\":\"released\"}}\n";
    assert_eq!((done.code, done.stderr.as_str()), (3, expected));
}

#[tokio::test]
async fn a_signal_ends_the_micro_vm_and_the_slice_is_released() {
    for (signal, code) in [(Signal::SIGINT, 130), (Signal::SIGTERM, 143), (Signal::SIGHUP, 129)] {
        let server = host(Mood::Lending);
        let mut child = run_command(&server, &[], "stay").spawn().unwrap();
        let mut console = BufReader::new(child.stdout.take().unwrap()).lines();
        let line = timeout(DEADLINE, console.next_line()).await.unwrap().unwrap();
        assert_eq!(line.as_deref(), Some("up"));
        kill(Pid::from_raw(i32::try_from(child.id().unwrap()).unwrap()), signal).unwrap();
        let output = timeout(DEADLINE, child.wait_with_output()).await.unwrap().unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "{stderr}");
        assert!(stderr.contains(&format!("s18: stopped on {signal}\ns18: taken back\n")), "{stderr}");
        assert!(was_released(&server));
    }
}

#[tokio::test]
async fn a_restart_of_vgpud_meanwhile_keeps_no_slice_from_being_released() {
    let before = host(Mood::Lending);
    let mut child = run_command(&before, &[], "stay").spawn().unwrap();
    let mut console = BufReader::new(child.stdout.take().unwrap()).lines();
    timeout(DEADLINE, console.next_line()).await.unwrap().unwrap();
    let after = before.restarted(Mood::Lending);
    kill(Pid::from_raw(i32::try_from(child.id().unwrap()).unwrap()), Signal::SIGTERM).unwrap();
    let status = timeout(DEADLINE, child.wait()).await.unwrap().unwrap();
    assert_eq!(status.code(), Some(143));
    assert!(was_released(&after) && !was_released(&before));
}

#[tokio::test]
async fn a_console_that_nobody_reads_ends_the_micro_vm() {
    let server = host(Mood::Lending);
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let mut command = run_command(&server, &["--quiet"], "chatter");
    command.stdout(Stdio::from(writer));
    let done = finish(command).await;
    assert_eq!((done.code, done.stderr.as_str()), (0, ""));
    assert!(was_released(&server));
}

#[tokio::test]
async fn a_lease_that_was_there_before_is_used_and_kept() {
    let server = host(Mood::Lending);
    let mut arguments = arguments(&server, &["--owner", "team-a/train-3"], "poweroff");
    "s17".clone_into(&mut arguments[1]);
    let done = vgpuctl(server.socket(), &arguments.iter().map(String::as_str).collect::<Vec<_>>()).await;
    assert_eq!(done.code, 0, "{}", done.stderr);
    assert!(
        done.stderr.starts_with("s17: using the lease of team-a/train-3, and keeping it\n"),
        "{}",
        done.stderr
    );
    assert!(server.asked().is_empty(), "no lease is taken and none is released: {:?}", server.asked());
}

#[tokio::test]
async fn a_slice_that_is_not_taken_back_is_a_failure_that_names_the_holder() {
    let holder = "/dev/vfio/32 is held by process 4711 (qemu-system-x86); end it, and the device is free";
    let failure = refusal("IN_USE", "s18 is still in use", &[holder]);
    let server = host(Mood::Keeping(Code::FailedPrecondition, failure));
    let done = run(&server, &["--owner", "me"], "exit 3").await;
    golden::compare("run-not-taken-back.text", &server.neutral(&done.stderr));
    assert_eq!(done.code, 125);
}

#[tokio::test]
async fn what_is_missing_is_told_before_anything_is_leased() {
    let server = host(Mood::Lending);
    let done = vgpuctl(server.socket(), &["run", "s18"]).await;
    assert_eq!(done.code, 125);
    assert!(done.stderr.contains("--kernel") && done.stderr.contains("[run]"), "{}", done.stderr);
    let done = run(&server, &[], "echo a\"b").await;
    assert_eq!(done.code, 125);
    assert!(server.asked().is_empty(), "{:?}", server.asked());
}

#[tokio::test]
async fn a_host_without_qemu_or_kvm_keeps_no_lease() {
    let server = host(Mood::Lending);
    fs::remove_file(server.folder().join("dev/kvm")).unwrap();
    let done = run(&server, &["--owner", "me"], "poweroff").await;
    golden::compare("run-no-kvm.text", &server.neutral(&done.stderr));
    assert!(done.code == 125 && was_released(&server));

    let server = host(Mood::Lending);
    let mut arguments = arguments(&server, &["--owner", "me"], "poweroff");
    for argument in arguments.iter_mut().filter(|argument| *argument == STAND_IN) {
        "no-such-qemu".clone_into(argument);
    }
    let done = vgpuctl(server.socket(), &arguments.iter().map(String::as_str).collect::<Vec<_>>()).await;
    golden::compare("run-no-qemu.text", &server.neutral(&done.stderr));
    assert!(done.code == 125 && was_released(&server));
}

#[tokio::test]
async fn a_refused_lease_is_told_and_nothing_is_started() {
    let failure = refusal("LEASED", "s18 is leased to team-b/infer-1", &[]);
    let server = host(Mood::Refusing(Code::FailedPrecondition, failure));
    let done = run(&server, &[], "poweroff").await;
    assert_eq!(
        (done.code, done.stdout.as_str(), done.stderr.as_str()),
        (125, "", "error: s18 is leased to team-b/infer-1\n")
    );
}
