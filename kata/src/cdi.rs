//! One CDI file for each leased slice: complete or absent at every instant.
//!
//! The rules are those of the Container Device Interface's specification and of Kata, which is
//! stricter: cdiVersion 0.5.0 (its Go runtime reads up to 0.6.0), one device, exactly one device
//! node. A file is written under a name that no reader takes for a CDI file, brought to disk and
//! renamed. Names are looked up below the open folder and never through a symbolic link, so a link
//! planted in the folder is replaced or removed, not followed.

use nix::{
    errno::Errno,
    fcntl::{OFlag, open, openat, renameat},
    sys::stat::{Mode, fchmod, fstat},
    unistd::{UnlinkatFlags, fsync, geteuid, mkdir, unlinkat},
};
use serde::Serialize;
use std::{
    fs::{self, File},
    io::{self, Write},
    os::fd::{AsFd, OwnedFd},
    path::{Path, PathBuf},
};
use vgpud_config::Quoted;
use vgpud_mdev::Host;

/// The version that every reader of Kata takes, and that allows device names to start with a digit.
const VERSION: &str = "0.5.0";
const PREFIX: &str = "vgpud-";
const SUFFIX: &str = ".json";

/// A folder of CDI files and the kind that vgpud's devices carry.
#[derive(Clone, Debug)]
pub struct CdiFolder {
    dir: PathBuf,
    kind: Kind,
}

/// A CDI kind, `vendor/class`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(transparent)]
struct Kind(String);

/// What can go wrong with a CDI file.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{} is no CDI kind: {why}; write vendor/class under [cdi], such as vgpud.io/slice", Quoted(kind))]
    Kind { kind: String, why: &'static str },
    #[error("{} cannot be the name of a CDI device: {why}", Quoted(device))]
    Device { device: String, why: &'static str },
    #[error("{} cannot be handed over by CDI; only /dev/vfio/<group> and /dev/vfio/devices/vfio<number> can", node.display())]
    Node { node: PathBuf },
    #[error("Cannot use the CDI folder {}; it must be a folder and no symbolic link", path.display())]
    Folder {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("The CDI folder {} is not safe: {why}, so they say which devices a runtime hands over; see what is in it and make it root's own (chown root, chmod 0755)", path.display())]
    OpenFolder { path: PathBuf, why: String },
    #[error("Cannot write the CDI file {}", path.display())]
    Write {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("Cannot remove the CDI file {}; remove it by hand, or runtimes go on finding the device", path.display())]
    Remove {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

/// The file's content (CDI: SPEC.md), as far as it is used here.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Spec<'a> {
    cdi_version: &'static str,
    kind: &'a Kind,
    devices: [Device<'a>; 1],
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Device<'a> {
    name: &'a str,
    container_edits: Edits<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Edits<'a> {
    device_nodes: [Node<'a>; 1],
}

#[derive(Serialize)]
struct Node<'a> {
    path: &'a str,
}

impl CdiFolder {
    /// The folder and kind of the settings. Touches nothing: the folder is made when it is needed.
    ///
    /// # Errors
    /// [`Error::Kind`] where CDI does not allow the kind.
    pub fn new(host: &Host, settings: &vgpud_config::CdiSettings) -> Result<Self, Error> {
        Ok(Self { dir: host.path(&settings.dir), kind: Kind::new(&settings.kind)? })
    }

    /// Makes the folder where it is missing.
    ///
    /// # Errors
    /// Where it cannot be made, or is no folder.
    pub fn make(&self) -> Result<(), Error> {
        self.open_or_make().map(drop)
    }

    /// Makes `device` (the slice's id) visible with one node, and returns its qualified name
    /// (`kind=device`). A device that is visible already gets the new node in one step.
    ///
    /// # Errors
    /// Where the file cannot be written whole; then what was visible before still is.
    pub fn publish(&self, device: &str, node: &Path) -> Result<String, Error> {
        let name = FileNames::of(device)?;
        let refused = || Error::Node { node: node.to_owned() };
        vgpud_vmm::node::Node::from_path(node).map_err(|_| refused())?;
        let path = node.to_str().filter(|path| path.starts_with('/')).ok_or_else(refused)?;
        let edits = Edits { device_nodes: [Node { path }] };
        let devices = [Device { name: device, container_edits: edits }];
        let spec = Spec { cdi_version: VERSION, kind: &self.kind, devices };
        let mut text = serde_json::to_vec_pretty(&spec)
            .map_err(|error| Error::Write { path: self.dir.join(&name.whole), source: error.into() })?;
        text.push(b'\n');
        let dir = self.open_or_make()?;
        self.replace(&dir, &name, &text)
            .map_err(|source| Error::Write { path: self.dir.join(&name.whole), source })?;
        tracing::info!(device, node = path, "CDI device published");
        Ok(format!("{}={device}", self.kind.0))
    }

    /// Makes `device` invisible. Succeeds where it already is.
    ///
    /// # Errors
    /// Where the file is there and cannot be removed.
    pub fn withdraw(&self, device: &str) -> Result<(), Error> {
        let name = FileNames::of(device)?;
        let failed = |errno: Errno| Error::Remove { path: self.dir.join(&name.whole), source: errno.into() };
        let dir = match self.open() {
            Err(Errno::ENOENT) => return Ok(()),
            other => other.map_err(|errno| self.unusable(errno))?,
        };
        for file in [&name.whole, &name.part] {
            match unlinkat(&dir, file.as_str(), UnlinkatFlags::NoRemoveDir) {
                Ok(()) => tracing::info!(file, "CDI file removed"),
                Err(Errno::ENOENT) => {}
                Err(errno) => return Err(failed(errno)),
            }
        }
        fsync(&dir).map_err(failed)
    }

    /// The devices that vgpud has made visible, in order of name. Files of others are left out.
    ///
    /// # Errors
    /// Where the folder cannot be read.
    pub fn published(&self) -> Result<Vec<String>, Error> {
        let unusable = |source| Error::Folder { path: self.dir.clone(), source };
        match self.open() {
            Err(Errno::ENOENT) => return Ok(Vec::new()),
            other => other.map_err(|errno| self.unusable(errno))?,
        };
        let mut devices = Vec::new();
        for entry in fs::read_dir(&self.dir).map_err(unusable)? {
            let name = entry.map_err(unusable)?.file_name();
            let device = name.to_str().and_then(|name| name.strip_prefix(PREFIX)?.strip_suffix(SUFFIX));
            devices.extend(device.filter(|device| FileNames::of(device).is_ok()).map(str::to_owned));
        }
        devices.sort();
        Ok(devices)
    }

    fn open(&self) -> nix::Result<OwnedFd> {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        open(&self.dir, flags, Mode::empty())
    }

    fn open_or_make(&self) -> Result<OwnedFd, Error> {
        match self.open() {
            Err(Errno::ENOENT) => {}
            other => return self.guarded(other.map_err(|errno| self.unusable(errno))?),
        }
        if let Some(parent) = self.dir.parent() {
            fs::create_dir_all(parent).map_err(|source| Error::Folder { path: self.dir.clone(), source })?;
        }
        let mode = Mode::from_bits_truncate(0o755);
        let made = match mkdir(&self.dir, mode) {
            Ok(()) => true,
            Err(Errno::EEXIST) => false,
            Err(errno) => return Err(self.unusable(errno)),
        };
        let dir = self.open().map_err(|errno| self.unusable(errno))?;
        if made {
            // Whatever the umask: runtimes read it under users of their own.
            fchmod(&dir, mode).map_err(|errno| self.unusable(errno))?;
        }
        self.guarded(dir)
    }

    /// The folder, if nobody but root and this process's user may put files there.
    fn guarded(&self, dir: OwnedFd) -> Result<OwnedFd, Error> {
        let refused = |why| Err(Error::OpenFolder { path: self.dir.clone(), why });
        let found = fstat(&dir).map_err(|errno| self.unusable(errno))?;
        if found.st_uid != 0 && found.st_uid != geteuid().as_raw() {
            return refused(format!("user {} owns it", found.st_uid));
        }
        if found.st_mode & 0o022 != 0 {
            return refused(format!("others may write to it (mode {:04o})", found.st_mode & 0o7777));
        }
        Ok(dir)
    }

    fn unusable(&self, errno: Errno) -> Error {
        Error::Folder { path: self.dir.clone(), source: errno.into() }
    }

    fn replace(&self, dir: &OwnedFd, name: &FileNames, text: &[u8]) -> io::Result<()> {
        let remove = || unlinkat(dir, name.part.as_str(), UnlinkatFlags::NoRemoveDir);
        match remove() {
            Ok(()) => tracing::warn!(file = name.part, "removed what an interrupted publication left"),
            Err(Errno::ENOENT) => {}
            Err(errno) => return Err(errno.into()),
        }
        let written = write_new(dir, &name.part, text)
            .and_then(|()| Ok(renameat(dir, name.part.as_str(), dir, name.whole.as_str())?));
        if let Err(error) = written {
            match remove() {
                Ok(()) | Err(Errno::ENOENT) => {}
                Err(errno) => {
                    tracing::warn!(file = name.part, %errno, "a partial file is left; no runtime reads it");
                }
            }
            return Err(error);
        }
        Ok(fsync(dir)?)
    }
}

fn write_new(dir: impl AsFd, name: &str, text: &[u8]) -> io::Result<()> {
    let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let mode = Mode::from_bits_truncate(0o644);
    let mut file = File::from(openat(dir, name, flags, mode)?);
    file.write_all(text)?;
    fchmod(&file, mode)?;
    file.sync_all()
}

/// The names of a device's file: while it is written and when it is whole.
struct FileNames {
    part: String,
    whole: String,
}

impl FileNames {
    /// CDI's rule for device names keeps slashes and leading dots out of file names as well.
    fn of(device: &str) -> Result<Self, Error> {
        let refused = |why| Error::Device { device: device.to_owned(), why };
        word(device, b"_-.:").map_err(refused)?;
        if device.len() > 200 {
            return Err(refused("it is longer than 200 characters"));
        }
        Ok(Self { part: format!(".{PREFIX}{device}.part"), whole: format!("{PREFIX}{device}{SUFFIX}") })
    }
}

impl Kind {
    fn new(kind: &str) -> Result<Self, Error> {
        let refused = |why| Error::Kind { kind: kind.to_owned(), why };
        let (vendor, class) = kind.split_once('/').ok_or_else(|| refused("it has no slash"))?;
        for part in [vendor, class] {
            word(part, b"_-.").map_err(refused)?;
            if !part.starts_with(|first: char| first.is_ascii_alphabetic()) {
                return Err(refused("vendor and class start with a letter"));
            }
        }
        if class.contains('.') {
            return Err(refused("a dot in the class needs CDI 0.6.0, and vgpud writes 0.5.0"));
        }
        Ok(Self(kind.to_owned()))
    }
}

/// CDI's rule for names: letters, digits and `inner`, with a letter or digit at both ends.
fn word(text: &str, inner: &[u8]) -> Result<(), &'static str> {
    let bytes = text.as_bytes();
    let (Some(first), Some(last)) = (bytes.first(), bytes.last()) else { return Err("a part is empty") };
    if !first.is_ascii_alphanumeric() || !last.is_ascii_alphanumeric() {
        return Err("a part starts and ends with a letter or digit");
    }
    if !bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || inner.contains(byte)) {
        return Err("it holds a character that CDI does not allow");
    }
    Ok(())
}

#[cfg(test)]
mod tests;
