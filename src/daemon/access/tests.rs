use super::{AccessDenied, Role, Standing, accounts::Accounts, gate::Audited, needed, standing::Peer};
use crate::{api::Rpc, failure::Failure};
use nix::errno::Errno;
use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};
use tonic::Code;
use vgpud_config::AccessSettings;

/// A host's accounts.
#[derive(Debug, Default)]
struct Known {
    users: BTreeMap<&'static str, u32>,
    groups: BTreeMap<&'static str, (u32, Vec<&'static str>)>,
    down: Option<Errno>,
}

impl Known {
    fn ask<T>(&self, answer: T) -> Result<T, Errno> {
        self.down.map_or(Ok(answer), Err)
    }
}

impl Accounts for Known {
    fn uid(&self, user: &str) -> Result<Option<u32>, Errno> {
        self.ask(self.users.get(user).copied())
    }

    fn gid(&self, group: &str) -> Result<Option<u32>, Errno> {
        self.ask(self.groups.get(group).map(|(gid, _)| *gid))
    }

    fn name(&self, uid: u32) -> Result<Option<String>, Errno> {
        let found = self.users.iter().find(|(_, known)| **known == uid);
        self.ask(found.map(|(name, _)| (*name).to_owned()))
    }

    fn groups(&self, user: &str, gid: u32) -> Result<Vec<u32>, Errno> {
        let of = self.groups.values().filter(|(_, members)| members.contains(&user)).map(|(gid, _)| *gid);
        self.ask(of.chain([gid]).collect())
    }
}

fn host() -> Known {
    Known {
        users: [("alice", 1000), ("bob", 1001)].into(),
        groups: [("gpu", (44, vec!["bob"])), ("alice", (1000, vec![]))].into(),
        down: None,
    }
}

fn settings(admins: &[&str], operators: &[&str], viewers: &[&str]) -> AccessSettings {
    let list = |names: &[&str]| names.iter().map(|name| name.parse().unwrap()).collect();
    AccessSettings { admins: list(admins), operators: list(operators), viewers: list(viewers) }
}

fn role(uid: u32, settings: &AccessSettings) -> Option<Role> {
    Peer { uid, gid: uid, pid: None }.look_up(settings, &host()).role
}

#[test]
fn reading_takes_a_viewer_and_changing_an_operator() {
    for call in Rpc::ALL {
        let name = call.name();
        let reads = ["Get", "List", "Plan", "Watch"].iter().any(|verb| name.starts_with(verb));
        let role = match name {
            "ClearQuarantine" | "ClearGpuQuarantine" => Role::Admin,
            _ if reads => Role::Viewer,
            _ => Role::Operator,
        };
        assert_eq!(needed(*call), role, "{name}");
        assert_eq!(call.path(), format!("/vgpud.v1.Vgpud/{name}"));
    }
    assert!(Role::Viewer < Role::Operator && Role::Operator < Role::Admin);
}

#[test]
fn nobody_who_is_not_named_has_a_role() {
    for uid in [1000, 1001, 65534, u32::MAX] {
        assert_eq!(role(uid, &AccessSettings::default()), None);
        assert!(!Peer { uid, gid: 0, pid: None }.is_master(0), "root's group is not root");
    }
    assert!(Peer { uid: 0, gid: 0, pid: None }.is_master(7));
    assert!(Peer { uid: 7, gid: 7, pid: None }.is_master(7));
}

#[test]
fn users_and_groups_are_found_by_name_and_number() {
    assert_eq!(role(1000, &settings(&["alice"], &[], &[])), Some(Role::Admin));
    assert_eq!(role(1000, &settings(&[], &["1000"], &[])), Some(Role::Operator));
    assert_eq!(role(1001, &settings(&[], &["alice", "1000"], &[])), None);
    // Bob's own group is another.
    assert_eq!(role(1001, &settings(&[], &["@gpu"], &[])), Some(Role::Operator));
    assert_eq!(role(1001, &settings(&[], &[], &["@44"])), Some(Role::Viewer));
    assert_eq!(role(1000, &settings(&[], &[], &["@gpu", "@44"])), None);
    // A user is no group of that number, nor the other way round.
    assert_eq!(role(44, &settings(&["@1000"], &[], &["44"])), Some(Role::Viewer));
    assert_eq!(role(1001, &settings(&[], &[], &["44"])), None);
    // Without an account there is the group that the kernel tells.
    let stranger = Peer { uid: 5000, gid: 44, pid: Some(9) };
    assert_eq!(stranger.look_up(&settings(&[], &[], &["@gpu"]), &host()).role, Some(Role::Viewer));
}

#[test]
fn the_highest_role_counts() {
    assert_eq!(role(1001, &settings(&["bob"], &["@gpu"], &["bob"])), Some(Role::Admin));
    assert_eq!(role(1001, &settings(&["alice"], &["@gpu"], &["bob"])), Some(Role::Operator));
}

#[test]
fn a_name_that_the_host_does_not_know_gives_nothing_and_is_named() {
    let settings = settings(&["alcie"], &["@gpus"], &["bob"]);
    let alice = Peer { uid: 1000, gid: 1000, pid: None }.look_up(&settings, &host());
    assert_eq!((alice.user.as_str(), alice.role), ("User alice (1000)", None));
    assert_eq!(
        alice.doubts,
        [
            "`admins` in [access] names \"alcie\", whom this host does not know",
            "`operators` in [access] names \"@gpus\", whom this host does not know"
        ]
    );
    // Those who are named rightly are served.
    assert_eq!(role(1001, &settings), Some(Role::Viewer));
    // It counts from the moment when the account is there.
    let mut later = host();
    later.users = [("alcie", 1000)].into();
    let alice = Peer { uid: 1000, gid: 1000, pid: None }.look_up(&settings, &later);
    assert_eq!(alice.role, Some(Role::Admin));
}

#[test]
fn without_the_user_database_only_numbers_count() {
    let down = Known { down: Some(Errno::EIO), ..host() };
    let alice = Peer { uid: 1000, gid: 1000, pid: None };
    let Standing { user, role, doubts } = alice.look_up(&settings(&["alice"], &[], &[]), &down);
    assert_eq!((user.as_str(), role), ("User 1000", None));
    assert!(doubts.iter().any(|doubt| doubt.contains("EIO")), "{doubts:?}");
    assert_eq!(alice.look_up(&settings(&[], &["1000"], &[]), &down).role, Some(Role::Operator));
    assert_eq!(alice.look_up(&settings(&[], &[], &["@1000"]), &down).role, Some(Role::Viewer));
}

#[test]
fn a_refusal_names_the_user_the_role_and_the_setting() {
    let denied = AccessDenied {
        call: Rpc::DestroySlice,
        user: "User alice (1000)".to_owned(),
        needed: Role::Operator,
        doubts: vec!["a doubt".to_owned()],
    };
    let failure = Failure::from(&denied);
    assert_eq!((failure.code, failure.reason), (Code::PermissionDenied, "ACCESS_DENIED"));
    assert_eq!(
        failure.message,
        "User alice (1000) may not call DestroySlice: it takes the role operator; an administrator gives it by \
         naming the user or a group of theirs under `operators` in [access] of the settings"
    );
    assert_eq!(failure.causes, ["a doubt"]);
}

#[test]
fn a_flood_of_denied_calls_is_one_entry_a_minute_for_each_user_and_call() {
    let begin = Instant::now();
    let mut audited = Audited::default();
    let after = |seconds| begin + Duration::from_secs(seconds);
    assert!(audited.is_due(1000, Rpc::GetStatus, begin));
    for seconds in 0..60 {
        assert!(!audited.is_due(1000, Rpc::GetStatus, after(seconds)));
    }
    assert!(audited.is_due(1000, Rpc::GetSlice, after(1)), "another call");
    assert!(audited.is_due(1001, Rpc::GetStatus, after(1)), "another user");
    assert!(audited.is_due(1000, Rpc::GetStatus, after(60)));
    // Somebody with very many uids.
    let entries = (0..100_000).filter(|uid| audited.is_due(*uid, Rpc::ListGpus, after(61))).count();
    assert!(entries <= 1024, "{entries}");
    assert!(audited.is_due(1, Rpc::ListGpus, after(200)));
}
