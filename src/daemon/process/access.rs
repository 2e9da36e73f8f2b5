//! Every call of the API, tried by a stranger, a viewer, an operator and an admin on the real program.

use crate::{
    client::{call, channel, connect_as, reason},
    process::{Home, LIMIT},
};
use std::{fs, io::Write as _, os::unix::fs::PermissionsExt};
use tonic::Code;
use vgpud::api::Rpc;

/// Calls that only look, and those that change something: written down here again, so that a wrong row
/// in the daemon's table is seen.
const LOOKS: [&str; 9] = [
    "GetStatus",
    "ListGpus",
    "ListProfiles",
    "ListSlices",
    "GetSlice",
    "WatchEvents",
    "ListHistory",
    "ListQuarantine",
    "PlanLayout",
];
const CHANGES: [&str; 9] = [
    "CreateSlices",
    "LeaseSlice",
    "ExtendLease",
    "ReleaseSlice",
    "DestroySlice",
    "VerifySlice",
    "QuarantineSlice",
    "QuarantineGpu",
    "ApplyLayout",
];

const ADMINS_ONLY: [&str; 2] = ["ClearQuarantine", "ClearGpuQuarantine"];

/// Ids that no account of a usual host has.
const ADMIN: u32 = 61_001;
const OPERATORS: u32 = 61_002;
const STRANGER: u32 = 61_003;
/// `nobody`, an account that every host has.
const NOBODY: u32 = 65_534;

#[test]
fn every_call_is_let_through_only_for_who_has_its_role() {
    if !nix::unistd::geteuid().is_root() {
        vgpud_mdev::fake::skip("only root can connect as somebody else");
        return;
    }
    let home = Home::new();
    home.write_settings(&format!(
        "[access]\nadmins = [\"{ADMIN}\"]\noperators = [\"@{OPERATORS}\", \"no-such-user\"]\nviewers = [\"nobody\"]\n"
    ));
    let daemon = home.start();
    assert_eq!(fs::metadata(home.socket()).unwrap().permissions().mode() & 0o777, 0o666);
    home.let_others_in();
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
