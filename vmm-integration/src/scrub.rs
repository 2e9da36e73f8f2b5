//! Making a slice clean between two owners, and proving it.
//!
//! 1. VFIO resets the device, and the kernel's verdict counts.
//! 2. Where the vendor's driver can be asked to clear the memory, it is, and what it says is noted.
//! 3. Every byte of the device's memory that can be mapped is read back; of an Intel VF again and again
//!    for some seconds, while its PF may be clearing it.
//! 4. Where it is not all zero: it is overwritten with zeros, the device is reset again, and it is
//!    read back again.
//!
//! What comes out is [`Evidence`]: what was really done and seen, never more. A device without
//! memory that can be mapped is [`Verdict::Unchecked`], and so is one that shows less of its memory
//! than its owner had. Who may have the slice next is a policy over that ([`Evidence::fit_for`]).
//!
//! # How often the device is reset
//!
//! Drivers throttle resets (AMD's GIM 8: three a minute for each VF), so none is made that shows nothing.
//!
//! | resets by | the memory is zero | it has to be overwritten |
//! | --- | --- | --- |
//! | vfio-pci | at opening, at closing | at opening, after overwriting, at closing |
//! | any other VFIO driver | asked for, and what it does at opening and closing | one more, after overwriting |
//!
//! vfio-pci resets a device that is opened and tells by `VFIO_DEVICE_FLAGS_RESET` whether that worked
//! (`vfio_pci_core_enable`: `vdev->reset_works = !ret`), which is the verdict that asking for one more
//! reset would give. Other drivers set that flag whatever happened, so they are asked. The reset at
//! closing cannot be left out.
//!
//! # What counts as the device's memory
//!
//! A memory BAR that is 64 bits wide and prefetchable, has at least [`LEAST`] bytes that can be
//! mapped, and holds no MSI-X table. Prefetchable means that reading it has no side effects (PCI
//! Local Bus Specification 3.0, 6.2.5.1), which registers cannot promise. Two vendors' GPUs have such
//! BARs that are no memory, and these are left alone: AMD's doorbells (BAR 2; Linux,
//! drivers/gpu/drm/amd/amdgpu/amdgpu_device.c) and NVIDIA's BAR 3, a window through the GPU's own
//! page tables (open-gpu-kernel-modules, kernel-open/nvidia/nv-pci.c). Nothing else is ever written.
//!
//! # What it does not prove
//!
//! What no BAR shows: registers, caches and contexts of the device are left to its reset, and so is
//! memory that the GPU keeps for itself. Where the BAR is a window that the device can move
//! (NVIDIA's BAR 1), what is read back is what the window shows after the reset.

mod evidence;
mod memory;
mod policy;

pub use evidence::{Evidence, ResetEvidence, Step, VendorClear, Verdict};
pub use memory::LEAST;
pub use policy::{FitFor, Proof};

use crate::{
    device::{Device, DeviceError, NonZero, ResetOffer},
    node::Node,
    preflight::chain,
};
pub(crate) use memory::DeviceMemory;
use serde::{Deserialize, Serialize};
use std::{
    fmt,
    time::{Duration, Instant},
};
use vgpud_mdev::{ClearOutcome, Host, Instance, InstanceName, attribute};

const INTEL: u16 = 0x8086;

/// The slice that is scrubbed or checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subject {
    pub instance: Instance,
    pub node: Node,
    /// Bytes of device memory that its owner had, where the mechanism says.
    pub memory: Option<u64>,
}

/// What a child process is at; completes "waited for".
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stage {
    Start,
    Open,
    Reset,
    VendorClear,
    ReadBack,
    Clear,
    Overwrite,
    Check,
    Close,
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Start => "the process that works on the device to start",
            Self::Open => "the device to open, which resets it",
            Self::Reset => "the device's reset",
            Self::VendorClear => "the device's memory to be cleared by its vendor's driver",
            Self::ReadBack => "the device's memory to be read back",
            Self::Clear => "the device's memory to be cleared after its reset",
            Self::Overwrite => "the device's memory to be overwritten",
            Self::Check => "a check of the device",
            Self::Close => "the device to close, which resets it",
        })
    }
}

/// Scrubs the slice, which nobody may hold. `at` learns of each stage before it begins.
///
/// # Errors
/// Where the device cannot be opened or does not answer; what a reset or a check comes to is
/// evidence and no error.
pub fn scrub(host: &Host, subject: &Subject, mut at: impl FnMut(Stage)) -> Result<Evidence, DeviceError> {
    let begun = Instant::now();
    at(Stage::Open);
    let device = Device::open(host, &subject.node, &subject.instance.sysfs)?;
    let mut scrub = Scrub {
        device,
        subject,
        at: &mut at,
        steps: Vec::new(),
        vendor_clear: VendorClear::default(),
        reading: Duration::ZERO,
    };
    let outcome = scrub.run(host);
    let Scrub { device, steps, vendor_clear, reading, .. } = scrub;
    at(Stage::Close);
    drop(device);
    let Outcome { reset, verdict, checked, found } = outcome?;
    Ok(Evidence {
        verdict,
        reset,
        vendor_clear,
        steps,
        bytes_checked: checked,
        bytes_found: found,
        read_back_us: micros(reading),
        duration_us: micros(begun.elapsed()),
    })
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

struct Scrub<'a> {
    device: Device,
    subject: &'a Subject,
    at: &'a mut dyn FnMut(Stage),
    steps: Vec<Step>,
    vendor_clear: VendorClear,
    /// How long the first look took, with what it waited for.
    reading: Duration,
}

struct Outcome {
    reset: ResetEvidence,
    verdict: Verdict,
    checked: u64,
    found: u64,
}

impl Scrub<'_> {
    fn run(&mut self, host: &Host) -> Result<Outcome, DeviceError> {
        let methods = self.methods();
        let reset = if self.was_reset_at_opening() { self.was_reset(methods)? } else { self.reset(methods)? };
        if let ResetEvidence::Failed { why, .. } = &reset {
            let verdict = Verdict::Unchecked { why: format!("the reset failed: {why}") };
            return Ok(Outcome { reset, verdict, checked: 0, found: 0 });
        }
        self.let_vendor_clear(host);
        let command = self.device.enable_memory()?;
        let outcome = self.make_clean(reset);
        // After a failure the device is no longer trusted anyway.
        let restored = self.device.set_command(command);
        let outcome = outcome?;
        restored.map(|()| outcome)
    }

    fn make_clean(&mut self, reset: ResetEvidence) -> Result<Outcome, DeviceError> {
        let memory = DeviceMemory::of(&self.device)?;
        let checked = memory.bytes();
        if checked == 0 {
            let why = "it has no memory that can be mapped and read back".to_owned();
            return Ok(Outcome { reset, verdict: Verdict::Unchecked { why }, checked, found: 0 });
        }
        let reading = Instant::now();
        let (found, _) = self.look_patiently(&memory)?;
        self.reading = reading.elapsed();
        let mut left = (0, NonZero::default());
        if found.bytes > 0 {
            (self.at)(Stage::Overwrite);
            memory.clear(&self.device)?;
            self.steps.push(Step::Overwrite { bytes: checked });
            let methods = self.methods();
            if let failed @ ResetEvidence::Failed { .. } = self.reset(methods)? {
                let why = "the reset after overwriting failed".to_owned();
                let verdict = Verdict::Unchecked { why };
                return Ok(Outcome { reset: failed, verdict, checked, found: found.bytes });
            }
            self.device.enable_memory()?;
            let (rest, bar) = self.look_patiently(&memory)?;
            left = (bar, rest);
        }
        let verdict = match (left, found.bytes, self.subject.memory) {
            ((bar, NonZero { first: Some(first_offset), .. }), ..) => Verdict::Dirty { bar, first_offset },
            (_, _, Some(owned)) if owned > checked => {
                let why = format!("only {checked} bytes of its {owned} can be mapped and read back");
                Verdict::Unchecked { why }
            }
            (_, _, None) if self.subject.instance.name == InstanceName::Whole => {
                let why = format!(
                    "how much memory a whole GPU has is not known, and {checked} bytes can be mapped"
                );
                Verdict::Unchecked { why }
            }
            (_, 0, _) => Verdict::Clean,
            _ => Verdict::CleanedByOverwrite,
        };
        Ok(Outcome { reset, verdict, checked, found: found.bytes })
    }

    /// The same, until it is zero or stays what it is for as long as the device may still be cleared.
    fn look_patiently(&mut self, memory: &DeviceMemory) -> Result<(NonZero, u32), DeviceError> {
        let deadline = Instant::now() + self.patience()?;
        loop {
            let (found, bar) = self.look(memory)?;
            let Some(first) = found.first.filter(|_| Instant::now() < deadline) else {
                return Ok((found, bar));
            };
            (self.at)(Stage::Clear);
            self.steps.push(Step::Wait);
            if !memory.turns_zero(&self.device, bar, first, deadline)? {
                return Ok((found, bar));
            }
        }
    }

    /// How long after a reset the device may still be cleared. Intel's xe clears the memory of a VF of a
    /// discrete GPU after each of its resets, which vfio-pci does not wait for, and gives up after 5 s
    /// (Linux, drivers/gpu/drm/xe/xe_gt_sriov_pf_config.c, `pf_sanitize_lmem`).
    fn patience(&self) -> Result<Duration, DeviceError> {
        let vendor = self.device.config_space()?.id().map(|id| id.vendor);
        let is_vf = matches!(self.subject.instance.name, InstanceName::Vf(_));
        let may_be_cleared = is_vf && vendor == Some(INTEL);
        Ok(if may_be_cleared { Duration::from_secs(6) } else { Duration::ZERO })
    }

    /// All of the memory: what is not zero, and the BAR in which the first such byte is.
    fn look(&mut self, memory: &DeviceMemory) -> Result<(NonZero, u32), DeviceError> {
        (self.at)(Stage::ReadBack);
        let found = memory.look(&self.device)?;
        self.steps.push(Step::ReadBack { bytes: memory.bytes() });
        Ok(found)
    }

    fn let_vendor_clear(&mut self, host: &Host) {
        (self.at)(Stage::VendorClear);
        self.vendor_clear = match self.subject.instance.clear_memory(host) {
            Ok(ClearOutcome::NotOffered) => return,
            Ok(ClearOutcome::Reported { by }) => VendorClear::Reported { by: by.to_owned() },
            Err(error) => VendorClear::Failed { why: chain(&error) },
        };
        self.steps.push(Step::VendorClear);
    }

    /// What sysfs says how the device can be reset; empty for a mediated device.
    fn methods(&self) -> String {
        let path = self.subject.instance.sysfs.join("reset_method");
        attribute::read(&path).ok().flatten().unwrap_or_default()
    }

    fn was_reset_at_opening(&self) -> bool {
        let driver = self.subject.instance.driver.as_ref();
        driver.is_some_and(|driver| driver.0 == "vfio-pci")
            && self.device.reset_offer() == ResetOffer::Offered
    }

    fn reset(&mut self, methods: String) -> Result<ResetEvidence, DeviceError> {
        // vfio-pci withdraws its offer when the reset at opening failed, so a device that sysfs says
        // can be reset is asked all the same, for the errno.
        if self.device.reset_offer() == ResetOffer::NotOffered && methods.is_empty() {
            return Ok(ResetEvidence::NotOffered);
        }
        (self.at)(Stage::Reset);
        match self.device.reset() {
            Ok(()) => self.was_reset(methods),
            Err(error @ DeviceError::Refused { .. }) => {
                let errno = error.errno();
                let why = errno.map_or_else(|| error.to_string(), |errno| io_error(errno).to_string());
                Ok(ResetEvidence::Failed { why, errno })
            }
            Err(error) => Err(error),
        }
    }

    fn was_reset(&mut self, methods: String) -> Result<ResetEvidence, DeviceError> {
        self.steps.push(Step::Reset);
        // A device that is gone reads as ones after a reset that "succeeded".
        self.device.config_space().map(|_| ResetEvidence::Done { methods })
    }
}

fn io_error(errno: i32) -> std::io::Error {
    std::io::Error::from_raw_os_error(errno)
}
