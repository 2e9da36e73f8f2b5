//! MIG of an NVIDIA card, and `nvidia-smi` as far as it tells of MIG and changes it.
//!
//! Played as NVIDIA's guides and users say: GPU instances end with every run of `sriov-manage`; they have
//! places; the driver picks the one for a vGPU; MIG stays as it is while there are VFs or GPU instances, and on
//! some cards changes by a reset alone.

use super::{
    FakeGpu,
    fault::{Fault, strike},
    kernel::{FakeKernel, State, die, folder},
};
use crate::{
    Error, Host, PciAddress, cards,
    nvidia::{Geometry, GeometryProfile, MigMode, Said, SmiCommand},
};
use std::{fmt::Write as _, io};

/// What all runs of `nvidia-smi` do that tell of MIG.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FakeSmi {
    /// The tool is not there.
    Missing,
    /// It does not end.
    Hangs,
    /// It prints this.
    Says(String),
    /// It fails with these words.
    Fails(String),
}

/// What becomes of a run that makes a GPU instance where somebody else makes one a moment before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FakeRival {
    /// It fails, for there is no room.
    Fails,
    /// It fails all the same, and says that all went well.
    Lies,
    /// The same, and names another GPU instance.
    NamesAnother,
    /// It does not end.
    Hangs,
}

/// A card's MIG.
#[derive(Clone, Debug)]
pub(super) struct FakeMig {
    pub(super) mode: MigMode,
    pub(super) pending: MigMode,
    pub(super) instances: Vec<FakeInstance>,
}

/// A GPU instance.
#[derive(Clone, Debug)]
pub(super) struct FakeInstance {
    pub(super) id: u32,
    pub(super) profile: u32,
    start: u8,
    compute: bool,
}

fn geometry(card: &FakeGpu) -> &'static Geometry {
    let slices = cards::catalogue().card(card.id).and_then(|card| card.mig_slices.as_ref()).unwrap().value;
    cards::catalogue().geometry(slices).unwrap()
}

fn profile(card: &FakeGpu, id: u32) -> Option<&'static GeometryProfile> {
    geometry(card).profile_by_id(id)
}

/// As the card calls its profile.
fn name(card: &FakeGpu, profile: &GeometryProfile) -> Option<&'static str> {
    let mut known = cards::catalogue().mig_profiles(card.id);
    let known = known.find(|known| known.class == profile.class && known.attribute == profile.attribute);
    known.map(|known| known.name.as_str())
}

impl FakeMig {
    fn free_starts(&self, card: &FakeGpu, wanted: &GeometryProfile) -> Vec<u8> {
        let alike = self.instances.iter().filter(|other| other.profile == wanted.id).count();
        if alike >= usize::from(wanted.max) {
            return Vec::new();
        }
        let is_taken = |start: u8| {
            self.instances.iter().any(|other| {
                let size = profile(card, other.profile).unwrap().memory_slices;
                other.start < start + wanted.memory_slices && start < other.start + size
            })
        };
        wanted.starts.iter().copied().filter(|start| !is_taken(*start)).collect()
    }

    /// From the far end, where no place is asked for.
    pub(super) fn create(&mut self, card: &FakeGpu, id: u32, start: Option<u8>) -> Result<u32, &'static str> {
        if self.mode == MigMode::Off {
            return Err("No MIG-enabled devices found.");
        }
        let wanted = profile(card, id).ok_or("Invalid Argument")?;
        let free = self.free_starts(card, wanted);
        let start = match start {
            Some(start) => free.iter().find(|free| **free == start),
            None => free.last(),
        };
        let start = *start.ok_or("Insufficient Resources")?;
        let id = (0..).find(|id| self.instances.iter().all(|other| other.id != *id)).unwrap();
        self.instances.push(FakeInstance { id, profile: wanted.id, start, compute: false });
        Ok(id)
    }
}

const RULE: &str = "+-------------------------------------------------------+\n";

impl FakeKernel {
    /// The GPU instance that the driver puts a vGPU into: the first of its profile that backs none, whoever
    /// made it and whatever else uses it.
    pub(super) fn unused_instance(&self, state: &State, card: &FakeGpu, profile: u32) -> Option<u32> {
        let mig = state.mig.get(&card.address)?;
        let used = self.used_instances(card);
        let mut free = mig.instances.iter().filter(|gi| gi.profile == profile && !used.contains(&gi.id));
        free.next().map(|gi| gi.id)
    }

    fn used_instances(&self, card: &FakeGpu) -> Vec<u32> {
        let vfs = self.vf_folders(card).into_iter();
        vfs.filter_map(|vf| self.tree().read(&format!("{vf}/nvidia/gpu_instance_id"))?.parse().ok()).collect()
    }

    /// Makes a GPU instance as somebody else does, with a compute instance or without; returns its id.
    pub(super) fn plant_instance(&self, gpu: PciAddress, profile: u32, start: u8, compute: bool) -> u32 {
        let mut state = self.state();
        let card = state.gpus[&gpu].clone();
        let mig = state.mig.get_mut(&gpu).expect("a card with MIG");
        let id = mig.create(&card, profile, Some(start)).unwrap();
        mig.instances.last_mut().unwrap().compute = compute;
        self.list_types(&state, &card);
        id
    }

    pub(super) fn smi(
        &self,
        state: &mut State,
        host: &Host,
        gpu: PciAddress,
        command: SmiCommand,
    ) -> Result<Said, Error> {
        use SmiCommand::{ComputeInstances, Instances, Mode, Profiles};
        let program = host.nvidia_smi();
        let said = |success, words: &str| Said { success, words: words.to_owned() };
        match &state.smi {
            Some(FakeSmi::Missing) => {
                return Err(Error::Run { program, source: io::ErrorKind::NotFound.into() });
            }
            Some(FakeSmi::Hangs) => return Err(hung(host)),
            _ => {}
        }
        if !matches!(command, Mode | Profiles | Instances | ComputeInstances) {
            let words = command.arguments(gpu).join(" ");
            state.record("nvidia-smi", &words);
            let fault = strike(&mut state.planted, "nvidia-smi");
            match fault {
                Some(Fault::Errno(errno)) => return Ok(said(false, errno.desc())),
                Some(Fault::Ignore) => return Ok(said(true, "All done.")),
                Some(Fault::Vanish(device)) => {
                    self.vanish_in(state, device);
                    return Ok(said(false, "No devices were found"));
                }
                Some(Fault::Rival(rival)) => return self.forestall(state, host, gpu, command, rival),
                Some(Fault::Die) | None => {}
            }
            let done = match self.change_mig(state, gpu, command) {
                Ok(words) => said(true, &words),
                Err(why) => said(false, why),
            };
            if matches!(fault, Some(Fault::Die)) {
                die();
            }
            return Ok(done);
        }
        match &state.smi {
            Some(FakeSmi::Says(words)) => return Ok(said(true, words)),
            Some(FakeSmi::Fails(words)) => return Ok(said(false, words)),
            _ => {}
        }
        let Some((card, mig)) = state.gpus.get(&gpu).zip(state.mig.get(&gpu)) else {
            return Ok(match command {
                Mode => said(true, "[N/A], [N/A]\n"),
                _ => said(false, "No MIG-enabled devices found.\n"),
            });
        };
        let word = |mode| if mode == MigMode::On { "Enabled" } else { "Disabled" };
        if command == Mode {
            return Ok(said(true, &format!("{}, {}\n", word(mig.mode), word(mig.pending))));
        }
        if mig.mode == MigMode::Off {
            return Ok(said(false, "No MIG-enabled devices found.\n"));
        }
        Ok(match command {
            Profiles => said(true, &profiles_table(card, mig)),
            Instances if mig.instances.is_empty() => said(false, "No GPU instances found: Not Found\n"),
            Instances => said(true, &instances_table(card, mig)),
            _ => match compute_table(mig) {
                Some(table) => said(true, &table),
                None => said(false, "No compute instances found: Not Found\n"),
            },
        })
    }

    fn change_mig(
        &self,
        state: &mut State,
        gpu: PciAddress,
        command: SmiCommand,
    ) -> Result<String, &'static str> {
        let card = state.gpus.get(&gpu).cloned().ok_or("No devices were found")?;
        let used = self.used_instances(&card);
        let has_vfs = self.tree().read(&format!("{}/sriov_numvfs", folder(gpu))).as_deref() != Some("0");
        let by_reset = card.vgpus.as_ref().is_some_and(|vgpus| vgpus.mig_by_reset);
        let mig = state.mig.get_mut(&gpu).ok_or("Not Supported")?;
        let at = |mig: &FakeMig, id: u32| mig.instances.iter().position(|gi| gi.id == id).ok_or("Not Found");
        let mut words = "All done.".to_owned();
        match command {
            SmiCommand::SetMode(mode) if mig.pending == mode => {}
            SmiCommand::SetMode(_) if has_vfs || !mig.instances.is_empty() => {
                return Err("In use by another client");
            }
            SmiCommand::SetMode(mode) => {
                mig.pending = mode;
                if !by_reset {
                    mig.mode = mode;
                }
            }
            SmiCommand::Create { profile, start } => words = made(mig.create(&card, profile, Some(start))?),
            SmiCommand::Destroy(id) => {
                let at = at(mig, id)?;
                if mig.instances[at].compute || used.contains(&id) {
                    return Err("In use by another client");
                }
                mig.instances.remove(at);
            }
            SmiCommand::DestroyCompute(id) => {
                let at = at(mig, id)?;
                mig.instances[at].compute = false;
            }
            SmiCommand::Mode
            | SmiCommand::Profiles
            | SmiCommand::Instances
            | SmiCommand::ComputeInstances => {}
        }
        self.list_types(state, &card);
        Ok(words)
    }

    fn forestall(
        &self,
        state: &mut State,
        host: &Host,
        gpu: PciAddress,
        command: SmiCommand,
        rival: FakeRival,
    ) -> Result<Said, Error> {
        self.change_mig(state, gpu, command).expect("there is room for the other one");
        let said = |success, words: &str| Ok(Said { success, words: words.to_owned() });
        match rival {
            FakeRival::Fails => said(false, "Failed to create GPU instances: Insufficient Resources"),
            FakeRival::Lies => said(true, "All done."),
            FakeRival::NamesAnother => said(true, &made(99)),
            FakeRival::Hangs => Err(hung(host)),
        }
    }
}

/// As the tool says it.
fn made(id: u32) -> String {
    format!("Successfully created GPU instance ID {id:>2} on GPU  0 using profile MIG (ID  0)\n")
}

fn hung(host: &Host) -> Error {
    let what = format!("{} to end", host.nvidia_smi().display());
    crate::wait::TimedOut { what, within: host.patience() }.into()
}

fn profiles_table(card: &FakeGpu, mig: &FakeMig) -> String {
    let mut table = format!(
        "{RULE}| GPU instance profiles: |\n| GPU Name ID Instances Memory P2P SM DEC ENC |\n\
         | Free/Total GiB CE JPEG OFA |\n|===|\n"
    );
    for known in &geometry(card).profiles {
        let Some(name) = name(card, known) else { continue };
        let free = mig.free_starts(card, known).len();
        let line = format!("|   0  MIG {name} {} {free}/{} 9.50 No 14 0 0 |", known.id, known.max);
        let _ = write!(table, "{line}\n|  1 0 0 |\n{RULE}");
    }
    table
}

fn instances_table(card: &FakeGpu, mig: &FakeMig) -> String {
    let mut table = format!(
        "{RULE}| GPU instances: |\n| GPU Name Profile Instance Placement |\n| ID ID Start:Size |\n|===|\n"
    );
    for gi in &mig.instances {
        let known = profile(card, gi.profile).unwrap();
        let (name, size) = (name(card, known).unwrap(), known.memory_slices);
        let _ = write!(table, "|   0  MIG {name} {} {} {}:{size} |\n{RULE}", gi.profile, gi.id, gi.start);
    }
    table
}

fn compute_table(mig: &FakeMig) -> Option<String> {
    let mut with = mig.instances.iter().filter(|gi| gi.compute).peekable();
    with.peek()?;
    let mut table = format!(
        "{RULE}| Compute instances: |\n| GPU GPU Name Profile Instance Placement |\n\
         | Instance ID ID Start:Size |\n| ID |\n|===|\n"
    );
    for gi in with {
        let _ = write!(table, "| 0 {} MIG 1g.10gb 0 0 0:1 |\n{RULE}", gi.id);
    }
    Some(table)
}
