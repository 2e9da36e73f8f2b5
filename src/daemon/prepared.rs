//! What the daemon takes hold of before it gives up its rights, and the moment in which it does.

use super::{
    Daemon, Options, StartError, folder, kernel_events,
    lock::Lock,
    sandbox::{self, Places, Process, Sandbox, Walls},
    vf_process::{ConfinedKernel, VfProcess},
};
use std::{io, path::PathBuf, sync::Arc};
use vgpud_config::{Confinement, Settings};
use vgpud_kata::cdi::CdiFolder;
use vgpud_mdev::{Host, attribute, uevent::UeventSocket};
use vgpud_vmm::{holders::Lookout, lookout::LookoutProcess};

/// Open files: one a connection, and some for each slice.
const OPEN_FILES: u64 = 8192;

/// A daemon that has what it needs and may do nothing else any more.
#[derive(Debug)]
pub struct Prepared {
    pub(super) settings: Settings,
    pub(super) host: Host,
    pub(super) config: PathBuf,
    pub(super) root: Option<PathBuf>,
    pub(super) state_dir: PathBuf,
    pub(super) socket: PathBuf,
    pub(super) lock: Lock,
    pub(super) lookout: Arc<dyn Lookout>,
    /// The same where it is a process.
    pub(super) lookout_process: Option<Arc<LookoutProcess>>,
    /// What runs NVIDIA's tools where that is a process.
    pub(super) vfs: Option<Arc<VfProcess>>,
    pub(super) uevents: Option<UeventSocket>,
    pub(super) sandbox: Sandbox,
}

impl Prepared {
    /// Takes hold of everything on the host that the options name, and confines this process. Call it
    /// while the process has one thread.
    ///
    /// # Errors
    /// [`StartError`]; then nothing was changed but folders made.
    pub fn new(options: &Options) -> Result<Self, StartError> {
        if options.root.is_none() && !nix::unistd::geteuid().is_root() {
            return Err(StartError::NotRoot);
        }
        let settings = Daemon::settings(options)?;
        raise_open_files();
        // Half of the deadline, so that a wait that is in vain ends with its own error before the
        // whole effect is given up.
        let host = super::start::host(options)
            .with_patience(settings.timeouts.device / 2)
            .with_nvidia(&settings.nvidia)
            .with_mig(settings.mig());
        let mut prepared = Self::unconfined(options, settings, host)?;
        if prepared.settings.daemon.sandbox == Confinement::On {
            prepared.confine()?;
        } else {
            tracing::warn!("no sandbox, by the settings: vgpud keeps every right of root");
        }
        Ok(prepared)
    }

    /// The same with all rights kept.
    pub(super) fn unconfined(options: &Options, settings: Settings, host: Host) -> Result<Self, StartError> {
        let below = |given: &Option<PathBuf>, set: &PathBuf| given.clone().unwrap_or_else(|| host.path(set));
        let state_dir = below(&options.state_dir, &settings.daemon.state_dir);
        Ok(Self {
            config: super::start::config(options, &host),
            root: options.root.clone(),
            socket: below(&options.socket, &settings.daemon.socket),
            lock: Lock::take(&state_dir)?,
            state_dir,
            lookout: Arc::new(host.clone()),
            lookout_process: None,
            vfs: None,
            uevents: kernel_events::open(),
            sandbox: Sandbox::Off,
            settings,
            host,
        })
    }

    fn confine(&mut self) -> Result<(), StartError> {
        let unusable = |source| StartError::Socket { path: self.socket.clone(), source };
        let no_settings = |source| StartError::SettingsPath { path: self.config.clone(), source };
        let places = Places {
            host: self.host.clone(),
            settings: folder::of(&self.config).map_err(no_settings)?,
            state: self.state_dir.clone(),
            socket: folder::of(&self.socket).map_err(unusable)?,
            cdi: self.host.path(&self.settings.cdi.dir),
        };
        // A rule needs something to stand on.
        folder::make_for_socket(&places.socket).map_err(unusable)?;
        CdiFolder::new(&self.host, &self.settings.cdi).and_then(|cdi| cdi.make()).map_err(StartError::Cdi)?;
        // To prove a device free takes up to two answers, and both are to fit into that half.
        let patience = self.settings.timeouts.device / 4;
        let lookout = LookoutProcess::start(&own_program(), self.root.as_deref(), patience);
        let lookout = Arc::new(lookout.map_err(StartError::Lookout)?);
        self.lookout = lookout.clone();
        let tools = [self.host.sriov_manage(), self.host.nvidia_smi()];
        let vfs = match tools.iter().any(|tool| attribute::exists(tool)) {
            true => Some(Arc::new(self.start_vfs().map_err(StartError::Vfs)?)),
            false => None,
        };
        let kernel = ConfinedKernel { lookout: lookout.clone(), vfs: vfs.clone() };
        self.host = self.host.clone().with_kernel(Arc::new(kernel));
        self.vfs = vfs;
        self.lookout_process = Some(lookout);
        self.sandbox = sandbox::enter(Process::Daemon(&places)).map_err(StartError::Sandbox)?;
        tracing::info!("sandbox: {}", self.sandbox);
        match &self.sandbox {
            Sandbox::On { files: Walls::None, .. } => {
                tracing::warn!(
                    "this kernel has no Landlock: files are guarded by their owners and modes alone"
                );
            }
            Sandbox::On { files: Walls::Landlock { missing, .. }, .. } => {
                for path in missing {
                    let path = path.display();
                    tracing::info!(%path, "not there; when it has come, vgpud uses it after a new start");
                }
            }
            Sandbox::Off => {}
        }
        Ok(())
    }

    /// The process that runs NVIDIA's tools, and a folder for notes of what they changed.
    fn start_vfs(&self) -> io::Result<VfProcess> {
        folder::make_for_notes(&self.host.mig_notes())?;
        VfProcess::start(&own_program(), self.root.as_deref(), &self.settings.nvidia)
    }
}

/// Most hosts allow 1024 at first, and more to whoever asks.
fn raise_open_files() {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let raised = getrlimit(Resource::RLIMIT_NOFILE)
        .and_then(|(soft, hard)| setrlimit(Resource::RLIMIT_NOFILE, soft.max(OPEN_FILES.min(hard)), hard));
    if let Err(errno) = raised {
        tracing::warn!("the limit of open files stays as it is: {errno}");
    }
}

/// By this name it is the program that runs, whatever was installed meanwhile.
pub(super) fn own_program() -> PathBuf {
    Host::default().path("/proc/self/exe")
}
