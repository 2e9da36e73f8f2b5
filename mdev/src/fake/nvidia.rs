//! NVIDIA's vGPU host driver with vendor-specific VFIO, and its tool `sriov-manage`. With mediated devices it
//! is in [`super::nvidia_mdev`].
//!
//! Played with the quirks that its users report: the tool says that all went well when nothing did, leaves
//! a GPU half-way or cannot get its lock; some VFs come and others do not; the list of types shrinks,
//! comes in either order and names what is refused; a vGPU in use cannot be destroyed.

use super::{
    FakeGpu,
    kernel::{FakeKernel, State, folder},
    mig::FakeMig,
    virtual_function::vf_address,
};
use crate::{
    PciAddress,
    nvidia::{MigMode, Said, Turn},
};
use nix::errno::Errno;

const STUB: &str = "pci-pf-stub";

/// The types of a card and the rules of its driver.
#[derive(Clone, Debug)]
pub struct FakeVgpus {
    /// What all vGPUs share, in GB.
    pub(super) gigabytes: u32,
    pub(super) types: Vec<(u32, String, u32)>,
    /// Types that live in GPU instances of MIG: number and profile.
    in_instances: Vec<(u32, u32)>,
    /// MIG at first; none: the card has no MIG.
    mig: Option<MigMode>,
    /// MIG changes by a reset of the GPU alone.
    pub(super) mig_by_reset: bool,
    /// VFs are parents of mediated devices.
    pub(super) mediated: bool,
    name_first: bool,
    pub(super) mixed_sizes: bool,
    pub(super) refused: Option<u32>,
    held: Errno,
    /// A VF that never gets the driver's folder.
    dead: Option<u16>,
}

impl FakeVgpus {
    /// Types by number, full name and GB of framebuffer.
    #[must_use]
    pub fn new(gigabytes: u32, types: &[(u32, &str, u32)]) -> Self {
        let types = types.iter().map(|(number, name, size)| (*number, (*name).to_owned(), *size)).collect();
        let held = Errno::EBUSY;
        Self {
            gigabytes,
            types,
            in_instances: Vec::new(),
            mig: None,
            mig_by_reset: false,
            mediated: false,
            name_first: false,
            mixed_sizes: false,
            refused: None,
            held,
            dead: None,
        }
    }

    /// An L40S with some of its types.
    #[must_use]
    pub fn l40s() -> Self {
        let types = [
            (1145, "NVIDIA L40S-1B", 1),
            (1147, "NVIDIA L40S-1Q", 1),
            (1152, "NVIDIA L40S-8Q", 8),
            (1155, "NVIDIA L40S-24Q", 24),
            (1156, "NVIDIA L40S-48Q", 48),
            (1165, "NVIDIA L40S-24A", 24),
        ];
        Self::new(48, &types)
    }

    /// An A100 of 80 GB with some of its types, and MIG on or off.
    #[must_use]
    pub fn a100(mig: MigMode) -> Self {
        let types = [
            (697, "GRID A100D-40C", 40),
            (698, "GRID A100D-80C", 80),
            (699, "GRID A100D-1-10C", 10),
            (700, "GRID A100D-2-20C", 20),
            (701, "GRID A100D-3-40C", 40),
            (702, "GRID A100D-4-40C", 40),
            (703, "GRID A100D-7-80C", 80),
            (707, "GRID A100D-1-10CME", 10),
            (1054, "GRID A100D-1-20C", 20),
        ];
        let in_instances = vec![(699, 19), (700, 14), (701, 9), (702, 5), (703, 0), (707, 20), (1054, 15)];
        Self { in_instances, mig: Some(mig), ..Self::new(80, &types) }
    }

    /// Its MIG changes by a reset of the GPU alone.
    #[must_use]
    pub fn mig_by_reset(self) -> Self {
        Self { mig_by_reset: true, ..self }
    }

    /// A T4 with some of its types.
    #[must_use]
    pub fn t4() -> Self {
        let types = [
            (231, "GRID T4-2Q", 2),
            (232, "GRID T4-4Q", 4),
            (233, "GRID T4-8Q", 8),
            (234, "GRID T4-16Q", 16),
            (223, "GRID T4-2B", 2),
        ];
        Self::new(16, &types)
    }

    /// VFs are parents of mediated devices, as on a kernel without the vendor-specific VFIO framework.
    #[must_use]
    pub fn mediated(self) -> Self {
        Self { mediated: true, ..self }
    }

    /// Lists have the name before the number.
    #[must_use]
    pub fn name_first(self) -> Self {
        Self { name_first: true, ..self }
    }

    /// In mixed-size mode.
    #[must_use]
    pub fn mixed_sizes(self) -> Self {
        Self { mixed_sizes: true, ..self }
    }

    /// A type that is listed and refused with EIO.
    #[must_use]
    pub fn refuse(self, number: u32) -> Self {
        Self { refused: Some(number), ..self }
    }

    /// What destroying a vGPU in use answers.
    #[must_use]
    pub fn held(self, errno: Errno) -> Self {
        Self { held: errno, ..self }
    }

    /// A VF that is on the driver and never becomes a vGPU.
    #[must_use]
    pub fn dead(self, index: u16) -> Self {
        Self { dead: Some(index), ..self }
    }
}

/// What the tool does when it is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FakeTurn {
    Work,
    /// Nothing, and says that all went well.
    Lie,
    /// So many VFs come, and it says that all went well.
    Short(u16),
    /// It fails, for something uses the GPU.
    LockedOut,
    /// It stops with the PF on `pci-pf-stub`.
    Strand,
}

impl FakeKernel {
    pub(super) fn plan_turns(&self, turns: &[FakeTurn]) {
        self.state().turns.extend(turns);
    }

    /// What the host driver's package brings.
    pub(super) fn vgpu_host(&self, state: &mut State, gpu: &FakeGpu) {
        if let Some(vgpus) = &gpu.vgpus {
            if let Some(mode) = vgpus.mig {
                let mig = FakeMig { mode, pending: mode, instances: Vec::new() };
                state.mig.insert(gpu.address, mig);
            }
            self.tree().file("usr/lib/nvidia/sriov-manage", b"");
            self.tree().folder("sys/module/nvidia_vgpu_vfio");
            self.tree().folder(&format!("sys/bus/pci/drivers/{STUB}"));
        }
    }

    pub(super) fn turn(&self, state: &mut State, gpu: PciAddress, turn: Turn) -> Said {
        let said = |success, words: &str| Said { success, words: words.to_owned() };
        let Some(card) = state.gpus.get(&gpu).cloned() else { return said(false, "no such GPU") };
        let total = card.total_vfs.unwrap_or(0);
        let comes = match state.turns.pop_front().unwrap_or(FakeTurn::Work) {
            FakeTurn::Work => total,
            FakeTurn::Lie => return said(true, ""),
            FakeTurn::Short(count) => count,
            FakeTurn::LockedOut => {
                return said(false, &format!("Enabling VFs on {gpu}\nCannot obtain unbindLock for {gpu}"));
            }
            FakeTurn::Strand => {
                self.detach(state, gpu);
                self.attach(state, gpu, STUB).expect("the stub takes it");
                return said(false, &format!("stopped half-way at {gpu}"));
            }
        };
        let numvfs = format!("{}/sriov_numvfs", folder(gpu));
        if let Some(mig) = state.mig.get_mut(&gpu) {
            mig.instances.clear();
        }
        match turn {
            Turn::Off => self.drop_vfs(state, gpu),
            Turn::On => {
                (0..comes).for_each(|index| self.make_vgpu_vf(state, &card, index));
                self.tree().text(&numvfs, &comes.to_string());
                self.list_types(state, &card);
                self.count_vgpus(&card);
            }
        }
        said(true, "")
    }

    fn make_vgpu_vf(&self, state: &mut State, card: &FakeGpu, index: u16) {
        let autoprobe = format!("{}/sriov_drivers_autoprobe", folder(card.address));
        self.tree().text(&autoprobe, "0");
        self.make_vf(state, card, index);
        self.tree().text(&autoprobe, "1");
        let vf = vf_address(card, index);
        self.attach(state, vf, "nvidia").expect("NVIDIA's driver takes it");
        let vgpus = card.vgpus.as_ref().expect("vGPUs");
        if vgpus.dead == Some(index) {
            return;
        }
        if vgpus.mediated {
            self.vgpu_parent(vgpus, vf, if index.is_multiple_of(2) { "nvidia" } else { "vfio-pci" });
        } else {
            self.open_vfio(state, &folder(vf));
            self.tree().text(&format!("{}/nvidia/current_vgpu_type", folder(vf)), "0");
        }
    }

    /// VFs of a card that may be vGPUs.
    pub(super) fn vf_folders(&self, card: &FakeGpu) -> Vec<String> {
        let folders = (0..card.total_vfs.unwrap_or(0)).map(|index| folder(vf_address(card, index)));
        folders.filter(|vf| self.tree().has(&format!("{vf}/nvidia/current_vgpu_type"))).collect()
    }

    /// The vGPUs of a card: VFs with their folder and the size of their type, none for a spare.
    fn vgpus(&self, card: &FakeGpu) -> Vec<(String, Option<u32>)> {
        let types = card.vgpus.as_ref().map_or(&[][..], |vgpus| &vgpus.types);
        let size = |number: u32| types.iter().find(|of| of.0 == number).map(|of| of.2);
        let numbers = self.vf_folders(card).into_iter().filter_map(|vf| {
            let number = self.tree().read(&format!("{vf}/nvidia/current_vgpu_type"))?;
            Some((vf, size(number.parse().unwrap())))
        });
        numbers.collect()
    }

    /// Whether one more vGPU of this type can be made: MIG decides which types there are.
    fn can_make(&self, state: &State, card: &FakeGpu, (number, _, size): &(u32, String, u32)) -> bool {
        let vgpus = card.vgpus.as_ref().expect("vGPUs");
        let profile = vgpus.in_instances.iter().find(|of| of.0 == *number).map(|of| of.1);
        let is_on = state.mig.get(&card.address).is_some_and(|mig| mig.mode == MigMode::On);
        match profile {
            Some(profile) => is_on && self.unused_instance(state, card, profile).is_some(),
            None => !is_on && self.has_room(card, *size),
        }
    }

    fn has_room(&self, card: &FakeGpu, size: u32) -> bool {
        let vgpus = card.vgpus.as_ref().expect("vGPUs");
        let sizes: Vec<u32> = self.vgpus(card).iter().filter_map(|(_, size)| *size).collect();
        let alike = vgpus.mixed_sizes || sizes.iter().all(|other| *other == size);
        alike && sizes.iter().sum::<u32>() + size <= vgpus.gigabytes
    }

    /// Writes the list of every VF.
    pub(super) fn list_types(&self, state: &State, card: &FakeGpu) {
        let vgpus = card.vgpus.as_ref().expect("vGPUs");
        for (vf, current) in self.vgpus(card) {
            let mut list =
                if vgpus.name_first { "vGPU Name  ID\n" } else { "ID    : vGPU Name\n" }.to_owned();
            for vgpu in &vgpus.types {
                let (number, name, _) = vgpu;
                if current.is_none() && self.can_make(state, card, vgpu) {
                    list += &match vgpus.name_first {
                        true => format!("{name}  {number}\n"),
                        false => format!("{number:<5} : {name}\n"),
                    };
                }
            }
            self.tree().file(&format!("{vf}/nvidia/creatable_vgpu_types"), list.as_bytes());
        }
    }

    /// A write to `current_vgpu_type` in `folder`, which is the VF's `nvidia`.
    pub(super) fn set_vgpu(&self, state: &mut State, folder: &str, value: &str) -> Result<(), Errno> {
        let number: u32 = value.parse().map_err(|_| Errno::EINVAL)?;
        let vf = folder.strip_suffix("/nvidia").ok_or(Errno::ENODEV)?;
        let name = vf.rsplit('/').next().unwrap_or_default();
        let pf = self.tree().target(&format!("{vf}/physfn")).and_then(|pf| pf.parse().ok());
        let card = pf.and_then(|pf: PciAddress| state.gpus.get(&pf).cloned()).ok_or(Errno::ENODEV)?;
        let vgpus = card.vgpus.as_ref().ok_or(Errno::ENODEV)?;
        if state.held.contains(name) {
            return Err(vgpus.held);
        }
        let path = format!("{folder}/current_vgpu_type");
        let is_spare = self.tree().read(&path).as_deref() == Some("0");
        let known = vgpus.types.iter().find(|of| of.0 == number);
        let known = known.filter(|of| is_spare && self.can_make(state, &card, of));
        let refused = number != 0 && (known.is_none() || vgpus.refused == Some(number));
        let profile = vgpus.in_instances.iter().find(|of| of.0 == number).map(|of| of.1);
        let instance = profile.and_then(|profile| self.unused_instance(state, &card, profile));
        // What is refused takes along what was there.
        self.tree().text(&path, if refused { "0" } else { value });
        let id = format!("{folder}/gpu_instance_id");
        match number != 0 && !refused {
            true => self.tree().text(&id, &instance.unwrap_or(u32::MAX).to_string()),
            false => self.tree().remove(&id),
        }
        self.list_types(state, &card);
        if refused { Err(Errno::EIO) } else { Ok(()) }
    }
}
