use super::*;
use std::os::unix::fs::{PermissionsExt, symlink};
use tempfile::TempDir;

fn refusal(folder: &Path) -> String {
    Lock::take(folder).unwrap_err().to_string()
}

#[test]
fn what_is_planted_at_the_locks_name_is_neither_followed_nor_written_to() {
    type Plant = fn(&Path, &Path);
    let plants: [(&str, Plant); 3] = [
        ("symbolic link", |precious, lock| symlink(precious, lock).unwrap()),
        ("hard link", |precious, lock| fs::hard_link(precious, lock).unwrap()),
        ("no regular file", |_, lock| {
            nix::unistd::mkfifo(lock, nix::sys::stat::Mode::from_bits_truncate(0o600)).unwrap();
        }),
    ];
    for (what, plant) in plants {
        let dir = TempDir::new().unwrap();
        let (precious, state) = (dir.path().join("precious"), dir.path().join("state"));
        fs::create_dir(&state).unwrap();
        fs::write(&precious, "precious").unwrap();
        plant(&precious, &state.join("vgpud.lock"));
        let refusal = refusal(&state);
        assert!(refusal.contains(what) && refusal.contains("vgpud.lock"), "{refusal}");
        assert_eq!(fs::read_to_string(&precious).unwrap(), "precious");
    }
}

#[test]
fn a_state_folder_that_others_may_write_to_is_refused() {
    let dir = TempDir::new().unwrap();
    let _kept = Lock::take(&dir.path().join("own")).unwrap();
    for mode in [0o777, 0o770, 0o1777] {
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(mode)).unwrap();
        let refusal = refusal(dir.path());
        assert!(refusal.contains(&format!("mode {mode:04o}")) && refusal.contains("chmod 0700"), "{refusal}");
        assert!(!dir.path().join("vgpud.lock").try_exists().unwrap());
    }
}

#[test]
fn a_state_folder_of_another_user_is_refused_and_so_is_a_link_that_one_made() {
    if !nix::unistd::geteuid().is_root() {
        vgpud_mdev::fake::skip("only root can give a folder to another user");
        return;
    }
    let dir = TempDir::new().unwrap();
    let (theirs, ours, link) = (dir.path().join("theirs"), dir.path().join("ours"), dir.path().join("link"));
    fs::create_dir(&theirs).unwrap();
    std::os::unix::fs::chown(&theirs, Some(4242), None).unwrap();
    assert!(refusal(&theirs).contains("user 4242 owns it"));
    fs::create_dir(&ours).unwrap();
    symlink(&ours, &link).unwrap();
    drop(Lock::take(&link).unwrap());
    std::os::unix::fs::lchown(&link, Some(4242), None).unwrap();
    assert!(refusal(&link).contains("a symbolic link that user 4242 made"));
}
