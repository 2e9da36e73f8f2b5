//! The lab's Debian root: one mmdebstrap of Debian 13.
//!
//! It serves three times: its kernel headers and compiler build the modules, it is the lab host's
//! file system, and QEMU runs from it. Nothing ever writes to it once it is built: build steps run
//! in it with their own /tmp and /mnt (`tests/lab/build/enter.sh`).
//!
//! Privileged: mmdebstrap runs as root (mounts, chroot, device nodes), in namespaces of its own.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::cache::{Cache, Entry, Inputs};
use crate::command;
use crate::error::{Error, Result};
use crate::progress::Progress;
use crate::sources;

const SUITE: &str = "trixie";
const LIMIT: Duration = Duration::from_secs(20 * 60);
const STEP_LIMIT: Duration = Duration::from_secs(10 * 60);

const PACKAGES: &[&str] = &[
    // The lab host's kernel, the micro-VMs', and what builds modules for the first.
    "linux-image-amd64",
    "linux-image-cloud-amd64",
    "linux-headers-amd64",
    "linux-source-6.12",
    "gcc",
    "make",
    "libc6-dev",
    "xz-utils",
    // What makes disks and initrds.
    "busybox-static",
    "cpio",
    "e2fsprogs",
    // QEMU for the host and, in the host, for its micro-VMs.
    "qemu-system-x86",
    "seabios",
    // What programs in the host may use.
    "iproute2",
    "kmod",
    "mdevctl",
    "pciutils",
    "procps",
    "strace",
    "util-linux",
];

/// What is different from a plain Debian, each for time: no manuals, no initrd made by Debian's own
/// tools (`INITRD=No`, see /etc/kernel/postinst.d/initramfs-tools), no waiting for the disk.
const OPTIONS: &[&str] = &[
    "--mode=root",
    "--variant=minbase",
    "--aptopt=Acquire::Languages \"none\"",
    "--aptopt=Acquire::Retries \"3\"",
    "--dpkgopt=force-unsafe-io",
    "--dpkgopt=path-exclude=/usr/share/man/*",
    "--dpkgopt=path-exclude=/usr/share/doc/*",
    "--dpkgopt=path-exclude=/usr/share/locale/*",
    "--customize-hook=mkdir -p \"$1/lab\" \"$1/mnt/host\"",
    "--customize-hook=rm -f \"$1\"/etc/resolv.conf; echo lab > \"$1/etc/hostname\"",
];

/// The root, ready to build in.
#[derive(Debug)]
pub(crate) struct Root {
    pub entry: Entry,
    cache: Cache,
    scripts: PathBuf,
}

impl Root {
    pub fn prepare(cache: &Cache, scripts: &Path, progress: Progress) -> Result<Self> {
        let key = Inputs::new()
            .add("suite", SUITE)
            .add("packages", PACKAGES.join(" "))
            .add("options", OPTIONS.join("\n"))
            .key();
        let entry = cache.entry("debian-root", &key, progress, |path| build(cache, path))?;
        Ok(Self { entry, cache: cache.clone(), scripts: scripts.to_owned() })
    }

    pub fn path(&self) -> &Path {
        self.entry.path()
    }

    /// Where a build step's script is.
    pub fn script(&self, step: &str) -> PathBuf {
        self.scripts.join(format!("{step}.sh"))
    }

    /// Runs `tests/lab/build/STEP.sh` in the root; each folder appears there as /mnt/NAME.
    pub fn run(&self, step: &str, folders: &[(&Path, &str)]) -> Result<()> {
        let binds = folders.iter().map(|(folder, name)| format!("{}={name}", folder.display()));
        command::run(
            command::contained("/bin/sh")
                .arg("-e")
                .arg(self.scripts.join("enter.sh"))
                .arg(self.path())
                .arg(self.script(step))
                .args(binds),
            &format!("the build step {step}"),
            &self.cache.log(step),
            STEP_LIMIT,
        )
    }
}

fn build(cache: &Cache, path: &Path) -> Result<()> {
    let source = sources::debian_archive(Path::new("/etc/apt"), Path::new("/etc/os-release"))?;
    let line = source.line_for(SUITE).ok_or_else(|| Error::NoArchive { looked_at: format!("{source:?}") })?;
    command::run(
        command::contained("mmdebstrap")
            .args(OPTIONS)
            .args(apt_settings())
            .arg(format!("--include={}", PACKAGES.join(",")))
            .arg(SUITE)
            .arg(path)
            .arg(line)
            .env("DEBIAN_FRONTEND", "noninteractive")
            .env("INITRD", "No"),
        "mmdebstrap",
        &cache.log("debian-root"),
        LIMIT,
    )
}

/// The machine's own way to the network (proxies, timeouts), which mmdebstrap would not look at.
fn apt_settings() -> Vec<String> {
    let dump = Command::new("apt-config")
        .args(["dump", "--format", "%F \"%v\";%n", "Acquire::http", "Acquire::https"])
        .output();
    let Ok(dump) = dump else {
        return Vec::new();
    };
    String::from_utf8_lossy(&dump.stdout)
        .lines()
        .filter(|line| !line.contains("\"\""))
        .map(|line| format!("--aptopt={line}"))
        .collect()
}
