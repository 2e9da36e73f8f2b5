//! Reading and writing attributes of sysfs.
//!
//! An attribute is a small text. One that is missing, or whose device went away while it was read,
//! is `None`: devices vanish, and older kernels lack files. A write is one `write(2)`, for that is
//! what the kernel hands to the driver (Documentation/filesystems/sysfs.rst), and its success is a
//! claim: every caller reads back.

mod hint;
#[cfg(test)]
mod tests;

use crate::{
    Error, Host, PciAddress,
    nvidia::{Said, SmiCommand, Turn, sriov_manage},
    wait,
};
use nix::libc::{ENODEV, ENOENT, ENOTDIR, ENXIO};
use std::{
    fmt, fs, io,
    io::{Read, Write},
    path::{Path, PathBuf},
    str::FromStr,
    time::Duration,
};

/// Longest text taken from an attribute: the kernel gives at most a page, of 64 KiB on some machines.
const LONGEST: u64 = 64 << 10;

/// Bytes of the config space of a PCI Express function.
const CONFIG_SPACE: u64 = 4096;

/// Who answers to writes, and to readings that not every process may make: the running kernel, another
/// process that asks it, or in tests something that plays it.
pub trait Kernel: fmt::Debug + Send + Sync {
    /// Hands `value` to the attribute in one `write(2)`. Never creates or truncates a file.
    ///
    /// # Errors
    /// The driver's errno.
    fn write(&self, path: &Path, value: &str) -> io::Result<()>;

    /// Lets the kernel get on with its work for a while.
    fn pause(&self, time: Duration);

    /// Config space of a PCI function; none where it is gone. The kernel shows no more than the first
    /// 64 bytes to a process without CAP_SYS_ADMIN (drivers/pci/pci-sysfs.c, `pci_read_config`).
    ///
    /// # Errors
    /// Where it cannot be read.
    fn config_space(&self, host: &Host, address: PciAddress) -> Result<Option<Vec<u8>>, Error> {
        bytes(&host.pci_device(address).join("config"), CONFIG_SPACE)
    }

    /// Lets NVIDIA's `sriov-manage` turn all VFs of a GPU on or off, for at most [`Host::patience`]. What
    /// it says is a claim.
    ///
    /// # Errors
    /// Where it cannot be run or does not end.
    fn turn_vfs(&self, host: &Host, gpu: PciAddress, turn: Turn) -> Result<Said, Error> {
        sriov_manage::run(host, gpu, turn)
    }

    /// Lets `nvidia-smi` tell of a GPU's MIG, or change it, for at most [`Host::patience`]. What it says is a
    /// claim.
    ///
    /// # Errors
    /// Where it cannot be run or does not end.
    fn nvidia_smi(&self, host: &Host, gpu: PciAddress, command: SmiCommand) -> Result<Said, Error> {
        host.tools().run(gpu, &host.nvidia_smi(), &command.arguments(gpu), host.patience())
    }
}

/// The kernel that runs this program.
#[derive(Debug)]
pub struct RunningKernel;

impl Kernel for RunningKernel {
    fn write(&self, path: &Path, value: &str) -> io::Result<()> {
        let mut file = fs::OpenOptions::new().write(true).open(path)?;
        let written = file.write(value.as_bytes())?;
        if written == value.len() { Ok(()) } else { Err(io::ErrorKind::WriteZero.into()) }
    }

    fn pause(&self, time: Duration) {
        wait::rest(time);
    }
}

fn gone(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(ENOENT | ENODEV | ENXIO | ENOTDIR))
}

fn unless_gone<T>(path: &Path, result: io::Result<T>) -> Result<Option<T>, Error> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if gone(&error) => Ok(None),
        Err(source) => Err(Error::Read { path: path.to_owned(), source }),
    }
}

/// The attribute's text without surrounding white space. Bytes that are no UTF-8 are replaced.
///
/// # Errors
/// Where it is there and cannot be read.
pub fn read(path: &Path) -> Result<Option<String>, Error> {
    let bytes = bytes(path, LONGEST)?;
    Ok(bytes.map(|bytes| String::from_utf8_lossy(&bytes).trim().to_owned()))
}

/// The first bytes of a binary attribute, as many as there are up to `longest`.
///
/// # Errors
/// Where it is there and cannot be read.
pub fn bytes(path: &Path, longest: u64) -> Result<Option<Vec<u8>>, Error> {
    let bytes = || {
        let mut bytes = Vec::new();
        fs::File::open(path)?.take(longest).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    unless_gone(path, bytes())
}

/// The attribute as a value; `wanted` says what it should be ("a number of VFs").
///
/// # Errors
/// Where it is there and cannot be read, or holds something else.
pub fn parse<T: FromStr>(path: &Path, wanted: &'static str) -> Result<Option<T>, Error> {
    let Some(content) = read(path)? else { return Ok(None) };
    let value = content.parse();
    value.map(Some).map_err(|_| Error::Content { path: path.to_owned(), content, wanted })
}

/// Last component of what a link points to: sysfs names drivers, groups and devices that way.
///
/// # Errors
/// Where it is there and is no readable link.
pub fn link(path: &Path) -> Result<Option<String>, Error> {
    let target = unless_gone(path, fs::read_link(path))?;
    Ok(target.and_then(|target| Some(target.file_name()?.to_string_lossy().into_owned())))
}

/// The folder that a link, or a path through links, leads to; none where it leads nowhere.
///
/// # Errors
/// Where the way cannot be followed.
pub fn folder(path: &Path) -> Result<Option<PathBuf>, Error> {
    unless_gone(path, fs::canonicalize(path))
}

/// Names in a folder, in order; none where it is missing.
///
/// # Errors
/// Where it is there and cannot be read.
pub fn names(folder: &Path) -> Result<Vec<String>, Error> {
    let Some(entries) = unless_gone(folder, fs::read_dir(folder))? else { return Ok(Vec::new()) };
    let mut names = Vec::new();
    for entry in entries {
        match unless_gone(folder, entry)? {
            Some(entry) => names.push(entry.file_name().to_string_lossy().into_owned()),
            None => break,
        }
    }
    names.sort_unstable();
    Ok(names)
}

/// Whether something is there; a link that leads nowhere is not. What cannot be looked at for another
/// reason (EACCES) is taken to be there, so that whoever reads it next gets that reason.
#[must_use]
pub fn exists(path: &Path) -> bool {
    fs::metadata(path).map_or_else(|error| !gone(&error), |_| true)
}

impl Host {
    /// Hands `value` to the attribute at `path`, which [`Host`] built. The caller reads back.
    ///
    /// # Errors
    /// With the driver's errno and what it means for this attribute.
    pub fn write_attr(&self, path: &Path, value: &str) -> Result<(), Error> {
        tracing::debug!(path = %path.display(), value, "write");
        self.kernel().write(path, value).map_err(|source| Error::Write {
            path: path.to_owned(),
            value: value.trim_end().to_owned(),
            hint: hint::hint(path, &source),
            source,
        })
    }

    /// Asks `look` again and again until it finds something, for at most [`Host::patience`].
    /// `what` completes "waited for".
    ///
    /// # Errors
    /// [`Error::TimedOut`], or what `look` returns.
    pub fn wait_for<T>(
        &self,
        what: impl FnOnce() -> String,
        mut look: impl FnMut() -> Result<Option<T>, Error>,
    ) -> Result<T, Error> {
        // Counted in looks instead of read from a clock, so that tests decide how time goes by.
        let pause = Duration::from_millis(5);
        let looks = self.patience().as_millis() / pause.as_millis();
        for _ in 0..looks {
            if let Some(found) = look()? {
                return Ok(found);
            }
            self.kernel().pause(pause);
        }
        look()?.ok_or_else(|| wait::TimedOut { what: what(), within: self.patience() }.into())
    }
}
