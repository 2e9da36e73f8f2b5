//! Answers to writes.

use super::{
    FakeGpu, FakeSmi, FakeTurn, Machine,
    fault::{Fault, Planted, strike},
    mig::FakeMig,
    tree::Tree,
};
use crate::{
    Error, Host, PciAddress,
    attribute::Kernel,
    nvidia::{Said, SmiCommand, Turn},
};
use nix::errno::Errno;
use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    fs, io,
    path::Path,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

/// The kernel of a [`FakeHost`](super::FakeHost).
#[derive(Debug)]
pub struct FakeKernel {
    tree: Tree,
    state: Mutex<State>,
}

/// What is not in the tree.
#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) gpus: BTreeMap<PciAddress, FakeGpu>,
    /// Drivers and the ids that they take by themselves, in order of registration.
    pub(super) drivers: Vec<(String, Vec<String>)>,
    pub(super) iommu: bool,
    pub(super) cdev: bool,
    pub(super) next_group: u32,
    pub(super) next_vfio: u32,
    pub(super) held: BTreeSet<String>,
    pub(super) short_vfs: Option<u16>,
    pub(super) turns: VecDeque<FakeTurn>,
    pub(super) mig: BTreeMap<PciAddress, FakeMig>,
    pub(super) smi: Option<FakeSmi>,
    link_delay: u32,
    node_delay: u32,
    /// Things made but not seen yet, with the pauses until they are.
    pending: Vec<(u32, Thing)>,
    pub(super) planted: Vec<Planted>,
    writes: Vec<(String, String)>,
}

/// Something that appears at once or after a delay.
#[derive(Debug)]
pub(super) enum Thing {
    Node(String),
    Link(String, String),
}

/// Folder of a PCI function.
pub(super) fn folder(address: PciAddress) -> String {
    let text = address.to_string();
    format!("sys/devices/pci{}/{text}", &text[..7])
}

impl FakeKernel {
    pub(super) fn new(machine: &Machine) -> Self {
        let tree = Tree::new();
        let mut state = State {
            iommu: machine.iommu,
            cdev: machine.cdev,
            drivers: machine.drivers.clone(),
            next_group: 1,
            ..State::default()
        };
        state.drivers.extend(machine.vfio_modules.iter().map(|name| (name.clone(), Vec::new())));
        let of_gpus = machine.gpus.iter().filter_map(|gpu| gpu.driver.clone());
        state.drivers.extend(of_gpus.map(|name| (name, Vec::new())));
        tree.file("sys/bus/pci/drivers_probe", b"");
        tree.folder("sys/bus/pci/devices");
        for (name, _) in &state.drivers {
            tree.file(&format!("sys/bus/pci/drivers/{name}/bind"), b"");
            tree.file(&format!("sys/bus/pci/drivers/{name}/unbind"), b"");
        }
        tree.text("proc/sys/kernel/osrelease", "6.12.0-fake");
        tree.file("lib/modules/6.12.0-fake/modules.alias", machine.aliases.as_bytes());
        tree.file("dev/vfio/vfio", b"");
        if machine.cdev {
            tree.file("dev/iommu", b"");
            tree.folder("dev/vfio/devices");
        }
        if let Some(text) = &machine.pci_ids {
            tree.file("usr/share/misc/pci.ids", text.as_bytes());
        }
        let kernel = Self { tree, state: Mutex::new(state) };
        machine.gpus.iter().for_each(|gpu| kernel.plug(gpu));
        kernel
    }

    fn plug(&self, gpu: &FakeGpu) {
        let mut state = self.state();
        let group = state.group();
        self.function(&state, gpu.address, gpu.id, gpu.class, group);
        let folder = folder(gpu.address);
        self.tree.text(&format!("{folder}/numa_node"), &gpu.numa_node.to_string());
        self.tree.text(&format!("{folder}/reset_method"), "flr bus");
        if let Some(driver) = &gpu.driver {
            self.attach(&mut state, gpu.address, driver).expect("the GPU's driver takes it");
        }
        if let Some(companion) = gpu.companion {
            self.function(&state, companion, gpu.id, 0x04_0300, group);
            self.tree.text(&format!("{}/reset_method", self::folder(companion)), "bus");
        }
        state.gpus.insert(gpu.address, gpu.clone());
        self.sriov_capability(gpu);
        self.mdev_parent(gpu);
        self.personality(&mut state, gpu);
        self.vgpu_host(&mut state, gpu);
        self.vgpu_pf(gpu);
    }

    /// The files of a PCI function.
    pub(super) fn function(
        &self,
        state: &State,
        address: PciAddress,
        id: crate::PciId,
        class: u32,
        group: u32,
    ) {
        let folder = folder(address);
        let text = |name: &str, content: &str| self.tree.text(&format!("{folder}/{name}"), content);
        let crate::PciId { vendor, device } = id;
        text("vendor", &format!("{vendor:#06x}"));
        text("device", &format!("{device:#06x}"));
        text("subsystem_vendor", &format!("{vendor:#06x}"));
        text("subsystem_device", "0x0c34");
        text("class", &format!("{class:#08x}"));
        let (base, sub, interface) = (class >> 16, (class >> 8) & 0xff, class & 0xff);
        let modalias = format!(
            "pci:v{vendor:08X}d{device:08X}sv{vendor:08X}sd00000C34bc{base:02X}sc{sub:02X}i{interface:02X}"
        );
        text("modalias", &modalias);
        text("numa_node", "-1");
        text("driver_override", "(null)");
        self.tree.file(&format!("{folder}/reset"), b"");
        self.tree.file(&format!("{folder}/config"), &[0; 64]);
        self.tree.link(&format!("sys/bus/pci/devices/{address}"), &folder);
        if state.iommu {
            self.join_group(&folder, &address.to_string(), group);
        }
    }

    pub(super) fn join_group(&self, folder: &str, name: &str, group: u32) {
        let group = format!("sys/kernel/iommu_groups/{group}");
        self.tree.link(&format!("{folder}/iommu_group"), &group);
        self.tree.link(&format!("{group}/devices/{name}"), folder);
    }

    pub(super) fn leave_group(&self, folder: &str, name: &str) {
        if let Some(group) = self.tree.target(&format!("{folder}/iommu_group")) {
            let group = format!("sys/kernel/iommu_groups/{group}");
            self.tree.remove(&format!("{group}/devices/{name}"));
            if self.tree.names(&format!("{group}/devices")).is_empty() {
                self.tree.remove(&group);
            }
        }
    }

    pub(super) fn root(&self) -> &Path {
        self.tree.root()
    }

    pub(super) const fn tree(&self) -> &Tree {
        &self.tree
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn add(&self, attribute: &str, skip: usize, fault: Fault) {
        self.state().planted.push(Planted { attribute: attribute.to_owned(), skip, fault });
    }

    pub(super) fn short_vfs(&self, count: u16) {
        self.state().short_vfs = Some(count);
    }

    pub(super) fn delay(&self, links: u32, nodes: u32) {
        let mut state = self.state();
        (state.link_delay, state.node_delay) = (links, nodes);
    }

    pub(super) fn hold(&self, device: &str, held: bool) {
        let mut state = self.state();
        if held {
            state.held.insert(device.to_owned())
        } else {
            state.held.remove(device)
        };
    }

    pub(super) fn writes(&self) -> Vec<(String, String)> {
        self.state().writes.clone()
    }

    pub(super) fn vanish(&self, device: PciAddress) {
        self.vanish_in(&mut self.state(), device);
    }

    pub(super) fn vanish_in(&self, state: &mut State, device: PciAddress) {
        self.drop_vfs(state, device);
        self.drop_mdevs(state, device);
        self.unplug(state, device);
        self.tree.remove(&format!("sys/class/mdev_bus/{device}"));
        state.gpus.remove(&device);
    }

    /// Takes a PCI function away.
    pub(super) fn unplug(&self, state: &mut State, device: PciAddress) {
        self.detach(state, device);
        self.leave_group(&folder(device), &device.to_string());
        self.tree.remove(&format!("sys/bus/pci/devices/{device}"));
        self.tree.remove(&folder(device));
    }

    /// Makes something, now or after the delay.
    pub(super) fn appear(&self, state: &mut State, thing: Thing) {
        let delay = match thing {
            Thing::Node(_) => state.node_delay,
            Thing::Link(..) => state.link_delay,
        };
        match delay {
            0 => self.make(thing),
            pauses => state.pending.push((pauses, thing)),
        }
    }

    /// Removes something, whether it has been seen or not.
    pub(super) fn disappear(&self, state: &mut State, path: &str) {
        self.tree.remove(path);
        state.pending.retain(|(_, thing)| match thing {
            Thing::Node(node) => node != path,
            Thing::Link(from, _) => from != path,
        });
    }

    fn make(&self, thing: Thing) {
        match thing {
            Thing::Node(path) => self.tree.file(&path, b""),
            Thing::Link(from, to) => self.tree.link(&from, &to),
        }
    }

    /// What the write does; the path has no links in it.
    fn answer(&self, state: &mut State, path: &str, value: &str) -> Result<(), Errno> {
        let (folder, attribute) = path.rsplit_once('/').unwrap_or(("", path));
        let name = folder.rsplit('/').next().unwrap_or_default();
        let value = value.trim_end_matches('\n');
        match attribute {
            "sriov_numvfs" => self.set_numvfs(state, pci(name)?, value),
            "sriov_drivers_autoprobe" if !matches!(value, "0" | "1") => Err(Errno::EINVAL),
            "driver_override" => {
                self.tree.text(path, if value.is_empty() { "(null)" } else { value });
                Ok(())
            }
            "bind" => self.bind(state, pci(value)?, name),
            "unbind" => self.unbind(state, pci(value)?, name),
            "drivers_probe" => self.probe(state, pci(value)?),
            "reset" => match self.tree.read(&format!("{folder}/reset_method")).as_deref() {
                Some("") | None => Err(Errno::ENOTTY),
                Some(_) => Ok(()),
            },
            "exec_quantum_ms"
            | "preempt_timeout_us"
            | "vram_quota"
            | "lmem_quota"
            | "sched_priority"
            | "restore_auto_provisioning" => self.set_share(state, path, value),
            "memory_partition_mode" => self.set_memory_mode(state, value),
            "accelerator_partition_profile" => self.set_profile(state, value),
            "current_vgpu_type" => self.set_vgpu(state, folder, value),
            "create" => self.create_mdev(state, folder, value),
            "remove" => self.remove_mdev(state, folder, value),
            _ => {
                self.tree.text(path, value);
                Ok(())
            }
        }
    }
}

fn pci(name: &str) -> Result<PciAddress, Errno> {
    name.parse().map_err(|_| Errno::ENODEV)
}

/// What a test that plants [`Fault::Die`] catches.
pub(super) fn die() -> ! {
    std::panic::resume_unwind(Box::new("killed"))
}

impl State {
    pub(super) fn record(&mut self, path: &str, value: &str) {
        self.writes.push((path.to_owned(), value.to_owned()));
    }

    pub(super) fn group(&mut self) -> u32 {
        self.next_group += 1;
        self.next_group
    }

    /// # Panics
    /// Where a VFIO user holds the device: the kernel would wait for it for ever.
    pub(super) fn wait_for_user(&self, device: &str) {
        assert!(!self.held.contains(device), "{device} is held: the kernel would block here");
    }
}

impl Kernel for FakeKernel {
    fn write(&self, path: &Path, value: &str) -> io::Result<()> {
        let real = fs::canonicalize(path)?;
        let below = real.strip_prefix(self.root()).expect("a path of this host");
        let below = below.to_str().expect("a name in UTF-8");
        let mut state = self.state();
        state.record(below, value);
        let fault = strike(&mut state.planted, below);
        match fault {
            Some(Fault::Errno(errno)) => return Err(errno.into()),
            Some(Fault::Ignore) => return Ok(()),
            Some(Fault::Vanish(device)) => {
                self.vanish_in(&mut state, device);
                return Err(Errno::ENODEV.into());
            }
            Some(Fault::Die | Fault::Rival(_)) | None => {}
        }
        let answer = self.answer(&mut state, below, value);
        if matches!(fault, Some(Fault::Die)) {
            die();
        }
        Ok(answer?)
    }

    fn turn_vfs(&self, _: &Host, gpu: PciAddress, turn: Turn) -> Result<Said, Error> {
        let mut state = self.state();
        let fault = strike(&mut state.planted, "sriov-manage");
        match fault {
            Some(Fault::Errno(errno)) => return Ok(Said { success: false, words: errno.desc().to_owned() }),
            Some(Fault::Ignore) => return Ok(Said { success: true, words: String::new() }),
            Some(Fault::Vanish(_) | Fault::Die | Fault::Rival(_)) | None => {}
        }
        let said = self.turn(&mut state, gpu, turn);
        if matches!(fault, Some(Fault::Die)) {
            die();
        }
        Ok(said)
    }

    fn nvidia_smi(&self, host: &Host, gpu: PciAddress, command: SmiCommand) -> Result<Said, Error> {
        self.smi(&mut self.state(), host, gpu, command)
    }

    fn pause(&self, _: Duration) {
        let mut state = self.state();
        let pending = std::mem::take(&mut state.pending);
        for (pauses, thing) in pending {
            match pauses {
                1 => self.make(thing),
                _ => state.pending.push((pauses - 1, thing)),
            }
        }
    }
}
