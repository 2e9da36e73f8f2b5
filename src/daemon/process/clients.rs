//! Bad clients: very many, slow ones, those who lost their role, and those who talk nonsense.

use crate::{
    client::{call, channel, channel_of, connect_as, reason},
    process::{Home, LIMIT, Vgpud},
};
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::Frame;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use std::{
    fs,
    io::{Read as _, Write as _},
    os::unix::net::UnixStream,
    time::Duration,
};
use tokio_stream::StreamExt as _;
use tonic::{
    Code, Status,
    body::Body,
    codegen::http::{Request, Response},
    transport::{Channel, Endpoint},
};
use tower::{Service as _, ServiceExt as _};
use vgpud::api::{self, Rpc, vgpud_client::VgpudClient};

/// `nobody`, an account that every host has.
const VIEWER: u32 = 65_534;
const STRANGER: u32 = 61_003;

/// Root alone can connect as somebody else.
fn is_root() -> bool {
    let root = nix::unistd::geteuid().is_root();
    if !root {
        vgpud_mdev::fake::skip("only root can connect as somebody else");
    }
    root
}

fn start(home: &Home) -> Vgpud {
    home.write_settings("[access]\nviewers = [\"nobody\"]\n");
    let daemon = home.start();
    home.let_others_in();
    daemon
}

/// Does it to its end, which comes.
fn run(work: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async { tokio::time::timeout(LIMIT * 6, work).await.unwrap() });
}

/// Resident memory in KiB (proc(5)).
fn resident(daemon: &Vgpud) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", daemon.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

#[test]
fn a_thousand_clients_at_once_are_answered_or_refused_clearly() {
    if !is_root() {
        return;
    }
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, soft.max(8192.min(hard)), hard).unwrap();
    let home = Home::new();
    let daemon = start(&home);
    run(async {
        let mut channels = Vec::new();
        for _ in 0..1000 {
            channels.push(channel(connect_as(VIEWER, VIEWER, &home.socket())).await);
        }
        // Nobody can keep root out.
        let root = channel(connect_as(0, 0, &home.socket())).await;
        call(&root, Rpc::GetStatus).await.unwrap();
        let (mut answered, mut refused, mut closed) = (0, 0, 0);
        for channel in &channels {
            match call(channel, Rpc::GetStatus).await {
                Ok(()) => answered += 1,
                Err(status) if status.details().is_empty() => closed += 1,
                Err(status) => {
                    assert_eq!(reason(&status), "TOO_MANY_CONNECTIONS");
                    assert!(status.message().contains("64 connections"), "{status:?}");
                    refused += 1;
                }
            }
        }
        // Past libtest, which keeps what a passed test prints.
        let memory = resident(&daemon);
        writeln!(
            std::io::stderr(),
            "clients: {answered} answered, {refused} refused in words, {closed} closed later, {memory} KiB"
        )
        .unwrap();
        assert_eq!(answered, 64);
        assert!(refused > 0, "nobody was told why");
        assert!(memory < 256 * 1024, "{memory} KiB");
        drop(channels);
        let again = async {
            while call(&channel(connect_as(VIEWER, VIEWER, &home.socket())).await, Rpc::GetStatus)
                .await
                .is_err()
            {}
        };
        tokio::time::timeout(LIMIT, again).await.expect("places are given back");

        let mut root = Vec::new();
        for _ in 0..1000 {
            root.push(channel(connect_as(0, 0, &home.socket())).await);
        }
        for channel in &root {
            call(channel, Rpc::GetStatus).await.unwrap();
        }
    });
}

/// More events than a stream holds for its client.
async fn make_events(home: &Home) {
    for uid in STRANGER..STRANGER + 16 {
        let channel = channel(connect_as(uid, uid, &home.socket())).await;
        for rpc in Rpc::ALL {
            call(&channel, *rpc).await.unwrap_err();
        }
    }
}

#[test]
fn a_client_that_does_not_read_is_cut_off_and_told_where_to_go_on() {
    if !is_root() {
        return;
    }
    let home = Home::new();
    let _daemon = start(&home);
    run(async {
        make_events(&home).await;
        // What is on the way without being read is little.
        let endpoint = Endpoint::from_static("http://vgpud").initial_stream_window_size(1024);
        let slow = channel_of(endpoint, connect_as(VIEWER, VIEWER, &home.socket())).await;
        let follow = api::WatchEventsRequest { follow: true, after: 0 };
        let mut events = VgpudClient::new(slow).watch_events(follow).await.unwrap().into_inner();
        let mut last = events.message().await.unwrap().unwrap().sequence;
        let other = channel(connect_as(VIEWER, VIEWER, &home.socket())).await;
        let cut_off = async {
            while !home.log().contains("does not read its events") {
                call(&other, Rpc::GetStatus).await.expect("others are served");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        };
        tokio::time::timeout(LIMIT * 3, cut_off).await.unwrap();
        let status = loop {
            match events.message().await {
                Ok(Some(event)) => last = event.sequence,
                Ok(None) => panic!("no word at the end"),
                Err(status) => break status,
            }
        };
        assert_eq!((status.code(), reason(&status).as_str()), (Code::Aborted, "FELL_BEHIND"));
        assert!(status.message().contains(&format!("after number {last}")), "{last}: {status:?}");
    });
}

#[test]
fn a_stream_ends_when_its_role_is_taken_away() {
    if !is_root() {
        return;
    }
    let home = Home::new();
    let daemon = start(&home);
    run(async {
        let viewer = channel(connect_as(VIEWER, VIEWER, &home.socket())).await;
        let follow = api::WatchEventsRequest { follow: true, after: 0 };
        let mut events = VgpudClient::new(viewer).watch_events(follow).await.unwrap().into_inner();
        events.message().await.unwrap().expect("it has started");
        home.write_settings("[access]\nviewers = []\n");
        daemon.signal("HUP");
        let end = async {
            loop {
                match events.message().await {
                    Ok(event) => assert!(event.is_some(), "no word at the end"),
                    Err(status) => break status,
                }
            }
        };
        let status = tokio::time::timeout(LIMIT, end).await.expect("the stream ends");
        assert_eq!((status.code(), reason(&status).as_str()), (Code::PermissionDenied, "ACCESS_DENIED"));
    });
}

/// Sends bytes as the body of a call, whatever they are.
async fn send(channel: &Channel, rpc: Rpc, body: Body) -> Status {
    let request = Request::post(format!("http://vgpud{}", rpc.path()));
    let request = request.header("content-type", "application/grpc").header("te", "trailers").body(body);
    let mut channel = channel.clone();
    let ready = channel.ready().await.unwrap();
    let response: Response<_> = ready.call(request.unwrap()).await.unwrap();
    if let Some(status) = Status::from_header_map(response.headers()) {
        return status;
    }
    let whole = response.into_body().collect().await.unwrap();
    Status::from_header_map(whole.trailers().unwrap()).unwrap()
}

fn bytes(bytes: &[u8]) -> Body {
    Body::new(Full::from(bytes.to_vec()))
}

/// The beginning of a request, and then silence.
fn unfinished() -> Body {
    let begun = bytes(&[0, 0]).into_data_stream();
    Body::new(StreamBody::new(begun.map(|data| data.map(Frame::data)).chain(tokio_stream::pending())))
}

#[test]
fn nonsense_gets_one_clear_error_each_and_vgpud_goes_on() {
    if !is_root() {
        return;
    }
    let home = Home::new();
    let _daemon = start(&home);
    let mut silent = connect_as(STRANGER, STRANGER, &home.socket());
    silent.set_read_timeout(Some(LIMIT * 3)).unwrap();
    for noise in
        [&b"GET / HTTP/1.1\r\n\r\n"[..], &[0xff; 4096], b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\xff\xff\xff"]
    {
        let mut stream = UnixStream::connect(home.socket()).unwrap();
        // It may be closed in the middle.
        let _ = stream.write_all(noise);
        drop(stream);
    }
    run(async {
        let channel = channel(UnixStream::connect(home.socket()).unwrap()).await;
        for (body, code, words) in [
            (
                bytes(&[0, 0, 0, 0, 100, 1, 2, 3]),
                Code::InvalidArgument,
                "says that it has 100 bytes, and has 3",
            ),
            (bytes(&[0, 0]), Code::InvalidArgument, "before its length is said"),
            (bytes(&[b'x'; 1 << 20]), Code::InvalidArgument, "more than 8192 bytes"),
            (unfinished(), Code::DeadlineExceeded, "not complete within 5s"),
        ] {
            let status = send(&channel, Rpc::GetStatus, body).await;
            assert_eq!(status.code(), code, "{status:?}");
            assert!(status.message().contains(words), "{status:?}");
        }
        let mut client = VgpudClient::new(channel);
        let asked = |request, count, owner: &str| api::CreateSlicesRequest {
            request: Some(request),
            count,
            owner: Some(owner.to_owned()),
            ..Default::default()
        };
        let size = |bytes| api::Request { memory_bytes: Some(bytes), ..Default::default() };
        let injected = "me\n2026 ERROR forged\u{1b}[31m\0";
        for (request, words) in [
            (asked(size(1), u32::MAX, "me"), "4294967295 slices"),
            (asked(size(1), 1, injected), "me\\n2026 ERROR forged\\u{1b}[31m\\0"),
            (asked(size(1), 1, &"x".repeat(8000)), "xxx\"…"),
        ] {
            let status = client.create_slices(request).await.unwrap_err();
            assert_eq!(status.code(), Code::InvalidArgument);
            assert!(status.message().contains(words), "{status:?}");
        }
        let mut answers = client.create_slices(asked(size(u64::MAX), 1, "me")).await.unwrap().into_inner();
        assert_eq!(answers.message().await.unwrap_err().code(), Code::FailedPrecondition, "no GPU");
        let mut request = tonic::Request::new(api::GetStatusRequest {});
        request.metadata_mut().insert("x-large", "x".repeat(20_000).parse().unwrap());
        client.get_status(request).await.expect_err("too large headers");
    });
    let log = home.log();
    assert!(
        !log.lines().any(|line| line.starts_with("2026 ERROR forged")) && !log.contains('\u{1b}'),
        "{log}"
    );
    // Who connects and says nothing is not kept.
    let mut said = Vec::new();
    silent.read_to_end(&mut said).unwrap();
    home.status();
}
