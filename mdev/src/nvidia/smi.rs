//! What `nvidia-smi` is asked about MIG, and told to do (NVIDIA Multi-Instance GPU User Guide; `nvidia-smi mig
//! --help` of the driver's branch 550).
//!
//! It is a tool for people: what it prints is read strictly ([`listing`]), what it says that it did is a
//! claim, and every change is read again.

pub(crate) mod listing;

use super::tool::Said;
use crate::{Error, Host, PciAddress};
use listing::{ComputeRow, InstanceRow, ListingError, ModeRow, ProfileRow};
use serde::{Deserialize, Serialize};
use std::time::Duration;
use vgpud_config::MigMode;

/// For one list; without its persistence daemon the driver takes some seconds to wake a GPU for it.
const READING: Duration = Duration::from_secs(20);

/// All that it is ever run for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SmiCommand {
    Mode,
    Profiles,
    Instances,
    ComputeInstances,
    SetMode(MigMode),
    /// A GPU instance of this profile, at this memory slice.
    Create {
        profile: u32,
        start: u8,
    },
    /// The GPU instance of this id.
    Destroy(u32),
    /// All compute instances of this GPU instance.
    DestroyCompute(u32),
}

impl SmiCommand {
    /// As the tool takes them, for one GPU.
    #[must_use]
    pub fn arguments(self, gpu: PciAddress) -> Vec<String> {
        let gpu = gpu.to_string();
        let words: Vec<String> = match self {
            Self::Mode => {
                let query = "--query-gpu=mig.mode.current,mig.mode.pending";
                return vec!["-i".to_owned(), gpu, query.to_owned(), "--format=csv,noheader".to_owned()];
            }
            Self::SetMode(mode) => {
                let mode = if mode == MigMode::On { "1" } else { "0" };
                return vec!["-i".to_owned(), gpu, "-mig".to_owned(), mode.to_owned()];
            }
            Self::Profiles => vec!["-lgip".to_owned()],
            Self::Instances => vec!["-lgi".to_owned()],
            Self::ComputeInstances => vec!["-lci".to_owned()],
            Self::Create { profile, start } => vec!["-cgi".to_owned(), format!("{profile}:{start}")],
            Self::Destroy(id) => vec!["-dgi".to_owned(), "-gi".to_owned(), id.to_string()],
            Self::DestroyCompute(id) => vec!["-dci".to_owned(), "-gi".to_owned(), id.to_string()],
        };
        ["mig".to_owned(), "-i".to_owned(), gpu].into_iter().chain(words).collect()
    }
}

/// The tool, asked about one GPU.
#[derive(Clone, Copy, Debug)]
pub(super) struct Smi<'a> {
    pub(super) host: &'a Host,
    pub(super) gpu: PciAddress,
}

impl Smi<'_> {
    /// Reads, and waits no longer than a reading takes: what hangs here holds up the look at all GPUs.
    fn ask(&self, command: SmiCommand) -> Result<Said, Error> {
        let host = self.host.clone().with_patience(READING.min(self.host.patience()));
        host.kernel().nvidia_smi(&host, self.gpu, command)
    }

    /// What it lists, where it says anything else than that there is nothing.
    fn list<T>(
        &self,
        command: SmiCommand,
        none: &str,
        read: impl Fn(&str) -> Result<Vec<T>, ListingError>,
    ) -> Result<Vec<T>, Error> {
        let said = self.ask(command)?;
        match said.success {
            true => read(&said.words).map_err(|why| self.misread(command, &why)),
            false if said.words.trim() == none => Ok(Vec::new()),
            false => Err(self.failed(command, &said)),
        }
    }

    /// None: the GPU has no MIG.
    ///
    /// # Errors
    /// Where it cannot be asked, or says something that is not understood.
    pub(super) fn mode(&self) -> Result<Option<ModeRow>, Error> {
        let said = self.ask(SmiCommand::Mode)?;
        if !said.success {
            return Err(self.failed(SmiCommand::Mode, &said));
        }
        listing::mode(&said.words).map_err(|why| self.misread(SmiCommand::Mode, &why))
    }

    /// Kinds of GPU instances that the GPU offers; MIG is on.
    ///
    /// # Errors
    /// As [`mode`](Self::mode).
    pub(super) fn profiles(&self) -> Result<Vec<ProfileRow>, Error> {
        self.list(SmiCommand::Profiles, "No GPU instance profiles found: Not Found", listing::profiles)
    }

    /// GPU instances that exist; MIG is on.
    ///
    /// # Errors
    /// As [`mode`](Self::mode).
    pub(super) fn instances(&self) -> Result<Vec<InstanceRow>, Error> {
        self.list(SmiCommand::Instances, "No GPU instances found: Not Found", listing::instances)
    }

    /// Compute instances that exist; MIG is on.
    ///
    /// # Errors
    /// As [`mode`](Self::mode).
    pub(super) fn compute_instances(&self) -> Result<Vec<ComputeRow>, Error> {
        let none = "No compute instances found: Not Found";
        self.list(SmiCommand::ComputeInstances, none, listing::compute_instances)
    }

    /// Has it change something. What it says is a claim: the caller reads again.
    ///
    /// # Errors
    /// Where it cannot be run.
    pub(super) fn change(&self, command: SmiCommand) -> Result<Said, Error> {
        let said = self.host.kernel().nvidia_smi(self.host, self.gpu, command)?;
        let called = called(self.gpu, command);
        tracing::info!(gpu = %self.gpu, called, success = said.success, words = said.words, "nvidia-smi");
        Ok(said)
    }

    fn failed(&self, command: SmiCommand, said: &Said) -> Error {
        let found = format!("`{}` {said}", called(self.gpu, command));
        let way_out = "see what the driver says (`nvidia-smi`, `dmesg`)".to_owned();
        Error::Mig { gpu: self.gpu, found, way_out }
    }

    fn misread(&self, command: SmiCommand, why: &ListingError) -> Error {
        let found = format!("`{}` printed {why}", called(self.gpu, command));
        let way_out = "see which driver it is: vgpud does not guess".to_owned();
        Error::Mig { gpu: self.gpu, found, way_out }
    }
}

/// As a shell would take it.
pub(super) fn called(gpu: PciAddress, command: SmiCommand) -> String {
    format!("nvidia-smi {}", command.arguments(gpu).join(" "))
}
