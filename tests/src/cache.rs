//! The user's cache folder: what is built once and used by every run.
//!
//! ```text
//! $XDG_CACHE_HOME/vgpud-lab/          (or ~/.cache/vgpud-lab/)
//!   entries/NAME-KEY/                 complete, never changed; KEY is a hash of its inputs
//!   building/NAME-KEY/                being built, or left over from an interrupted build
//!   locks/NAME-KEY                    flock: exclusive while building or removing, shared while used
//!   logs/NAME.log                     the output of the last build
//!   runs/                             one folder a host (host.rs)
//! ```
//!
//! A build happens in `building/` under the exclusive lock and is renamed into place, so an entry is
//! whole or absent. The kernel drops a lock with its process, so an interrupted run leaves nothing
//! locked, only a folder in `building/` that the next run removes. Lock files stay (they are empty):
//! removing one that another run is about to lock would give two runs the same "exclusive" lock.

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use sha2::{Digest, Sha256};

use crate::error::{At, Error, Result};
use crate::progress::Progress;
use crate::wait::poll;

/// The longest that another run's build of the same entry is waited for.
const BUILD_LIMIT: Duration = Duration::from_secs(30 * 60);

/// A hash of everything that an entry is made from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key(String);

impl Key {
    fn short(&self) -> &str {
        &self.0[..16]
    }
}

/// Collects an entry's inputs.
#[derive(Debug, Default)]
pub struct Inputs(Sha256);

impl Inputs {
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds one input. Label and content are framed by their lengths, so that no two different
    /// lists of inputs hash alike.
    #[must_use]
    pub fn add(mut self, label: &str, content: impl AsRef<[u8]>) -> Self {
        for part in [label.as_bytes(), content.as_ref()] {
            self.0.update((part.len() as u64).to_le_bytes());
            self.0.update(part);
        }
        self
    }

    /// Adds a file, or every file below a folder, by name and content.
    ///
    /// # Errors
    /// Something could not be read.
    pub fn add_path(mut self, path: &Path) -> Result<Self> {
        let mut files = Vec::new();
        list_files(path, &mut files)?;
        files.sort();
        for file in files {
            let label = file.strip_prefix(path).unwrap_or(&file).to_string_lossy().into_owned();
            let content = fs::read(&file).at("read", &file)?;
            self = self.add(&label, content);
        }
        Ok(self)
    }

    #[must_use]
    pub fn key(self) -> Key {
        let digest = self.0.finalize();
        Key(digest.iter().map(|byte| format!("{byte:02x}")).collect())
    }
}

fn list_files(path: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    if path.is_dir() {
        for entry in fs::read_dir(path).at("list", path)? {
            list_files(&entry.at("list", path)?.path(), files)?;
        }
    } else {
        files.push(path.to_owned());
    }
    Ok(())
}

/// A complete entry; it cannot be pruned while this value lives.
#[derive(Debug)]
pub struct Entry {
    path: PathBuf,
    key: Key,
    _shared: File,
}

impl Entry {
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    #[must_use]
    pub fn key(&self) -> &Key {
        &self.key
    }
}

impl AsRef<[u8]> for Key {
    fn as_ref(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

#[derive(Debug, Clone)]
pub struct Cache {
    folder: PathBuf,
}

impl Cache {
    /// The user's cache.
    ///
    /// # Errors
    /// Neither XDG_CACHE_HOME nor HOME is set, or the folder cannot be made.
    pub fn open() -> Result<Self> {
        let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty());
        let base = variable("XDG_CACHE_HOME")
            .map(PathBuf::from)
            .or_else(|| variable("HOME").map(|home| PathBuf::from(home).join(".cache")))
            .ok_or(Error::NoHome)?;
        Self::at(base.join("vgpud-lab"))
    }

    /// A cache in a folder of its own.
    ///
    /// # Errors
    /// The folder cannot be made.
    pub fn at(folder: impl Into<PathBuf>) -> Result<Self> {
        let cache = Self { folder: folder.into() };
        for part in ["entries", "building", "locks", "logs", "runs"] {
            let path = cache.folder.join(part);
            fs::create_dir_all(&path).at("create", path)?;
        }
        Ok(cache)
    }

    #[must_use]
    pub fn log(&self, name: &str) -> PathBuf {
        self.folder.join("logs").join(format!("{name}.log"))
    }

    #[must_use]
    pub fn runs(&self) -> PathBuf {
        self.folder.join("runs")
    }

    /// The entry `name` made from the inputs of `key`, built by `build` when it is not there.
    /// `build` gets an empty folder, and everything that it puts there is the entry.
    ///
    /// # Errors
    /// `build`'s own, or a file operation of the cache.
    pub fn entry(
        &self,
        name: &str,
        key: &Key,
        progress: Progress,
        build: impl FnOnce(&Path) -> Result<()>,
    ) -> Result<Entry> {
        let id = format!("{name}-{}", key.short());
        let path = self.folder.join("entries").join(&id);
        let lock = self.lock_file(&id)?;
        let mut build = Some(build);
        loop {
            lock_within(&lock, Hold::Shared, name, &path, progress)?;
            if path.is_dir() {
                touch(&path);
                return Ok(Entry { path, key: key.clone(), _shared: lock });
            }
            lock.unlock().at("unlock", &path)?;
            lock_within(&lock, Hold::Exclusive, name, &path, progress)?;
            // Another run may have built it in the meantime.
            if !path.is_dir() {
                // The loop only comes back here when another run has pruned the entry between this
                // run's build and its shared lock.
                let Some(build) = build.take() else {
                    return Err(Error::File { action: "keep", path, source: io::ErrorKind::NotFound.into() });
                };
                let step = progress.step(name);
                let building = self.folder.join("building").join(&id);
                remove(&building)?;
                fs::create_dir(&building).at("create", &building)?;
                build(&building)?;
                fs::rename(&building, &path).at("rename to", &path)?;
                step.done();
            }
            lock.unlock().at("unlock", &path)?;
        }
    }

    fn lock_file(&self, id: &str) -> Result<File> {
        let path = self.folder.join("locks").join(id);
        File::options().create(true).append(true).open(&path).at("open", path)
    }

    /// Removes all but the `keep` last used entries of `name`, and what interrupted builds left.
    /// What another run uses or builds stays.
    ///
    /// # Errors
    /// A file operation failed.
    pub fn prune(&self, name: &str, keep: usize) -> Result<()> {
        let mut entries: Vec<(SystemTime, PathBuf)> =
            self.named(name, "entries")?.into_iter().map(|path| (last_use(&path), path)).collect();
        entries.sort_by_key(|(used, _)| std::cmp::Reverse(*used));
        let old = entries.into_iter().skip(keep).map(|(_, path)| path);
        for path in old.chain(self.named(name, "building")?) {
            let id = path.file_name().unwrap_or_default().to_string_lossy();
            let lock = self.lock_file(&id)?;
            if try_lock(&lock, &path)? {
                remove(&path)?;
            }
        }
        Ok(())
    }

    fn named(&self, name: &str, part: &str) -> Result<Vec<PathBuf>> {
        let folder = self.folder.join(part);
        let mut found = Vec::new();
        for entry in fs::read_dir(&folder).at("list", &folder)? {
            let path = entry.at("list", &folder)?.path();
            let id = path.file_name().unwrap_or_default().to_string_lossy();
            if id.rsplit_once('-').is_some_and(|(of, _)| of == name) {
                found.push(path);
            }
        }
        Ok(found)
    }
}

#[derive(Debug, Clone, Copy)]
enum Hold {
    Shared,
    Exclusive,
}

/// Takes the lock; says so when another run has it.
fn lock_within(lock: &File, hold: Hold, name: &str, path: &Path, progress: Progress) -> Result<()> {
    if try_hold(lock, hold, path)? {
        return Ok(());
    }
    let step = progress.step(format!("{name}: another run is building it, waiting"));
    poll(&format!("another run to build {}", path.display()), BUILD_LIMIT, || {
        Ok(try_hold(lock, hold, path)?.then_some(()))
    })?;
    step.done();
    Ok(())
}

/// Whether the exclusive lock was free and is now held.
pub(crate) fn try_lock(lock: &File, path: &Path) -> Result<bool> {
    try_hold(lock, Hold::Exclusive, path)
}

fn try_hold(lock: &File, hold: Hold, path: &Path) -> Result<bool> {
    let tried = match hold {
        Hold::Shared => lock.try_lock_shared(),
        Hold::Exclusive => lock.try_lock(),
    };
    match tried {
        Ok(()) => Ok(true),
        Err(TryLockError::WouldBlock) => Ok(false),
        Err(TryLockError::Error(source)) => {
            Err(Error::File { action: "lock", path: path.to_owned(), source })
        }
    }
}

/// Removes a folder; that it is not there is fine.
pub(crate) fn remove(path: &Path) -> Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error).at("remove", path),
        _ => Ok(()),
    }
}

/// Marks an entry as used now. Only pruning reads it, so a failure costs at most a rebuild.
fn touch(path: &Path) {
    if let Ok(folder) = File::open(path) {
        let _ = folder.set_modified(SystemTime::now());
    }
}

fn last_use(path: &Path) -> SystemTime {
    fs::metadata(path).and_then(|metadata| metadata.modified()).unwrap_or(SystemTime::UNIX_EPOCH)
}

#[cfg(test)]
mod tests;
