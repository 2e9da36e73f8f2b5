//! Turning all VFs of a GPU on or off, which NVIDIA's tool alone may do (NVIDIA Virtual GPU Software User
//! Guide, "Preparing the Virtual Function for an NVIDIA vGPU").
//!
//! `sriov-manage -e ADDRESS` takes the PF off NVIDIA's driver, which has no `sriov_configure`, enables all
//! its VFs on another one and brings PF and VFs back. Its exit code is a claim: vGPU 17.2's is 0 though
//! VFs failed (NVIDIA/gpu-driver-container#29), and one that was stopped half-way leaves the PF on
//! `pci-pf-stub`. So what counts is what sysfs shows afterwards.
//!
//! The tool has to get the driver's `unbindLock` of the GPU, which it does not while a program uses
//! NVML, such as DCGM's; then it is tried again some times. Whether vgpud's own `nvidia-smi` for another GPU can be
//! one of those, for a moment, is not documented.

use super::vgpu::{self, DRIVER, STUB, stranded};
use crate::{
    DriverName, Error, Host, PciAddress, attribute, device,
    nvidia::tool::{self, Said},
    physical_function::PhysicalFunction,
    virtual_function::VirtualFunction,
};
use serde::{Deserialize, Serialize};
use std::{fmt, time::Duration};

/// How often the tool is run while something keeps the GPU's lock.
const TRIES: u32 = 5;
const BETWEEN_TRIES: Duration = Duration::from_secs(1);

/// For what lies between a run and the end of its turn.
const SLACK: Duration = Duration::from_secs(10);

/// Which way VFs are turned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Turn {
    On,
    Off,
}

impl Turn {
    /// As the tool takes it.
    #[must_use]
    pub const fn option(self) -> &'static str {
        match self {
            Self::On => "-e",
            Self::Off => "-d",
        }
    }
}

fn is_locked_out(said: &Said) -> bool {
    said.words.contains("unbindLock")
}

/// The GPU as far as its VFs are concerned.
#[derive(Debug)]
struct State {
    driver: Option<DriverName>,
    total: u16,
    enabled: u16,
    /// VFs on NVIDIA's driver that may become vGPUs, or parents of mediated devices.
    whole: usize,
}

impl State {
    fn read(host: &Host, gpu: PciAddress) -> Result<Self, Error> {
        let pf = PhysicalFunction { host, gpu };
        let (total, enabled) = (pf.total()?, pf.enabled()?);
        let is_whole = |vf: &VirtualFunction| {
            let folder = host.pci_device(vf.address);
            let is_nvidias = vf.driver.as_ref().is_some_and(|driver| driver.0 == DRIVER);
            let offers = [vgpu::folder(&folder), host.mdev_parent(vf.address)];
            is_nvidias && offers.iter().any(|folder| attribute::exists(folder))
        };
        let whole = VirtualFunction::all(host, gpu)?.iter().filter(|vf| is_whole(vf)).count();
        Ok(Self { driver: device::driver(&host.pci_device(gpu))?, total, enabled, whole })
    }

    fn is(&self, turn: Turn) -> bool {
        let wanted = match turn {
            Turn::On => self.total,
            Turn::Off => 0,
        };
        self.is_on(DRIVER) && self.enabled == wanted && self.whole == usize::from(wanted)
    }

    fn is_on(&self, driver: &str) -> bool {
        self.driver.as_ref().is_some_and(|on| on.0 == driver)
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.driver {
            Some(driver) => write!(f, "is on driver {driver}")?,
            None => f.write_str("is on no driver")?,
        }
        write!(f, " with {} of {} VFs on", self.enabled, self.total)?;
        if self.whole < usize::from(self.enabled) {
            write!(f, ", {} of them ready for vGPUs", self.whole)?;
        }
        Ok(())
    }
}

/// How the VFs were before they were turned on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Before {
    On,
    Off,
}

/// Turns all VFs on where none is.
///
/// # Errors
/// Where they are not all there and ready in time; those that came are turned off again.
pub(super) fn turn_on(host: &Host, gpu: PciAddress) -> Result<Before, Error> {
    let state = State::read(host, gpu)?;
    if state.is_on(STUB) {
        return Err(Error::Unusable { gpu, why: stranded(gpu) });
    }
    // The tool does nothing where one is on: the rest is the matter of the VF that is wanted.
    if state.enabled > 0 {
        return Ok(Before::On);
    }
    match turn(host, gpu, Turn::On) {
        Ok(()) => Ok(Before::Off),
        Err(error) => {
            let came = State::read(host, gpu).is_ok_and(|state| state.enabled > 0 && state.is_on(DRIVER));
            let undo = if came { turn(host, gpu, Turn::Off) } else { Ok(()) };
            Err(error.after_undo(&gpu, undo))
        }
    }
}

/// Turns all VFs off, none of which is a vGPU.
///
/// # Errors
/// Where the GPU is not as it was before them.
pub(super) fn turn_off(host: &Host, gpu: PciAddress) -> Result<(), Error> {
    let state = State::read(host, gpu)?;
    if state.is_on(STUB) && state.enabled == 0 {
        return Err(Error::Unusable { gpu, why: stranded(gpu) });
    }
    if state.enabled == 0 { Ok(()) } else { turn(host, gpu, Turn::Off) }
}

fn turn(host: &Host, gpu: PciAddress, turn: Turn) -> Result<(), Error> {
    let mut tries = 1;
    let turned = loop {
        let turned = run_in_turn(host, gpu, turn).map_err(|error| cut_short(host, gpu, turn, error))?;
        if !is_locked_out(&turned) || tries == TRIES || State::read(host, gpu)?.is(turn) {
            break turned;
        }
        tries += 1;
        host.kernel().pause(BETWEEN_TRIES);
    };
    // What it says that it did may come in a moment; what failed does not.
    let patience = if turned.success { host.patience() } else { Duration::ZERO };
    let reached = host
        .clone()
        .with_patience(patience)
        .wait_for(String::new, || Ok(State::read(host, gpu)?.is(turn).then_some(())));
    match reached {
        Err(Error::TimedOut(_)) => {}
        reached => return reached,
    }
    let state = State::read(host, gpu)?;
    let way_out = if state.is_on(STUB) {
        stranded(gpu)
    } else if is_locked_out(&turned) {
        "end what uses the GPU through NVML (nv-hostengine, dcgm-exporter, nvidia-persistenced) and try again"
            .to_owned()
    } else {
        "the kernel log says why (`dmesg`); VFs need an IOMMU and room for their memory above 4G".to_owned()
    };
    let found = format!("{state} after `sriov-manage {}`, which {turned}", turn.option());
    Err(Error::SriovManage { gpu, found, way_out })
}

/// Runs the tool when no other GPU's run of it is under way.
fn run_in_turn(host: &Host, gpu: PciAddress, turn: Turn) -> Result<Said, Error> {
    // What is before it may have waited for another tool of its GPU, and then run for as long.
    let longest = 2 * host.patience() + tool::DYING + SLACK;
    let _turn = host.line().stand(gpu, longest)?;
    host.kernel().turn_vfs(host, gpu, turn)
}

/// A run that did not come to its end may have left the GPU half-way: that is what must be mended.
fn cut_short(host: &Host, gpu: PciAddress, turn: Turn, error: Error) -> Error {
    match State::read(host, gpu) {
        Ok(state) if state.is_on(STUB) => {
            let found =
                format!("{state} after `sriov-manage {}`, which was cut short ({error})", turn.option());
            Error::SriovManage { gpu, found, way_out: stranded(gpu) }
        }
        _ => error,
    }
}

/// Runs the tool, and ends it where it takes longer than the host's patience.
///
/// # Errors
/// Where it cannot be run or does not end.
pub(crate) fn run(host: &Host, gpu: PciAddress, turn: Turn) -> Result<Said, Error> {
    let arguments = [turn.option().to_owned(), gpu.to_string()];
    let said = host.tools().run(gpu, &host.sriov_manage(), &arguments, host.patience())?;
    tracing::info!(%gpu, option = turn.option(), success = said.success, words = said.words, "sriov-manage");
    Ok(said)
}
