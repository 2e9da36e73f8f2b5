//! What every command prints.

use crate::{
    canned::{Canned, Mood},
    golden,
    process::vgpuctl,
};

#[tokio::test]
async fn every_command_prints_what_its_golden_files_have() {
    let server = Canned::start(Mood::Helpful);
    let cases: &[(&str, &[&str])] = &[
        ("gpus", &["gpus"]),
        ("gpus-one", &["gpus", "41:00.0"]),
        ("profiles", &["profiles"]),
        ("profiles-that-fit", &["profiles", "0000:41:00.0", "--memory", "48GiB"]),
        ("profiles-none-fits", &["profiles", "--memory", "2TiB"]),
        ("create", &["create", "--memory", "20GiB", "--count", "2"]),
        ("create-dry-run", &["create", "vf-8", "--count", "2", "--dry-run"]),
        ("slices", &["slices"]),
        ("slices-of-a-gpu", &["slices", "--gpu", "0000:81:00.0"]),
        ("show-leased-slice", &["show", "s17"]),
        ("show-quarantined-slice", &["show", "s19"]),
        ("show-slice-by-its-vf", &["show", "0000:41:00.2"]),
        ("show-gpu", &["show", "0000:41:00.0"]),
        ("lease", &["lease", "s18", "--owner", "team-c/job"]),
        ("extend", &["extend", "s17", "--for", "2h"]),
        ("release", &["release", "s17"]),
        ("verify", &["verify", "s18", "--level", "full"]),
        ("destroy", &["destroy", "s18", "s19"]),
        ("history", &["history"]),
        ("history-of-a-slice", &["history", "s18"]),
        ("quarantine-list", &["quarantine", "list"]),
        ("quarantine-clear", &["quarantine", "clear", "s19"]),
        ("quarantine-add", &["quarantine", "add", "s18", "--reason", "reads ones"]),
        ("quarantine-add-leased", &["quarantine", "add", "s17", "--reason", "reads ones"]),
        ("quarantine-add-gpu", &["quarantine", "add", "41:00.0", "--reason", "fan broken"]),
        ("quarantine-add-mistyped", &["quarantine", "add", "42:00.0", "--reason", "fan broken"]),
        ("quarantine-clear-gpu", &["quarantine", "clear", "0000:81:00.0"]),
        ("quarantine-clear-ready", &["quarantine", "clear", "s18"]),
        ("plan", &["plan"]),
        ("plan-reached", &["plan", "idle"]),
        ("plan-no-such-layout", &["plan", "night"]),
        ("apply", &["apply", "day", "--yes"]),
        ("apply-unconfirmed", &["apply", "day"]),
        ("apply-nothing", &["apply", "idle"]),
        ("events", &["events"]),
        ("events-after", &["events", "--after", "42"]),
        ("status", &["status"]),
    ];
    for (case, args) in cases {
        golden::check(case, &server, args).await;
    }
}

#[tokio::test]
async fn an_empty_host_is_told_as_such() {
    let server = Canned::start(Mood::Empty);
    for (case, args) in [
        ("empty-gpus", ["gpus"]),
        ("empty-profiles", ["profiles"]),
        ("empty-slices", ["slices"]),
        ("empty-events", ["events"]),
        ("empty-history", ["history"]),
    ] {
        golden::check(case, &server, &args).await;
    }
    golden::check("empty-quarantine", &server, &["quarantine", "list"]).await;
}

#[tokio::test]
async fn the_help_texts_are_what_the_golden_files_have() {
    let nowhere = Canned::start(Mood::Empty);
    let commands = [
        "gpus",
        "profiles",
        "create",
        "slices",
        "show",
        "lease",
        "extend",
        "release",
        "verify",
        "destroy",
        "run",
        "plan",
        "apply",
        "layout",
        "events",
        "history",
        "quarantine",
        "status",
        "doctor",
        "ledger",
    ];
    let top = vgpuctl(nowhere.socket(), &["--help"]).await;
    assert_eq!((top.code, top.stderr.as_str()), (0, ""));
    golden::compare("help.text", &top.stdout);
    for command in commands {
        let help = vgpuctl(nowhere.socket(), &[command, "--help"]).await;
        assert_eq!(help.code, 0);
        golden::compare(&format!("help-{command}.text"), &help.stdout);
        assert!(top.stdout.contains(&format!("  {command} ")), "{command} stands in the list of commands");
    }
    assert!(nowhere.asked().is_empty(), "help asks nobody");
}

#[tokio::test]
async fn quiet_leaves_only_the_data() {
    let server = Canned::start(Mood::Helpful);
    let loud = vgpuctl(server.socket(), &["create", "vf-8"]).await;
    assert_eq!(loud.stderr, "0 of 1 ready on 0000:41:00.0\n1 of 1 ready on 0000:41:00.0\n");
    let quiet = vgpuctl(server.socket(), &["create", "vf-8", "--quiet"]).await;
    assert_eq!((quiet.stderr.as_str(), quiet.stdout), ("", loud.stdout));
}

#[tokio::test]
async fn what_is_asked_reaches_vgpud() {
    let server = Canned::start(Mood::Helpful);
    for line in [
        "create --memory 20GiB --compute 12.5% --gpu 41:00.0 --numa require:1 --count 3 --owner me/x --user qemu:kvm --for 90min --dry-run",
        "create vf-8 --memory 20GiB --compute 12.5%",
        "create --compute 25%+ --enforced",
        "profiles 41:00.0 --class small",
    ] {
        vgpuctl(server.socket(), &line.split(' ').collect::<Vec<_>>()).await;
    }
    vgpuctl(server.socket(), &["lease", "s18", "--owner", "me"]).await;
    vgpuctl(server.socket(), &["extend", "s17", "--for", "2h"]).await;
    vgpuctl(server.socket(), &["destroy", "s17", "--release"]).await;
    vgpuctl(server.socket(), &["slices", "--owner", "me"]).await;
    let narrow = ["history", "s2", "--owner", "me", "--gpu", "41:00.0", "--since", "2026-11-24 08:00:00"];
    vgpuctl(server.socket(), &narrow).await;
    vgpuctl(server.socket(), &["quarantine", "clear", "s19"]).await;
    vgpuctl(server.socket(), &["quarantine", "add", "41:00.0", "--reason", "fan broken"]).await;
    vgpuctl(server.socket(), &["quarantine", "add", "s18", "--reason", "odd"]).await;
    vgpuctl(server.socket(), &["quarantine", "clear", "41:00.0"]).await;
    let asked = server.asked().join("\n");
    let expected = "\
CreateSlicesRequest { request: Some(Request { profile: None, memory_bytes: Some(21474836480), \
compute_hundredths: Some(1250), gpu: Some(\"0000:41:00.0\"), class: None, compute_kind: Cap, enforced: false, \
numa: Some(NumaAffinity { node: 1, required: true }) }), count: 3, owner: Some(\"me/x\"), dry_run: true, user: Some(\"qemu:kvm\"), time_ms: Some(5400000) }
ListProfilesRequest { request: Some(Request { profile: None, memory_bytes: Some(21474836480), \
compute_hundredths: Some(1250), gpu: None, class: None, compute_kind: Cap, enforced: false, numa: None }) }
ListProfilesRequest { request: Some(Request { profile: None, memory_bytes: None, compute_hundredths: None, \
gpu: None, class: None, compute_kind: Unspecified, enforced: false, numa: None }) }
CreateSlicesRequest { request: Some(Request { profile: Some(\"vf-8\"), memory_bytes: None, \
compute_hundredths: None, gpu: None, class: None, compute_kind: Unspecified, enforced: false, numa: None }), count: 1, \
owner: None, dry_run: false, user: None, time_ms: None }
CreateSlicesRequest { request: Some(Request { profile: None, memory_bytes: None, \
compute_hundredths: Some(2500), gpu: None, class: None, compute_kind: Guarantee, enforced: true, numa: None }), count: 1, \
owner: None, dry_run: false, user: None, time_ms: None }
ListProfilesRequest { request: Some(Request { profile: None, memory_bytes: None, compute_hundredths: None, \
gpu: Some(\"0000:41:00.0\"), class: Some(\"small\"), compute_kind: Unspecified, enforced: false, numa: None }) }
LeaseSliceRequest { id: \"s18\", owner: \"me\", holder: None, user: None, time_ms: None }
ExtendLeaseRequest { id: \"s17\", time_ms: 7200000 }
DestroySliceRequest { id: \"s17\", release: true }
ListSlicesRequest { gpu: None, owner: Some(\"me\") }
ListHistoryRequest { slice: Some(\"s2\"), owner: Some(\"me\"), gpu: Some(\"0000:41:00.0\"), \
since_unix_ms: Some(1795507200000), before: None }
ClearQuarantineRequest { id: \"s19\" }
QuarantineGpuRequest { gpu: \"0000:41:00.0\", reason: \"fan broken\" }
QuarantineSliceRequest { id: \"s18\", reason: \"odd\" }
ClearGpuQuarantineRequest { gpu: \"0000:41:00.0\" }";
    assert_eq!(asked, expected);
}

#[tokio::test]
async fn pages_and_completions_come_from_the_definition() {
    let server = Canned::start(Mood::Empty);
    let generate = async |args: &[&str]| {
        let done = vgpuctl(server.socket(), &[&["generate"], args].concat()).await;
        assert_eq!((done.code, done.stderr.as_str()), (0, ""), "{args:?}");
        done.stdout
    };
    assert!(generate(&["man"]).await.contains(".TH vgpuctl 1"));
    let page = generate(&["man", "create"]).await;
    assert!(page.contains(".TH vgpuctl-create 1") && page.contains("dry\\-run"), "{page}");
    for shell in ["complete-bash", "complete-zsh", "complete-fish"] {
        let script = generate(&[shell]).await;
        assert!(script.contains("vgpuctl") && script.contains("dry-run"), "{shell}");
    }
    let unknown = vgpuctl(server.socket(), &["generate", "man", "creat"]).await;
    assert_eq!(unknown.code, 2);
    assert!(unknown.stderr.contains("did you mean create?"), "{}", unknown.stderr);
}

#[tokio::test]
async fn doctor_needs_no_vgpud_and_says_how_to_mend_what_failed() {
    let bare = tempfile::tempdir().unwrap();
    let nowhere = bare.path().join("run/vgpud/vgpud.sock");
    let doctor = ["doctor", "--root", bare.path().to_str().unwrap()];
    let json = vgpuctl(&nowhere, &[&doctor[..], &["--output", "json"]].concat()).await;
    assert_eq!((json.code, json.stderr.as_str()), (1, ""), "a bare folder is no host for GPUs");
    let document: serde_json::Value = serde_json::from_str(&json.stdout).unwrap();
    assert_eq!(document["ready"], false);
    let checks = document["checks"].as_array().unwrap();
    let failed: Vec<_> = checks.iter().filter(|check| check["verdict"] == "fail").collect();
    assert!(failed.iter().any(|check| check["name"] == "kvm"), "{document}");
    for check in failed {
        assert!(check["mend"].as_str().is_some_and(|mend| !mend.is_empty()), "{check}");
    }
    let text = vgpuctl(&nowhere, &doctor).await;
    assert_eq!(text.code, 1);
    for check in checks {
        assert!(text.stdout.contains(check["found"].as_str().unwrap()), "{check}\n{}", text.stdout);
    }
    assert!(text.stderr.contains(" failed, "), "{}", text.stderr);
}

#[tokio::test]
async fn a_profile_file_of_nvidias_becomes_settings_and_overwrites_nothing() {
    let nowhere = Canned::start(Mood::Empty);
    let file = |name: &str| nowhere.folder().join(name).display().to_string();
    let yaml = "version: v1\nvgpu-configs:\n  A40-8Q:\n    - devices: all\n      vgpu-devices: {A40-8Q: 6}\n  \
                two:\n    - devices: [0, 1]\n      vgpu-devices: {A40-8Q: 6}\n";
    std::fs::write(file("config.yaml"), yaml).unwrap();
    let config = file("config.yaml");
    let import = ["layout", "import", &config];
    for (case, rest) in [("layout-import", &["A40-8Q"][..]), ("layout-import-refused", &[])] {
        let finished = vgpuctl(nowhere.socket(), &[&import, rest].concat()).await;
        let text = format!("{}--- stderr\n{}--- exit {}\n", finished.stdout, finished.stderr, finished.code);
        golden::compare(&format!("{case}.text"), &nowhere.neutral(&text));
    }
    let written = file("a40.toml");
    let write = [&import[..], &["A40-8Q", "--write", &written]].concat();
    let first = vgpuctl(nowhere.socket(), &write).await;
    assert_eq!((first.code, first.stdout.as_str()), (0, ""), "{first:?}");
    let settings = vgpud_config::Settings::load(std::path::Path::new(&written)).unwrap();
    assert_eq!(settings.layouts.len(), 1);
    let second = vgpuctl(nowhere.socket(), &write).await;
    assert_eq!(second.code, 2);
    assert!(second.stderr.contains("must not exist before"), "{second:?}");
    assert!(nowhere.asked().is_empty(), "vgpud is not asked");
}
