//! The log cut, torn and damaged, and the process killed: what was acknowledged is there.

use super::{
    super::*,
    damage::print,
    sample::{Files, Opened, Sample, Told, open},
};
use crate::engine::{Event, SliceId};
use std::{
    io::{BufRead as _, BufReader, Write as _},
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};
use tempfile::TempDir;

const S3: SliceId = SliceId::new(3);
const HEADER: usize = 32;
const FRAME: usize = 24 + 4096;

/// Commits that are not yet worked into the file, each with the log's length and what was so after it.
fn logged(folder: &Path) -> (Files, Vec<(usize, Told)>) {
    let mut sample = Sample::new(folder);
    sample.fill(2);
    let connection = sample.ledger.connection();
    connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).unwrap();
    let mut after = vec![(0, sample.told())];
    for number in 0..5 {
        sample.lease(S3, &format!("pod-{number}"));
        after.push((log_of(folder).len(), sample.told()));
        let why = "no node".to_owned();
        let failed = Event::HandOverFailed { slice: S3, why };
        for event in [failed, Event::Withdrawn { slice: S3 }, Event::Scrubbed { slice: S3, evidence: None }] {
            sample.on(event);
            after.push((log_of(folder).len(), sample.told()));
        }
    }
    (Files::of(folder), after)
}

fn log_of(folder: &Path) -> Vec<u8> {
    Files::of(folder).wal.unwrap()
}

/// What a log of this length holds.
fn told_at(after: &[(usize, Told)], length: usize) -> &Told {
    &after.iter().rev().find(|(end, _)| *end <= length).unwrap().1
}

#[test]
fn a_log_that_is_cut_anywhere_ends_with_its_last_whole_transaction() {
    let folder = TempDir::new().unwrap();
    let (files, after) = logged(folder.path());
    let log = files.wal.clone().unwrap();
    let frames = (log.len() - HEADER) / FRAME;
    assert!(frames > after.len(), "transactions of several frames");
    let mut cuts = vec![0, 1, 31];
    for frame in 0..=frames {
        let begin = HEADER + frame * FRAME;
        cuts.extend([0, 24, FRAME - 1].map(|offset| begin + offset));
    }
    cuts.retain(|length| *length <= log.len());
    for length in &cuts {
        let cut = Files { wal: Some(log[..*length].to_vec()), ..files.clone() };
        let Opened::As(now) = open(&cut) else { panic!("refused at {length} of {}", log.len()) };
        assert!(*now == *told_at(&after, *length), "another state at {length} of {}", log.len());
    }
    print(format_args!("a log of {frames} frames cut at {} lengths, always a whole transaction", cuts.len()));
}

#[test]
fn a_transaction_that_was_torn_in_any_order_was_never_made() {
    let folder = TempDir::new().unwrap();
    let (files, after) = logged(folder.path());
    let log = files.wal.clone().unwrap();
    let mut torn = 0;
    // Each transaction as the last one, with one sector after the other missing, and any frame.
    for pair in after.windows(2) {
        let (begin, end) = (pair[0].0.max(HEADER), pair[1].0);
        for sector in (begin..end).step_by(512).step_by(3) {
            let mut log = log[..end].to_vec();
            log[sector..end.min(sector + 512)].fill(0);
            let Opened::As(now) = open(&Files { wal: Some(log), ..files.clone() }) else {
                panic!("refused with a sector missing at {sector} of {end}")
            };
            // The sector may have held nothing but zeros.
            let (before, made) = (*now == pair[0].1, *now == pair[1].1);
            assert!(before || made, "another state with a sector missing at {sector} of {end}");
            torn += usize::from(before);
        }
    }
    print(format_args!("{torn} torn transactions, none of them made in part"));
    assert!(torn > after.len());
}

#[test]
fn a_damaged_log_is_refused_where_an_acknowledged_transaction_would_be_lost() {
    let folder = TempDir::new().unwrap();
    let (files, after) = logged(folder.path());
    let log = files.wal.clone().unwrap();
    let frames = (log.len() - HEADER) / FRAME;
    let (mut refused, mut last) = (0, 0);
    for frame in 0..frames {
        let begin = HEADER + frame * FRAME;
        // A byte of its page, all of it, its checksum.
        for damaged in [2000..2001, 0..FRAME, 20..21] {
            let mut log = log.clone();
            log[begin..begin + FRAME][damaged].iter_mut().for_each(|byte| *byte ^= 0x5a);
            match open(&Files { wal: Some(log), ..files.clone() }) {
                Opened::Refused(Error::Damaged { found, .. }) => {
                    assert!(found.contains(&format!("frame {} of {frames}", frame + 1)), "{found}");
                    refused += 1;
                }
                Opened::Refused(error) => panic!("{error:?}"),
                Opened::As(now) => {
                    // Only the end of the log can pass for a commit in which the power went.
                    assert!(*now == *told_at(&after, begin), "another state than before frame {frame}");
                    assert!(begin >= after[after.len() - 3].0, "frame {frame} of {frames} was lost");
                    last += 1;
                }
            }
        }
    }
    for at in [0, 5, 9, 17, 30] {
        let mut log = log.clone();
        log[at] ^= 1;
        let Opened::Refused(error) = open(&Files { wal: Some(log), ..files.clone() }) else {
            panic!("the log was left out, with its header damaged at {at}")
        };
        assert!(error.to_string().contains("header"), "{error}");
    }
    print(format_args!(
        "{frames} frames of the log damaged in 3 ways: {refused} refused, {last} in its last two transactions \
         passed for torn ones"
    ));
    assert!(refused > 2 * frames);
}

#[test]
fn a_log_that_was_begun_anew_is_judged_by_its_own_generation() {
    let folder = TempDir::new().unwrap();
    let mut sample = Sample::new(folder.path());
    sample.fill(20);
    // All is worked in; the next commit overwrites the log from its beginning.
    let connection = sample.ledger.connection();
    connection.query_row("PRAGMA wal_checkpoint(RESTART)", [], |_| Ok(())).unwrap();
    let before = log_of(folder.path()).len();
    sample.life(S3, "pod-new");
    assert_eq!(log_of(folder.path()).len(), before, "older frames lie behind the new ones");
    let files = Files::of(folder.path());
    let Opened::As(now) = open(&files) else { panic!("refused") };
    assert_eq!(*now, sample.told());
}

#[test]
fn each_commit_is_synced_before_it_is_acknowledged() {
    let folder = TempDir::new().unwrap();
    for _start in ["the first", "a later one"] {
        let (ledger, _) = Ledger::open(folder.path()).unwrap();
        let ask = |pragma: &str| -> String {
            let sql = format!("SELECT CAST({pragma} AS TEXT) FROM pragma_{pragma}");
            ledger.connection().query_row(&sql, [], |row| row.get(0)).unwrap()
        };
        assert_eq!((ask("journal_mode").as_str(), ask("synchronous").as_str()), ("wal", "2"), "2 is FULL");
    }
}

/// Where the child of the next test finds its ledger.
const CHILD: &str = "VGPUD_TEST_LEDGER";

/// No test by itself: what the next one kills. It commits without end and says so after each commit.
#[test]
fn a_child_that_commits() {
    let Some(folder) = std::env::var_os(CHILD) else { return };
    let (ledger, state) = Ledger::open(Path::new(&folder)).unwrap();
    let mut sample = Sample::of(ledger, state);
    for number in 0.. {
        sample.life(S3, &format!("pod-{number}"));
        let ended = sample.state.slices[&S3].generation.0;
        sample.ledger.set_boot_id(&ended.to_string()).unwrap();
        writeln!(std::io::stdout(), "acknowledged {ended}").unwrap();
    }
}

#[test]
fn what_was_acknowledged_is_there_whenever_the_process_is_killed() {
    const KILLS: u32 = 40;
    let folder = TempDir::new().unwrap();
    Sample::new(folder.path()).fill(1);
    let (mut acknowledged, mut in_the_middle, begin) = (0, 0, Instant::now());
    for kill in 0..KILLS {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "ledger::tests::power_loss::a_child_that_commits", "--nocapture"])
            .env(CHILD, folder.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
        let mut last = None;
        let mut told = lines.filter_map(|line| line.strip_prefix("acknowledged ")?.parse::<u64>().ok());
        // Some commits later, and at another instant of one each time.
        for _ in 0..=kill % 3 {
            last = Some(told.next().expect("it commits"));
        }
        std::thread::park_timeout(Duration::from_micros(u64::from(kill) * 137));
        child.kill().unwrap();
        child.wait().unwrap();
        let last = told.last().or(last).unwrap();
        acknowledged = acknowledged.max(last);

        let (ledger, state) = Ledger::open(folder.path()).unwrap();
        assert_eq!(ledger.check().unwrap().problems, Vec::<String>::new());
        let boot: u64 = ledger.boot_id().unwrap().unwrap().parse().unwrap();
        assert!(boot == last || boot == last + 1, "{last} was acknowledged, {boot} is there");
        let slice = &state.slices[&S3];
        assert!(slice.generation.0 == boot || slice.generation.0 == boot + 1, "{slice:?} after {boot}");
        // It goes on from ready.
        let mut sample = Sample::of(ledger, state);
        if sample.state.slices[&S3].phase.word() != "ready" {
            in_the_middle += 1;
            sample.finish(S3);
        }
        assert!(begin.elapsed() < Duration::from_secs(300), "{kill} kills");
    }
    print(format_args!(
        "killed {KILLS} times, {in_the_middle} of them in the middle of a life, {acknowledged} lives acknowledged, 0 lost"
    ));
}
