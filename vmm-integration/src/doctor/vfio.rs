//! Checks of VFIO: modules, nodes, interrupts.

use super::Check;
use nix::{
    errno::Errno,
    unistd::{AccessFlags, eaccess},
};
use std::{fs, io, os::unix::fs::MetadataExt};
use vgpud_config::{Account, NodeKind, VfioSettings};
use vgpud_mdev::{Host, attribute};

/// What binds a PCI function, and the core and the IOMMU back-end below it.
const MODULES: [&str; 3] = ["vfio", "vfio_pci", "vfio_iommu_type1"];

enum Module {
    /// Or built into the kernel.
    Loaded,
    Loadable,
    Missing,
}

pub(super) fn modules(host: &Host) -> Check {
    const NAME: &str = "vfio-modules";
    let index = match ModuleIndex::read(host) {
        Ok(index) => index,
        Err(error) => return Check::unreadable(NAME, &error),
    };
    let (mut loadable, mut missing) = (Vec::new(), Vec::new());
    for module in MODULES {
        match index.find(host, module) {
            Module::Loaded => {}
            Module::Loadable => loadable.push(module),
            Module::Missing => missing.push(module),
        }
    }
    if !missing.is_empty() {
        let found = format!("kernel {} has no {}", index.release, missing.join(", "));
        let mend =
            "install the package with the kernel's modules (Debian: linux-image-amd64) and boot that kernel";
        return Check::fail(NAME, found, mend);
    }
    if !loadable.is_empty() {
        let found = format!("{} can be loaded and is not", loadable.join(", "));
        let mend = format!(
            "modprobe -a {0}; for every boot, name them in /etc/modules-load.d/vgpud.conf",
            loadable.join(" ")
        );
        return Check::warn(NAME, found, mend);
    }
    Check::pass(NAME, format!("{} are loaded", MODULES.join(", ")))
}

/// What modprobe would find for the running kernel.
struct ModuleIndex {
    release: String,
    builtin: String,
    loadable: String,
}

impl ModuleIndex {
    fn read(host: &Host) -> io::Result<Self> {
        let optional = |path| match fs::read_to_string(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(String::new()),
            other => other,
        };
        let release = optional(host.kernel_release())?.trim().to_owned();
        let folder = host.path("/lib/modules").join(&release);
        Ok(Self {
            builtin: optional(folder.join("modules.builtin"))?,
            loadable: optional(folder.join("modules.dep"))?,
            release,
        })
    }

    fn find(&self, host: &Host, module: &str) -> Module {
        // Each line begins with the module's file, such as kernel/drivers/vfio/vfio.ko.xz.
        let named = |line: &str| {
            let file = line.split(':').next()?.rsplit('/').next()?;
            Some(file.split(".ko").next()?.replace('-', "_") == module)
        };
        let listed = |list: &str| list.lines().filter_map(named).any(|is| is);
        if attribute::exists(&host.path("/sys/module").join(module)) || listed(&self.builtin) {
            Module::Loaded
        } else if listed(&self.loadable) {
            Module::Loadable
        } else {
            Module::Missing
        }
    }
}

pub(super) fn container(host: &Host) -> Check {
    const NAME: &str = "vfio-container";
    let path = host.vfio_nodes().join("vfio");
    match eaccess(&path, AccessFlags::R_OK | AccessFlags::W_OK) {
        Ok(()) => Check::pass(NAME, format!("{} may be opened", path.display())),
        Err(Errno::EACCES) => {
            let found = format!("{} may not be opened by this user", path.display());
            Check::fail(
                NAME,
                found,
                "run as root, or chmod 0666 it, as the kernel does: it gives no access to a device",
            )
        }
        Err(errno) => {
            let found = format!("{} is not there: {}", path.display(), errno.desc());
            Check::fail(NAME, found, "load vfio and vfio_iommu_type1 (modprobe)")
        }
    }
}

pub(super) fn cdev(host: &Host, settings: &VfioSettings) -> Check {
    const NAME: &str = "vfio-cdev";
    const KERNEL: &str = "use a kernel of 6.6 or later with CONFIG_IOMMUFD and CONFIG_VFIO_DEVICE_CDEV, and load iommufd (modprobe)";
    let verdict = |found: String, mend: &str| match settings.node {
        NodeKind::Cdev => Check::fail(NAME, found, format!("{mend}, or set node = \"group\" under [vfio]")),
        NodeKind::Auto | NodeKind::Group => {
            let found = format!(
                "{found}; slices are handed over by group, which Kata's runtime-rs does not take without /dev/iommu"
            );
            Check::warn(NAME, found, mend)
        }
    };
    if !attribute::exists(&host.iommufd()) {
        return verdict(format!("{} is not there", host.iommufd().display()), KERNEL);
    }
    let nodes = host.vfio_nodes().join("devices");
    let (devices, nodes) =
        match (attribute::names(&host.path("/sys/class/vfio-dev")), attribute::names(&nodes)) {
            (Ok(devices), Ok(nodes)) => (devices.len(), nodes.len()),
            (Err(error), _) | (_, Err(error)) => return Check::unreadable(NAME, &error),
        };
    if devices > 0 && nodes == 0 {
        return verdict(format!("no device has a cdev, of those on VFIO drivers: {devices}"), KERNEL);
    }
    if let Some(found) = iommufd_kept_from_consumer(host, settings) {
        let mend = "let a group of that user open it by a udev rule such as KERNEL==\"iommu\", GROUP=\"kvm\", MODE=\"0660\", or set node = \"group\" under [vfio]";
        return Check::warn(NAME, found, mend);
    }
    if devices == 0 {
        return Check::skip(
            NAME,
            "/dev/iommu is there",
            "whether devices have cdevs shows once one is on a VFIO driver",
        );
    }
    Check::pass(NAME, format!("/dev/iommu is there; cdevs: {nodes}"))
}

/// A consumer opens its cdev and `/dev/iommu` (0660 of root, drivers/iommu/iommufd/main.c), which no
/// lease gives away: it is one for all devices of the host.
fn iommufd_kept_from_consumer(host: &Host, settings: &VfioSettings) -> Option<String> {
    let consumer = settings.consumer();
    let is_root = [Account::Name("root".to_owned()), Account::Number(0)].contains(&consumer.user);
    if is_root || settings.node == NodeKind::Group {
        return None;
    }
    let found = fs::metadata(host.iommufd()).ok()?;
    let others_may = found.mode() & 0o006 == 0o006 || (found.gid() != 0 && found.mode() & 0o060 == 0o060);
    (!others_may).then(|| {
        format!(
            "{} has mode {:04o} and group {}, and leases go to {consumer}, who has to read and write it",
            host.iommufd().display(),
            found.mode() & 0o7777,
            found.gid()
        )
    })
}

pub(super) fn interrupts(host: &Host) -> Check {
    const NAME: &str = "interrupts";
    let mut known = false;
    for module in ["vfio_iommu_type1", "iommufd"] {
        let path = host.path("/sys/module").join(module).join("parameters/allow_unsafe_interrupts");
        match attribute::read(&path) {
            Err(error) => return Check::unreadable(NAME, &error),
            Ok(None) => {}
            Ok(Some(value)) if value == "N" => known = true,
            Ok(Some(value)) => {
                let found = format!(
                    "allow_unsafe_interrupts of {module} is {value}: a guest can raise any interrupt of the host"
                );
                let mend = format!(
                    "turn on interrupt remapping in the firmware (BIOS) and set allow_unsafe_interrupts=0 for {module} in /etc/modprobe.d"
                );
                return Check::warn(NAME, found, mend);
            }
        }
    }
    if known {
        Check::pass(NAME, "only remapped interrupts are allowed")
    } else {
        Check::skip(NAME, "no VFIO back-end is loaded", "load vfio_iommu_type1 (modprobe) and ask again")
    }
}
