//! `vgpud device …`: work on one device in a process of its own, which the daemon starts.

use super::{StartError, sandbox};
use clap::{Args, Subcommand, ValueEnum};
use std::{io, path::PathBuf};
use vgpud_config::NodeKind;
use vgpud_mdev::{Host, InstanceName, MdevUuid, PciAddress, VfIndex, instance};
use vgpud_vmm::{
    device::process::{self, Form, Job, Task},
    preflight::Level,
};

/// Works on the device of one slice that nobody holds, and ends.
#[derive(Clone, Debug, Args)]
pub struct DeviceCommand {
    #[command(subcommand)]
    task: DeviceTask,
}

#[derive(Clone, Debug, Subcommand)]
enum DeviceTask {
    /// Resets it, and makes sure that its memory holds nothing any more
    Scrub(Place),
    /// Checks whether it would work in a VM
    Preflight {
        #[command(flatten)]
        place: Place,
        /// How deep to look: sysfs, open or full
        #[arg(long, default_value_t)]
        level: Level,
    },
}

#[derive(Clone, Debug, Args)]
struct Place {
    /// Its GPU
    #[arg(long, value_name = "ADDRESS")]
    gpu: PciAddress,
    #[command(flatten)]
    instance: Which,
    /// The VFIO node to open it by
    #[arg(long, value_enum, default_value_t = NodeChoice::Auto)]
    node: NodeChoice,
    /// Bytes of device memory that its owner had
    #[arg(long, value_name = "BYTES")]
    memory: Option<u64>,
    /// Folder to take for the host's root
    #[arg(long, value_name = "FOLDER")]
    root: Option<PathBuf>,
    /// Report in JSON, one object a line
    #[arg(long)]
    json: bool,
    /// Give up first what the work does not need, for good
    #[arg(long)]
    confine: bool,
}

/// Which of the GPU's instances.
#[derive(Clone, Copy, Debug, Args)]
#[group(required = true, multiple = false)]
struct Which {
    /// The number of the virtual function
    #[arg(long, value_name = "NUMBER")]
    vf: Option<u16>,
    /// The UUID of the mediated device
    #[arg(long, value_name = "UUID")]
    mdev: Option<MdevUuid>,
    /// The GPU itself
    #[arg(long)]
    whole: bool,
}

impl Which {
    fn name(self) -> InstanceName {
        match (self.mdev, self.vf) {
            (Some(uuid), _) => InstanceName::Mdev(uuid),
            (None, Some(index)) => InstanceName::Vf(VfIndex(index)),
            (None, None) => InstanceName::Whole,
        }
    }
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum NodeChoice {
    Auto,
    Group,
    Cdev,
}

impl DeviceCommand {
    /// Does the work and reports on standard output.
    ///
    /// # Errors
    /// Where it cannot confine itself or nobody takes the report.
    pub fn run(&self) -> Result<(), StartError> {
        let (task, place) = match &self.task {
            DeviceTask::Scrub(place) => (Task::Scrub, place),
            DeviceTask::Preflight { place, level } => (Task::Preflight(*level), place),
        };
        let name = place.instance.name();
        let node = match place.node {
            NodeChoice::Auto => NodeKind::Auto,
            NodeChoice::Group => NodeKind::Group,
            NodeChoice::Cdev => NodeKind::Cdev,
        };
        let job = Job { task, gpu: place.gpu, name, node, memory: place.memory };
        let host = place.root.as_ref().map_or_else(Host::default, Host::new);
        process::end_with_parent().map_err(StartError::Device)?;
        if place.confine {
            let writes = match task {
                Task::Scrub => instance::clear_attribute(&host, job.gpu, name),
                Task::Preflight(_) => None,
            };
            sandbox::enter(sandbox::Process::Device { host: &host, writes }).map_err(StartError::Sandbox)?;
        }
        let form = if place.json { Form::Json } else { Form::Text };
        process::serve(&host, &job, form, &mut io::stdout().lock()).map_err(StartError::Device)
    }
}
