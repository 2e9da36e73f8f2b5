//! Looking where the daemon may not, from a process of its own.
//!
//! Landlock takes from a process that confines itself the sight of what others have open, whatever
//! capabilities it has (kernel: security/landlock/task.c, `hook_ptrace_access_check`). And config
//! space beyond its first 64 bytes takes CAP_SYS_ADMIN, which is as good as being root. So the daemon
//! starts its own program once more before it confines itself (`vgpud lookout`) and asks that one:
//! the process that sees everything changes nothing, and the one that changes things does not see it.
//!
//! They talk by a [`Dialogue`], since a reading can hang: of a device in a reset, or of a file on a network
//! that is gone.

use crate::{
    Error,
    dialogue::{self, Dialogue, NoAnswer},
    holders::{HoldError, Holder, Lookout, holders},
    preflight::chain,
};
use serde::{Deserialize, Serialize};
use std::{
    io,
    os::{fd::OwnedFd, unix::net::UnixStream},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};
use vgpud_mdev::{
    Host, PciAddress, VfioNodes,
    attribute::{Kernel, RunningKernel},
};

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum LookoutError {
    #[error(
        "The process vgpud-lookout is gone or does not listen; vgpud ends with it, and systemd starts both again"
    )]
    Gone(#[source] io::Error),
    #[error("Waited {} s for the process vgpud-lookout to see, in vain; a device or a file system may hang, see the kernel's log", within.as_secs_f32())]
    Late { within: Duration },
    /// What it found in its way, with the causes.
    #[error("{why}")]
    Failed { why: String },
}

/// The process, seen from the daemon.
#[derive(Debug)]
pub struct LookoutProcess {
    dialogue: Dialogue<Seen>,
    patience: Duration,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Subject {
    Holders { group: Option<PathBuf>, cdev: Option<PathBuf> },
    ConfigSpace { of: PciAddress },
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Seen {
    Holders(Vec<Holder>),
    ConfigSpace(Option<Vec<u8>>),
    Failed(String),
}

impl LookoutProcess {
    /// Starts `program`, which understands `lookout`; `root` is the folder to take for the host's root,
    /// and `patience` how long an answer is waited for.
    ///
    /// # Errors
    /// Where it does not start.
    pub fn start(program: &Path, root: Option<&Path>, patience: Duration) -> io::Result<Self> {
        let (ours, theirs) = UnixStream::pair()?;
        let mut command = Command::new(program);
        command.arg("lookout").stdin(OwnedFd::from(theirs)).stdout(Stdio::null());
        if let Some(root) = root {
            command.arg("--root").arg(root);
        }
        // It ends with the socket: nobody has to wait for it, and the confined daemon may not kill it.
        command.spawn()?;
        Self::on(ours, patience)
    }

    fn on(stream: UnixStream, patience: Duration) -> io::Result<Self> {
        Ok(Self { dialogue: Dialogue::on(stream, patience)?, patience })
    }

    /// Takes answers from now on, on a thread of its own, which the daemon may not have when it starts
    /// the process. `at_end` is called when the process has ended.
    ///
    /// # Errors
    /// Where there is no thread.
    pub fn listen(&self, at_end: impl FnOnce() + Send + 'static) -> io::Result<()> {
        self.dialogue.listen("lookout", at_end)
    }

    fn ask(&self, subject: Subject) -> Result<Seen, LookoutError> {
        let seen = self.dialogue.ask(subject, self.patience).map_err(|error| match error {
            NoAnswer::Late => LookoutError::Late { within: self.patience },
            NoAnswer::Gone(source) => LookoutError::Gone(source),
        });
        match seen? {
            Seen::Failed(why) => Err(LookoutError::Failed { why }),
            seen => Ok(seen),
        }
    }
}

/// An answer to another question.
fn garbled() -> LookoutError {
    LookoutError::Gone(io::ErrorKind::InvalidData.into())
}

impl Lookout for LookoutProcess {
    fn holders(&self, nodes: &VfioNodes) -> Result<Vec<Holder>, Error> {
        let (group, cdev) = (nodes.group.clone(), nodes.cdev.clone());
        let node = group.iter().chain(&cdev).next().cloned().unwrap_or_default();
        match self.ask(Subject::Holders { group, cdev }) {
            Ok(Seen::Holders(holders)) => Ok(holders),
            Ok(_) => Err(HoldError::Lookout { node, source: garbled() }.into()),
            Err(source) => Err(HoldError::Lookout { node, source }.into()),
        }
    }
}

impl Kernel for LookoutProcess {
    fn write(&self, path: &Path, value: &str) -> io::Result<()> {
        RunningKernel.write(path, value)
    }

    fn pause(&self, time: Duration) {
        RunningKernel.pause(time);
    }

    fn config_space(&self, host: &Host, address: PciAddress) -> Result<Option<Vec<u8>>, vgpud_mdev::Error> {
        let failed = |error| vgpud_mdev::Error::Read {
            path: host.pci_device(address).join("config"),
            source: io::Error::other(error),
        };
        match self.ask(Subject::ConfigSpace { of: address }).map_err(failed)? {
            Seen::ConfigSpace(bytes) => Ok(bytes),
            Seen::Holders(_) | Seen::Failed(_) => Err(failed(garbled())),
        }
    }
}

/// Readings at once. One that hangs keeps its thread until the kernel lets it go.
const READINGS: usize = 64;

/// In the process: answers until nobody asks any more.
///
/// # Errors
/// Where a question cannot be read or has no thread.
pub fn serve(host: &Host, stream: UnixStream) -> io::Result<()> {
    let too_many = || {
        Seen::Failed(format!(
            "{READINGS} readings have not ended yet; a device or a file system hangs, see the kernel's log"
        ))
    };
    let host = host.clone();
    dialogue::serve(stream, READINGS, too_many, move |subject| see(&host, subject))
}

fn see(host: &Host, subject: Subject) -> Seen {
    let seen = match subject {
        Subject::Holders { group, cdev } => holders(host, &VfioNodes { group, cdev }).map(Seen::Holders),
        Subject::ConfigSpace { of } => match RunningKernel.config_space(host, of) {
            Ok(bytes) => Ok(Seen::ConfigSpace(bytes)),
            Err(error) => return Seen::Failed(chain(&error)),
        },
    };
    seen.unwrap_or_else(|error| Seen::Failed(chain(&error)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{fs, thread};

    const PATIENCE: Duration = Duration::from_secs(60);
    const GPU: &str = "0000:41:00.0";

    /// A host with a GPU, its node and a process that has it open, or may not be looked into.
    fn host(hidden: bool) -> (tempfile::TempDir, Host, VfioNodes) {
        let folder = tempfile::tempdir().unwrap();
        let host = Host::new(folder.path());
        let (gpu, process) = (host.pci_device(GPU.parse().unwrap()), host.path("/proc/7"));
        for folder in [&gpu, &process, &host.path("/dev/vfio")] {
            fs::create_dir_all(folder).unwrap();
        }
        fs::write(gpu.join("config"), [0x5a; 5000]).unwrap();
        let node = host.path("/dev/vfio/12");
        fs::write(&node, "").unwrap();
        fs::write(process.join("comm"), "vmm\n").unwrap();
        if hidden {
            fs::write(process.join("fd"), "").unwrap();
        } else {
            fs::create_dir(process.join("fd")).unwrap();
            std::os::unix::fs::symlink(&node, process.join("fd/3")).unwrap();
        }
        (folder, host, VfioNodes { group: Some(node), cdev: None })
    }

    fn pair(patience: Duration) -> (LookoutProcess, UnixStream) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let lookout = LookoutProcess::on(ours, patience).unwrap();
        lookout.listen(|| {}).unwrap();
        (lookout, theirs)
    }

    #[test]
    fn what_is_seen_comes_over_the_socket() {
        for hidden in [false, true] {
            let (_folder, host, nodes) = host(hidden);
            let (lookout, theirs) = pair(PATIENCE);
            let (server, on) = (host.clone(), thread::spawn);
            let serving = on(move || serve(&server, theirs));
            let config = |gpu: &str| lookout.config_space(&host, gpu.parse().unwrap()).unwrap();
            assert_eq!(config(GPU).unwrap(), [0x5a; 4096]);
            assert_eq!(config("0000:42:00.0"), None);
            let seen = lookout.holders(&nodes);
            if hidden {
                let why = chain(&seen.unwrap_err());
                assert!(why.contains("/dev/vfio/12") && why.contains("/proc/7/fd"), "{why}");
            } else {
                assert_eq!(seen.unwrap(), [Holder { pid: 7, program: "vmm".into() }]);
            }
            lookout.dialogue.hang_up();
            serving.join().unwrap().unwrap();
        }
    }

    #[test]
    fn readings_that_hang_are_counted_and_no_more_are_begun() {
        let (_folder, host, nodes) = host(false);
        let config = host.pci_device(GPU.parse().unwrap()).join("config");
        fs::remove_file(&config).unwrap();
        nix::unistd::mkfifo(&config, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let (lookout, theirs) = pair(PATIENCE);
        let server = host.clone();
        let serving = thread::spawn(move || serve(&server, theirs));
        for _ in 0..READINGS {
            let subject = Subject::ConfigSpace { of: GPU.parse().unwrap() };
            let told = lookout.dialogue.ask(subject, Duration::ZERO);
            assert!(matches!(told, Err(NoAnswer::Late)), "{told:?}");
        }
        let why = chain(&lookout.holders(&nodes).unwrap_err());
        assert!(why.contains("64 readings have not ended yet"), "{why}");
        // Its writer has come and gone: they end.
        drop(fs::File::options().write(true).open(&config).unwrap());
        fs::remove_file(&config).unwrap();
        let seen = vgpud_mdev::wait::until("room for a reading", PATIENCE, || {
            Ok::<_, vgpud_mdev::wait::TimedOut>(lookout.holders(&nodes).ok())
        });
        assert_eq!(seen.unwrap().len(), 1);
        lookout.dialogue.hang_up();
        serving.join().unwrap().unwrap();
    }

    #[test]
    fn a_lookout_that_is_gone_or_silent_is_no_proof() {
        let nodes = VfioNodes::default();
        let (lookout, theirs) = pair(PATIENCE);
        drop(theirs);
        for _ in 0..2 {
            let error = lookout.holders(&nodes).unwrap_err();
            let gone =
                matches!(&error, Error::Hold(HoldError::Lookout { source: LookoutError::Gone(_), .. }));
            assert!(gone, "{error:?}");
        }
        let (lookout, _silent) = pair(Duration::from_millis(1));
        let error = lookout.holders(&nodes).unwrap_err();
        let late =
            matches!(&error, Error::Hold(HoldError::Lookout { source: LookoutError::Late { .. }, .. }));
        assert!(late, "{error:?}");
        assert_eq!(lookout.dialogue.waiting(), 0);
    }
}
