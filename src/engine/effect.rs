//! What is to be done outside.

use super::{Generation, Slice, SliceId};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeSet, fmt};
use vgpud_config::{Consumer, PartitionModes, PciAddress, ProfileName};
use vgpud_mdev::{InstanceName, MechanismKind};

/// One change of the host. Each is journalled before it runs, and does nothing where it was
/// already done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "effect")]
pub enum Effect {
    /// Makes the instance exist, clean and ready for VFIO.
    Create { target: Target, profile: ProfileName },
    /// Checks isolation, gives the node to its consumer and publishes the CDI file.
    HandOver {
        target: Target,
        generation: Generation,
        #[serde(default)]
        consumer: Consumer,
    },
    /// Proves that nobody holds the device, and takes node and CDI file back from the consumer.
    Withdraw {
        target: Target,
        #[serde(default)]
        consumer: Consumer,
    },
    /// Resets the device between two owners.
    Reset { target: Target },
    /// Makes the instance unusable again, after the proof that nobody holds it.
    Destroy { target: Target },
    /// Takes the CDI file back at once, whoever holds the device.
    Unpublish { slice: SliceId },
    /// Puts a GPU without slices back as vgpud found it.
    Retire { gpu: PciAddress, mechanism: MechanismKind },
    /// Divides the inside of GPUs without slices anew.
    Partition(Partition),
}

/// Modes that GPUs are to be set to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Partition {
    pub mechanism: MechanismKind,
    pub modes: PartitionModes,
    /// Those that have to have the modes then; the worker of the first one sets them.
    pub asked: BTreeSet<PciAddress>,
    /// All that change with them, these among them.
    pub gpus: BTreeSet<PciAddress>,
}

/// The instance that an effect is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Target {
    pub slice: SliceId,
    pub gpu: PciAddress,
    pub mechanism: MechanismKind,
    pub name: InstanceName,
}

impl Target {
    #[must_use]
    pub const fn of(slice: &Slice) -> Self {
        Self { slice: slice.id, gpu: slice.gpu, mechanism: slice.mechanism, name: slice.name }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name {
            InstanceName::Vf(index) => write!(f, "{} (VF {} of {})", self.slice, index.0, self.gpu),
            InstanceName::Mdev(uuid) => write!(f, "{} (mdev {uuid} of {})", self.slice, self.gpu),
            InstanceName::Whole => write!(f, "{} (all of {})", self.slice, self.gpu),
        }
    }
}

impl Effect {
    /// The slice it works for.
    #[must_use]
    pub const fn slice(&self) -> Option<SliceId> {
        match self {
            Self::Create { target, .. }
            | Self::HandOver { target, .. }
            | Self::Withdraw { target, .. }
            | Self::Reset { target }
            | Self::Destroy { target } => Some(target.slice),
            Self::Unpublish { slice } => Some(*slice),
            Self::Retire { .. } | Self::Partition(_) => None,
        }
    }

    /// The GPU whose worker runs it; none where it touches no device and runs at once.
    #[must_use]
    pub fn gpu(&self) -> Option<PciAddress> {
        match self {
            Self::Create { target, .. }
            | Self::HandOver { target, .. }
            | Self::Withdraw { target, .. }
            | Self::Reset { target }
            | Self::Destroy { target } => Some(target.gpu),
            Self::Retire { gpu, .. } => Some(*gpu),
            Self::Partition(partition) => partition.asked.first().copied(),
            Self::Unpublish { .. } => None,
        }
    }

    /// All GPUs that it changes.
    #[must_use]
    pub fn gpus(&self) -> BTreeSet<PciAddress> {
        match self {
            Self::Partition(partition) => partition.gpus.clone(),
            _ => self.gpu().into_iter().collect(),
        }
    }

    /// The words of all kinds, for tests that walk every one.
    pub const WORDS: [&'static str; 8] =
        ["create", "hand-over", "withdraw", "reset", "destroy", "unpublish", "retire", "partition"];

    /// One stable word.
    #[must_use]
    pub const fn word(&self) -> &'static str {
        Self::WORDS[match self {
            Self::Create { .. } => 0,
            Self::HandOver { .. } => 1,
            Self::Withdraw { .. } => 2,
            Self::Reset { .. } => 3,
            Self::Destroy { .. } => 4,
            Self::Unpublish { .. } => 5,
            Self::Retire { .. } => 6,
            Self::Partition(_) => 7,
        }]
    }
}

impl fmt::Display for Effect {
    /// In words for a person, such as "create vf-8 for s3 (VF 2 of 0000:41:00.0)".
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Create { target, profile } => write!(f, "create {profile} for {target}"),
            Self::HandOver { target, .. } => write!(f, "hand over {target}"),
            Self::Withdraw { target, .. } => write!(f, "take back {target}"),
            Self::Reset { target } => write!(f, "reset {target}"),
            Self::Destroy { target } => write!(f, "destroy {target}"),
            Self::Unpublish { slice } => write!(f, "remove the CDI file of {slice}"),
            Self::Retire { gpu, mechanism } => write!(f, "put {gpu} back as it was before {mechanism}"),
            Self::Partition(partition) => partition.fmt(f),
        }
    }
}

impl fmt::Display for Partition {
    /// Such as "set 0000:41:00.0 to NPS1 and SPX, and 0000:42:00.0 with it".
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let listed =
            |gpus: Vec<&PciAddress>| gpus.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        write!(f, "set {} to {}", listed(self.asked.iter().collect()), self.modes)?;
        let others: Vec<_> = self.gpus.difference(&self.asked).collect();
        if others.is_empty() { Ok(()) } else { write!(f, ", and {} with it", listed(others)) }
    }
}
