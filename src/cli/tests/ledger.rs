//! `vgpuctl ledger` on real files, without vgpud and beside one that has the ledger open.

use crate::process::{Finished, vgpuctl};
use serde_json::Value;
use std::path::PathBuf;
use tempfile::TempDir;
use vgpud::ledger::Ledger;

struct Host {
    root: TempDir,
}

impl Host {
    fn new() -> Self {
        Self { root: TempDir::new().unwrap() }
    }

    fn folder(&self) -> PathBuf {
        self.root.path().join("var/lib/vgpud")
    }

    fn file(&self) -> PathBuf {
        self.folder().join("ledger.db")
    }

    async fn run(&self, args: &[&str]) -> Finished {
        let root = ["ledger", "--root", self.root.path().to_str().unwrap()];
        vgpuctl(&self.root.path().join("no.sock"), &[&root[..], args].concat()).await
    }

    async fn json(&self, args: &[&str]) -> (i32, Value) {
        let done = self.run(&[args, &["--output", "json"]].concat()).await;
        let text = if done.stdout.is_empty() { done.stderr } else { done.stdout };
        (done.code, serde_json::from_str(&text).unwrap())
    }
}

#[tokio::test]
async fn a_sound_ledger_is_checked_exported_and_copied_while_vgpud_has_it() {
    let host = Host::new();
    let (_vgpud, _) = Ledger::open(&host.folder()).unwrap();
    let text = host.run(&["check"]).await;
    assert_eq!((text.code, text.stderr.as_str()), (0, ""));
    assert!(text.stdout.contains("sound") && text.stdout.contains("0, 0 of them open"), "{}", text.stdout);
    let (code, check) = host.json(&["check"]).await;
    assert_eq!((code, &check["version"], &check["sound"]), (0, &1.into(), &true.into()));
    let (code, export) = host.json(&["export"]).await;
    assert_eq!(
        (code, &export["version"], &export["tables"]["slices"]),
        (0, &1.into(), &Value::Array(vec![]))
    );
    let plain = host.run(&["export"]).await;
    assert_eq!(serde_json::from_str::<Value>(&plain.stdout).unwrap(), export, "JSON in either form");

    let target = host.root.path().join("copy.db");
    let target = target.to_str().unwrap();
    let (code, copy) = host.json(&["backup", target]).await;
    assert_eq!(code, 0, "{copy}");
    assert_eq!(copy["bytes"].as_u64(), Some(std::fs::metadata(target).unwrap().len()));
    let (code, refused) = host.json(&["backup", target]).await;
    assert_eq!((code, &refused["error"]["reason"]), (2, &"BACKUP_EXISTS".into()));
    assert!(refused["error"]["message"].as_str().unwrap().contains(target), "{refused}");
}

#[tokio::test]
async fn what_is_no_sound_ledger_is_told_with_the_way_out() {
    let host = Host::new();
    let (code, missing) = host.json(&["check"]).await;
    assert_eq!((code, &missing["error"]["reason"]), (2, &"LEDGER_MISSING".into()));
    assert!(!host.folder().try_exists().unwrap(), "nothing is made by looking");

    drop(Ledger::open(&host.folder()).unwrap());
    let database = rusqlite::Connection::open(host.file()).unwrap();
    let lease = "INSERT INTO leases (slice, generation, gpu, owner, since_ms) VALUES (4, 1, 'g', 'pod-a', 1)";
    database.execute(lease, []).unwrap();
    let text = host.run(&["check"]).await;
    assert_eq!((text.code, text.stderr.as_str()), (1, ""), "a failed check is an answer");
    assert!(
        text.stdout.contains("problem: s4 is leased to pod-a (lease 1), and the slice is not"),
        "{}",
        text.stdout
    );

    database.pragma_update(None, "user_version", 9).unwrap();
    let (code, newer) = host.json(&["export"]).await;
    assert_eq!((code, &newer["error"]["reason"]), (2, &"LEDGER_REFUSED".into()));
    drop(database);

    std::fs::write(host.file(), "").unwrap();
    let damaged = host.run(&["check"]).await;
    assert_eq!((damaged.code, damaged.stdout.as_str()), (2, ""));
    assert!(
        damaged.stderr.contains("is damaged") && damaged.stderr.contains("vgpuctl ledger backup"),
        "{}",
        damaged.stderr
    );
}
