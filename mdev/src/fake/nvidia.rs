//! NVIDIA's vGPU host driver with vendor-specific VFIO, and its tool `sriov-manage`. With mediated devices it
//! is in [`super::nvidia_mdev`].
//!
//! Played with the quirks that its users report: the tool says that all went well when nothing did, leaves
//! a GPU half-way or cannot get its lock; some VFs come and others do not; the list of types shrinks,
//! comes in either order and names what is refused; a vGPU in use cannot be destroyed.

use super::{
    FakeGpu,
    kernel::{FakeKernel, State, folder},
    virtual_function::vf_address,
};
use crate::{
    PciAddress,
    nvidia::{Turn, Turned},
};
use nix::errno::Errno;

const STUB: &str = "pci-pf-stub";

/// The types of a card and the rules of its driver.
#[derive(Clone, Debug)]
pub struct FakeVgpus {
    /// What all vGPUs share, in GB.
    pub(super) gigabytes: u32,
    pub(super) types: Vec<(u32, String, u32)>,
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
        let (name_first, mixed_sizes, mediated) = (false, false, false);
        Self { gigabytes, types, mediated, name_first, mixed_sizes, refused: None, held, dead: None }
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
    pub(super) fn vgpu_host(&self, gpu: &FakeGpu) {
        if gpu.vgpus.is_some() {
            self.tree().file("usr/lib/nvidia/sriov-manage", b"");
            self.tree().folder("sys/module/nvidia_vgpu_vfio");
            self.tree().folder(&format!("sys/bus/pci/drivers/{STUB}"));
        }
    }

    pub(super) fn turn(&self, state: &mut State, gpu: PciAddress, turn: Turn) -> Turned {
        let said = |success, words: &str| Turned { success, words: words.to_owned() };
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
        match turn {
            Turn::Off => self.drop_vfs(state, gpu),
            Turn::On => {
                (0..comes).for_each(|index| self.make_vgpu_vf(state, &card, index));
                self.tree().text(&numvfs, &comes.to_string());
                self.list_types(&card);
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

    /// The vGPUs of a card: VFs with their folder and the size of their type, none for a spare.
    fn vgpus(&self, card: &FakeGpu) -> Vec<(String, Option<u32>)> {
        let types = card.vgpus.as_ref().map_or(&[][..], |vgpus| &vgpus.types);
        let size = |number: u32| types.iter().find(|of| of.0 == number).map(|of| of.2);
        let folders = (0..card.total_vfs.unwrap_or(0)).map(|index| folder(vf_address(card, index)));
        let numbers = folders.filter_map(|vf| {
            let number = self.tree().read(&format!("{vf}/nvidia/current_vgpu_type"))?;
            Some((vf, size(number.parse().unwrap())))
        });
        numbers.collect()
    }

    fn has_room(&self, card: &FakeGpu, size: u32) -> bool {
        let vgpus = card.vgpus.as_ref().expect("vGPUs");
        let sizes: Vec<u32> = self.vgpus(card).iter().filter_map(|(_, size)| *size).collect();
        let alike = vgpus.mixed_sizes || sizes.iter().all(|other| *other == size);
        alike && sizes.iter().sum::<u32>() + size <= vgpus.gigabytes
    }

    /// Writes the list of every VF.
    fn list_types(&self, card: &FakeGpu) {
        let vgpus = card.vgpus.as_ref().expect("vGPUs");
        for (vf, current) in self.vgpus(card) {
            let mut list =
                if vgpus.name_first { "vGPU Name  ID\n" } else { "ID    : vGPU Name\n" }.to_owned();
            for (number, name, size) in &vgpus.types {
                if current.is_none() && self.has_room(card, *size) {
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
        let known =
            vgpus.types.iter().find(|of| of.0 == number).filter(|of| is_spare && self.has_room(&card, of.2));
        let refused = number != 0 && (known.is_none() || vgpus.refused == Some(number));
        // What is refused takes along what was there.
        self.tree().text(&path, if refused { "0" } else { value });
        self.list_types(&card);
        if refused { Err(Errno::EIO) } else { Ok(()) }
    }
}
