use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;

fn key(content: &str) -> Key {
    Inputs::new().add("input", content).key()
}

#[test]
fn keys_depend_on_every_input_and_on_where_one_ends() {
    let ab = Inputs::new().add("x", "ab").add("y", "c").key();
    assert_eq!(ab, Inputs::new().add("x", "ab").add("y", "c").key());
    assert_ne!(ab, Inputs::new().add("x", "a").add("y", "bc").key());
    assert_ne!(ab, Inputs::new().add("z", "ab").add("y", "c").key());
}

#[test]
fn keys_of_folders_depend_on_names_and_content() {
    let folder = tempfile::tempdir().unwrap();
    let of = || Inputs::new().add_path(folder.path()).unwrap().key();
    fs::create_dir(folder.path().join("sub")).unwrap();
    fs::write(folder.path().join("sub/a"), "1").unwrap();
    let first = of();
    fs::write(folder.path().join("sub/a"), "2").unwrap();
    let second = of();
    fs::rename(folder.path().join("sub/a"), folder.path().join("sub/b")).unwrap();
    assert_ne!(first, second);
    assert_ne!(second, of());
}

#[test]
fn an_entry_is_built_once() {
    let folder = tempfile::tempdir().unwrap();
    let cache = Cache::at(folder.path()).unwrap();
    let builds = AtomicUsize::new(0);
    for _ in 0..2 {
        let entry = cache
            .entry("thing", &key("1"), Progress::Quiet, |path| {
                builds.fetch_add(1, Ordering::SeqCst);
                fs::write(path.join("file"), "content").at("write", path)
            })
            .unwrap();
        assert_eq!(fs::read_to_string(entry.path().join("file")).unwrap(), "content");
    }
    assert_eq!(builds.load(Ordering::SeqCst), 1);
}

#[test]
fn two_runs_at_once_build_once() {
    let folder = tempfile::tempdir().unwrap();
    let builds = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let cache = Cache::at(folder.path()).unwrap();
                let entry = cache
                    .entry("thing", &key("1"), Progress::Quiet, |path| {
                        builds.fetch_add(1, Ordering::SeqCst);
                        fs::write(path.join("file"), "content").at("write", path)
                    })
                    .unwrap();
                assert!(entry.path().join("file").is_file());
            });
        }
    });
    assert_eq!(builds.load(Ordering::SeqCst), 1);
}

#[test]
fn a_failed_build_leaves_no_entry_and_the_next_starts_from_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let cache = Cache::at(folder.path()).unwrap();
    let failed = cache.entry("thing", &key("1"), Progress::Quiet, |path| {
        fs::write(path.join("half"), "").at("write", path)?;
        Err(Error::NotRoot)
    });
    assert!(matches!(failed, Err(Error::NotRoot)));
    let entry = cache.entry("thing", &key("1"), Progress::Quiet, |_| Ok(())).unwrap();
    assert_eq!(fs::read_dir(entry.path()).unwrap().count(), 0);
}

#[test]
fn pruning_spares_what_is_used_and_other_names() {
    let folder = tempfile::tempdir().unwrap();
    let cache = Cache::at(folder.path()).unwrap();
    let make = |name, content| cache.entry(name, &key(content), Progress::Quiet, |_| Ok(())).unwrap();
    let used = make("thing", "1");
    let unused = make("thing", "2").path().to_owned();
    let other = make("other-thing", "1").path().to_owned();
    cache.prune("thing", 0).unwrap();
    assert!(used.path().is_dir());
    assert!(!unused.is_dir());
    assert!(other.is_dir());
}

#[test]
fn pruning_removes_what_an_interrupted_build_left() {
    let folder = tempfile::tempdir().unwrap();
    let cache = Cache::at(folder.path()).unwrap();
    let left = folder.path().join("building/thing-0123456789abcdef");
    fs::create_dir(&left).unwrap();
    cache.prune("thing", 1).unwrap();
    assert!(!left.is_dir());
}
