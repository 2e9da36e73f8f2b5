//! A host's sysfs, /proc and /etc with any content.

use crate::message;
use std::{
    fs,
    os::unix::fs::symlink,
    path::{Component, Path, PathBuf},
};
use vgpud_config::{AcceleratorMode, MemoryMode, PartitionModes, Settings};
use vgpud_mdev::{Host, instance, inventory, mechanisms};
use vgpud_vmm::isolation;

/// Begins a file: `== PATH`, with its content on the lines below; or a link: `== PATH -> TARGET`.
const ENTRY: &str = "== ";

/// Files and links, then everything that vgpud reads of a host.
pub fn sysfs_tree(data: &[u8]) {
    let root = crate::folder();
    plant(root.path(), &crate::text(data));
    let host = Host::new(root.path());
    let settings = Settings {
        run: vgpud_config::RunSettings { qemu: "/no/such/program".into(), ..Default::default() },
        ..Default::default()
    };
    match inventory::gpus(&host, &settings.gpus) {
        Ok(found) => {
            for gpu in &found.gpus {
                look(&host, gpu);
            }
            for (_, error) in &found.unreadable {
                message::check_error(error, "");
            }
        }
        Err(error) => message::check_error(&error, ""),
    }
    for address in ["0000:41:00.0", "0000:41:00.1"] {
        if let Err(error) = inventory::gpu(&host, &settings.gpus, address.parse().unwrap()) {
            message::check_error(&error, address);
        }
    }
    let checks = vgpud_vmm::doctor::examine(&host, &settings);
    for check in checks.iter().chain(&vgpud_kata::doctor::examine(&host, &settings)) {
        message::check_lines(&check.found);
    }
}

fn look(host: &Host, gpu: &vgpud_mdev::Gpu) {
    for mechanism in mechanisms(gpu) {
        for profile in mechanism.profiles(gpu, &[]) {
            assert!(profile.available <= profile.capacity);
            if let Err(error) = mechanism.next_name(gpu.address, &profile.name, &[]) {
                message::check_error(&error, "");
            }
        }
        for accelerator in AcceleratorMode::ALL {
            for memory in MemoryMode::ALL {
                let modes = PartitionModes { accelerator: Some(accelerator), memory: Some(memory) };
                match mechanism.with_modes(gpu, modes) {
                    Ok(foreseen) => assert_eq!(mechanism.with_modes(&foreseen, modes), Ok(foreseen.clone())),
                    Err(why) => message::check(&why),
                }
            }
        }
    }
    match instance::list(host, gpu.address) {
        Ok(instances) => {
            for instance in instances {
                assert_eq!(instance.gpu, gpu.address);
                if let Err(error) = isolation::check_group(host, &instance) {
                    message::check_error(&error, "");
                }
            }
        }
        Err(error) => message::check_error(&error, ""),
    }
}

/// Entries that cannot be (a file below a file) are left out.
fn plant(root: &Path, text: &str) {
    for entry in text.split(ENTRY).skip(1).take(64) {
        let (head, content) = entry.split_once('\n').unwrap_or((entry, ""));
        let (path, target) = match head.split_once(" -> ") {
            Some((path, target)) => (path, Some(target)),
            None => (head, None),
        };
        let path = root.join(inside(path));
        let made = path.parent().map(fs::create_dir_all);
        if !matches!(made, Some(Ok(()))) || path.symlink_metadata().is_ok() {
            continue;
        }
        // An error is a name that is too long, or none.
        let _ = match target {
            Some(target) => symlink(root.join(inside(target)), path),
            None => fs::write(path, content),
        };
    }
}

/// The path without what would lead out of the tree.
fn inside(path: &str) -> PathBuf {
    let parts = Path::new(path).components().take(16);
    parts.filter(|part| matches!(part, Component::Normal(_))).collect()
}
