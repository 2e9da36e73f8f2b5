//! Files, folders and links below one root, named by their path without a leading slash.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};

#[derive(Debug)]
pub(super) struct Tree {
    folder: tempfile::TempDir,
    /// Without links, so that a written path can be compared with it.
    root: PathBuf,
}

impl Tree {
    pub(super) fn new() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let root = folder.path().canonicalize().expect("its path");
        Self { folder, root }
    }

    pub(super) fn root(&self) -> &Path {
        debug_assert!(self.folder.path().is_absolute());
        &self.root
    }

    pub(super) fn file(&self, path: &str, content: &[u8]) {
        let path = self.root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    }

    /// A text attribute, with the line feed that sysfs ends most with.
    pub(super) fn text(&self, path: &str, content: &str) {
        self.file(path, format!("{content}\n").as_bytes());
    }

    pub(super) fn read(&self, path: &str) -> Option<String> {
        Some(fs::read_to_string(self.root.join(path)).ok()?.trim().to_owned())
    }

    pub(super) fn folder(&self, path: &str) {
        fs::create_dir_all(self.root.join(path)).unwrap();
    }

    /// A relative link, as sysfs has them.
    pub(super) fn link(&self, from: &str, to: &str) {
        let path = self.root.join(from);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let up = "../".repeat(from.matches('/').count());
        symlink(format!("{up}{to}"), &path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    }

    /// Last component of what a link points to.
    pub(super) fn target(&self, path: &str) -> Option<String> {
        let target = fs::read_link(self.root.join(path)).ok()?;
        Some(target.file_name()?.to_str()?.to_owned())
    }

    pub(super) fn has(&self, path: &str) -> bool {
        fs::symlink_metadata(self.root.join(path)).is_ok()
    }

    /// Removes a file, a link or a folder with all in it; nothing where it is not there.
    pub(super) fn remove(&self, path: &str) {
        let path = self.root.join(path);
        match fs::symlink_metadata(&path) {
            Ok(data) if data.is_dir() => fs::remove_dir_all(path).unwrap(),
            Ok(_) => fs::remove_file(path).unwrap(),
            Err(_) => {}
        }
    }

    pub(super) fn names(&self, path: &str) -> Vec<String> {
        let Ok(entries) = fs::read_dir(self.root.join(path)) else { return Vec::new() };
        let mut names: Vec<_> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort_unstable();
        names
    }

    pub(super) fn snapshot(&self) -> BTreeMap<PathBuf, String> {
        let mut found = BTreeMap::new();
        let mut folders = vec![self.root.clone()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                let kind = fs::symlink_metadata(&path).unwrap().file_type();
                let content = if kind.is_symlink() {
                    format!("-> {}", fs::read_link(&path).unwrap().display())
                } else if kind.is_dir() {
                    folders.push(path.clone());
                    continue;
                } else {
                    String::from_utf8_lossy(&fs::read(&path).unwrap()).into_owned()
                };
                found.insert(path.strip_prefix(&self.root).unwrap().to_owned(), content);
            }
        }
        found
    }
}
