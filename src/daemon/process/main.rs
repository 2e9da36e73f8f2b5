//! The program itself, as a process on an empty host: start, refusal, signals, end.

#![allow(clippy::unwrap_used)]

mod access;
mod client;
mod clients;
mod disk;
mod process;
#[cfg(target_arch = "x86_64")]
mod sandbox;
mod tools;

use process::{Home, LIMIT, Vgpud};
use std::{
    fs,
    os::unix::{fs::PermissionsExt, net::UnixStream},
};
use vgpud::api::{self, vgpud_client::VgpudClient};
use vgpud_mdev::fake::{FakeGpu, FakeHost};

#[test]
fn it_serves_tells_systemd_and_ends_on_sigterm() {
    let home = Home::new();
    let notified = home.notify_socket();
    let daemon = home.start();
    assert_eq!(notified.next(), "READY=1");
    let status = home.status();
    assert_eq!((status.pid, status.gpus, status.slices), (daemon.pid(), 0, 0));
    assert_eq!(fs::metadata(home.socket()).unwrap().permissions().mode() & 0o777, 0o660);
    daemon.signal("TERM");
    assert_eq!(notified.next(), "STOPPING=1");
    assert!(daemon.ended().success());
    assert!(!home.socket().try_exists().unwrap(), "a clean stop removes the socket");
}

#[test]
fn sigint_is_a_clean_stop_too() {
    let home = Home::new();
    let daemon = home.start();
    daemon.signal("INT");
    assert!(daemon.ended().success());
}

#[test]
fn a_second_daemon_is_refused_with_the_pid_of_the_first() {
    let home = Home::new();
    let first = home.start();
    let second = home.refused(&[]);
    assert!(second.contains(&format!("process {}", first.pid())), "{second}");
    assert!(second.contains(home.state_dir().to_str().unwrap()), "{second}");
    assert_eq!(home.status().pid, first.pid(), "the first goes on");
    // Another state folder does not help it to the socket.
    let other = home.folder().join("other");
    let second = home.refused(&["--state-dir", other.to_str().unwrap()]);
    assert!(second.contains("serves") && second.contains("vgpud.sock"), "{second}");
    assert_eq!(home.status().pid, first.pid());
}

#[test]
fn a_socket_left_by_a_crash_is_not_in_the_way() {
    let home = Home::new();
    let daemon = home.start();
    daemon.signal("KILL");
    daemon.ended();
    assert!(home.socket().try_exists().unwrap());
    let next = home.start();
    assert_eq!(home.status().pid, next.pid());
}

#[test]
fn what_is_no_socket_is_never_removed() {
    let home = Home::new();
    fs::create_dir_all(home.socket().parent().unwrap()).unwrap();
    fs::write(home.socket(), "precious").unwrap();
    let text = home.refused(&[]);
    assert!(text.contains("no socket"), "{text}");
    assert_eq!(fs::read_to_string(home.socket()).unwrap(), "precious");
}

#[test]
fn a_damaged_ledger_is_refused_with_the_way_out_and_left_alone() {
    let home = Home::new();
    let daemon = home.start();
    daemon.signal("TERM");
    daemon.ended();
    let path = home.state_dir().join("ledger.db");
    let mut bytes = fs::read(&path).unwrap();
    bytes[100..4096].fill(0x5a);
    fs::write(&path, &bytes).unwrap();
    let text = home.refused(&[]);
    assert!(text.contains("ledger.db") && text.contains("damaged") && text.contains(".recover"), "{text}");
    assert_eq!(fs::read(&path).unwrap(), bytes);
}

#[test]
fn a_state_folder_that_cannot_be_one_is_said() {
    let home = Home::new();
    let blocked = home.folder().join("blocked");
    fs::write(&blocked, "").unwrap();
    let text = home.refused(&["--state-dir", blocked.to_str().unwrap()]);
    assert!(text.contains("blocked") && text.contains("caused by:"), "{text}");
}

#[test]
fn settings_with_a_typo_are_refused_with_file_line_and_nearest_key() {
    let home = Home::new();
    home.write_settings("[timeouts]\nrelaese = \"3s\"\n");
    for arguments in [&[][..], &["--check-config"][..]] {
        let text = home.refused(arguments);
        for part in ["vgpud.toml", "line 2", "relaese", "release"] {
            assert!(text.contains(part), "no {part:?} in {text}");
        }
    }
    home.write_settings("[cdi]\nkind = \"no kind\"\n");
    let text = home.refused(&["--check-config"]);
    assert!(text.contains("no kind"), "{text}");
    home.write_settings("[timeouts]\nrelease = \"3s\"\n");
    let checked = home.command(&["--check-config"]).output().unwrap();
    assert!(checked.status.success(), "{checked:?}");
    assert!(!home.state_dir().try_exists().unwrap(), "checking starts nothing");
}

#[test]
fn sighup_reads_the_settings_again_and_keeps_the_old_ones_where_they_are_wrong() {
    let home = Home::new();
    let daemon = home.start();
    home.write_settings("[timeouts]\nrelease = \"3s\"\n[daemon]\nsocket = \"/run/other.sock\"\n");
    daemon.signal("HUP");
    home.until_logged("settings read again");
    assert!(home.log().contains("[daemon] has changed"), "{}", home.log());
    home.write_settings("[timeouts]\nrelease = 3\n");
    daemon.signal("HUP");
    home.until_logged("the settings stay as they were");
    assert_eq!(home.status().pid, daemon.pid());
}

#[test]
fn a_class_that_the_settings_get_is_known_after_a_reload() {
    let machine = FakeHost::machine().gpu(FakeGpu::new("0000:41:00.0").sriov(8));
    let home = Home::with(&machine);
    home.write_settings("[class.small]\nprofile = \"vf-8\"\n");
    let daemon = home.start();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let stream = UnixStream::connect(home.socket()).unwrap();
        let mut client = VgpudClient::new(client::channel(stream).await);
        let mut offered = async |class: &str| {
            let request = api::Request { class: Some(class.to_owned()), ..Default::default() };
            let request = api::ListProfilesRequest { request: Some(request) };
            let profiles = client.list_profiles(request).await?.into_inner().profiles;
            Ok::<_, tonic::Status>(profiles.into_iter().map(|profile| profile.name).collect::<Vec<_>>())
        };
        assert_eq!(offered("small").await.unwrap(), ["vf-8"]);
        let unknown = offered("large").await.unwrap_err();
        assert_eq!(
            (unknown.code(), client::reason(&unknown).as_str()),
            (tonic::Code::NotFound, "NO_SUCH_CLASS")
        );
        home.write_settings("[class.small]\nprofile = \"vf-4\"\n[class.large]\nprofile = \"vf-1\"\n");
        daemon.signal("HUP");
        home.until_logged("settings read again");
        // The core takes the settings in a moment after that line.
        let known = async { while offered("large").await.is_err() {} };
        tokio::time::timeout(LIMIT, known).await.expect("the class is known");
        assert_eq!(offered("large").await.unwrap(), ["vf-1"]);
        assert_eq!(offered("small").await.unwrap(), ["vf-4"]);
    });
}

#[test]
fn the_log_can_be_json() {
    let home = Home::new();
    let daemon = home.start_with(&["--log", "json"]);
    daemon.signal("TERM");
    daemon.ended();
    let log = home.log();
    let kinds: Vec<_> = log
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap())
        .filter_map(|line| line["kind"].as_str().map(str::to_owned))
        .collect();
    assert_eq!(kinds, ["daemon-started", "daemon-stopped"]);
}

#[test]
fn without_root_rights_it_says_so() {
    if !nix::unistd::geteuid().is_root() {
        vgpud_mdev::fake::skip("only root can become somebody else");
        return;
    }
    let mut command = std::process::Command::new("setpriv");
    command.args(["--reuid=65534", "--regid=65534", "--clear-groups", Vgpud::PROGRAM]);
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    // A build below a folder that only root may enter cannot be started by nobody.
    if text.contains("Permission denied") {
        vgpud_mdev::fake::skip(format_args!("nobody cannot reach {}", Vgpud::PROGRAM));
        return;
    }
    assert!(text.contains("must run as root"), "{text}");
}
