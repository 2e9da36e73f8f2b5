//! MIG: a card in GPU instances, each with compute and memory of its own, and a vGPU in each.
//!
//! It is a layer on the vGPUs of virtual functions, in this order: MIG on, VFs on, which ends all GPU
//! instances and is refused where somebody else made one, a GPU instance, a type on a VF. Back it goes in the
//! reverse order.
//!
//! | rule | so |
//! |---|---|
//! | MIG cannot change while VFs are on, and on Ampere not without a reset of the GPU | vgpud sets it before VFs, where the settings ask, and refuses what takes a reset ([`change`]) |
//! | a GPU instance has a place, and nothing moves | [`room`] counts by the card's geometry, and each is made at the place that spoils least |
//! | the driver picks the GPU instance of a vGPU | there is one that nobody uses, and what was picked is read afterwards |
//! | nothing of it outlives a start of the host, or one of `sriov-manage` | what vgpud made is noted where that does not either ([`notes`]) |
//! | a GPU instance is somebody else's unless vgpud noted its place; the note goes where vgpud's own run did not name what is there | one that backs no vGPU and has no compute instance is used, and left when its vGPU goes; any other is left alone |
//!
//! A profile, a type and an instance belong together by [`MigClass`] and attribute, never by their text.
//!
//! Sources: NVIDIA Virtual GPU Software User Guide, "Configuring a GPU for MIG-Backed vGPUs"; NVIDIA
//! Multi-Instance GPU User Guide.

pub(super) mod change;
mod notes;
pub(super) mod room;
#[cfg(test)]
mod tests;

use super::{
    Geometry, GpuInstance, MigAttribute, MigClass, NvidiaVgpu,
    smi::{Smi, listing::InstanceRow},
    vgpu::{current, understood},
};
use crate::{
    Error, Gpu, Host, PciAddress, PciId, ProfileName, VfIndex, attribute, cards,
    virtual_function::VirtualFunction,
};
use notes::Notes;
use serde::Serialize;
use std::fmt;
use vgpud_config::MigMode;

/// MIG of a card that has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Mig {
    /// What the settings ask for before the first slice.
    pub wanted: Option<MigMode>,
    /// What `nvidia-smi` tells, or why nothing is known.
    pub seen: Result<MigSeen, String>,
}

impl Mig {
    /// Whether its vGPUs live in GPU instances: as it is, or as the settings ask before the first slice.
    pub(super) fn is_or_will_be_on(&self) -> bool {
        let now = self.seen.as_ref().ok().map(|seen| seen.mode);
        self.wanted.or(now) == Some(MigMode::On) || now == Some(MigMode::On)
    }
}

/// MIG as `nvidia-smi` tells it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct MigSeen {
    pub mode: MigMode,
    /// What it will be after the next reset of the GPU.
    pub pending: MigMode,
    /// Kinds of GPU instances that the card offers; none while MIG is off.
    pub offered: Vec<MigOffer>,
    /// Those that exist; none while MIG is off.
    pub instances: Vec<MigInstance>,
}

/// A kind of GPU instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct MigKind {
    pub class: MigClass,
    pub attribute: Option<MigAttribute>,
}

/// A kind of GPU instance that a card offers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct MigOffer {
    pub kind: MigKind,
    /// How many more its driver would make now.
    pub free: u8,
}

/// A GPU instance that exists.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct MigInstance {
    /// For now: another may have it later.
    pub id: u32,
    /// As its driver calls it: `1g.10gb`.
    pub name: String,
    pub place: GpuInstance,
    pub used_by: InstanceUse,
    /// Whether vgpud made it.
    pub ours: bool,
}

/// What a GPU instance is used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum InstanceUse {
    /// It can be used by nobody as it is.
    Nothing,
    /// It backs the vGPU on this VF.
    Vgpu(VfIndex),
    /// It has compute instances, by which programs of this host use it.
    Compute,
}

impl GpuInstance {
    #[must_use]
    pub const fn kind(self) -> MigKind {
        MigKind { class: self.class, attribute: self.attribute }
    }
}

impl MigInstance {
    /// Whether a vGPU may be put into it.
    fn is_free(&self) -> bool {
        self.used_by == InstanceUse::Nothing
    }

    /// Whether vgpud made it for a vGPU that is not there: it goes when its place is needed.
    fn is_left(&self) -> bool {
        self.ours && !matches!(self.used_by, InstanceUse::Vgpu(_))
    }
}

/// `GPU instance 9 (1g.10gb at 2)`.
impl fmt::Display for MigInstance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "GPU instance {} ({} at {})", self.id, self.name, self.place.start)
    }
}

/// How the cards of this id are divided; none where they have no MIG, or that is not known of them.
pub(super) fn geometry(card: PciId) -> Option<&'static Geometry> {
    let slices = cards::catalogue().card(card)?.mig_slices.as_ref()?.value;
    cards::catalogue().geometry(slices)
}

/// The kind of GPU instance that a type lives in; none for a time-sliced type, and for one that is not known
/// of this card.
pub(super) fn kind_of(card: PciId, profile: &ProfileName) -> Option<MigKind> {
    let known = cards::catalogue().vgpus(card).find(|known| known.name == *profile)?;
    Some(MigKind { class: known.class?, attribute: understood(profile)?.needs() })
}

/// Whether the name is one of a type that lives in a GPU instance.
pub(super) fn is_mig_backed(profile: &ProfileName) -> bool {
    understood(profile).is_some_and(|vgpu| vgpu.mig.is_some())
}

/// A card that has MIG.
#[derive(Clone, Copy, Debug)]
pub(super) struct Card<'a> {
    host: &'a Host,
    gpu: PciAddress,
    geometry: &'static Geometry,
    /// Kinds that the catalogue knows of it.
    id: PciId,
}

impl<'a> Card<'a> {
    fn new(host: &'a Host, gpu: PciAddress, id: PciId) -> Option<Self> {
        Some(Self { host, gpu, geometry: geometry(id)?, id })
    }

    /// None where the GPU has no MIG.
    pub(super) fn find(host: &'a Host, gpu: PciAddress) -> Result<Option<Self>, Error> {
        let id = crate::inventory::id_of(host, gpu)?;
        Ok(id.and_then(|id| Self::new(host, gpu, id)))
    }

    const fn smi(&self) -> Smi<'a> {
        Smi { host: self.host, gpu: self.gpu }
    }

    fn notes(&self) -> Notes<'a> {
        Notes { host: self.host, gpu: self.gpu }
    }

    /// The kinds that the driver lists, as far as they are known.
    ///
    /// # Errors
    /// Where it calls one otherwise than the catalogue does: then they are not what they are taken for.
    fn offered(&self) -> Result<Vec<MigOffer>, Error> {
        let rows = self.smi().profiles()?;
        let sizes: Vec<_> = rows.iter().map(|row| row.name.size).collect();
        let mut offered = Vec::new();
        for row in &rows {
            let Some(known) = self.geometry.profile_by_id(row.id) else {
                tracing::debug!(gpu = %self.gpu, id = row.id, name = %row.name, "a MIG profile that is not known");
                continue;
            };
            let class = row.name.size.class(self.geometry, sizes.iter().copied());
            if class != Some(known.class) || row.name.attribute != known.attribute {
                return Err(self.odd(&format!("MIG profile {} is called {}", row.id, row.name)));
            }
            let kind = MigKind { class: known.class, attribute: known.attribute };
            offered.push(MigOffer { kind, free: row.free });
        }
        Ok(offered)
    }

    fn odd(&self, found: &str) -> Error {
        let way_out = "vgpud knows no such card: see which driver it is".to_owned();
        Error::Mig { gpu: self.gpu, found: found.to_owned(), way_out }
    }

    /// The GPU instances and what uses them; MIG is on.
    ///
    /// # Errors
    /// Where they cannot be read, or are of no kind that is known.
    fn instances(&self) -> Result<Vec<MigInstance>, Error> {
        let rows = self.smi().instances()?;
        let notes = self.notes().read()?;
        let vgpus = self.vgpus()?;
        let backs = |row: &InstanceRow| vgpus.iter().find(|(_, id)| *id == row.id).map(|(index, _)| *index);
        // Asked only where it makes a difference.
        let compute = match rows.iter().all(|row| backs(row).is_some()) {
            true => Vec::new(),
            false => self.smi().compute_instances()?,
        };
        let instance = |row: &InstanceRow| {
            let known = self.geometry.profile_by_id(row.profile);
            let known = known.filter(|known| {
                known.memory_slices == row.size
                    && known.attribute == row.name.attribute
                    && known.class.slices() == row.name.size.slices
            });
            let Some(known) = known else {
                let found = format!(
                    "GPU instance {} is a {} of profile {} at {}:{}",
                    row.id, row.name, row.profile, row.start, row.size
                );
                return Err(self.odd(&found));
            };
            let used_by = match backs(row) {
                Some(index) => InstanceUse::Vgpu(index),
                None if compute.iter().any(|other| other.instance == row.id) => InstanceUse::Compute,
                None => InstanceUse::Nothing,
            };
            let place = GpuInstance { class: known.class, attribute: known.attribute, start: row.start };
            let ours = notes.made(row.profile, row.start);
            Ok(MigInstance { id: row.id, name: row.name.to_string(), place, used_by, ours })
        };
        rows.iter().map(instance).collect()
    }

    /// The vGPUs and the GPU instances that the driver has put them into.
    fn vgpus(&self) -> Result<Vec<(VfIndex, u32)>, Error> {
        let mut vgpus = Vec::new();
        for vf in VirtualFunction::all(self.host, self.gpu)? {
            let folder = self.host.pci_device(vf.address);
            if current(&folder)?.is_some_and(|number| number != 0) {
                vgpus.extend(instance_of(&folder)?.map(|id| (vf.index, id)));
            }
        }
        Ok(vgpus)
    }

    fn seen(&self) -> Result<Option<MigSeen>, Error> {
        let Some(mode) = self.smi().mode()? else { return Ok(None) };
        let (offered, instances) = match mode.current {
            MigMode::On => (self.offered()?, self.instances()?),
            MigMode::Off => (Vec::new(), Vec::new()),
        };
        Ok(Some(MigSeen { mode: mode.current, pending: mode.pending, offered, instances }))
    }
}

/// The GPU instance that backs the vGPU at this VF; none where it has no vGPU, or one that is time-sliced.
fn instance_of(vf: &std::path::Path) -> Result<Option<u32>, Error> {
    let path = vf.join("nvidia/gpu_instance_id");
    let id: Option<u32> = attribute::parse(&path, "the id of a GPU instance")?;
    // NVML's invalid id.
    Ok(id.filter(|id| *id != u32::MAX))
}

/// MIG of a GPU; none where it has no MIG. Asks `nvidia-smi` of cards that are known to have it, whose vGPUs
/// are virtual functions.
pub(crate) fn read(host: &Host, gpu: PciAddress, id: PciId, vgpus: Option<&NvidiaVgpu>) -> Option<Mig> {
    match vgpus? {
        NvidiaVgpu::Off { lacks, .. } if lacks.is_empty() => {}
        NvidiaVgpu::On { .. } => {}
        NvidiaVgpu::Off { .. } | NvidiaVgpu::Mediated { .. } | NvidiaVgpu::NoVgpus => return None,
    }
    let card = Card::new(host, gpu, id)?;
    let seen = match card.seen() {
        Ok(Some(seen)) => Ok(seen),
        Ok(None) => return None,
        Err(error) => {
            let text = error.with_causes();
            tracing::warn!(%gpu, "{text}");
            Err(text)
        }
    };
    Some(Mig { wanted: host.mig(gpu), seen })
}

impl Mig {
    /// Why no vGPU can be made while MIG and its GPU instances are as they are, as the end of a sentence.
    pub(super) fn unusable(&self, gpu: &Gpu) -> Option<String> {
        match &self.seen {
            Err(why) => Some(format!("whether MIG is on is not known: {why}")),
            Ok(seen) if seen.mode != seen.pending => Some(format!(
                "MIG is {} and will be {} after the next reset of the GPU: when nothing uses it, reset it with \
                 `nvidia-smi -i {} --gpu-reset`",
                seen.mode, seen.pending, gpu.address
            )),
            Ok(seen) if !gpu.has_vfs() => change::endangered(gpu.address, &seen.instances),
            Ok(_) => None,
        }
    }

    /// Whether the next vGPU lives in a GPU instance. MIG does not change while there are VFs.
    pub(super) fn is_on(&self, gpu: &Gpu) -> bool {
        let now = self.seen.as_ref().ok().map(|seen| seen.mode);
        let wanted = self.wanted.filter(|_| !gpu.has_vfs());
        wanted.or(now) == Some(MigMode::On)
    }

    /// MIG as it will be for the first slice of an empty GPU; none where that is not known.
    pub(super) fn when_empty(&self) -> Option<MigMode> {
        self.wanted.or(self.seen.as_ref().ok().map(|seen| seen.mode))
    }
}

/// `off`, `on`, or `on, 3 GPU instances`: for people.
impl fmt::Display for Mig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Ok(seen) = &self.seen else { return f.write_str("not known") };
        write!(f, "{}", seen.mode)?;
        match seen.instances.len() {
            0 => {}
            1 => f.write_str(", 1 GPU instance")?,
            count => write!(f, ", {count} GPU instances")?,
        }
        if seen.pending != seen.mode {
            write!(f, ", {} after a reset", seen.pending)?;
        }
        match self.wanted.filter(|wanted| *wanted != seen.mode) {
            Some(wanted) => write!(f, ", {wanted} for its slices"),
            None => Ok(()),
        }
    }
}
