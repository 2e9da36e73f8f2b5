//! Builds, or finds in the cache, everything that a lab host is started from.
//!
//! | entry | made from | takes |
//! | --- | --- | --- |
//! | `debian-root` | mmdebstrap ([`crate::root`]) | 30 s to 3 min |
//! | `disk` | the root without what only builds need | 5 s |
//! | `vfio-modules` | Debian's kernel source | 25 s |
//! | `project-modules` | `tests/lab/kmod`, against both flavours of VFIO | 10 s |
//! | `layer` | the above and `tests/lab/{host,vm}` | 2 s |
//!
//! The host's disk never changes after it is built; what changes often is a small second disk
//! (`/lab` in the host), so a new version of a module or of an init script is up in seconds.

use std::fs;
use std::path::{Path, PathBuf};

use crate::accelerator::Accelerator;
use crate::cache::{Cache, Entry, Inputs};
use crate::dmar;
use crate::error::{At, Result};
use crate::host::Host;
use crate::packages;
use crate::progress::Progress;
use crate::qemu::Images;
use crate::root::Root;
use crate::spec::HostSpec;

/// How many versions of what changes often stay in the cache; of the big ones it is two.
const KEPT_SMALL: usize = 6;
const KEPT_BIG: usize = 2;

/// A lab that is ready to boot hosts.
#[derive(Debug)]
pub struct Lab {
    cache: Cache,
    root: Root,
    disk: Entry,
    layer: Entry,
    accelerator: Accelerator,
    progress: Progress,
}

impl Lab {
    /// Makes sure that all is there. Safe to run any number of times, at once too.
    ///
    /// # Errors
    /// Not root, not Debian, or a build step failed; its log is named.
    pub fn prepare(progress: Progress) -> Result<Self> {
        let cache = Cache::open()?;
        let files = lab_files();
        packages::ensure(&cache, progress)?;
        let root = Root::prepare(&cache, &files.join("build"), progress)?;
        let disk = disk(&cache, &root, progress)?;
        let vfio = vfio(&cache, &root, progress)?;
        let modules = modules(&cache, &root, &vfio, &files.join("kmod"), progress)?;
        let layer = layer(&cache, &root, &modules, &files, progress)?;
        for (name, keep) in [
            ("debian-root", KEPT_BIG),
            ("disk", KEPT_BIG),
            ("vfio-modules", KEPT_BIG),
            ("project-modules", KEPT_SMALL),
            ("layer", KEPT_SMALL),
        ] {
            cache.prune(name, keep)?;
        }
        let accelerator = Accelerator::choose(&cache, root.path(), layer.path(), progress)?;
        Ok(Self { cache, root, disk, layer, accelerator, progress })
    }

    /// What runs the hosts, and why.
    #[must_use]
    pub fn accelerator(&self) -> &Accelerator {
        &self.accelerator
    }

    /// Starts a host and waits until it is up.
    ///
    /// # Errors
    /// It did not come up in time or not as described; the error names and quotes its console.
    pub fn boot(&self, spec: &HostSpec) -> Result<Host> {
        self.boot_with(spec, self.progress)
    }

    /// [`Lab::boot`] with another way to show its progress.
    ///
    /// # Errors
    /// Like [`Lab::boot`].
    pub fn boot_with(&self, spec: &HostSpec, progress: Progress) -> Result<Host> {
        let images = Images {
            root: self.root.path(),
            disk: self.disk.path().join("disk.img"),
            layer: self.layer.path(),
        };
        Host::boot(&self.cache, &images, spec, &self.accelerator, progress)
    }
}

/// `tests/lab` of the checkout that this was built in.
fn lab_files() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("lab")
}

fn disk(cache: &Cache, root: &Root, progress: Progress) -> Result<Entry> {
    let key = Inputs::new().add("root", root.entry.key()).add_path(&root.script("disk"))?.key();
    cache.entry("disk", &key, progress, |out| root.run("disk", &[(root.path(), "root"), (out, "out")]))
}

fn vfio(cache: &Cache, root: &Root, progress: Progress) -> Result<Entry> {
    let key = Inputs::new().add("root", root.entry.key()).add_path(&root.script("vfio"))?.key();
    cache.entry("vfio-modules", &key, progress, |out| root.run("vfio", &[(out, "out")]))
}

fn modules(cache: &Cache, root: &Root, vfio: &Entry, source: &Path, progress: Progress) -> Result<Entry> {
    let key = Inputs::new()
        .add("root", root.entry.key())
        .add("vfio", vfio.key())
        .add_path(&root.script("kmod"))?
        .add_path(source)?
        .key();
    cache.entry("project-modules", &key, progress, |out| {
        root.run("kmod", &[(vfio.path(), "vfio"), (source, "src"), (out, "out")])
    })
}

fn layer(cache: &Cache, root: &Root, modules: &Entry, files: &Path, progress: Progress) -> Result<Entry> {
    let table = dmar::table();
    let key = Inputs::new()
        .add("root", root.entry.key())
        .add("modules", modules.key())
        .add("table", &table)
        .add_path(&root.script("layer"))?
        .add_path(&files.join("host"))?
        .add_path(&files.join("vm"))?
        .key();
    cache.entry("layer", &key, progress, |out| {
        let acpi = tempfile::tempdir().at("create", std::env::temp_dir())?;
        let folder = acpi.path().join("kernel/firmware/acpi");
        fs::create_dir_all(&folder).at("create", &folder)?;
        let file = folder.join("DMAR.aml");
        fs::write(&file, &table).at("write", file)?;
        root.run("layer", &[(files, "lab"), (modules.path(), "modules"), (acpi.path(), "acpi"), (out, "out")])
    })
}
