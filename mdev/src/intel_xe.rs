//! Mechanism `intel-xe`: VFs of Intel's GPUs on the kernel's driver xe, with the shares that it gives them.
//!
//! A profile `vf-N` is one of N VFs. The PCI core's rules are in `sriov`; what xe adds (Linux,
//! drivers/gpu/drm/xe/xe_sriov_pf_provision.c, Documentation/ABI/testing/sysfs-driver-intel-xe-sriov):
//!
//! | rule | so |
//! |---|---|
//! | a function may use the GPU without limit (0) until it has a quantum and a preemption timeout | every function gets both |
//! | what VFs have is settled when they are enabled; a VRAM quota that was set before stands | quotas are set first, VFs enabled last |
//! | without one, xe shares VRAM out as it sees fit, in an amount that it says afterwards | that is left to it where the size of VRAM is not known, and so is all of GGTT, contexts and doorbells |
//! | by debugfs, before Linux 6.19, setting anything may end this sharing out | there quotas are left alone, and times are set when the VFs exist |
//! | a write may be rounded, and may be one of several of which one failed | every write is read back |
//!
//! # When it is interrupted
//!
//! Nothing is remembered. With quotas set and no VFs, [`create`](Mechanism::create) sets them again and
//! goes on; [`retire`](Mechanism::retire) takes back whatever it finds. By debugfs each creation gives its
//! own VF what it lacks.

mod admin;
mod provisioning;
#[cfg(test)]
mod tests;

pub use admin::debug_folders;
pub(crate) use provisioning::read as provisioning;
pub use provisioning::{XeInterface, XeProvisioning};

use crate::{
    Division, Error, Gpu, Hold, Holds, Host, Instance, InstanceName, Leaves, Mechanism, MechanismKind,
    PciAddress, Profile, ProfileName, Taken, VfIndex, attribute, physical_function::PhysicalFunction, shares,
};
use admin::{Admin, Function};

/// The PF driver, as sysfs names it.
pub(crate) const DRIVER: &str = "xe";

/// The mechanism; it has no state.
#[derive(Clone, Copy, Debug)]
pub(crate) struct IntelXe;

impl IntelXe {
    /// Makes VFs of a GPU that has none, and gives them their shares.
    fn divide(pf: &PhysicalFunction<'_>, admin: &Admin<'_>, count: u16) -> Result<(), Error> {
        if admin.interface == XeInterface::SriovAdmin {
            // What an attempt for another number may have left is not there to share out.
            admin.clear(pf.total()?)?;
            admin.share_vram(count)?;
            admin.limit_time(Function::Pf, count)?;
            (0..count).try_for_each(|index| admin.limit_time(Function::Vf(VfIndex(index)), count))?;
        }
        pf.enable(count)?;
        admin.check_vram(count)
    }

    fn open(
        pf: &PhysicalFunction<'_>,
        admin: &Admin<'_>,
        count: u16,
        index: VfIndex,
    ) -> Result<Instance, Error> {
        if admin.interface == XeInterface::Debugfs {
            admin.limit_time_where_none(Function::Pf, count)?;
            admin.limit_time_where_none(Function::Vf(index), count)?;
        }
        shares::open(pf, index)
    }

    /// No VFs, no shares, from whatever state. A GPU that has gone has taken all along.
    fn undo(pf: &PhysicalFunction<'_>, admin: &Admin<'_>, autoprobe: &str) -> Result<(), Error> {
        if !attribute::exists(&pf.host.pci_device(pf.gpu)) {
            return Ok(());
        }
        pf.disable(autoprobe)?;
        admin.clear(pf.total()?)?;
        admin.restore_sharing()
    }
}

impl Mechanism for IntelXe {
    fn kind(&self) -> MechanismKind {
        MechanismKind::IntelXe
    }

    fn concerns(&self, gpu: &Gpu) -> bool {
        gpu.is_on(DRIVER)
    }

    fn unusable(&self, gpu: &Gpu) -> Option<String> {
        if !self.concerns(gpu) {
            return Some(format!("it is not on Intel's driver {DRIVER}"));
        }
        gpu.without_vfs().or_else(|| {
            gpu.xe.is_none().then(|| {
                format!(
                    "its driver {DRIVER} shows no shares of VFs: sriov_admin comes with Linux 6.19, and before it \
                     debugfs has them, which must be mounted at /sys/kernel/debug"
                )
            })
        })
    }

    fn division(&self) -> Division {
        Division::Uniform
    }

    fn is_divided(&self, gpu: &Gpu) -> bool {
        gpu.has_vfs()
    }

    fn profiles(&self, gpu: &Gpu, taken: &[Taken]) -> Vec<Profile> {
        match &gpu.xe {
            Some(xe) if self.applies(gpu) => shares::profiles(self, gpu, taken, |sriov, count| {
                if sriov.enabled > 0 { xe.quota } else { xe.fair_share(count) }
            }),
            _ => Vec::new(),
        }
    }

    /// VFs take turns. Where those who are idle keep theirs, nobody gets more than its own turn: a cap, as
    /// long as all have turns of the same length. It may be overrun by the preemption timeout at most, after
    /// which the VF's work is reset. Otherwise the turns of the idle go to the busy. The floor is nowhere
    /// better than best effort, for the PF takes turns too and a neighbour may overrun its own.
    fn holds(&self, gpu: &Gpu, _: &ProfileName) -> Holds {
        match &gpu.xe {
            Some(xe) if xe.caps(gpu.has_vfs()) => Holds { cap: Hold::Enforced, ..Holds::BEST_EFFORT },
            Some(_) => Holds::BEST_EFFORT,
            None => Holds::NOT_AVAILABLE,
        }
    }

    fn when_empty(&self, gpu: &Gpu) -> Vec<Profile> {
        self.profiles(&shares::undivided(gpu), &[])
    }

    fn without(&self, gpu: &Gpu, gone: usize, leaves: Leaves) -> Option<Gpu> {
        Some(shares::without(gpu, gone, leaves))
    }

    fn next_name(
        &self,
        gpu: PciAddress,
        profile: &ProfileName,
        used: &[InstanceName],
    ) -> Result<InstanceName, Error> {
        shares::next_name(gpu, profile, used)
    }

    fn create(
        &self,
        host: &Host,
        gpu: PciAddress,
        profile: &ProfileName,
        name: InstanceName,
    ) -> Result<Instance, Error> {
        let (count, index) = shares::asked(self.kind(), gpu, profile, name)?;
        let pf = PhysicalFunction { host, gpu };
        let enabled = pf.enabled_for(count)?;
        let admin = Admin::of(host, gpu)?;
        if enabled > 0 {
            return Self::open(&pf, &admin, count, index);
        }
        let autoprobe = pf.autoprobe()?;
        let made = Self::divide(&pf, &admin, count).and_then(|()| Self::open(&pf, &admin, count, index));
        made.map_err(|error| error.after_undo(&gpu, Self::undo(&pf, &admin, &autoprobe)))
    }

    fn destroy(&self, host: &Host, gpu: PciAddress, name: InstanceName) -> Result<(), Error> {
        shares::close(host, gpu, shares::index_of(self.kind(), gpu, name)?)
    }

    fn retire(&self, host: &Host, gpu: PciAddress) -> Result<(), Error> {
        shares::all_spare(host, gpu)?;
        let pf = PhysicalFunction { host, gpu };
        // As in `sriov`: the kernel's default.
        Self::undo(&pf, &Admin::of(host, gpu)?, "1")
    }
}
