//! What can go wrong with a device.

use crate::{DriverName, MdevUuid, PciAddress, ProfileName, VfIndex};
use std::{error, io, iter, path::PathBuf};
use vgpud_config::Quoted;

/// One failure, in a sentence that names the device, the value and the way out.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("There is no PCI function {0}; `vgpuctl gpus` lists the GPUs of this host")]
    NoSuchGpu(PciAddress),
    #[error("{0} is not used as a GPU: {1}")]
    NotAGpu(PciAddress, NotAGpu),
    #[error("GPU {gpu} has no profile {profile}; `vgpuctl profiles {gpu}` lists what it offers")]
    NoSuchProfile { gpu: PciAddress, profile: ProfileName },
    #[error("GPU {gpu} cannot be cut: {why}")]
    Unusable { gpu: PciAddress, why: String },
    #[error("GPU {gpu} cannot hold another {profile}: {short}")]
    Full { gpu: PciAddress, profile: ProfileName, short: String },
    #[error("GPU {gpu} has no {name} (any more)")]
    NoSuchInstance { gpu: PciAddress, name: crate::InstanceName },
    /// The kernel took a write, and shows something else.
    #[error("{device} {shown}, although the kernel took the request for {wanted}; {way_out}")]
    ReadBack { device: String, wanted: String, shown: String, way_out: &'static str },
    #[error(
        "GPU {gpu} has {enabled} VFs enabled and {wanted} are needed: give up the slices of this GPU first, \
         for the number cannot change while one VF exists"
    )]
    OtherVfCount { gpu: PciAddress, enabled: u16, wanted: u16 },
    #[error(
        "GPU {gpu} has the {enabled} VFs that its driver made when it was loaded, and {wanted} are needed: \
         `vgpuctl profiles {gpu}` lists what it offers, and another number takes loading gim again with another \
         vf_num, when no VM uses a GPU of this host"
    )]
    FixedVfCount { gpu: PciAddress, enabled: u16, wanted: u16 },
    #[error("GPU {gpu} can have {total} VFs and not {wanted}; `vgpuctl profiles {gpu}` lists what it offers")]
    TooManyVfs { gpu: PciAddress, total: u16, wanted: u16 },
    #[error("GPU {gpu} enabled {enabled} of the {wanted} VFs asked for; the kernel log says why (`dmesg`)")]
    FewerVfs { gpu: PciAddress, enabled: u16, wanted: u16 },
    #[error("GPU {gpu} is not empty: {} must go first", instances.join(", "))]
    InUse { gpu: PciAddress, instances: Vec<String> },
    #[error("Mediated device {uuid} exists already, {what}; remove it, or choose another UUID")]
    OtherMdev { uuid: MdevUuid, what: String },
    #[error(
        "VF {vf} of GPU {gpu} is a vGPU already, {what}; somebody else has made it: destroy it, or try again"
    )]
    OtherVgpu { gpu: PciAddress, vf: PciAddress, what: String },
    #[error("GPU {gpu} refuses {profile} (type {number}) on VF {vf}, although its driver lists it there")]
    VgpuRefused {
        gpu: PciAddress,
        vf: PciAddress,
        profile: ProfileName,
        number: u32,
        #[source]
        source: Box<Error>,
    },
    #[error(
        "VF {} ({vf}) of GPU {gpu} is on {driver} and cannot become a vGPU; when the GPU has no vGPU, turn its \
         VFs off and on again with sriov-manage",
        index.0
    )]
    DeadVf { gpu: PciAddress, vf: PciAddress, index: VfIndex, driver: String },
    /// What the GPU shows is not what the tool was run for.
    #[error("GPU {gpu} {found}; {way_out}")]
    SriovManage {
        gpu: PciAddress,
        /// How it is, and what the tool said.
        found: String,
        way_out: String,
    },
    /// What `nvidia-smi` tells of MIG is not what it was run for, or not understood.
    #[error("GPU {gpu}: {found}; {way_out}")]
    Mig {
        gpu: PciAddress,
        /// How it is, and what the tool said.
        found: String,
        way_out: String,
    },
    #[error("Cannot note in {} what vgpud changes of MIG, and so it changes nothing", path.display())]
    Note {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("Cannot run {}", program.display())]
    Run {
        program: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("There is no VFIO driver {driver} in this kernel; load it with `modprobe {driver}`")]
    NoVfioDriver { driver: DriverName },
    #[error("Mechanism {mechanism} cannot make {name} of GPU {gpu}; ask it for the next name")]
    WrongName { mechanism: crate::MechanismKind, gpu: PciAddress, name: crate::InstanceName },
    #[error(transparent)]
    TimedOut(#[from] crate::wait::TimedOut),
    #[error("{0} does not answer: its config space reads as ones; it needs a power cycle of the host")]
    NoAnswer(PciAddress),
    #[error("Cannot read {}", path.display())]
    Read {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("{} holds {}, which is not {wanted}", path.display(), Quoted(content))]
    Content { path: PathBuf, content: String, wanted: &'static str },
    #[error("Cannot write {} to {}{hint}", Quoted(value), path.display())]
    Write {
        path: PathBuf,
        value: String,
        /// Empty, or what this errno means for this attribute, after a semicolon.
        hint: String,
        #[source]
        source: io::Error,
    },
    /// An operation failed, and so did taking back what it had done so far.
    #[error("{device} is left half set up, because it could not be taken back after a failure ({undo})")]
    Undo {
        device: String,
        /// Why taking back failed.
        undo: Box<Error>,
        /// The failure that came first.
        #[source]
        source: Box<Error>,
    },
    #[error("Cannot listen to the kernel's events")]
    Events(#[source] io::Error),
}

impl Error {
    /// The sentence with those of its causes.
    pub(crate) fn with_causes(&self) -> String {
        let causes = iter::successors(error::Error::source(self), |error| error.source());
        causes.fold(self.to_string(), |text, cause| format!("{text}: {cause}"))
    }

    /// This failure, after the attempt to take back what came before it on `device`.
    pub(crate) fn after_undo(self, device: &impl ToString, undo: Result<(), Self>) -> Self {
        match undo {
            Ok(()) => self,
            Err(undo) => {
                let device = device.to_string();
                Self::Undo { device, undo: Box::new(undo), source: Box::new(self) }
            }
        }
    }
}

/// Why a PCI function that exists is no GPU to vgpud.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotAGpu {
    #[error("it is a virtual function of {0}; name that GPU")]
    VirtualFunction(PciAddress),
    #[error("the settings exclude it; take it out of `exclude` in [gpus] to use it")]
    Excluded,
    #[error(
        "its class {class:06x} is neither display nor accelerator; \
         add \"{id}\" to `include` in [gpus] if it is a GPU"
    )]
    Class { class: u32, id: crate::PciId },
}
