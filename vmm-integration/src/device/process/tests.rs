use super::*;
use std::{fs, os::unix::fs::PermissionsExt};
use vgpud_mdev::VfIndex;

/// A program that plays the process: a shell script that gets its arguments.
struct Stand {
    _folder: tempfile::TempDir,
    process: DeviceProcess,
    deadline: Duration,
}

fn stand(script: &str, deadline: Duration) -> Stand {
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("vgpud");
    fs::write(&program, format!("#!/bin/sh\n{script}\n")).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    Stand { _folder: folder, process: DeviceProcess { program, root: None, confined: false }, deadline }
}

const LONG: Duration = Duration::from_secs(60);
const EVIDENCE: &str = r#"{"report":"evidence","verdict":"clean","reset":{"outcome":"done","methods":"flr"},"steps":[],"bytes_checked":4096,"bytes_found":0,"read_back_us":1,"duration_us":2}"#;

fn job(task: Task) -> Job {
    let gpu = "0000:f0:00.0".parse().unwrap();
    Job { task, gpu, name: InstanceName::Vf(VfIndex(3)), node: NodeKind::Auto, memory: Some(16 << 20) }
}

fn scrub(script: &str, deadline: Duration) -> Result<Evidence, ProcessError> {
    let stand = stand(script, deadline);
    stand.process.scrub(&job(Task::Scrub), stand.deadline)
}

#[test]
fn evidence_is_the_last_report() {
    let script = format!(r#"echo '{{"report":"stage","stage":"reset"}}'; echo '{EVIDENCE}'"#);
    let evidence = scrub(&script, LONG).unwrap();
    assert!(evidence.is_clean());
    assert_eq!(evidence.bytes_checked, 4096);
}

#[test]
fn it_is_asked_for_one_instance() {
    let script = r#"echo "{\"report\":\"failed\",\"why\":\"$*\"}""#;
    let error = scrub(script, LONG).unwrap_err();
    assert_eq!(
        error.to_string(),
        "device scrub --gpu=0000:f0:00.0 --vf=3 --node=auto --memory=16777216 --json"
    );
}

#[test]
fn it_gives_up_its_rights_where_it_is_told_to() {
    let mut stand = stand(r#"echo "{\"report\":\"failed\",\"why\":\"$*\"}""#, LONG);
    stand.process.confined = true;
    let error = stand.process.scrub(&job(Task::Scrub), stand.deadline).unwrap_err();
    assert!(error.to_string().ends_with(" --json --confine"), "{error}");
}

#[test]
fn a_process_that_hangs_is_left_behind_with_the_stage_that_it_was_at() {
    let begun = Instant::now();
    let script = r#"echo '{"report":"stage","stage":"reset"}'; exec sleep 600"#;
    let error = scrub(script, Duration::from_secs(2)).unwrap_err();
    assert!(begun.elapsed() < LONG);
    assert!(matches!(error, ProcessError::Late { stage: Stage::Reset | Stage::Start, .. }), "{error:?}");
    assert!(error.to_string().starts_with("Waited 2 s for the "), "{error}");
}

#[test]
fn a_process_that_closes_its_output_and_hangs_is_late_too() {
    let script = format!("echo '{EVIDENCE}'; exec sleep 600 >/dev/null");
    let error = scrub(&script, Duration::from_secs(2)).unwrap_err();
    assert!(matches!(error, ProcessError::Late { .. }), "{error:?}");
}

#[test]
fn a_process_that_dies_is_no_evidence() {
    let script = format!(r#"echo '{EVIDENCE}'; kill -BUS $$"#);
    let error = scrub(&script, LONG).unwrap_err();
    assert!(matches!(error, ProcessError::Died { .. }), "{error:?}");
    let error = scrub("exit 0", LONG).unwrap_err();
    assert!(matches!(error, ProcessError::Died { .. }), "{error:?}");
}

#[test]
fn what_it_says_must_be_a_report_of_the_kind_asked_for() {
    for line in ["panicked at", r#"{"report":"checked"}"#, r#"{"report":"poem"}"#] {
        let error = scrub(&format!("echo '{line}'"), LONG).unwrap_err();
        assert!(matches!(error, ProcessError::Garbled { .. }), "{line}: {error:?}");
    }
}

#[test]
fn checks_that_were_made_before_the_end_are_kept() {
    let check = r#"{"report":"check","name":"driver","outcome":"pass","seen":"vfio-pci"}"#;
    let stand = stand(&format!("echo '{check}'; exit 3"), LONG);
    let preflight = stand.process.preflight(&job(Task::Preflight(Level::Full)), LONG);
    assert_eq!(preflight.checks.len(), 1);
    assert!(matches!(preflight.ended, Err(ProcessError::Died { .. })), "{:?}", preflight.ended);
}

#[test]
fn a_program_that_is_not_there_is_named() {
    let process = DeviceProcess { program: "/nowhere/vgpud".into(), root: None, confined: false };
    let error = process.scrub(&job(Task::Scrub), LONG).unwrap_err();
    assert_eq!(error.to_string(), "Cannot start /nowhere/vgpud to work on the device");
}

#[test]
fn an_instance_that_is_gone_is_reported_and_no_panic() {
    let folder = tempfile::tempdir().unwrap();
    let mut out = Vec::new();
    serve(&Host::new(folder.path()), &job(Task::Scrub), Form::Json, &mut out).unwrap();
    let report: Report = serde_json::from_slice(&out).unwrap();
    assert!(matches!(&report, Report::Failed { why } if why.contains("VF 3")), "{report:?}");
}

#[test]
fn a_line_that_never_ends_is_cut_and_the_next_is_read() {
    let long = LONGEST_LINE * 3;
    let script = format!("head -c {long} /dev/zero; printf '\\377\\n'; echo '{EVIDENCE}'");
    assert!(scrub(&script, LONG).unwrap().is_clean());
    let text = [&vec![b'x'; usize::try_from(long).unwrap()], &b"\nend"[..]].concat();
    let mut text = &text[..];
    assert_eq!(next_line(&mut text).unwrap().len() as u64, LONGEST_LINE);
    assert_eq!(next_line(&mut text).as_deref(), Some("end"));
    assert_eq!(next_line(&mut text), None);
}
