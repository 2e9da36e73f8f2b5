//! Damage on the disk: of every page, every frame of the log, at every length.

use super::{
    super::*,
    sample::{Files, Opened, Sample, Told, in_one_file, open},
};
use rusqlite::Connection;
use std::io::Write as _;
use tempfile::TempDir;

const PAGE: usize = 4096;

/// Past libtest's capture: the figures are what these tests are run for.
pub fn print(figures: std::fmt::Arguments<'_>) {
    writeln!(std::io::stderr(), "\nledger: {figures}").unwrap();
}

/// A ledger of many pages, some of them free, all in one file.
fn whole() -> (Files, Told) {
    let folder = TempDir::new().unwrap();
    let mut sample = Sample::new(folder.path());
    sample.fill(150);
    let told = sample.told();
    drop(sample);
    let free = "CREATE TABLE junk (text TEXT); \
                INSERT INTO junk WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 9) \
                SELECT hex(randomblob(2000)) FROM n; DROP TABLE junk;";
    Connection::open(folder.path().join(FILE)).unwrap().execute_batch(free).unwrap();
    in_one_file(folder.path());
    (Files::of(folder.path()), told)
}

#[derive(Debug, Default)]
struct Tally {
    refused: usize,
    /// What was damaged is not used.
    as_it_was: usize,
    /// Opened, and not as it was.
    taken_for_whole: usize,
}

impl Tally {
    fn count(&mut self, files: &Files, told: &Told) {
        match open(files) {
            Opened::Refused(error) => {
                assert!(
                    matches!(error, Error::Damaged { .. } | Error::Foreign { .. } | Error::Row { .. }),
                    "{error:?}"
                );
                assert!(error.to_string().contains(FILE), "{error}");
                self.refused += 1;
            }
            Opened::As(now) if *now == *told => self.as_it_was += 1,
            Opened::As(_) => self.taken_for_whole += 1,
        }
    }
}

#[test]
fn a_damaged_page_is_refused_or_was_not_in_use() {
    let (files, told) = whole();
    let pages = files.ledger.len() / PAGE;
    assert!(pages > 60, "{pages} pages");
    let noise: Vec<u8> = (0..PAGE).map(|at| u8::try_from(at * 31 % 251).unwrap()).collect();
    let mut tally = Tally::default();
    for page in 0..pages {
        let here = page * PAGE..(page + 1) * PAGE;
        // Zeros, noise, and what belongs to another page.
        let other = (page + 1) % pages * PAGE;
        for content in [&[0; PAGE], &noise[..], &files.ledger[other..other + PAGE]] {
            let mut damaged = files.clone();
            damaged.ledger[here.clone()].copy_from_slice(content);
            tally.count(&damaged, &told);
        }
    }
    print(format_args!("{pages} pages damaged in 3 ways: {tally:?}"));
    assert_eq!(tally.taken_for_whole, 0);
    assert!(tally.refused > 2 * pages, "most pages are in use");
}

#[test]
fn a_file_that_is_cut_short_is_refused_or_lost_nothing() {
    let (files, told) = whole();
    let mut tally = Tally::default();
    let lengths = (0..files.ledger.len()).step_by(PAGE / 2).chain([1, 15, 16, 99, 100, 511, 512, 4095]);
    for length in lengths {
        let mut cut = files.clone();
        cut.ledger.truncate(length);
        tally.count(&cut, &told);
    }
    print(format_args!("files cut short: {tally:?}"));
    assert_eq!(tally.taken_for_whole, 0);
    // Of the last page, where it is free.
    assert!(tally.as_it_was <= 2, "{tally:?}");
}

#[test]
fn a_ledger_that_is_gone_is_missed() {
    for trace in ["ledger.made", "ledger.db-wal", "ledger.db-shm", "ledger.db-journal"] {
        let folder = TempDir::new().unwrap();
        std::fs::write(folder.path().join(trace), "").unwrap();
        let error = Ledger::open(folder.path()).unwrap_err();
        let text = error.to_string();
        assert!(matches!(error, Error::Gone { .. }), "{trace}: {error:?}");
        assert!(text.contains(trace) && text.contains("vgpuctl ledger backup"), "{text}");
        assert!(!folder.path().join(FILE).try_exists().unwrap());
    }
    // As it happens: vgpud has run here, and its ledger is removed with all that lay beside it.
    let folder = TempDir::new().unwrap();
    Sample::new(folder.path()).fill(1);
    std::fs::remove_file(folder.path().join(FILE)).unwrap();
    assert!(matches!(Ledger::open(folder.path()).unwrap_err(), Error::Gone { .. }));
    std::fs::remove_file(folder.path().join("ledger.made")).unwrap();
    Ledger::open(folder.path()).unwrap();
}

#[test]
fn a_first_start_that_broke_off_is_no_ledger_that_is_gone() {
    let folder = TempDir::new().unwrap();
    for name in ["ledger.db.new", "ledger.db.new-journal", "ledger.made.new", "vgpud.lock"] {
        std::fs::write(folder.path().join(name), "half").unwrap();
    }
    Ledger::open(folder.path()).unwrap();
}

#[test]
fn a_copy_that_is_put_beside_the_log_of_another_ledger_is_refused() {
    let folder = TempDir::new().unwrap();
    let mut sample = Sample::new(folder.path());
    sample.fill(1);
    let copy = TempDir::new().unwrap();
    let file = copy.path().join(FILE);
    sample.ledger.back_up(&file).unwrap();
    let told = sample.told();
    sample.life(crate::engine::SliceId::new(3), "pod-later");
    let stray = Files { ledger: std::fs::read(&file).unwrap(), wal: Files::of(folder.path()).wal };
    let Opened::Refused(error) = open(&stray) else { panic!("the log of another ledger was worked in") };
    assert!(matches!(error, Error::Stray { .. }), "{error:?}");
    assert!(error.to_string().contains("ledger.db-wal") && error.to_string().contains("move"), "{error}");
    let Opened::As(now) = open(&Files { wal: None, ..stray }) else { panic!("the copy is whole") };
    assert_eq!(*now, told);
}

#[test]
fn a_damaged_file_keeps_its_log_when_it_is_refused() {
    let folder = TempDir::new().unwrap();
    let mut sample = Sample::new(folder.path());
    sample.fill(30);
    let connection = sample.ledger.connection();
    connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).unwrap();
    sample.life(crate::engine::SliceId::new(3), "pod-last");
    let files = Files::of(folder.path());
    assert!(!files.wal.as_ref().unwrap().is_empty());
    let mut refused = 0;
    for page in 1..files.ledger.len() / PAGE {
        let mut damaged = files.clone();
        damaged.ledger[page * PAGE..(page + 1) * PAGE].fill(0x5a);
        // Whether it is left as it was, log and all, is looked at there.
        refused += usize::from(matches!(open(&damaged), Opened::Refused(_)));
    }
    assert!(refused > 3, "{refused} pages that are not in the log too");
}
