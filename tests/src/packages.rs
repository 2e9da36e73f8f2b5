//! Installs what the set-up needs on the machine itself, by apt-get from the machine's own sources.
//!
//! It is only mmdebstrap: everything else (compiler, kernel, QEMU, mke2fs, cpio) comes out of the
//! lab's own Debian root, so that the machine's release does not matter.

use std::path::Path;
use std::time::Duration;

use nix::unistd::Uid;

use crate::cache::Cache;
use crate::command;
use crate::error::{Error, Result};
use crate::progress::Progress;

const LIMIT: Duration = Duration::from_secs(10 * 60);

const NEEDED: [(&str, &str); 1] = [("mmdebstrap", "/usr/bin/mmdebstrap")];

/// Installs what is missing.
///
/// # Errors
/// Not root, no apt-get, or apt-get failed.
pub(crate) fn ensure(cache: &Cache, progress: Progress) -> Result<()> {
    if !Uid::effective().is_root() {
        return Err(Error::NotRoot);
    }
    let missing: Vec<&str> =
        NEEDED.iter().filter(|(_, file)| !Path::new(file).is_file()).map(|(package, _)| *package).collect();
    if missing.is_empty() {
        return Ok(());
    }
    if !Path::new("/usr/bin/apt-get").is_file() {
        return Err(Error::NotDebian { missing: "apt-get" });
    }
    let step = progress.step(format!("installing {} with apt-get", missing.join(" ")));
    apt_get(cache, &["update"])?;
    let mut install = vec!["install", "--yes", "--no-install-recommends"];
    install.extend(missing);
    apt_get(cache, &install)?;
    step.done();
    Ok(())
}

/// Not in namespaces of its own: a package's scripts may have to reach the machine's services.
fn apt_get(cache: &Cache, arguments: &[&str]) -> Result<()> {
    let step = format!("apt-get {}", arguments.join(" "));
    command::run(
        command::tied("apt-get")
            // Another apt-get may be at work; wait for it rather than fail.
            .args(["--quiet", "-o", "DPkg::Lock::Timeout=300"])
            .args(arguments)
            .env("DEBIAN_FRONTEND", "noninteractive")
            .env("LC_ALL", "C"),
        &step,
        &cache.log("apt-get"),
        LIMIT,
    )
}
