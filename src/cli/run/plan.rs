//! What is to run: options over settings. Nothing here touches the system.

use super::{AcceleratorArg, MachineArg, RunArgs, RunError};
use crate::cli::lease_time::LeaseTime;
use std::{path::PathBuf, process};
use uuid::Uuid;
use vgpud_config::{Memory, NodeKind, Owner, PciAddress, RunSettings};
use vgpud_vmm::{
    micro_vm::{Accelerator, ConsoleInput, HostDevice, KernelLine, Machine, MicroVm},
    node::Node,
};

/// Whose lease the micro-VM uses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tenant {
    /// A lease of this run's own.
    Own(String),
    /// This owner: the lease that it has is used and kept, else one is taken for this run.
    Given(Owner),
}

/// Everything that is known before the slice is leased.
#[derive(Debug)]
pub struct Plan {
    pub slice: String,
    pub tenant: Tenant,
    pub node: Option<NodeKind>,
    /// The limit of a lease of this run's own.
    pub time: Option<LeaseTime>,
    kernel: PathBuf,
    initrd: Option<PathBuf>,
    kernel_line: KernelLine,
    memory: Memory,
    qemu: PathBuf,
    machine: Machine,
    accelerator: Accelerator,
    input: ConsoleInput,
}

impl Plan {
    /// Puts the options over the settings.
    ///
    /// # Errors
    /// Where there is no kernel, or the kernel's command line cannot carry the command.
    pub fn new(args: &RunArgs, settings: &RunSettings) -> Result<Self, RunError> {
        let kernel = args.kernel.as_ref().or(settings.kernel.as_ref()).ok_or(RunError::NoKernel)?;
        let kernel_line = KernelLine::new(&args.append, &args.command)
            .map_err(|source| RunError::MicroVm { slice: args.slice.clone(), source })?;
        let own = || Tenant::Own(format!("vgpuctl-run@{}", process::id()));
        Ok(Self {
            slice: args.slice.clone(),
            tenant: args.owner.clone().map_or_else(own, Tenant::Given),
            node: args.node.map(NodeKind::from),
            time: args.time,
            kernel: kernel.clone(),
            initrd: args.initrd.clone().or_else(|| settings.initrd.clone()),
            kernel_line,
            memory: args.memory.unwrap_or(settings.memory),
            qemu: args.qemu.clone().unwrap_or_else(|| settings.qemu.clone()),
            machine: match args.machine {
                MachineArg::Microvm => Machine::MicroVm,
                MachineArg::Q35 => Machine::Q35,
            },
            accelerator: match args.accelerator {
                AcceleratorArg::Kvm => Accelerator::Kvm,
                AcceleratorArg::Tcg => Accelerator::Tcg,
            },
            input: if args.interactive { ConsoleInput::Inherited } else { ConsoleInput::Closed },
        })
    }

    /// The owner's name.
    #[must_use]
    pub fn owner(&self) -> &str {
        match &self.tenant {
            Tenant::Own(name) => name,
            Tenant::Given(owner) => owner.as_ref(),
        }
    }

    /// The micro-VM with the slice's device.
    #[must_use]
    pub fn micro_vm(&self, device: Device) -> MicroVm {
        MicroVm {
            name: self.slice.clone(),
            uuid: device.mdev.unwrap_or_else(Uuid::new_v4),
            qemu: self.qemu.clone(),
            machine: self.machine,
            accelerator: self.accelerator,
            memory: self.memory,
            kernel: self.kernel.clone(),
            initrd: self.initrd.clone(),
            kernel_line: self.kernel_line.clone(),
            device: HostDevice { address: device.address, sysfs: device.sysfs, node: device.node },
            input: self.input,
        }
    }
}

/// The slice's device, as vgpud described it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    pub address: Option<PciAddress>,
    pub mdev: Option<Uuid>,
    pub sysfs: PathBuf,
    pub node: Node,
}
