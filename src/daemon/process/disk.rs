//! A disk that is full, and one that is read-only: real file systems, mounted where only this test
//! sees them.

use crate::process::{Home, wait_for};
use nix::{
    mount::{MsFlags, mount, umount},
    sched::{CloneFlags, unshare},
};
use std::{
    fs::{self, File},
    io::{ErrorKind, Write as _},
    path::{Path, PathBuf},
    process::{Output, Stdio},
};
use vgpud::ledger::{self, Ledger};
use vgpud_mdev::fake::{FakeGpu, FakeHost, skip};

const GPU: &str = "0000:41:00.0";

/// Runs a test whose state folder is a small file system of its own, in a thread of its own: the mount
/// is seen by it and by what it starts.
fn on_a_disk_of(kib: usize, home: &Home, test: impl FnOnce() + Send) {
    let name = std::thread::current().name().unwrap_or("a test").to_owned();
    let at = home.state_dir();
    fs::create_dir_all(&at).unwrap();
    let work = || {
        if let Err(errno) = unshare(CloneFlags::CLONE_NEWNS) {
            skip(format_args!("no file systems of its own may be mounted here: {errno}"));
            return;
        }
        let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
        mount(None::<&str>, "/", None::<&str>, private, None::<&str>).unwrap();
        mount(
            Some("vgpud-test"),
            &at,
            Some("tmpfs"),
            MsFlags::empty(),
            Some(format!("size={kib}k,mode=700").as_str()),
        )
        .unwrap();
        test();
        umount(&at).unwrap();
    };
    std::thread::scope(|scope| std::thread::Builder::new().name(name).spawn_scoped(scope, work).map(drop))
        .unwrap();
}

fn read_only(at: &Path) {
    let flags = MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY;
    mount(None::<&str>, at, None::<&str>, flags, None::<&str>).unwrap();
}

/// Takes all the room that is left.
fn fill(folder: &Path) -> PathBuf {
    let path = folder.join("filler");
    let mut file = File::create(&path).unwrap();
    loop {
        match file.write_all(&[0; 512]) {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::StorageFull => return path,
            Err(error) => panic!("{error}"),
        }
    }
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&[&output.stdout[..], &output.stderr].concat()).into_owned()
}

#[test]
fn on_a_full_disk_nothing_is_done_and_room_brings_the_last_state_back() {
    let home = Home::with(&FakeHost::machine().gpu(FakeGpu::new(GPU).sriov(4)));
    home.write_settings("[timeouts]\ndevice = \"4s\"\n");
    let vfs = home.folder().join(format!("sys/bus/pci/devices/{GPU}/sriov_numvfs"));
    let enabled = || fs::read_to_string(&vfs).unwrap().trim().to_owned();
    let request = ["create", "vf-4", "--gpu", GPU];
    on_a_disk_of(256, &home, || {
        let daemon = home.start();
        // An answer comes when the start is on record.
        assert_eq!(home.status().pid, daemon.pid());
        let filler = fill(&home.state_dir());
        let refused = home.vgpuctl(&request);
        assert!(!refused.status.success());
        for part in ["Cannot write to the ledger", "ledger.db", "make room", "start vgpud again", "full"] {
            assert!(text(&refused).contains(part), "no {part:?} in {}", text(&refused));
        }
        // It ends, and says the same.
        assert_eq!(daemon.ended().code(), Some(2));
        assert!(home.log().contains("make room"), "{}", home.log());
        assert_eq!(enabled(), "0", "an effect ran without its intent");
        // At its end it worked the log into the file, which makes room. The disk is full again.
        fs::remove_file(filler).unwrap();
        let filler = fill(&home.state_dir());
        let again = home.refused(&[]);
        assert!(again.contains("ledger.db") && again.contains("room"), "{again}");

        fs::remove_file(filler).unwrap();
        let checked = home.vgpuctl(&["ledger", "check"]);
        assert!(checked.status.success(), "{}", text(&checked));
        let _daemon = home.start();
        assert_eq!(home.status().slices, 0, "what was not written was not promised");
        let events = text(&home.vgpuctl(&["events"]));
        assert_eq!(events.matches("daemon-started").count(), 2, "{events}");
        // With room the same request writes to the device: it is seen here when it happens.
        let mut asking = home.vgpuctl_command(&request).stdout(Stdio::null()).spawn().unwrap();
        wait_for("VFs to be asked for", || (enabled() == "4").then_some(()));
        asking.kill().unwrap();
        asking.wait().unwrap();
    });
}

#[test]
fn from_a_read_only_disk_vgpud_does_not_start_and_vgpuctl_reads_all_that_was_committed() {
    let home = Home::new();
    for (left, index) in [("KILL", true), ("KILL", false), ("TERM", false)] {
        on_a_disk_of(1024, &home, || {
            let daemon = home.start();
            // An answer comes when the start is on record.
            assert_eq!(home.status().pid, daemon.pid());
            daemon.signal(left);
            daemon.ended();
            let file = home.state_dir().join(ledger::FILE);
            // What is not yet in the file itself, where vgpud was killed.
            let log = fs::metadata(file.with_extension("db-wal")).map_or(0, |log| log.len());
            assert_eq!(log > 0, left == "KILL");
            if !index {
                let _ = fs::remove_file(file.with_extension("db-shm"));
            }
            read_only(&home.state_dir());

            let refused = home.refused(&[]);
            for part in ["vgpud.lock", "make it writable", "state_dir", "EROFS"] {
                assert!(refused.contains(part), "no {part:?} in {refused}");
            }
            // The ledger by itself, where something else keeps the lock.
            let error = Ledger::open(&home.state_dir()).unwrap_err().to_string();
            assert!(error.contains("ledger.db") && error.contains("writable"), "{error}");

            let checked = home.vgpuctl(&["ledger", "check"]);
            assert!(checked.status.success(), "{left} {index}: {}", text(&checked));
            let exported = home.vgpuctl(&["ledger", "export"]);
            let ends = if left == "KILL" { "daemon-started" } else { "daemon-stopped" };
            assert!(text(&exported).contains(ends), "{left} {index}: {}", text(&exported));
            let copies = tempfile::TempDir::new().unwrap();
            let copy = copies.path().join("copy.db");
            let copied = home.vgpuctl(&["ledger", "backup", copy.to_str().unwrap()]);
            assert!(copied.status.success(), "{left} {index}: {}", text(&copied));
            let of_copy = Ledger::open_to_read(&copy).unwrap().audit(0, 100).unwrap();
            assert!(of_copy.iter().any(|entry| entry.kind == ends), "{of_copy:?}");
        });
        // The next one gets a new disk.
        let _ = fs::remove_file(home.folder().join("log"));
    }
}
