//! Every call of the API, tried by a stranger, a viewer, an operator and an admin on the real program.

use crate::process::{Home, LIMIT};
use prost::Message as _;
use rustix::{
    process::{Gid, Uid},
    thread::{set_thread_groups, set_thread_res_gid, set_thread_res_uid},
};
use std::{
    fs,
    io::Write as _,
    os::unix::{fs::PermissionsExt, net::UnixStream},
    path::Path,
};
use tonic::{Code, Status, codegen::http::uri::PathAndQuery, transport::Channel};
use tonic_prost::ProstCodec;
use vgpud::api::{self, Rpc};

/// Calls that only look, and those that change something: written down here again, so that a wrong row
/// in the daemon's table is seen.
const LOOKS: [&str; 8] = [
    "GetStatus",
    "ListGpus",
    "ListProfiles",
    "ListSlices",
    "GetSlice",
    "WatchEvents",
    "ListHistory",
    "ListQuarantine",
];
const CHANGES: [&str; 7] = [
    "CreateSlices",
    "LeaseSlice",
    "ReleaseSlice",
    "DestroySlice",
    "VerifySlice",
    "QuarantineSlice",
    "QuarantineGpu",
];

const ADMINS_ONLY: [&str; 2] = ["ClearQuarantine", "ClearGpuQuarantine"];

/// Ids that no account of a usual host has.
const ADMIN: u32 = 61_001;
const OPERATORS: u32 = 61_002;
const STRANGER: u32 = 61_003;
/// `nobody`, an account that every host has.
const NOBODY: u32 = 65_534;

/// A connection made by another user. The ids are those of this thread alone: the system call, unlike
/// the C library's function, does not change the others'.
fn connect_as(uid: u32, gid: u32, socket: &Path) -> UnixStream {
    let socket = socket.to_owned();
    let thread = std::thread::spawn(move || {
        let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
        set_thread_groups(&[]).unwrap();
        set_thread_res_gid(gid, gid, gid).unwrap();
        set_thread_res_uid(uid, uid, uid).unwrap();
        UnixStream::connect(socket).unwrap()
    });
    thread.join().unwrap()
}

async fn channel(stream: UnixStream) -> Channel {
    stream.set_nonblocking(true).unwrap();
    let mut stream = Some(tokio::net::UnixStream::from_std(stream).unwrap());
    let connector = tower::service_fn(move |_| {
        let stream = stream.take().map(hyper_util::rt::TokioIo::new);
        async move { stream.ok_or_else(|| std::io::Error::other("the connection was lost")) }
    });
    tonic::transport::Endpoint::from_static("http://vgpud").connect_with_connector(connector).await.unwrap()
}

/// Calls it with an empty request, and reads its answer to the end.
async fn call(channel: &Channel, rpc: Rpc) -> Result<(), Status> {
    let mut client = tonic::client::Grpc::new(channel.clone());
    client.ready().await.unwrap();
    let codec = ProstCodec::<(), ()>::default();
    let path = PathAndQuery::from_static(rpc.path());
    let mut answers = client.server_streaming(tonic::Request::new(()), path, codec).await?.into_inner();
    while answers.message().await?.is_some() {}
    Ok(())
}

fn reason(status: &Status) -> String {
    api::Failure::decode(status.details()).unwrap().reason
}

#[test]
fn every_call_is_let_through_only_for_who_has_its_role() {
    if !nix::unistd::geteuid().is_root() {
        writeln!(std::io::stderr(), "access: not tried, only root can connect as somebody else").unwrap();
        return;
    }
    let home = Home::new();
    home.write_settings(&format!(
        "[access]\nadmins = [\"{ADMIN}\"]\noperators = [\"@{OPERATORS}\", \"no-such-user\"]\nviewers = [\"nobody\"]\n"
    ));
    let daemon = home.start();
    assert_eq!(fs::metadata(home.socket()).unwrap().permissions().mode() & 0o777, 0o666);
    for path in [".", "run", "run/vgpud"] {
        fs::set_permissions(home.folder().join(path), fs::Permissions::from_mode(0o755)).unwrap();
    }
    let mut names: Vec<_> = Rpc::ALL.iter().map(|rpc| rpc.name()).collect();
    let mut known = [&LOOKS[..], &CHANGES[..], &ADMINS_ONLY[..]].concat();
    names.sort_unstable();
    known.sort_unstable();
    assert_eq!(names, known, "a call that is not tried below");

    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (mut tried, mut let_through) = (0_u64, Vec::new());
    let none: &[&str] = &[];
    for (who, uid, gid, allowed) in [
        ("a stranger", STRANGER, STRANGER, vec![none]),
        ("a stranger with a group of root", STRANGER, 0, vec![none]),
        ("a viewer", NOBODY, NOBODY, vec![&LOOKS[..]]),
        ("an operator", STRANGER, OPERATORS, vec![&LOOKS[..], &CHANGES[..]]),
        ("an admin", ADMIN, STRANGER, vec![&LOOKS[..], &CHANGES[..], &ADMINS_ONLY[..]]),
        ("root", 0, 0, vec![&LOOKS[..], &CHANGES[..], &ADMINS_ONLY[..]]),
    ] {
        let stream = connect_as(uid, gid, &home.socket());
        runtime.block_on(async {
            let channel = channel(stream).await;
            for rpc in Rpc::ALL {
                let answer = call(&channel, *rpc).await;
                let refused = answer.as_ref().err().filter(|status| status.code() == Code::PermissionDenied);
                if allowed.concat().contains(&rpc.name()) {
                    assert!(refused.is_none(), "{who} was refused {}: {answer:?}", rpc.name());
                    continue;
                }
                tried += 1;
                let Some(status) = refused else {
                    let_through.push(format!("{} by {who}", rpc.name()));
                    continue;
                };
                assert_eq!(reason(status), "ACCESS_DENIED");
                let setting = match rpc.name() {
                    name if LOOKS.contains(&name) => "`viewers`",
                    name if CHANGES.contains(&name) => "`operators`",
                    _ => "`admins`",
                };
                for part in [&uid.to_string(), rpc.name(), setting, "[access]"] {
                    assert!(status.message().contains(part), "no {part:?} in {status:?}");
                }
            }
        });
    }
    // Past libtest, which keeps what a passed test prints.
    writeln!(std::io::stderr(), "access: {tried} denied calls tried, {} let through", let_through.len())
        .unwrap();
    assert!(let_through.is_empty(), "{let_through:?}");

    assert_eq!(home.status().denied_calls, Some(tried), "counted");
    let log = home.log();
    assert_eq!(
        log.lines().filter(|line| line.contains("WARN") && line.contains("call denied")).count(),
        usize::try_from(tried).unwrap()
    );
    assert!(log.contains("uid=65534") && log.contains(&format!("pid={}", std::process::id())), "{log}");
    assert!(log.contains("no-such-user"), "{log}");
    // One entry for each user and call: the two strangers are one user.
    let entries = log.lines().filter(|line| line.contains("access-denied")).count();
    assert_eq!(entries, LOOKS.len() + 2 * CHANGES.len() + 2 * ADMINS_ONLY.len());

    // A change of the settings counts on a connection that is open, and closes the socket again.
    let stream = connect_as(NOBODY, NOBODY, &home.socket());
    runtime.block_on(async {
        let channel = channel(stream).await;
        call(&channel, Rpc::GetStatus).await.unwrap();
        home.write_settings("[access]\nviewers = []\n");
        daemon.signal("HUP");
        home.until_logged("settings read again");
        // The core takes the settings in a moment after that line.
        let refused = async {
            loop {
                if let Err(status) = call(&channel, Rpc::ListSlices).await {
                    break status;
                }
            }
        };
        let status = tokio::time::timeout(LIMIT, refused).await.expect("a viewer no more is refused");
        assert_eq!(reason(&status), "ACCESS_DENIED");
    });
    assert_eq!(fs::metadata(home.socket()).unwrap().permissions().mode() & 0o777, 0o660);
}
