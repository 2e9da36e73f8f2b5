//! Refusals and failures: their text, their JSON, their exit codes.

use crate::{
    canned::{Canned, Mood, refusal},
    golden,
    process::vgpuctl,
};
use std::os::unix::{fs::PermissionsExt as _, net::UnixListener};
use tonic::Code;

#[tokio::test]
async fn a_refusal_because_of_state_is_a_negative_answer() {
    let failure = refusal(
        "NO_CAPACITY",
        "No GPU can hold 20 slices of 20GiB",
        &["0000:41:00.0 has room for 6 of vf-8", "0000:81:00.0 has no profile of 20GiB or more"],
    );
    let server = Canned::start(Mood::Refusing(Code::ResourceExhausted, failure));
    golden::check("refused-capacity", &server, &["create", "--memory", "20GiB", "--count", "20"]).await;
}

#[tokio::test]
async fn each_code_of_the_api_has_its_exit_code() {
    for (code, exit) in [
        (Code::FailedPrecondition, 1),
        (Code::ResourceExhausted, 1),
        (Code::Aborted, 1),
        (Code::AlreadyExists, 1),
        (Code::OutOfRange, 1),
        (Code::NotFound, 2),
        (Code::InvalidArgument, 2),
        (Code::PermissionDenied, 2),
        (Code::Unavailable, 2),
        (Code::Internal, 2),
        (Code::DataLoss, 2),
    ] {
        let server = Canned::start(Mood::Refusing(code, refusal("R", "Said by vgpud", &[])));
        let done = vgpuctl(server.socket(), &["release", "s17"]).await;
        assert_eq!((done.code, done.stdout.as_str()), (exit, ""), "{code:?}");
        assert!(done.stderr.starts_with("error: Said by vgpud\n"), "{}", done.stderr);
    }
}

#[tokio::test]
async fn mistyped_names_get_the_nearest_known_one() {
    let server = Canned::start(Mood::Helpful);
    for (case, args) in [
        ("mistyped-profile", vec!["create", "vf8"]),
        ("memory-as-profile", vec!["create", "20GiB"]),
        ("unknown-class", vec!["create", "--class", "gigantic"]),
        ("mistyped-gpu", vec!["gpus", "0000:42:00.0"]),
        ("mistyped-slice", vec!["show", "17"]),
        ("unknown-slice", vec!["release", "s99"]),
        ("profile-and-too-much", vec!["create", "vf-8", "--memory", "48GiB"]),
    ] {
        golden::check(case, &server, &args).await;
    }
}

#[tokio::test]
async fn destroy_goes_on_after_a_refusal_and_the_exit_code_remembers() {
    let server = Canned::start(Mood::Helpful);
    golden::check("destroy-some", &server, &["destroy", "s17", "s18"]).await;
    golden::check("destroy-unknown", &server, &["destroy", "s17", "s99", "s18"]).await;
}

#[tokio::test]
async fn a_server_without_details_speaks_for_itself() {
    let server = Canned::start(Mood::Foreign(Code::Internal, "something broke"));
    golden::check("no-details", &server, &["release", "s17"]).await;
    let server = Canned::start(Mood::Foreign(Code::Unimplemented, ""));
    golden::check("no-words", &server, &["release", "s17"]).await;
}

#[tokio::test]
async fn an_answer_that_breaks_off_is_no_success() {
    let server = Canned::start(Mood::BreakingOff);
    golden::check("broken-off", &server, &["create", "vf-8"]).await;
}

#[tokio::test]
async fn without_vgpud_the_socket_and_the_way_out_are_told() {
    let server = Canned::start(Mood::Empty);
    let folder = server.socket().parent().unwrap().to_owned();
    let with = async |case: &str, name: &str| {
        let socket = folder.join(name);
        golden::check(case, &server, &["slices", "--socket", socket.to_str().unwrap()]).await;
    };
    with("daemon-missing", "nothing.sock").await;
    drop(UnixListener::bind(folder.join("stale.sock")).unwrap());
    with("daemon-stopped", "stale.sock").await;
    std::fs::File::create(folder.join("file")).unwrap();
    with("not-a-socket", "file").await;
}

#[tokio::test]
async fn a_stranger_on_the_socket_is_an_error_and_no_hang() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("stranger.sock");
    let listener = tokio::net::UnixListener::bind(&socket).unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            drop(stream);
        }
    });
    let done = vgpuctl(&socket, &["gpus"]).await;
    assert_eq!((done.code, done.stdout.as_str()), (2, ""));
    assert!(done.stderr.starts_with("error: "), "{}", done.stderr);
}

#[tokio::test]
async fn a_user_without_permission_learns_who_has_it() {
    if nix::unistd::geteuid().is_root() {
        // Root is let in anywhere; the unit test of the connection covers the text.
        vgpud_mdev::fake::skip("no permission stops root");
        return;
    }
    let server = Canned::start(Mood::Helpful);
    let closed = std::fs::Permissions::from_mode(0o000);
    std::fs::set_permissions(server.socket(), closed).unwrap();
    let done = vgpuctl(server.socket(), &["gpus"]).await;
    assert_eq!(done.code, 2);
    assert!(done.stderr.contains("no permission") && done.stderr.contains("mode 0000"), "{}", done.stderr);
}

#[tokio::test]
async fn wrong_command_lines_are_usage_errors() {
    let server = Canned::start(Mood::Helpful);
    for args in [&["create"][..], &["slice"], &["lease", "s17"], &["gpus", "--color"], &[]] {
        let done = vgpuctl(server.socket(), args).await;
        assert_eq!((done.code, done.stdout.as_str()), (2, ""), "{args:?}");
        assert!(done.stderr.contains("Usage: vgpuctl"), "{}", done.stderr);
    }
    assert!(server.asked().is_empty(), "a wrong command line asks nobody");
}

#[tokio::test]
async fn wrong_settings_are_told_with_their_line() {
    let server = Canned::start(Mood::Helpful);
    let settings = server.folder().join("vgpud.toml");
    std::fs::write(&settings, "[daemon]\nsocet = \"/run/x.sock\"\n").unwrap();
    let settings = settings.to_str().unwrap();
    golden::check("settings-typo", &server, &["doctor", "--config", settings]).await;
    let absent = format!("{settings}.absent");
    golden::check("settings-absent", &server, &["doctor", "--config", &absent]).await;
    // The socket is named, so nothing of the settings is needed.
    let done = vgpuctl(server.socket(), &["status", "--config", settings]).await;
    assert_eq!((done.code, done.stderr.as_str()), (0, ""));
}

#[tokio::test]
async fn the_socket_comes_from_the_settings_where_nothing_else_names_it() {
    let server = Canned::start(Mood::Helpful);
    let settings = server.folder().join("vgpud.toml");
    std::fs::write(&settings, format!("[daemon]\nsocket = {:?}\n", server.socket())).unwrap();
    let mut command =
        crate::process::command(server.socket(), &["status", "--config", settings.to_str().unwrap()]);
    command.env_remove("VGPUD_SOCKET");
    let done = crate::process::finish(command).await;
    assert_eq!(done.code, 0, "{}", done.stderr);
}
