//! The folder of one host's run, `runs/ID/` in the cache: `console.log`, the agent's socket, and
//! `share/`, which the host sees as /mnt/host. Shares go with their host; the newest logs stay.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::SystemTime;

use crate::cache::{remove, try_lock};
use crate::error::{At, Result};

/// How many runs' logs stay.
const KEPT: usize = 30;

/// The files of one run.
#[derive(Debug)]
pub(crate) struct RunFolder {
    pub share: PathBuf,
    pub socket: PathBuf,
    pub console: PathBuf,
    /// Locked while the run is alive, so that others do not remove it.
    _lock: File,
}

impl RunFolder {
    /// A fresh one; old ones are removed.
    pub fn new(runs: &Path) -> Result<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(1);
        remove_old(runs)?;
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let folder = runs.join(format!("{}-{number}", std::process::id()));
        // Process ids come again.
        remove(&folder)?;
        fs::create_dir(&folder).at("create", &folder)?;
        let lock = folder.join("lock");
        let lock = File::create(&lock).at("create", lock)?;
        lock.lock_shared().at("lock", &folder)?;
        let share = folder.join("share");
        for part in ["bin", "jobs"] {
            let path = share.join(part);
            fs::create_dir_all(&path).at("create", path)?;
        }
        let console = folder.join("console.log");
        File::create(&console).at("create", &console)?;
        Ok(Self { share, socket: folder.join("agent"), console, _lock: lock })
    }
}

/// Removes the oldest runs that are over, and the shares of all that are.
fn remove_old(runs: &Path) -> Result<()> {
    let mut over = Vec::new();
    for entry in fs::read_dir(runs).at("list", runs)? {
        let folder = entry.at("list", runs)?.path();
        // A run without a lock is being made, or was interrupted in that very moment.
        let Ok(lock) = File::open(folder.join("lock")) else {
            continue;
        };
        if try_lock(&lock, &folder)? {
            let age = fs::metadata(&folder)
                .and_then(|metadata| metadata.modified())
                .unwrap_or(SystemTime::UNIX_EPOCH);
            over.push((age, folder));
        }
    }
    over.sort_by_key(|(age, _)| std::cmp::Reverse(*age));
    for (number, (_, folder)) in over.into_iter().enumerate() {
        if number < KEPT {
            remove(&folder.join("share"))?;
        } else {
            remove(&folder)?;
        }
    }
    Ok(())
}
