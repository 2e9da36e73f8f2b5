//! What only the open device shows.

use super::{
    Check, CheckName, Level,
    check::chain,
    vcpu::{self, Vcpu},
};
use crate::{
    Error,
    device::{Area, Device, DeviceError, Mapping, Region, ResetOffer},
    holders,
    kvm::{self, KvmState},
    scrub::{DeviceMemory, Stage, Subject},
};
use std::num::NonZeroUsize;
use vgpud_mdev::{Host, Instance, PciId, attribute};

/// Where the checks map memory for DMA: above everything that a PC reserves below 4 GiB, and low
/// enough for any IOMMU (39 bits).
const IOVA: u64 = 0x1_0000_0000;
const DMA_BYTES: NonZeroUsize = NonZeroUsize::new(1 << 20).unwrap();
/// A word that no memory holds by chance.
pub(super) const MARK: u32 = 0x7667_7064;
const KERNEL_LOG: &str = "look in the kernel log (`dmesg`)";

type Made<'a> = &'a mut dyn FnMut(Check);

pub(super) fn checks(
    host: &Host,
    instance: &Instance,
    subject: Result<Subject, Error>,
    level: Level,
    at: &mut dyn FnMut(Stage),
    made: Made<'_>,
) {
    made(kvm_check(host));
    let subject = match subject {
        Ok(subject) => subject,
        Err(error) => return not_open(CheckName::Node, &error, level, made),
    };
    at(Stage::Open);
    match Device::open(host, &subject.node, &subject.instance.sysfs) {
        Ok(device) => {
            made(Check::pass(CheckName::Node, format!("{} opens", subject.node)));
            made(Check::pass(CheckName::Iommu, "the kernel gave the device an address space of its own"));
            on_device(host, &subject, &device, level, at, made);
            at(Stage::Close);
            drop(device);
            made(release(host, instance));
        }
        Err(error) => not_open(failed_at(&error), &error, level, made),
    }
}

fn kvm_check(host: &Host) -> Check {
    let name = CheckName::Kvm;
    match kvm::examine(host) {
        KvmState::Works => Check::pass(name, "makes VMs with a VFIO device"),
        KvmState::Missing(error) => Check::skip(name, format!("/dev/kvm does not open: {error}")),
        KvmState::WrongApi(api) => {
            Check::fail(name, format!("KVM has API {api}"), "use a kernel with KVM of API 12")
        }
        KvmState::NoVm(error) => Check::fail(name, format!("KVM makes no VM: {error}"), KERNEL_LOG),
        KvmState::NoVfioDevice(error) => {
            let seen = format!("KVM makes no VFIO device: {error}");
            Check::fail(name, seen, "use a kernel with CONFIG_KVM_VFIO")
        }
    }
}

/// Which check failed where the device did not open.
const fn failed_at(error: &DeviceError) -> CheckName {
    match error {
        DeviceError::InUse { .. } | DeviceError::Open { .. } | DeviceError::NoName { .. } => CheckName::Node,
        DeviceError::NoType1 { .. }
        | DeviceError::NotViable { .. }
        | DeviceError::NotPci { .. }
        | DeviceError::Refused { .. }
        | DeviceError::Silent { .. }
        | DeviceError::Beyond { .. } => CheckName::Iommu,
    }
}

/// The device did not open at the check `open`: what therefore cannot be made is skipped.
fn not_open(open: CheckName, error: &dyn std::error::Error, level: Level, made: Made<'_>) {
    if open == CheckName::Iommu {
        made(Check::pass(CheckName::Node, "opens"));
    }
    made(Check::fail(open, chain(error), KERNEL_LOG));
    let open_checks = [CheckName::Iommu, CheckName::DeviceInfo, CheckName::ConfigSpace, CheckName::Release];
    let rest = open_checks.into_iter().filter(|name| *name > open).chain(full_names(level));
    rest.for_each(|name| made(Check::skip(name, "the device does not open")));
}

fn full_names(level: Level) -> impl Iterator<Item = CheckName> {
    let names = [
        CheckName::Reset,
        CheckName::Dma,
        CheckName::Bar,
        CheckName::Vcpu,
        CheckName::Msix,
        CheckName::Migration,
    ];
    names.into_iter().filter(move |_| level == Level::Full)
}

fn on_device(
    host: &Host,
    subject: &Subject,
    device: &Device,
    level: Level,
    at: &mut dyn FnMut(Stage),
    made: Made<'_>,
) {
    at(Stage::Check);
    made(device_info(device));
    made(config_space(subject, device));
    if level < Level::Full {
        return;
    }
    at(Stage::Reset);
    let reset = reset(device);
    let works = !reset.failed();
    made(reset);
    if !works {
        let rest = full_names(level).filter(|name| *name != CheckName::Reset);
        rest.for_each(|name| made(Check::skip(name, "the device's reset failed")));
        return;
    }
    at(Stage::Check);
    made(dma(device));
    bar_and_vcpu(host, device).into_iter().for_each(&mut *made);
    made(msix(device));
    made(migration(device));
}

fn device_info(device: &Device) -> Check {
    let name = CheckName::DeviceInfo;
    let bars: Vec<String> = device
        .regions()
        .iter()
        .filter(|region| region.index < 6 && region.size > 0)
        .map(|region| {
            format!("BAR {} of {} bytes, {} to map", region.index, region.size, region.mappable_bytes())
        })
        .collect();
    let vectors = match device.msix_vectors() {
        Ok(vectors) => vectors,
        Err(error) => return Check::fail(name, chain(&error), KERNEL_LOG),
    };
    if bars.is_empty() {
        return Check::fail(name, "it has no BAR", "assign BARs in the firmware (Above 4G Decoding)");
    }
    Check::pass(name, format!("{}; {vectors} MSI-X vectors", bars.join(", ")))
}

fn config_space(subject: &Subject, device: &Device) -> Check {
    let name = CheckName::ConfigSpace;
    let config = match device.config_space() {
        Ok(config) => config,
        Err(error) => return Check::fail(name, chain(&error), "power the host off and on"),
    };
    let Some(seen) = config.id() else {
        return Check::fail(name, "it reads as ones", "power the host off and on");
    };
    if config.header_type() != Some(0) {
        return Check::fail(name, "its header is no device's", KERNEL_LOG);
    }
    match sysfs_id(subject) {
        Some(wanted) if wanted != seen => {
            let seen = format!("VFIO shows {seen} and sysfs {wanted}");
            Check::fail(name, seen, "keep it out of use and report it to the driver's vendor")
        }
        Some(_) => {
            Check::pass(name, format!("{seen}, as in sysfs, {} capabilities", config.capabilities().len()))
        }
        None => Check::pass(name, format!("{seen}, {} capabilities", config.capabilities().len())),
    }
}

/// The ids that sysfs shows; a mediated device has none there.
fn sysfs_id(subject: &Subject) -> Option<PciId> {
    let read = |file: &str| {
        let text = attribute::read(&subject.instance.sysfs.join(file)).ok()??;
        u16::from_str_radix(text.strip_prefix("0x")?, 16).ok()
    };
    Some(PciId { vendor: read("vendor")?, device: read("device")? })
}

fn reset(device: &Device) -> Check {
    let name = CheckName::Reset;
    let mend = "keep it out of use: it cannot be made clean between two owners";
    match (device.reset(), device.reset_offer()) {
        (Ok(()), _) => match device.config_space() {
            Ok(_) => Check::pass(name, "the kernel reset it, and it answers"),
            Err(error) => Check::fail(name, chain(&error), mend),
        },
        (Err(error), ResetOffer::Offered) => Check::fail(name, chain(&error), mend),
        (Err(error), ResetOffer::NotOffered) => {
            Check::fail(name, format!("VFIO offers no reset of it: {}", chain(&error)), mend)
        }
    }
}

fn dma(device: &Device) -> Check {
    let name = CheckName::Dma;
    let attempt = || -> Result<Check, String> {
        let memory = Mapping::of_memory(DMA_BYTES).map_err(|error| error.to_string())?;
        device.map_dma(&memory, IOVA).map_err(|error| chain(&error))?;
        let overlap = device.map_dma(&memory, IOVA).map_err(|error| error.errno());
        let unmapped = device.unmap_dma(&memory, IOVA).map_err(|error| chain(&error))?;
        Ok(match (overlap, unmapped) {
            (Err(Some(nix::libc::EEXIST)), bytes) if bytes == memory.length() as u64 => {
                Check::pass(name, "1 MiB mapped, an overlap refused (EEXIST), all unmapped")
            }
            (Err(Some(nix::libc::EEXIST)), bytes) => {
                Check::fail(name, format!("{bytes} bytes of 1 MiB were unmapped"), KERNEL_LOG)
            }
            (overlap, _) => {
                let seen = format!("a second mapping of the same addresses was not refused ({overlap:?})");
                Check::fail(name, seen, "use a newer kernel: this one does not keep guests' memory apart")
            }
        })
    };
    attempt().unwrap_or_else(|seen| {
        Check::fail(name, seen, "raise the memory lock limit (LimitMEMLOCK=infinity), and see `dmesg`")
    })
}

/// Both read a word of device memory that was written for it, and put back after.
fn bar_and_vcpu(host: &Host, device: &Device) -> Vec<Check> {
    let skipped =
        |reason: &str| [CheckName::Bar, CheckName::Vcpu].map(|name| Check::skip(name, reason)).to_vec();
    let memory = match DeviceMemory::of(device) {
        Ok(memory) => memory,
        Err(error) => return vec![Check::fail(CheckName::Bar, chain(&error), KERNEL_LOG)],
    };
    let place = memory.regions().first().and_then(|region| Some((region, *region.mappable.first()?)));
    let Some((region, area)) = place else {
        return skipped("it has no memory that can be mapped; reading a register could change something");
    };
    let attempt = || -> Result<Vec<Check>, DeviceError> {
        let command = device.enable_memory()?;
        let checks = marked(host, device, region, area);
        device.set_command(command)?;
        checks
    };
    attempt().unwrap_or_else(|error| {
        let vcpu = Check::skip(CheckName::Vcpu, "the BAR cannot be used");
        vec![Check::fail(CheckName::Bar, chain(&error), KERNEL_LOG), vcpu]
    })
}

fn marked(host: &Host, device: &Device, region: &Region, area: Area) -> Result<Vec<Check>, DeviceError> {
    let mapping = device.map(region, area)?;
    let before = mapping.word(0).unwrap_or_default();
    let write = |value| mapping.set_word(0, value);
    let check = (|| {
        write(MARK);
        let mut read = [0; 4];
        device.read(region.index, area.offset, &mut read)?;
        let read = u32::from_le_bytes(read);
        let name = CheckName::Bar;
        let bar = if read == MARK {
            Check::pass(name, format!("BAR {}: mapped and read by the kernel it is the same", region.index))
        } else {
            let seen = format!("BAR {} holds {read:#x} where {MARK:#x} was written", region.index);
            Check::fail(name, seen, "keep it out of use: its memory does not work")
        };
        Ok(vec![bar, vcpu(host, &mapping)])
    })();
    write(before);
    check
}

fn vcpu(host: &Host, mapping: &Mapping) -> Check {
    let name = CheckName::Vcpu;
    match vcpu::read_word(host, mapping) {
        Vcpu::NoKvm(error) => Check::skip(name, format!("/dev/kvm does not open: {error}")),
        Vcpu::NotThisProcessor => Check::skip(name, "the check's program is for x86 processors"),
        Vcpu::Read { value: MARK, mmio_exits: 0 } => {
            Check::pass(name, "a virtual CPU read the BAR from its memory slot, with no exit")
        }
        Vcpu::Read { value, mmio_exits } => {
            let seen = format!("a virtual CPU read {value:#x} for {MARK:#x}, with {mmio_exits} MMIO exits");
            Check::fail(name, seen, "the processor's nested paging does not map device memory; see `dmesg`")
        }
        Vcpu::Failed { what, source } => {
            Check::fail(name, format!("KVM did not {what}: {source}"), KERNEL_LOG)
        }
    }
}

fn msix(device: &Device) -> Check {
    let name = CheckName::Msix;
    match device.msix_vectors() {
        Ok(0) => return Check::skip(name, "it has no MSI-X"),
        Ok(_) => {}
        Err(error) => return Check::fail(name, chain(&error), KERNEL_LOG),
    }
    match device.loop_back_msix() {
        Ok(1) => Check::pass(name, "vector 0 was set up and raised by the kernel, and arrived once"),
        Ok(count) => Check::fail(name, format!("vector 0 arrived {count} times for one"), KERNEL_LOG),
        Err(error) => Check::fail(name, chain(&error), KERNEL_LOG),
    }
}

fn migration(device: &Device) -> Check {
    let name = CheckName::Migration;
    match device.can_migrate() {
        Ok(true) => Check::pass(name, "its driver can save its state"),
        Ok(false) => Check::skip(name, "its driver cannot save its state; its VM cannot be moved"),
        Err(error) => Check::fail(name, chain(&error), KERNEL_LOG),
    }
}

/// Closed again, the device must open for one alone. Whoever else has it open was looked for before:
/// this process does not see into others.
fn release(host: &Host, instance: &Instance) -> Check {
    match holders::opens_alone(host, &instance.nodes) {
        Ok(()) => Check::pass(CheckName::Release, "closed again, it opens for one alone"),
        Err(error) => Check::fail(CheckName::Release, chain(&error), "end what holds it"),
    }
}
