//! Checks of the GPUs: drivers, ways of cutting, isolation.

use super::Check;
use crate::{
    Error,
    isolation::{self, Cause},
};
use vgpud_config::Settings;
use vgpud_mdev::{
    Gpu, Host, instance,
    inventory::{self, Inventory},
    mechanisms, uncuttable,
};

pub(super) fn gpus(host: &Host, settings: &Settings) -> Vec<Check> {
    const NAME: &str = "gpus";
    let Inventory { gpus, unreadable } = match inventory::gpus(host, &settings.gpus) {
        Ok(inventory) => inventory,
        Err(error) => return vec![Check::unreadable(NAME, &error)],
    };
    let cuttable = gpus.iter().filter(|gpu| uncuttable(gpu).is_none()).count();
    let mut checks = vec![match (gpus.len(), cuttable) {
        (0, _) if !unreadable.is_empty() => Check::fail(
            NAME,
            format!(
                "{} PCI functions cannot be read, and no GPU was found among the others",
                unreadable.len()
            ),
            "see what is in the way of each below",
        ),
        (0, _) => Check::fail(
            NAME,
            "this host has no GPU: no PCI function of class 03xx or 12xx",
            "plug one in, or name the device under [gpus] include, as vendor:device",
        ),
        (found, 0) => {
            Check::fail(NAME, format!("none of {found} GPUs can be cut"), "see what each of them lacks below")
        }
        (found, cuttable) => Check::pass(NAME, format!("{cuttable} of {found} GPUs can be cut")),
    }];
    checks.extend(unreadable.iter().map(|(_, error)| Check::unreadable("gpu", error)));
    for gpu in &gpus {
        checks.push(cutting(gpu));
        checks.extend(isolation(host, gpu));
    }
    checks
}

/// The GPU's driver, and how it can be cut or why not.
fn cutting(gpu: &Gpu) -> Check {
    const NAME: &str = "gpu";
    let model =
        [&gpu.vendor_name, &gpu.device_name].into_iter().flatten().cloned().collect::<Vec<_>>().join(" ");
    let model = if model.is_empty() { gpu.id.to_string() } else { model };
    let driver = match &gpu.driver {
        Some(driver) => format!("on driver {driver}"),
        None => "on no driver".to_owned(),
    };
    let found = format!("{} ({model}) is {driver}", gpu.address);
    if let Some(why) = uncuttable(gpu) {
        return Check::warn(NAME, format!("{found}. {why}"), host_driver(gpu));
    }
    let ways: Vec<_> = mechanisms(gpu)
        .into_iter()
        .map(|mechanism| {
            let profiles: Vec<_> = mechanism
                .profiles(gpu, &[])
                .iter()
                .map(|profile| {
                    format!("{} ({} of {} free)", profile.name, profile.available, profile.capacity)
                })
                .collect();
            format!("{} into {}", mechanism.kind(), profiles.join(", "))
        })
        .collect();
    Check::pass(NAME, format!("{found}; {}", ways.join("; ")))
}

/// What to install so that the GPU can be cut, by vendor.
fn host_driver(gpu: &Gpu) -> &'static str {
    match gpu.id.vendor {
        0x1002 => {
            "load the host driver that makes virtual functions on AMD Instinct and Radeon Pro V (GIM) in place of amdgpu, and turn on SR-IOV in the firmware (BIOS)"
        }
        0x10de => {
            "install the host driver of NVIDIA's vGPU software for this GPU, and turn on SR-IOV in the firmware (BIOS)"
        }
        0x8086 => {
            "use a kernel whose xe (or Intel's own i915) driver makes virtual functions on this GPU, and turn on SR-IOV in the firmware (BIOS)"
        }
        _ => {
            "load the driver that implements sriov_numvfs or mediated devices for it, and turn on SR-IOV in the firmware (BIOS)"
        }
    }
}

/// The IOMMU groups of a GPU that can be cut and of its slices.
fn isolation(host: &Host, gpu: &Gpu) -> Vec<Check> {
    const NAME: &str = "isolation";
    let mut checks = Vec::new();
    let (mut slices, mut isolated) = (0_usize, 0_usize);
    let instances = match instance::list(host, gpu.address) {
        Ok(instances) => instances,
        Err(error) => return vec![Check::unreadable(NAME, &error)],
    };
    for instance in &instances {
        slices += 1;
        match isolation::check_group(host, instance) {
            Ok(()) => isolated += 1,
            Err(error) => checks.push(refused(&error)),
        }
    }
    if slices > 0 {
        if isolated > 0 {
            checks.insert(0, Check::pass(NAME, format!("isolated slices of {}: {isolated}", gpu.address)));
        }
        return checks;
    }
    if uncuttable(gpu).is_some() {
        return checks;
    }
    checks.extend(foretold(host, gpu));
    checks
}

/// Of slices to come. Mediated devices are isolated by their parent's driver. Virtual functions get groups
/// of their own, unless something on the way up to the CPU lacks access control (ACS), which the GPU's own
/// group shows: below such a port they share that group, and the GPU, on its driver, is in their way.
fn foretold(host: &Host, gpu: &Gpu) -> Option<Check> {
    const NAME: &str = "isolation";
    let Gpu { address, .. } = gpu;
    let Some(group) = &gpu.iommu_group else {
        let lost = format!("{address} has no IOMMU group, so its virtual functions will have none");
        return gpu.sriov.is_some().then(|| Check::fail(NAME, lost, "see the check of the IOMMU above"));
    };
    let number = group.number;
    let strangers = |to: Option<&str>| isolation::strangers(host, &host.pci_device(*address), to);
    Some(match (strangers(None), strangers(Some(&address.to_string()))) {
        (Err(error), _) | (_, Err(error)) => Check::unreadable(NAME, &error),
        (Ok(Some(all)), _) if gpu.sriov.is_some() && matches!(all.cause, Some(Cause::Port { .. })) => {
            let found = format!("virtual functions of {address} will share IOMMU group {number} with {all}");
            Check::fail(NAME, found, all.mend())
        }
        (_, Ok(None)) => {
            Check::pass(NAME, format!("{address} shares IOMMU group {number} with nothing in use"))
        }
        (_, Ok(Some(others))) => Check::warn(
            NAME,
            format!(
                "{address} shares IOMMU group {number} with {others}; its virtual functions may share it too"
            ),
            match others.cause {
                Some(_) => others.mend(),
                None => "move the card to a slot of its own root port, or turn on ACS in the firmware (BIOS)",
            },
        ),
    })
}

fn refused(error: &Error) -> Check {
    match error {
        Error::Isolation(error) => match error.mend() {
            Some(mend) => Check::fail("isolation", error.fault(), mend),
            None => Check::unreadable("isolation", error),
        },
        error => Check::unreadable("isolation", error),
    }
}
