//! Another number of VFs: gim makes them when it is loaded, for all its GPUs.
//!
//! Source: amd/MxGPU-Virtualization, the parameter `vf_num=[N0[,N1…]]` of the module, a number for each
//! GPU; and AMD's table of what a card can be divided into (the catalogue).

use super::DRIVER;
use crate::{Gpu, HostStep, PciAddress, ProfileName, cards, virtual_function::count_of};
use std::collections::{BTreeMap, BTreeSet};
use vgpud_config::catalogue::Partition;

/// Where the parameters of modules stand (modprobe.d(5)).
const FILE: &str = "/etc/modprobe.d/gim.conf";

/// The step that gives each GPU of gim the number that is wanted of it, and the others what they have.
pub(super) fn step(gpus: &[&Gpu], wanted: &BTreeMap<PciAddress, ProfileName>) -> Option<HostStep> {
    let mut gim: Vec<&Gpu> = gpus.iter().copied().filter(|gpu| gpu.is_on(DRIVER)).collect();
    gim.sort_unstable_by_key(|gpu| gpu.address);
    let present = |gpu: &Gpu| gpu.sriov.as_ref().map_or(0, |sriov| sriov.enabled);
    let asked = |gpu: &Gpu| count_of(gpu.address, wanted.get(&gpu.address)?).ok();
    let other: Vec<&&Gpu> = gim.iter().filter(|gpu| asked(gpu).is_some_and(|n| n != present(gpu))).collect();
    if other.is_empty() {
        return None;
    }
    let addresses: Vec<_> = gim.iter().map(|gpu| gpu.address).collect();
    if let Some(what) = other.iter().find_map(|gpu| impossible(gpu, asked(gpu)?)) {
        return Some(HostStep { gpus: addresses, what, commands: Vec::new() });
    }
    let changes: Vec<String> = other
        .iter()
        .filter_map(|gpu| {
            let count = asked(gpu)?;
            Some(format!(
                "{} gets {count} instead of {}{}",
                gpu.address,
                present(gpu),
                divided_as(gpu, count)
            ))
        })
        .collect();
    let what = format!(
        "AMD's driver {DRIVER} makes VFs when it is loaded, of all its GPUs at once ({}): {}. No VM may run on any \
         of them meanwhile. vgpud unloads no driver; the commands are for root. The first one \
         replaces {FILE}: keep what else that says. Look that /etc/gim_config, where {DRIVER} keeps its settings, \
         does not say otherwise. There is a number for each GPU by its address, and one that vgpud leaves alone needs \
         one too; AMD does not say in which order {DRIVER} counts them, so look at `vgpuctl gpus` afterwards.",
        addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "),
        changes.join(", "),
    );
    // A GPU without a number of its own gets the default.
    let numbers: Vec<String> =
        gim.iter().map(|gpu| asked(gpu).unwrap_or_else(|| present(gpu).max(1)).to_string()).collect();
    let commands = vec![
        format!("echo 'options {DRIVER} vf_num={}' > {FILE}", numbers.join(",")),
        format!("rmmod {DRIVER}"),
        format!("modprobe {DRIVER}"),
    ];
    Some(HostStep { gpus: addresses, what, commands })
}

/// Why a card cannot have that many.
fn impossible(gpu: &Gpu, count: u16) -> Option<String> {
    let total = gpu.sriov.as_ref().map_or(0, |sriov| sriov.total);
    let address = gpu.address;
    (count > total)
        .then(|| format!("GPU {address} cannot have {count} VFs: its SR-IOV capability allows {total}."))
}

/// How the driver then divides memory and compute dies, where that is known; and a doubt where the count is
/// none of those that are known of the card: gim then makes no VFs at all.
fn divided_as(gpu: &Gpu, count: u16) -> String {
    let ways: Vec<&Partition> = cards::catalogue().partitions(gpu.id).collect();
    let known: BTreeSet<u16> = ways.iter().map(|way| way.vfs).collect();
    if !known.is_empty() && !known.contains(&count) {
        let known: Vec<String> = known.iter().map(ToString::to_string).collect();
        return format!(
            " (known of this card are {}; of a count that it does not take come no VFs)",
            known.join(", ")
        );
    }
    let words = |way: &&Partition| format!(" ({} and {} unless set otherwise)", way.memory, way.accelerator);
    ways.iter().find(|way| way.vfs == count && way.default).map(words).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{DriverName, SriovCapability};

    fn gpu(address: &str, enabled: u16) -> Gpu {
        let mut gpu = Gpu::new(address.parse().unwrap(), "1002:74a1".parse().unwrap(), 0x12_0000);
        gpu.driver = Some(DriverName(DRIVER.to_owned()));
        gpu.sriov = Some(SriovCapability { total: 8, enabled, bound: 0, vf_aperture: None });
        gpu
    }

    fn wanted(address: &str, profile: &str) -> BTreeMap<PciAddress, ProfileName> {
        [(address.parse().unwrap(), profile.parse().unwrap())].into()
    }

    #[test]
    fn another_count_is_a_step_for_all_gpus_of_gim() {
        let (one, two) = (gpu("0000:41:00.0", 1), gpu("0000:42:00.0", 4));
        let other = Gpu { driver: None, ..gpu("0000:43:00.0", 0) };
        let step = step(&[&two, &other, &one], &wanted("0000:41:00.0", "vf-8")).unwrap();
        assert_eq!(step.gpus, [one.address, two.address]);
        assert!(
            step.what.contains("0000:41:00.0 gets 8 instead of 1 (NPS1 and CPX unless set otherwise)"),
            "{}",
            step.what
        );
        assert_eq!(
            step.commands,
            ["echo 'options gim vf_num=8,4' > /etc/modprobe.d/gim.conf", "rmmod gim", "modprobe gim"]
        );
    }

    #[test]
    fn nothing_is_to_be_done_for_the_count_that_is_there_or_for_what_is_no_count() {
        let gpu = gpu("0000:41:00.0", 4);
        for profile in ["vf-4", "A40-8Q"] {
            assert_eq!(step(&[&gpu], &wanted("0000:41:00.0", profile)), None);
        }
        assert_eq!(step(&[&gpu], &BTreeMap::new()), None);
    }

    #[test]
    fn a_count_that_the_card_cannot_have_is_said_and_no_command_is_given() {
        let gpu = gpu("0000:41:00.0", 4);
        let refused = step(&[&gpu], &wanted("0000:41:00.0", "vf-16")).unwrap();
        assert!(refused.what.contains("its SR-IOV capability allows 8"), "{refused:?}");
        assert!(refused.commands.is_empty());
        let doubtful = step(&[&gpu], &wanted("0000:41:00.0", "vf-3")).unwrap();
        assert!(doubtful.what.contains("known of this card are 1, 2, 4, 8;"), "{doubtful:?}");
    }
}
