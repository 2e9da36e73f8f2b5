//! NVIDIA's tools `sriov-manage` and `nvidia-smi`, which need rights of root, for a daemon that has given up
//! its own.
//!
//! The first unbinds drivers, loads a module and starts programs, and the second makes requests to NVIDIA's
//! devices. So the daemon starts its own program once more before it confines itself (`vgpud vfs`), only where
//! one of the tools is there, and that process keeps its rights. It takes two orders: all VFs of one GPU of
//! NVIDIA's on, or off; and one of the few things that `nvidia-smi` is run for, which tell of MIG of one GPU
//! or change it ([`SmiCommand`]). What it can be made to do by whoever gets to run code in the daemon is that
//! and no more.
//!
//! Orders and answers are a [`Dialogue`]: those for one GPU wait for one another, and not for those of another GPU
//! ([`mdev::nvidia::Tools`]). When the daemon ends, the process ends its runs of the tools first.

use crate::failure::Failure;
use serde::{Deserialize, Serialize};
use std::{
    io,
    os::{fd::OwnedFd, unix::net::UnixStream},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::Arc,
    time::Duration,
};
use vgpud_config::NvidiaSettings;
use vgpud_mdev::{
    self as mdev, Host, PciAddress,
    attribute::{self, Kernel, RunningKernel},
    nvidia::{Said, SmiCommand, Turn},
};
use vgpud_vmm::{
    dialogue::{self, Dialogue, NoAnswer},
    lookout::LookoutProcess,
};

/// Beside the time that the tool may take, and as much for one of the same GPU before it.
const SLACK: Duration = Duration::from_secs(5);

/// Orders at once: each GPU has one under way, and perhaps one that waits for it.
const ORDERS: usize = 256;

#[derive(Debug, Serialize, Deserialize)]
struct Order {
    gpu: PciAddress,
    work: Work,
    within: Duration,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Work {
    Turn(Turn),
    Smi(SmiCommand),
}

/// What the tool said, or what went wrong with its causes.
type Answer = Result<Said, String>;

/// The process, seen from the daemon.
#[derive(Debug)]
pub struct VfProcess(Dialogue<Answer>);

impl VfProcess {
    /// Starts `program`, which understands `vfs`; `root` is the folder to take for the host's root, and
    /// `tools` says where NVIDIA's are on that host.
    ///
    /// # Errors
    /// Where it does not start.
    pub fn start(program: &Path, root: Option<&Path>, tools: &NvidiaSettings) -> io::Result<Self> {
        let (ours, theirs) = UnixStream::pair()?;
        let mut command = Command::new(program);
        command.arg("vfs").arg("--sriov-manage").arg(&tools.sriov_manage);
        command.arg("--nvidia-smi").arg(&tools.nvidia_smi);
        command.stdin(OwnedFd::from(theirs)).stdout(Stdio::null());
        if let Some(root) = root {
            command.arg("--root").arg(root);
        }
        // It ends with the socket, as the lookout does.
        command.spawn()?;
        Self::on(ours)
    }

    fn on(stream: UnixStream) -> io::Result<Self> {
        Ok(Self(Dialogue::on(stream, SLACK)?))
    }

    /// Takes answers from now on, on a thread of its own.
    ///
    /// # Errors
    /// Where there is no thread.
    pub fn listen(&self) -> io::Result<()> {
        let at_end = || tracing::error!("the process vgpud-vfs has ended; {GONE}");
        self.0.listen("vgpud-vfs", at_end)
    }

    fn order(&self, gpu: PciAddress, work: Work, within: Duration) -> io::Result<Said> {
        let answer = self.0.ask(Order { gpu, work, within }, 2 * within + SLACK);
        let said = answer.map_err(|error| match error {
            NoAnswer::Late => io::Error::other("the process vgpud-vfs, which runs it, does not answer"),
            NoAnswer::Gone(source) => io::Error::new(
                source.kind(),
                format!("the process vgpud-vfs, which runs it, is gone; {GONE}"),
            ),
        });
        said?.map_err(io::Error::other)
    }
}

const GONE: &str = "start vgpud again, or GPUs of NVIDIA's stay as they are";

/// In the process: carries out orders until there are no more and those that were begun have ended.
///
/// # Errors
/// Where an order cannot be read or has no thread.
pub fn serve(host: &Host, stream: UnixStream) -> io::Result<()> {
    let too_many = || Err(format!("{ORDERS} orders have not ended yet; see the kernel's log"));
    let tools = Arc::clone(host.tools());
    let host = host.clone();
    let served = dialogue::serve(stream, ORDERS, too_many, move |order: Order| carry_out(&host, &order));
    tools.close();
    served
}

/// The daemon may have fallen into other hands: nothing but a GPU of NVIDIA's is touched, and so no sound or
/// USB function of its card.
fn carry_out(host: &Host, order: &Order) -> Answer {
    let Order { gpu, work, within } = *order;
    let read = |name: &str| {
        attribute::read(&host.pci_device(gpu).join(name)).map_err(|error| Failure::from(&error).line())
    };
    let is_display = read("class")?.is_some_and(|class| class.starts_with("0x03"));
    if read("vendor")?.as_deref() != Some("0x10de") || !is_display {
        return Err(format!("{gpu} is no GPU of NVIDIA's"));
    }
    let host = host.clone().with_patience(within);
    let said = match work {
        Work::Turn(turn) => RunningKernel.turn_vfs(&host, gpu, turn),
        Work::Smi(command) => RunningKernel.nvidia_smi(&host, gpu, command),
    };
    said.map_err(|error| match error {
        // Of which program this is the daemon knows.
        mdev::Error::Run { source, .. } => source.to_string(),
        error => Failure::from(&error).line(),
    })
}

/// The kernel as a confined daemon reaches it: some of it through processes that may do more.
#[derive(Debug)]
pub struct ConfinedKernel {
    pub lookout: Arc<LookoutProcess>,
    /// None where none of NVIDIA's tools was there at the start.
    pub vfs: Option<Arc<VfProcess>>,
}

impl ConfinedKernel {
    fn order(&self, host: &Host, gpu: PciAddress, work: Work, program: PathBuf) -> Result<Said, mdev::Error> {
        let said = match &self.vfs {
            Some(vfs) => vfs.order(gpu, work, host.patience()),
            None => Err(io::Error::other(missing(&program))),
        };
        said.map_err(|source| mdev::Error::Run { program, source })
    }
}

impl Kernel for ConfinedKernel {
    fn write(&self, path: &Path, value: &str) -> io::Result<()> {
        RunningKernel.write(path, value)
    }

    fn pause(&self, time: Duration) {
        RunningKernel.pause(time);
    }

    fn config_space(&self, host: &Host, address: PciAddress) -> Result<Option<Vec<u8>>, mdev::Error> {
        self.lookout.config_space(host, address)
    }

    fn turn_vfs(&self, host: &Host, gpu: PciAddress, turn: Turn) -> Result<Said, mdev::Error> {
        self.order(host, gpu, Work::Turn(turn), host.sriov_manage())
    }

    fn nvidia_smi(&self, host: &Host, gpu: PciAddress, command: SmiCommand) -> Result<Said, mdev::Error> {
        self.order(host, gpu, Work::Smi(command), host.nvidia_smi())
    }
}

/// Why there is no process that runs the tool, and the way out.
fn missing(tool: &Path) -> &'static str {
    if attribute::exists(tool) {
        "it was not there when vgpud was started, which confines itself before it serves; start vgpud again"
    } else {
        "it is not there; it comes with NVIDIA's vGPU host driver, and the settings say where it is under [nvidia]; \
         install it or mend the setting, then start vgpud again"
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{fs, os::unix::fs::PermissionsExt, thread};

    const GPU: &str = "0000:41:00.0";

    /// A host with two GPUs and a tool that says how it was called.
    fn host(vendor: &str, class: &str, script: &str) -> (tempfile::TempDir, Host) {
        let folder = tempfile::tempdir().unwrap();
        let host = Host::new(folder.path());
        for gpu in [GPU, SECOND] {
            let gpu = host.pci_device(gpu.parse().unwrap());
            fs::create_dir_all(&gpu).unwrap();
            fs::write(gpu.join("vendor"), vendor).unwrap();
            fs::write(gpu.join("class"), class).unwrap();
        }
        for tool in [host.sriov_manage(), host.nvidia_smi()] {
            fs::create_dir_all(tool.parent().unwrap()).unwrap();
            fs::write(&tool, format!("#!/bin/sh\n{script}\n")).unwrap();
            fs::set_permissions(&tool, fs::Permissions::from_mode(0o755)).unwrap();
        }
        (folder, host)
    }

    const SECOND: &str = "0000:42:00.0";
    const LONG: Duration = Duration::from_secs(60);

    /// The process at work on this host while `act` gives it orders.
    fn at_work<T>(host: &Host, act: impl FnOnce(&VfProcess) -> T) -> T {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let end = ours.try_clone().unwrap();
        let process = VfProcess::on(ours).unwrap();
        process.listen().unwrap();
        thread::scope(|scope| {
            scope.spawn(|| serve(host, theirs).unwrap());
            let done = act(&process);
            end.shutdown(std::net::Shutdown::Both).unwrap();
            done
        })
    }

    fn served(host: &Host, within: Duration) -> Vec<io::Result<Said>> {
        let gpu = GPU.parse().unwrap();
        let work = [Work::Turn(Turn::On), Work::Turn(Turn::Off), Work::Smi(SmiCommand::Destroy(9))];
        at_work(host, |process| work.map(|work| process.order(gpu, work, within)).into())
    }

    #[test]
    fn orders_are_carried_out_and_answered() {
        let (_folder, host) = host("0x10de\n", "0x030200\n", "echo \"$@\"; test $1 = -e");
        let turned: Vec<_> = served(&host, Duration::from_secs(60)).into_iter().map(Result::unwrap).collect();
        let told: Vec<_> = turned.iter().map(|turned| (turned.success, turned.words.as_str())).collect();
        let smi = (false, "mig -i 0000:41:00.0 -dgi -gi 9");
        assert_eq!(told, [(true, "-e 0000:41:00.0"), (false, "-d 0000:41:00.0"), smi]);
    }

    #[test]
    fn what_is_no_gpu_of_nvidias_is_refused_without_running_anything() {
        for (vendor, class) in [("0x1002\n", "0x030200\n"), ("0x10de\n", "0x040300\n")] {
            let (folder, host) = host(vendor, class, "touch $(dirname $0)/ran");
            for turned in served(&host, Duration::from_secs(60)) {
                assert_eq!(turned.unwrap_err().to_string(), "0000:41:00.0 is no GPU of NVIDIA's");
            }
            for ran in ["usr/lib/nvidia/ran", "usr/bin/ran"] {
                assert!(!fs::exists(folder.path().join(ran)).unwrap());
            }
        }
    }

    #[test]
    fn a_tool_that_does_not_end_is_told_in_its_own_words() {
        let (_folder, host) = host("0x10de\n", "0x030200\n", "sleep 600");
        for turned in served(&host, Duration::from_millis(200)) {
            let told = turned.unwrap_err().to_string();
            assert!(told.contains("Waited 0.2 s for") && told.contains(" to end"), "{told}");
        }
    }

    #[test]
    fn a_tool_that_came_after_vgpud_is_told_from_one_that_is_not_there() {
        let (_folder, host) = host("0x10de\n", "0x030200\n", "exit 0");
        assert!(missing(&host.sriov_manage()).starts_with("it was not there when vgpud was started"));
        fs::remove_file(host.sriov_manage()).unwrap();
        assert!(missing(&host.sriov_manage()).starts_with("it is not there; it comes with"));
    }

    #[test]
    fn a_process_that_is_gone_is_an_error_and_no_wait() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let process = VfProcess::on(ours).unwrap();
        process.listen().unwrap();
        drop(theirs);
        let turned = process.order(GPU.parse().unwrap(), Work::Turn(Turn::On), Duration::from_secs(600));
        let told = turned.unwrap_err().to_string();
        assert!(told.contains("vgpud-vfs") && told.contains("start vgpud again"), "{told}");
    }

    /// A tool that hangs keeps no other GPU's, and the process does not end before it.
    #[test]
    fn another_gpu_is_served_while_a_tool_hangs() {
        let hang = "echo $$ > $(dirname $0)/pid; exec sleep 600";
        let (folder, host) =
            host("0x10de\n", "0x030200\n", &format!("case \"$*\" in *{GPU}*) {hang};; esac"));
        let (first, second): (PciAddress, PciAddress) = (GPU.parse().unwrap(), SECOND.parse().unwrap());
        let pid = || fs::read_to_string(folder.path().join("usr/bin/pid")).ok()?.trim().parse::<i32>().ok();
        let hung = at_work(&host, |process| {
            thread::scope(|scope| {
                let hung = scope.spawn(|| process.order(first, Work::Smi(SmiCommand::Mode), LONG));
                let pid = mdev::wait::until("the tool to run", LONG, || Ok::<_, mdev::wait::TimedOut>(pid()));
                let pid = nix::unistd::Pid::from_raw(pid.unwrap());
                for work in [Work::Turn(Turn::On), Work::Smi(SmiCommand::Mode)] {
                    assert!(process.order(second, work, LONG).unwrap().success);
                }
                assert!(!hung.is_finished());
                nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).unwrap();
                hung.join().unwrap().unwrap()
            })
        });
        assert!(!hung.success);
    }
}
