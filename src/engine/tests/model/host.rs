//! A machine reduced to what the promises are about.

use super::super::*;
use std::collections::BTreeMap;
use vgpud_mdev::{Instance, VfioNodes};

/// SR-IOV, SR-IOV that somebody else has divided before, and an mdev parent without reset.
pub const GPUS: u8 = 3;
pub const CAPACITY: u32 = 4;

/// One lease of one slice: as far as one tenant's data may go.
pub type Tenancy = (SliceId, Generation);

#[derive(Clone, Debug, Default)]
pub struct Gpu {
    pub there: bool,
    pub found: bool,
    pub instances: BTreeMap<InstanceName, Content>,
}

#[derive(Clone, Debug, Default)]
pub struct Content {
    pub data_of: Option<Tenancy>,
    pub open_by: Option<Tenancy>,
}

#[derive(Clone, Debug)]
pub struct Host {
    pub gpus: BTreeMap<PciAddress, Gpu>,
    /// CDI files, and what they lead to.
    pub published: BTreeMap<SliceId, (PciAddress, InstanceName, Generation)>,
    /// Who had which lease.
    pub owners: BTreeMap<Tenancy, Owner>,
}

/// What an effect came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Came {
    Done,
    NoReset,
    /// Reset, with its data left.
    Kept,
    Held,
    Failed,
}

pub fn address(number: u8) -> PciAddress {
    gpu(number % GPUS + 1)
}

pub fn mechanism(address: PciAddress) -> MechanismKind {
    if address == gpu(GPUS) { MechanismKind::Mdev } else { MechanismKind::Sriov }
}

impl Host {
    pub fn new() -> Self {
        let gpus = (0..GPUS).map(|number| {
            (address(number), Gpu { there: true, found: number == 1, instances: BTreeMap::new() })
        });
        Self { gpus: gpus.collect(), published: BTreeMap::new(), owners: BTreeMap::new() }
    }

    pub fn gpu(&mut self, address: PciAddress) -> &mut Gpu {
        self.gpus.get_mut(&address).unwrap()
    }

    pub fn instance(&mut self, address: PciAddress, name: InstanceName) -> Option<&mut Content> {
        self.gpu(address).instances.get_mut(&name)
    }

    /// As the daemon reads it.
    pub fn view(&self) -> BTreeMap<PciAddress, Vec<Instance>> {
        let there = self.gpus.iter().filter(|(_, gpu)| gpu.there);
        let instance = |gpu: PciAddress, name: InstanceName| Instance {
            gpu,
            name,
            sysfs: PathBuf::new(),
            address: None,
            profile: "vf-4".parse().unwrap(),
            driver: None,
            iommu_group: None,
            nodes: VfioNodes::default(),
        };
        there
            .map(|(address, gpu)| {
                (*address, gpu.instances.keys().map(|name| instance(*address, *name)).collect())
            })
            .collect()
    }

    /// Whether both are leases of one owner, who may see what the other left.
    pub fn is_same_owner(&self, one: Tenancy, other: Tenancy) -> bool {
        one == other || (one.0 == other.0 && self.owners.get(&one) == self.owners.get(&other))
    }

    /// Resets an instance whose memory keeps what it has.
    pub fn reset_in_vain(&mut self, target: &Target) -> Result<Came, String> {
        let left = self.instance(target.gpu, target.name).and_then(|found| found.data_of);
        let came = self.run(&Effect::Reset { target: *target })?;
        match self.instance(target.gpu, target.name) {
            Some(found) if came == Came::Done => {
                found.data_of = left;
                Ok(Came::Kept)
            }
            _ => Ok(came),
        }
    }

    /// Runs an effect as the executor does; an error is a broken promise.
    pub fn run(&mut self, effect: &Effect) -> Result<Came, String> {
        if let Some(gpu) = effect.gpu()
            && !self.gpu(gpu).there
        {
            return Ok(self.run_without_gpu(effect));
        }
        match effect {
            Effect::Create { target, .. } => {
                let instance = self.gpu(target.gpu).instances.entry(target.name).or_default();
                if instance.open_by.is_some() {
                    return Ok(Came::Held);
                }
                instance.data_of = None;
                Ok(Came::Done)
            }
            Effect::HandOver { target, generation, .. } => self.hand_over(target, *generation),
            Effect::Withdraw { target, .. } => {
                if self.instance(target.gpu, target.name).is_some_and(|found| found.open_by.is_some()) {
                    return Ok(Came::Held);
                }
                self.published.remove(&target.slice);
                Ok(Came::Done)
            }
            Effect::Reset { target } => match self.instance(target.gpu, target.name) {
                None => Ok(Came::Failed),
                Some(found) if found.open_by.is_some() => Ok(Came::Held),
                Some(_) if target.mechanism == MechanismKind::Mdev => Ok(Came::NoReset),
                Some(found) => {
                    found.data_of = None;
                    Ok(Came::Done)
                }
            },
            Effect::Destroy { target } => {
                self.published.remove(&target.slice);
                if self.instance(target.gpu, target.name).is_some_and(|found| found.open_by.is_some()) {
                    return Ok(Came::Held);
                }
                self.gpu(target.gpu).instances.remove(&target.name);
                Ok(Came::Done)
            }
            Effect::Unpublish { slice } => {
                self.published.remove(slice);
                Ok(Came::Done)
            }
            Effect::Partition(partition) => {
                let used = partition.gpus.iter().find(|gpu| !self.gpu(**gpu).instances.is_empty());
                used.map_or(Ok(Came::Done), |gpu| Err(format!("{gpu} is partitioned with instances on it")))
            }
            Effect::Retire { gpu, .. } => {
                let found = self.gpu(*gpu);
                if found.found {
                    return Err(format!("{gpu} is taken apart, which somebody else divided"));
                }
                if !found.instances.is_empty() {
                    return Err(format!("{gpu} is put back with {:?} on it", found.instances));
                }
                Ok(Came::Done)
            }
        }
    }

    fn run_without_gpu(&mut self, effect: &Effect) -> Came {
        match effect {
            Effect::Create { .. } | Effect::HandOver { .. } | Effect::Reset { .. } => Came::Failed,
            Effect::Withdraw { target, .. } | Effect::Destroy { target } => {
                self.published.remove(&target.slice);
                Came::Done
            }
            Effect::Unpublish { slice } => {
                self.published.remove(slice);
                Came::Done
            }
            Effect::Retire { .. } => Came::Done,
            Effect::Partition(_) => Came::Failed,
        }
    }

    fn hand_over(&mut self, target: &Target, generation: Generation) -> Result<Came, String> {
        let (slice, again) = (target.slice, self.published.contains_key(&target.slice));
        let Some(found) = self.instance(target.gpu, target.name) else { return Ok(Came::Failed) };
        if found.open_by.is_some() && !again {
            return Ok(Came::Held);
        }
        let data_of = found.data_of;
        if let Some(data_of) = data_of.filter(|left| !self.is_same_owner(*left, (slice, generation))) {
            return Err(format!("lease {generation} of {slice} gets the data of {data_of:?}"));
        }
        self.published.insert(slice, (target.gpu, target.name, generation));
        Ok(Came::Done)
    }

    /// A micro-VM opens what the CDI file of a slice leads to, and writes its data there.
    pub fn open(&mut self, slice: SliceId) -> Result<(), String> {
        let Some((gpu, name, generation)) = self.published.get(&slice).copied() else { return Ok(()) };
        let Some(found) = self.instance(gpu, name).cloned() else { return Ok(()) };
        let tenancy = (slice, generation);
        let left = found.data_of.filter(|left| !self.is_same_owner(*left, tenancy));
        if let Some(other) = found.open_by.filter(|other| *other != tenancy).or(left) {
            return Err(format!("{tenancy:?} opens {name} of {gpu}, which {other:?} had"));
        }
        if let Some(found) = self.instance(gpu, name) {
            *found = Content { data_of: Some(tenancy), open_by: Some(tenancy) };
        }
        Ok(())
    }

    pub fn vanish(&mut self, address: PciAddress) {
        // What was on it is gone with its power.
        *self.gpu(address) = Gpu::default();
    }

    pub fn reboot(&mut self) {
        for gpu in self.gpus.values_mut() {
            *gpu = Gpu { there: gpu.there, ..Gpu::default() };
        }
        // The folder of CDI files is on a tmpfs.
        self.published.clear();
    }
}
