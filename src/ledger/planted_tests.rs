//! Links that lie where the ledger's files are to come.

use super::{FILE, Ledger};
use std::{fs, os::unix::fs::symlink, path::Path};
use tempfile::TempDir;

#[test]
fn drafts_are_never_written_through_a_link() {
    for plant in [(|target, name| symlink(target, name).unwrap()) as fn(&Path, &Path), |target, name| {
        fs::hard_link(target, name).unwrap();
    }] {
        let dir = TempDir::new().unwrap();
        let (precious, state) = (dir.path().join("precious"), dir.path().join("state"));
        fs::create_dir(&state).unwrap();
        fs::write(&precious, "precious").unwrap();
        for name in ["ledger.db.new", "ledger.db.new-journal", "ledger.made.new"] {
            plant(&precious, &state.join(name));
        }
        drop(Ledger::open(&state).unwrap());
        assert_eq!(fs::read_to_string(&precious).unwrap(), "precious");
        for name in [FILE, "ledger.made"] {
            assert!(fs::symlink_metadata(state.join(name)).unwrap().is_file(), "{name}");
        }
    }
}

#[test]
fn a_ledger_that_is_a_link_is_refused_and_its_target_kept() {
    let dir = TempDir::new().unwrap();
    let (precious, state) = (dir.path().join("precious"), dir.path().join("state"));
    fs::create_dir(&state).unwrap();
    for content in [Some("precious"), None] {
        match content {
            Some(content) => fs::write(&precious, content).unwrap(),
            None => fs::remove_file(&precious).unwrap(),
        }
        let _ = fs::remove_file(state.join(FILE));
        symlink(&precious, state.join(FILE)).unwrap();
        let opened = Ledger::open(&state);
        match content {
            Some(content) => {
                assert!(opened.unwrap_err().to_string().contains(FILE));
                assert_eq!(fs::read_to_string(&precious).unwrap(), content);
            }
            // A new one takes the place of a link to nothing.
            None => assert!(fs::symlink_metadata(state.join(FILE)).unwrap().is_file()),
        }
        assert_eq!(precious.try_exists().unwrap(), content.is_some());
    }
}
