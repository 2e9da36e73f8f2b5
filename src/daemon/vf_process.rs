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
//! Order and answer are JSON, one to a line, on a socket that is the process's standard input; it ends
//! when that is closed. Orders are carried out one after the other.

use crate::failure::Failure;
use serde::{Deserialize, Serialize};
use std::{
    io::{self, BufRead, BufReader, Write},
    os::{fd::OwnedFd, unix::net::UnixStream},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use vgpud_config::NvidiaSettings;
use vgpud_mdev::{
    self as mdev, Host, PciAddress,
    attribute::{self, Kernel, RunningKernel},
    nvidia::{Said, SmiCommand, Turn},
};
use vgpud_vmm::lookout::LookoutProcess;

/// Beside the time that the tool may take.
const SLACK: Duration = Duration::from_secs(5);

#[derive(Debug, Serialize, Deserialize)]
struct Order {
    number: u64,
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

#[derive(Debug, Serialize, Deserialize)]
struct Answer {
    number: u64,
    /// What went wrong, with its causes.
    said: Result<Said, String>,
}

/// The process, seen from the daemon.
#[derive(Debug)]
pub struct VfProcess(Mutex<Orders>);

#[derive(Debug)]
struct Orders {
    last: u64,
    stream: BufReader<UnixStream>,
}

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
        Ok(Self::on(ours))
    }

    fn on(stream: UnixStream) -> Self {
        Self(Mutex::new(Orders { last: 0, stream: BufReader::new(stream) }))
    }

    fn order(&self, gpu: PciAddress, work: Work, within: Duration) -> io::Result<Said> {
        let mut orders = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        orders.last += 1;
        let number = orders.last;
        orders.stream.get_ref().set_read_timeout(Some(within + SLACK))?;
        say(orders.stream.get_mut(), &Order { number, gpu, work, within })?;
        loop {
            let mut line = String::new();
            if orders.stream.read_line(&mut line)? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let answer: Answer = serde_json::from_str(&line)?;
            // An answer that came too late was somebody else's.
            if answer.number == number {
                return answer.said.map_err(io::Error::other);
            }
        }
    }
}

fn say(stream: &mut UnixStream, message: &impl Serialize) -> io::Result<()> {
    let mut line = serde_json::to_vec(message)?;
    line.push(b'\n');
    stream.write_all(&line)
}

/// In the process: carries out orders until there are no more.
///
/// # Errors
/// Where an order cannot be read or an answer is not taken.
pub fn serve(host: &Host, stream: UnixStream) -> io::Result<()> {
    let mut answers = stream.try_clone()?;
    for line in BufReader::new(stream).lines() {
        let Order { number, gpu, work, within } = serde_json::from_str(&line?)?;
        let said = carry_out(host, gpu, work, within);
        say(&mut answers, &Answer { number, said })?;
    }
    Ok(())
}

/// The daemon may have fallen into other hands: nothing but a GPU of NVIDIA's is touched, and so no sound or
/// USB function of its card.
fn carry_out(host: &Host, gpu: PciAddress, work: Work, within: Duration) -> Result<Said, String> {
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
    said.map_err(|error| Failure::from(&error).line())
}

/// The kernel as a confined daemon reaches it: some of it through processes that may do more.
#[derive(Debug)]
pub struct ConfinedKernel {
    pub lookout: Arc<LookoutProcess>,
    /// None where none of NVIDIA's tools was there at the start.
    pub vfs: Option<VfProcess>,
}

impl ConfinedKernel {
    fn order(&self, host: &Host, gpu: PciAddress, work: Work, program: PathBuf) -> Result<Said, mdev::Error> {
        let said = match &self.vfs {
            Some(vfs) => vfs.order(gpu, work, host.patience()),
            None => Err(io::Error::other(missing(&program))),
        };
        said.map_err(|source| match source.kind() {
            io::ErrorKind::Other => source,
            io::ErrorKind::WouldBlock => {
                io::Error::other("the process vgpud-vfs, which runs it, does not answer")
            }
            kind => io::Error::new(kind, "the process vgpud-vfs, which runs it, is gone; start vgpud again"),
        })
        .map_err(|source| mdev::Error::Run { program, source })
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
        let gpu = host.pci_device(GPU.parse().unwrap());
        fs::create_dir_all(&gpu).unwrap();
        fs::write(gpu.join("vendor"), vendor).unwrap();
        fs::write(gpu.join("class"), class).unwrap();
        for tool in [host.sriov_manage(), host.nvidia_smi()] {
            fs::create_dir_all(tool.parent().unwrap()).unwrap();
            fs::write(&tool, format!("#!/bin/sh\n{script}\n")).unwrap();
            fs::set_permissions(&tool, fs::Permissions::from_mode(0o755)).unwrap();
        }
        (folder, host)
    }

    fn served(host: &Host, within: Duration) -> Vec<io::Result<Said>> {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let process = VfProcess::on(ours);
        thread::scope(|scope| {
            scope.spawn(|| serve(host, theirs).unwrap());
            let gpu = GPU.parse().unwrap();
            let work = [Work::Turn(Turn::On), Work::Turn(Turn::Off), Work::Smi(SmiCommand::Destroy(9))];
            let said = work.map(|work| process.order(gpu, work, within));
            drop(process);
            said.into()
        })
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
        let process = VfProcess::on(ours);
        drop(theirs);
        let turned = process.order(GPU.parse().unwrap(), Work::Turn(Turn::On), Duration::from_secs(600));
        turned.unwrap_err();
    }
}
