//! A virtual CPU that reads a word of a BAR through a memory slot: the way in which a guest reaches
//! its GPU, with nothing in between.

#![allow(unsafe_code)]

use crate::device::Mapping;
use kvm_bindings::kvm_userspace_memory_region;
use kvm_ioctls::{Kvm, VcpuExit, VcpuFd, VmFd};
use std::{ffi::CString, io, os::unix::ffi::OsStrExt};
use vgpud_mdev::Host;
use vm_memory::{Bytes, GuestAddress, GuestMemoryBackend, GuestMemoryMmap, GuestMemoryRegion};

/// What came of it.
#[derive(Debug)]
pub(super) enum Vcpu {
    NoKvm(io::Error),
    #[cfg_attr(target_arch = "x86_64", allow(dead_code))]
    NotThisProcessor,
    Read {
        value: u32,
        mmio_exits: u32,
    },
    Failed {
        what: &'static str,
        source: io::Error,
    },
}

/// The guest's RAM: its program, and where it puts what it read.
const RAM: usize = 0x4000;
const PROGRAM: u64 = 0x1000;
const RESULT: u64 = 0x3000;
/// Where the guest sees the BAR.
const BAR: u64 = 0x1000_0000;
/// More exits than the program can cause.
const MOST_EXITS: u32 = 16;

#[cfg(target_arch = "x86_64")]
const CODE: [u8; 13] = [
    0xa1, 0x00, 0x00, 0x00, 0x10, // mov eax, [BAR]
    0xa3, 0x00, 0x30, 0x00, 0x00, // mov [RESULT], eax
    0xe6, 0x10, // out 0x10, al
    0xf4, // hlt
];

/// Lets a guest of one virtual CPU read the first word of `bar`.
#[cfg(target_arch = "x86_64")]
pub(super) fn read_word(host: &Host, bar: &Mapping) -> Vcpu {
    let path = CString::new(host.path("/dev/kvm").as_os_str().as_bytes()).unwrap_or_default();
    let kvm = match Kvm::new_with_path(&path) {
        Ok(kvm) => kvm,
        Err(error) => return Vcpu::NoKvm(error.into()),
    };
    match run(&kvm, bar) {
        Ok((value, mmio_exits)) => Vcpu::Read { value, mmio_exits },
        Err((what, source)) => Vcpu::Failed { what, source },
    }
}

#[cfg(not(target_arch = "x86_64"))]
pub(super) fn read_word(_: &Host, _: &Mapping) -> Vcpu {
    Vcpu::NotThisProcessor
}

type Failure = (&'static str, io::Error);

fn failed<E: Into<io::Error>>(what: &'static str) -> impl FnOnce(E) -> Failure {
    move |error| (what, error.into())
}

fn other<E: std::error::Error + Send + Sync + 'static>(error: E) -> io::Error {
    io::Error::other(error)
}

fn run(kvm: &Kvm, bar: &Mapping) -> Result<(u32, u32), Failure> {
    let vm = kvm.create_vm().map_err(failed("make a VM"))?;
    let ram = GuestMemoryMmap::<()>::from_ranges(&[(GuestAddress(0), RAM)])
        .map_err(|error| ("take its RAM", other(error)))?;
    ram.write_slice(&CODE, GuestAddress(PROGRAM)).map_err(|error| ("take its program", other(error)))?;
    for (slot, region) in (0..).zip(ram.iter()) {
        let host =
            ram.get_host_address(region.start_addr()).map_err(|error| ("take its RAM", other(error)))?;
        add_slot(&vm, slot, region.start_addr().0, region.len(), host as u64)?;
    }
    add_slot(&vm, 1, BAR, bar.length() as u64, bar.address())?;
    let mut cpu = vm.create_vcpu(0).map_err(failed("make a virtual CPU"))?;
    flat_32_bit(&cpu).map_err(failed("set up the virtual CPU"))?;
    let mmio_exits = until_halt(&mut cpu)?;
    let value = ram.read_obj(GuestAddress(RESULT)).map_err(|error| ("give the result", other(error)))?;
    Ok((value, mmio_exits))
}

fn add_slot(vm: &VmFd, slot: u32, guest: u64, bytes: u64, host: u64) -> Result<(), Failure> {
    let region = kvm_userspace_memory_region {
        slot,
        flags: 0,
        guest_phys_addr: guest,
        memory_size: bytes,
        userspace_addr: host,
    };
    // SAFETY: `host` is a mapping of `bytes` bytes, of this process's RAM or of the BAR, which the
    // callers keep until the VM is gone; the slots do not overlap.
    unsafe { vm.set_user_memory_region(region) }.map_err(failed("take a memory slot"))
}

/// Protected mode without paging, segments over all 4 GiB.
fn flat_32_bit(cpu: &VcpuFd) -> Result<(), kvm_ioctls::Error> {
    let mut sregs = cpu.get_sregs()?;
    let flat = |segment: &mut kvm_bindings::kvm_segment, kind| {
        segment.base = 0;
        segment.limit = u32::MAX;
        segment.selector = 8;
        segment.type_ = kind;
        (segment.present, segment.s, segment.db, segment.g) = (1, 1, 1, 1);
        (segment.dpl, segment.l) = (0, 0);
    };
    flat(&mut sregs.cs, 0xb);
    for segment in [&mut sregs.ds, &mut sregs.es, &mut sregs.ss] {
        flat(segment, 0x3);
    }
    sregs.cr0 |= 1;
    cpu.set_sregs(&sregs)?;
    let mut regs = cpu.get_regs()?;
    (regs.rip, regs.rflags) = (PROGRAM, 2);
    cpu.set_regs(&regs)
}

/// Runs the program to its end; returns how often the guest left for a memory access.
fn until_halt(cpu: &mut VcpuFd) -> Result<u32, Failure> {
    let mut mmio_exits = 0;
    for _ in 0..MOST_EXITS {
        match cpu.run().map_err(failed("run the virtual CPU"))? {
            VcpuExit::Hlt => return Ok(mmio_exits),
            VcpuExit::IoOut(..) => {}
            VcpuExit::MmioRead(_, data) => {
                data.fill(0);
                mmio_exits += 1;
            }
            VcpuExit::MmioWrite(..) => mmio_exits += 1,
            exit => {
                let exit = format!("{exit:?}");
                return Err(("run the check's program", io::Error::other(exit)));
            }
        }
    }
    Err(("end the check's program", io::Error::other("it goes on")))
}
