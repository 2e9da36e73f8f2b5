//! Runs effects on the host. Every method is blocking and called on a GPU's own worker.
//!
//! Each effect does nothing where it was already done, so that it can be run again after a crash.
//! Nothing is unbound, removed or reset before the proof that nobody holds it.

use crate::{
    engine::{Effect, Handover, Partition, SliceId, Target},
    failure::Failure,
};
use std::{fmt, path::PathBuf, sync::Arc, time::Duration};
use tokio::sync::watch;
use vgpud_config::{Consumer, PciAddress, Reuse, Settings};
use vgpud_kata::cdi::{self, CdiFolder};
use vgpud_mdev::{
    self as mdev, Gpu, Host, Instance, Memory, ProfileName, ResetOutcome, VfioNodes, instance,
    inventory::{self, Inventory},
    mechanism,
};
use vgpud_vmm::{
    self as vmm,
    device::process::{DeviceWork, Job, Preflight, ProcessError, Task},
    holders::{self, HoldError, Lookout},
    isolation,
    node::{self, Node},
    preflight::Level,
    scrub::{Evidence, FitFor, ResetEvidence, Stage},
};

/// What an effect came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Done {
    /// Made, and made clean: read back where the settings ask for it.
    Created(Option<Evidence>),
    HandedOver(Handover),
    Withdrawn,
    /// Reset, and where the settings ask for it read back.
    Reset(Option<Evidence>),
    /// Reset, and fit for its last owner alone.
    Kept(Evidence),
    /// The instance has no reset, or is not clean after it, and has to be made again.
    Unclean(Option<Evidence>),
    Destroyed,
    Retired,
    Partitioned,
    Unpublished,
}

/// Why an effect failed.
#[derive(Debug, thiserror::Error)]
pub enum EffectError {
    #[error(transparent)]
    Device(#[from] mdev::Error),
    #[error(transparent)]
    Vfio(#[from] vmm::Error),
    #[error(transparent)]
    Cdi(#[from] cdi::Error),
    #[error(
        "{0} offers no reset, so nothing makes it clean for the next owner; see its reset_method in sysfs"
    )]
    NoReset(Target),
    #[error(
        "{target} may hold what its last owner left: {evidence}; end it with `vgpuctl destroy`, or let something else count with `reuse` in the settings"
    )]
    NotClean { target: Target, evidence: Box<Evidence> },
    #[error(
        "No BAR shows the memory of {0}, so it cannot be read back; it is destroyed and created again between owners: where its driver's word is enough that nothing of the last one is left then, set reuse = \"reset\" for {gpu} in the settings", gpu = .0.gpu
    )]
    UnseenMemory(Target),
    #[error(
        "{0} is not opened to verify it, since nobody documents what its driver makes of a program that is no VM; `--level sysfs` checks what its files say"
    )]
    NeverOpened(Target),
    #[error(transparent)]
    Process(#[from] ProcessError),
    #[error("{0} is no longer there; somebody removed it behind vgpud's back")]
    Missing(Target),
    #[error("{0} is still there after its removal")]
    StillThere(Target),
    #[error(
        "The CDI file of the last lease of {slice} is not yet removed from {} after {}; see why that folder does not answer, then lease {slice} again",
        folder.display(),
        humantime::format_duration(*waited)
    )]
    NotRemoved { slice: SliceId, folder: PathBuf, waited: Duration },
    #[error("The worker of GPU {0} has broken down; start vgpud again")]
    WorkerLost(PciAddress),
}

impl EffectError {
    /// Whether somebody holds the device: it may be free in a moment.
    #[must_use]
    pub fn is_held(&self) -> bool {
        matches!(
            self,
            Self::Vfio(vmm::Error::Hold(
                HoldError::Held { .. } | HoldError::HeldUnseen { .. } | HoldError::StillHeld { .. }
            ))
        )
    }
}

impl EffectError {
    /// Whether the kernel did not come back from the device in time: from a call that opens, resets or
    /// closes it. Reading memory back is at most slow.
    #[must_use]
    pub const fn is_unanswered(&self) -> bool {
        matches!(self, Self::Process(error) if unanswered(error))
    }

    /// Whether the device could not be reset, or was dead afterwards, or could not be opened, which is
    /// where vfio-pci resets it: a dead device fails there, and so does a host that is short of something.
    #[must_use]
    pub fn is_failed_reset(&self) -> bool {
        match self {
            Self::Device(mdev::Error::Write { .. }) => true,
            Self::NotClean { evidence, .. } => matches!(evidence.reset, ResetEvidence::Failed { .. }),
            // Before that nothing was done to the device.
            Self::Process(ProcessError::Failed { stage, .. } | ProcessError::Died { stage, .. }) => {
                *stage != Stage::Start
            }
            _ => false,
        }
    }
}

/// As [`EffectError::is_unanswered`].
#[must_use]
pub const fn unanswered(error: &ProcessError) -> bool {
    matches!(error, ProcessError::Late { stage: Stage::Open | Stage::Reset | Stage::Close, .. })
}

/// All GPUs as the kernel shows them.
#[derive(Clone, Debug, Default)]
pub struct HostSeen {
    pub gpus: Vec<GpuSeen>,
    /// There, but not to be read: nothing is known of them now.
    pub unreadable: Vec<PciAddress>,
}

/// One GPU as the kernel shows it, with its instances.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GpuSeen {
    pub gpu: Gpu,
    pub instances: Vec<Instance>,
}

/// Whoever runs effects; a trait so that tests can crash, hang and fail at each one.
pub trait Executor: fmt::Debug + Send + Sync {
    /// # Errors
    /// What went wrong; the effect may be half done and is compensated by its successor.
    fn run(&self, effect: &Effect) -> Result<Done, EffectError>;

    /// Checks an instance that nobody holds; blocking.
    ///
    /// # Errors
    /// Where the instance is gone or held.
    fn verify(&self, target: &Target, level: Level) -> Result<Preflight, EffectError>;

    /// The GPU as it is now; none where it is gone.
    ///
    /// # Errors
    /// Where sysfs cannot be read.
    fn look(&self, gpu: PciAddress) -> Result<Option<GpuSeen>, mdev::Error>;

    /// All GPUs as they are now, but for those at work: reading `sriov_numvfs` waits for whoever
    /// writes it (drivers/pci/iov.c), which can take for ever.
    ///
    /// # Errors
    /// Where sysfs cannot be read.
    fn look_at_all(&self, at_work: &[PciAddress]) -> Result<HostSeen, mdev::Error>;

    /// The slices that have a CDI file.
    ///
    /// # Errors
    /// Where the folder cannot be read.
    fn published(&self) -> Result<Vec<SliceId>, EffectError>;

    /// How long effects on this GPU have waited so far, all in all, for work on other GPUs to end.
    fn waited_for_others(&self, gpu: PciAddress) -> Duration;
}

/// What became of an instance that was to be made clean.
enum Cleaned {
    Clean(Option<Evidence>),
    /// Reset, and what it holds may be read by its last owner alone.
    Kept(Evidence),
    /// One that offers no reset, and is made anew instead.
    NoReset(Option<Evidence>),
    Dirty(Evidence),
}

/// The real one.
#[derive(Debug)]
pub struct HostExecutor {
    host: Host,
    settings: watch::Receiver<Arc<Settings>>,
    devices: Arc<dyn DeviceWork>,
    lookout: Arc<dyn Lookout>,
}

impl HostExecutor {
    #[must_use]
    pub fn new(
        host: Host,
        settings: watch::Receiver<Arc<Settings>>,
        devices: Arc<dyn DeviceWork>,
        lookout: Arc<dyn Lookout>,
    ) -> Self {
        Self { host, settings, devices, lookout }
    }

    fn settings(&self) -> Arc<Settings> {
        Arc::clone(&self.settings.borrow())
    }

    fn cdi(&self) -> Result<CdiFolder, EffectError> {
        Ok(CdiFolder::new(&self.host, &self.settings().cdi)?)
    }

    fn find(&self, target: &Target) -> Result<Option<Instance>, EffectError> {
        Ok(instance::find(&self.host, target.gpu, target.name)?)
    }

    /// A device without a node, or whose node went away, can be held by nobody.
    fn prove_free(&self, nodes: &VfioNodes) -> Result<(), EffectError> {
        match holders::prove_free(&self.host, &*self.lookout, nodes) {
            Err(vmm::Error::Hold(HoldError::NoNode | HoldError::Vanished { .. })) => Ok(()),
            result => Ok(result?),
        }
    }

    /// A device that went away under its user: the kernel waits for that one, and nothing here may wait
    /// behind it.
    fn prove_left(&self, target: &Target) -> Result<(), EffectError> {
        self.prove_free(&instance::leaving(&self.host, target.gpu, target.name)?)
    }

    /// Takes the device from whoever had it: the CDI file goes, its nodes are root's alone, and nobody
    /// has opened one before that.
    fn shut(&self, target: &Target, nodes: &VfioNodes) -> Result<(), EffectError> {
        self.cdi()?.withdraw(&target.slice.to_string())?;
        for path in nodes.group.iter().chain(&nodes.cdev) {
            node::revoke(&self.host, &Node::from_path(path)?)?;
        }
        self.prove_free(nodes)
    }

    fn create(&self, target: &Target, profile: &ProfileName) -> Result<Done, EffectError> {
        self.check_reuse(target)?;
        // There already: an interrupted creation, or a VF that somebody else put on VFIO.
        match self.find(target)? {
            Some(before) => {
                self.prove_free(&before.nodes)?;
                self.shut(target, &before.nodes)?;
            }
            None => self.prove_left(target)?,
        }
        let cutter = mechanism(target.mechanism);
        let instance = cutter.create(&self.host, target.gpu, profile, target.name)?;
        // What could never be handed over is refused now, before VFIO says so without names.
        isolation::check_group(&self.host, &instance)?;
        // A spare VF may have had a tenant: it is made clean before its first lease too.
        match self.make_clean(target, &instance)? {
            Cleaned::Clean(evidence) => {
                let sentence = evidence.as_ref().map(ToString::to_string);
                tracing::info!(%target, evidence = sentence, "created clean");
                Ok(Done::Created(evidence))
            }
            // Made anew, it is as clean as its driver makes it.
            Cleaned::NoReset(None) => Ok(Done::Created(None)),
            Cleaned::NoReset(Some(evidence)) if evidence.is_clean() => Ok(Done::Created(Some(evidence))),
            // Who had this memory before is not known: it may be somebody else's spare.
            Cleaned::NoReset(Some(evidence)) | Cleaned::Kept(evidence) | Cleaned::Dirty(evidence) => {
                Err(EffectError::NotClean { target: *target, evidence: Box::new(evidence) })
            }
        }
    }

    /// Whether what the settings ask of an instance between owners can be had at all.
    fn check_reuse(&self, target: &Target) -> Result<(), EffectError> {
        let enough = mechanism(target.mechanism).shows_memory();
        match self.settings().reuse(target.gpu) {
            Reuse::Reset => Ok(()),
            Reuse::Verified | Reuse::Vendor | Reuse::SameOwner if enough => Ok(()),
            Reuse::Verified | Reuse::Vendor | Reuse::SameOwner => Err(EffectError::UnseenMemory(*target)),
        }
    }

    /// Resets an instance that nobody holds, and where the settings ask for it reads it back.
    fn make_clean(&self, target: &Target, instance: &Instance) -> Result<Cleaned, EffectError> {
        self.check_reuse(target)?;
        let settings = self.settings();
        let cleaned = match settings.reuse(target.gpu) {
            Reuse::Reset => match instance.reset(&self.host)? {
                ResetOutcome::Done { .. } => Cleaned::Clean(None),
                ResetOutcome::NotOffered => Cleaned::NoReset(None),
            },
            policy @ (Reuse::Verified | Reuse::Vendor | Reuse::SameOwner) => {
                let job = self.job(Task::Scrub, target, instance)?;
                let evidence = self.devices.scrub(&job, settings.scrub.deadline)?;
                match (&evidence.reset, evidence.fit_for(policy)) {
                    (ResetEvidence::NotOffered, _) => Cleaned::NoReset(Some(evidence)),
                    (_, FitFor::Anyone) => Cleaned::Clean(Some(evidence)),
                    (_, FitFor::LastOwner) => Cleaned::Kept(evidence),
                    (_, FitFor::Nobody) => Cleaned::Dirty(evidence),
                }
            }
        };
        match cleaned {
            Cleaned::NoReset(_) if !mechanism(target.mechanism).makes_anew() => {
                Err(EffectError::NoReset(*target))
            }
            cleaned => Ok(cleaned),
        }
    }

    /// Work for a process of its own on this instance.
    fn job(&self, task: Task, target: &Target, instance: &Instance) -> Result<Job, EffectError> {
        let settings = self.settings();
        let gpu = inventory::gpu(&self.host, &settings.gpus, target.gpu)?;
        let profiles = mechanism(target.mechanism).profiles(&gpu, &[]);
        let profile = profiles.into_iter().find(|profile| profile.name == instance.profile);
        let memory = profile.and_then(|profile| profile.memory).map(Memory::bytes);
        Ok(Job { task, gpu: target.gpu, name: target.name, node: settings.vfio.node, memory })
    }

    fn hand_over(&self, target: &Target, consumer: Consumer) -> Result<Done, EffectError> {
        let instance = self.find(target)?.ok_or(EffectError::Missing(*target))?;
        isolation::check_group(&self.host, &instance)?;
        let device = target.slice.to_string();
        let cdi = self.cdi()?;
        // Where the file is there, this runs again after a crash and the consumer may be at work.
        if !cdi.published()?.contains(&device) {
            self.prove_free(&instance.nodes)?;
        }
        Ok(Done::HandedOver(self.give(&cdi, &device, &instance, consumer)?))
    }

    fn give(
        &self,
        cdi: &CdiFolder,
        device: &str,
        instance: &Instance,
        consumer: Consumer,
    ) -> Result<Handover, EffectError> {
        let node = node::choose(&self.host, &instance.nodes, self.settings().vfio.node)?;
        node::grant(&self.host, &node, consumer)?;
        let cdi_device = cdi.publish(device, node.path())?;
        Ok(Handover { node: node.path().to_owned(), cdi_device, address: instance.address })
    }

    fn withdraw(&self, target: &Target, consumer: Consumer) -> Result<Done, EffectError> {
        let device = target.slice.to_string();
        let cdi = self.cdi()?;
        let Some(instance) = self.find(target)? else {
            cdi.withdraw(&device)?;
            return Ok(Done::Withdrawn);
        };
        self.prove_free(&instance.nodes)?;
        let was_published = cdi.published()?.contains(&device);
        // Somebody may have opened it between the proof and the withdrawal of its file.
        match self.shut(target, &instance.nodes) {
            Err(error) if error.is_held() && was_published => {
                self.give(&cdi, &device, &instance, consumer)?;
                Err(error)
            }
            result => result.map(|()| Done::Withdrawn),
        }
    }

    fn reset(&self, target: &Target) -> Result<Done, EffectError> {
        let Some(instance) = self.find(target)? else {
            // Its driver has removed it with its VM.
            return match mechanism(target.mechanism).goes_with_its_vm() {
                true => Ok(Done::Unclean(None)),
                false => Err(EffectError::Missing(*target)),
            };
        };
        // A lease that ended in quarantine was not taken back: its consumer may open the node yet.
        self.shut(target, &instance.nodes)?;
        match self.make_clean(target, &instance)? {
            Cleaned::Clean(evidence) => Ok(Done::Reset(evidence)),
            Cleaned::Kept(evidence) => Ok(Done::Kept(evidence)),
            Cleaned::NoReset(evidence) => Ok(Done::Unclean(evidence)),
            Cleaned::Dirty(evidence) if mechanism(target.mechanism).makes_anew() => {
                Ok(Done::Unclean(Some(evidence)))
            }
            Cleaned::Dirty(evidence) => {
                Err(EffectError::NotClean { target: *target, evidence: Box::new(evidence) })
            }
        }
    }

    fn destroy(&self, target: &Target) -> Result<Done, EffectError> {
        self.cdi()?.withdraw(&target.slice.to_string())?;
        // With its GPU the instance is gone too. What else there is to know of a GPU takes a vendor's tool.
        if !self.is_there(target.gpu) {
            return Ok(Done::Destroyed);
        }
        match self.find(target)? {
            Some(instance) => {
                self.prove_free(&instance.nodes)?;
            }
            None => self.prove_left(target)?,
        }
        // Where an attempt was interrupted, there may be more of it than the instance.
        mechanism(target.mechanism).destroy(&self.host, target.gpu, target.name)?;
        match self.find(target)? {
            None => Ok(Done::Destroyed),
            Some(_) => Err(EffectError::StillThere(*target)),
        }
    }

    fn retire(&self, gpu: PciAddress, kind: mdev::MechanismKind) -> Result<Done, EffectError> {
        if !self.is_there(gpu) {
            return Ok(Done::Retired);
        }
        mechanism(kind).retire(&self.host, gpu)?;
        Ok(Done::Retired)
    }

    /// One after the other: where they have their modes in common, the first change is that of all.
    fn partition(&self, partition: &Partition) -> Result<Done, EffectError> {
        for gpu in partition.gpus.iter().copied() {
            let instances: Vec<String> =
                instance::list(&self.host, gpu)?.iter().map(|found| found.name.to_string()).collect();
            if !instances.is_empty() {
                return Err(mdev::Error::InUse { gpu, instances }.into());
            }
        }
        for gpu in &partition.asked {
            mechanism(partition.mechanism).partition(&self.host, *gpu, partition.modes)?;
        }
        Ok(Done::Partitioned)
    }

    fn is_there(&self, gpu: PciAddress) -> bool {
        mdev::attribute::exists(&self.host.pci_device(gpu))
    }

    fn seen(&self, gpu: Gpu) -> Result<GpuSeen, mdev::Error> {
        let instances = instance::list(&self.host, gpu.address)?;
        Ok(GpuSeen { gpu, instances })
    }
}

impl Executor for HostExecutor {
    fn run(&self, effect: &Effect) -> Result<Done, EffectError> {
        match effect {
            Effect::Create { target, profile } => self.create(target, profile),
            Effect::HandOver { target, consumer, .. } => self.hand_over(target, *consumer),
            Effect::Withdraw { target, consumer } => self.withdraw(target, *consumer),
            Effect::Reset { target } => self.reset(target),
            Effect::Destroy { target } => self.destroy(target),
            Effect::Retire { gpu, mechanism } => self.retire(*gpu, *mechanism),
            Effect::Partition(partition) => self.partition(partition),
            Effect::Unpublish { slice } => {
                self.cdi()?.withdraw(&slice.to_string())?;
                Ok(Done::Unpublished)
            }
        }
    }

    fn verify(&self, target: &Target, level: Level) -> Result<Preflight, EffectError> {
        if level != Level::Sysfs && !mechanism(target.mechanism).shows_memory() {
            return Err(EffectError::NeverOpened(*target));
        }
        let instance = self.find(target)?.ok_or(EffectError::Missing(*target))?;
        self.prove_free(&instance.nodes)?;
        let job = self.job(Task::Preflight(level), target, &instance)?;
        Ok(self.devices.preflight(&job, self.settings().scrub.deadline))
    }

    fn look(&self, gpu: PciAddress) -> Result<Option<GpuSeen>, mdev::Error> {
        match inventory::gpu(&self.host, &self.settings().gpus, gpu) {
            Ok(gpu) => self.seen(gpu).map(Some),
            Err(mdev::Error::NoSuchGpu(_) | mdev::Error::NotAGpu(..)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn look_at_all(&self, at_work: &[PciAddress]) -> Result<HostSeen, mdev::Error> {
        let mut selection = self.settings().gpus.clone();
        selection.exclude.extend(at_work);
        let Inventory { gpus, unreadable } = inventory::gpus(&self.host, &selection)?;
        let unreadable = unreadable.into_iter().map(|(address, error)| {
            tracing::error!(%address, "cannot read this GPU: {}", Failure::from(&error).line());
            address
        });
        let unreadable = unreadable.collect();
        let mut host = HostSeen { gpus: Vec::new(), unreadable };
        for gpu in gpus {
            let address = gpu.address;
            match self.seen(gpu) {
                Ok(seen) => host.gpus.push(seen),
                // One instance that cannot be read hides no other GPU.
                Err(error) => {
                    tracing::error!(%address, "cannot read its instances: {}", Failure::from(&error).line());
                    host.unreadable.push(address);
                }
            }
        }
        Ok(host)
    }

    fn published(&self) -> Result<Vec<SliceId>, EffectError> {
        let devices = self.cdi()?.published()?;
        Ok(devices.iter().filter_map(|device| device.parse().ok()).collect())
    }

    fn waited_for_others(&self, gpu: PciAddress) -> Duration {
        self.host.time_in_line(gpu)
    }
}
