//! Turning all VFs of a GPU on or off, which NVIDIA's tool alone may do (NVIDIA Virtual GPU Software User
//! Guide, "Preparing the Virtual Function for an NVIDIA vGPU").
//!
//! `sriov-manage -e ADDRESS` takes the PF off NVIDIA's driver, which has no `sriov_configure`, enables all
//! its VFs on another one and brings PF and VFs back. Its exit code is a claim: vGPU 17.2's is 0 though
//! VFs failed (NVIDIA/gpu-driver-container#29), and one that was stopped half-way leaves the PF on
//! `pci-pf-stub`. So what counts is what sysfs shows afterwards.
//!
//! The tool has to get the driver's `unbindLock` of the GPU, which it does not while a program uses
//! NVML, such as DCGM's; then it is tried again some times.

use super::vgpu::{self, DRIVER, STUB, stranded};
use crate::{
    DriverName, Error, Host, PciAddress, attribute, device, physical_function::PhysicalFunction,
    virtual_function::VirtualFunction,
};
use nix::{
    sys::signal::{Signal, killpg},
    unistd::Pid,
};
use serde::{Deserialize, Serialize};
use std::{
    fmt,
    io::{self, Read},
    os::unix::process::CommandExt,
    path::Path,
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Mutex, PoisonError, mpsc},
    thread,
    time::Duration,
};
use vgpud_config::Shown;

/// How often the tool is run while something keeps the GPU's lock.
const TRIES: u32 = 5;
const BETWEEN_TRIES: Duration = Duration::from_secs(1);

/// Longest text that is kept of what the tool says.
const LONGEST: u64 = 4096;

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

/// What the tool says that it came to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Turned {
    pub success: bool,
    /// All that it printed, as far as it is kept.
    pub words: String,
}

impl Turned {
    fn is_locked_out(&self) -> bool {
        self.words.contains("unbindLock")
    }
}

/// `said that all went well`, or `failed ("…")`.
impl fmt::Display for Turned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.success {
            return f.write_str("said that all went well");
        }
        match self.words.lines().rfind(|line| !line.trim().is_empty()) {
            Some(line) => write!(f, "failed ({})", Shown(line.trim())),
            None => f.write_str("failed without a word"),
        }
    }
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
        let turned =
            host.kernel().turn_vfs(host, gpu, turn).map_err(|error| cut_short(host, gpu, turn, error))?;
        if !turned.is_locked_out() || tries == TRIES || State::read(host, gpu)?.is(turn) {
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
    } else if turned.is_locked_out() {
        "end what uses the GPU through NVML (nv-hostengine, dcgm-exporter, nvidia-persistenced) and try again"
            .to_owned()
    } else {
        "the kernel log says why (`dmesg`); VFs need an IOMMU and room for their memory above 4G".to_owned()
    };
    let found = format!("{state} after `sriov-manage {}`, which {turned}", turn.option());
    Err(Error::SriovManage { gpu, found, way_out })
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

/// One run at a time: the tool gives the ids of a GPU to another driver for a moment.
static RUNS: Mutex<()> = Mutex::new(());

/// Runs the tool, and ends it where it takes longer than `within`.
///
/// # Errors
/// Where it cannot be run or does not end.
pub(crate) fn run(tool: &Path, gpu: PciAddress, turn: Turn, within: Duration) -> Result<Turned, Error> {
    let _alone = RUNS.lock().unwrap_or_else(PoisonError::into_inner);
    let failed = |source| Error::Run { program: tool.to_owned(), source };
    let (reader, writer) = io::pipe().map_err(failed)?;
    let mut command = Command::new(tool);
    command.arg(turn.option()).arg(gpu.to_string()).env_clear();
    command.env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").env("LC_ALL", "C").current_dir("/");
    command.stdin(Stdio::null()).stdout(writer.try_clone().map_err(failed)?).stderr(writer);
    // What it starts ends with it.
    command.process_group(0);
    let child = command.spawn().map_err(failed)?;
    // It holds the pipe's other end.
    drop(command);
    let (sender, words) = mpsc::channel();
    thread::Builder::new().spawn(move || sender.send(listen(reader))).map_err(failed)?;
    let status = end(child, tool, within)?;
    // A program that the tool left behind may keep the pipe open; then its words are not waited for.
    let words = words.recv_timeout(Duration::from_secs(1)).unwrap_or_default();
    tracing::info!(%gpu, option = turn.option(), %status, words, "sriov-manage");
    Ok(Turned { success: status.success(), words })
}

/// The beginning of what is said; the rest is let through, so that nobody waits for a reader.
fn listen(mut pipe: io::PipeReader) -> String {
    let mut words = Vec::new();
    // What was read before an error counts.
    let _ = (&mut pipe).take(LONGEST).read_to_end(&mut words);
    thread::spawn(move || io::copy(&mut pipe, &mut io::sink()));
    String::from_utf8_lossy(&words).trim().to_owned()
}

fn end(mut child: Child, tool: &Path, within: Duration) -> Result<ExitStatus, Error> {
    let failed = |source| Error::Run { program: tool.to_owned(), source };
    let what = format!("{} to end (`device` under [timeouts] gives it more time)", tool.display());
    let ended = crate::wait::until(&what, within, || child.try_wait().map_err(failed));
    let Err(Error::TimedOut(_)) = &ended else { return ended };
    if let Ok(group) = i32::try_from(child.id()) {
        // Where it has just ended there is nothing to end.
        let _ = killpg(Pid::from_raw(group), Signal::SIGKILL);
    }
    // One that is stuck in the kernel stays; the deadline is what is told either way.
    let _ = crate::wait::until(&what, Duration::from_secs(1), || child.try_wait().map_err(failed));
    ended
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{fs, os::unix::fs::PermissionsExt, path::PathBuf};

    fn tool(folder: &Path, script: &str) -> PathBuf {
        let path = folder.join("sriov-manage");
        fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        path
    }

    fn ran(script: &str, within: Duration) -> Result<Turned, Error> {
        let folder = tempfile::tempdir().unwrap();
        run(&tool(folder.path(), script), "0000:41:00.0".parse().unwrap(), Turn::On, within)
    }

    const LONG: Duration = Duration::from_secs(60);

    #[test]
    fn its_words_and_its_exit_code_are_told() {
        let turned = ran("echo \"$@ $LC_ALL\"; echo Cannot obtain unbindLock >&2; exit 3", LONG).unwrap();
        assert_eq!(turned.words, "-e 0000:41:00.0 C\nCannot obtain unbindLock");
        assert!(!turned.success && turned.is_locked_out());
        assert_eq!(turned.to_string(), "failed (Cannot obtain unbindLock)");
        let turned = ran("exit 0", LONG).unwrap();
        assert_eq!((turned.success, turned.words.as_str()), (true, ""));
    }

    #[test]
    fn much_that_it_says_neither_stops_it_nor_is_kept() {
        let turned = ran("yes | head -c 1000000", LONG).unwrap();
        assert!(turned.success);
        assert!(turned.words.len() <= 4096, "{}", turned.words.len());
    }

    #[test]
    fn it_is_ended_with_all_that_it_started() {
        let folder = tempfile::tempdir().unwrap();
        let pid = folder.path().join("pid");
        let script = format!("sleep 600 & echo $! > {}; wait", pid.display());
        let told = run(
            &tool(folder.path(), &script),
            "0000:41:00.0".parse().unwrap(),
            Turn::Off,
            Duration::from_millis(500),
        );
        assert!(matches!(told, Err(Error::TimedOut(_))), "{told:?}");
        let child = format!("/proc/{}/stat", fs::read_to_string(pid).unwrap().trim());
        let gone = crate::wait::until("its child to end", LONG, || {
            let stat = fs::read_to_string(&child).unwrap_or_default();
            Ok::<_, crate::wait::TimedOut>((stat.is_empty() || stat.contains(") Z ")).then_some(()))
        });
        gone.unwrap();
    }

    #[test]
    fn a_tool_that_is_not_there_is_named() {
        let told = run(Path::new("/nowhere/sriov-manage"), "0000:41:00.0".parse().unwrap(), Turn::On, LONG);
        assert!(told.unwrap_err().to_string().contains("/nowhere/sriov-manage"));
    }
}
