//! From the command line to a daemon that serves, and to its end.

use super::{
    Options, Prepared, StartError,
    access::{Gate, Guard},
    admission::Door,
    core::{Core, Handle, Parts},
    executor::{Executor, HostExecutor},
    kernel_events,
    lock::Lock,
    message::{Command, Message},
    options::CONFIG,
    prepared::own_program,
    sandbox,
    service::Service,
    socket::{Openness, Socket},
};
use crate::{api::vgpud_server::VgpudServer, failure::Failure, ledger::Ledger};
use sd_notify::NotifyState;
use std::{path::PathBuf, sync::Arc, time::Duration};
use tokio::{
    net::UnixListener,
    signal::unix::{Signal, SignalKind, signal},
    sync::{oneshot, watch},
    task::JoinHandle,
};
use vgpud_config::Settings;
use vgpud_kata::cdi::CdiFolder;
use vgpud_mdev::Host;
use vgpud_vmm::{device::process::DeviceProcess, lookout::LookoutProcess};

/// How long clients may take to end their calls when the daemon stops.
const FAREWELL: Duration = Duration::from_secs(2);

/// Calls at once on one connection.
const CALLS: u32 = 64;

/// The headers of a call, in bytes.
const HEADERS: u32 = 8192;

/// A daemon that serves.
#[derive(Debug)]
pub struct Daemon {
    config: PathBuf,
    core: Handle,
    core_task: JoinHandle<Result<(), crate::ledger::Error>>,
    server: JoinHandle<Result<(), tonic::transport::Error>>,
    /// Its other end goes when the server does.
    server_ended: watch::Receiver<()>,
    lookout_ended: Option<oneshot::Receiver<()>>,
    hang_up: Option<oneshot::Sender<()>>,
    settings: Arc<Settings>,
    socket: Socket,
    _lock: Lock,
}

/// The signals that the daemon answers to. Listened for before anything else happens: one that comes
/// during the start takes effect after it, instead of ending the process in the middle.
#[derive(Debug)]
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hang_up: Signal,
}

impl Signals {
    /// Listens from now on.
    ///
    /// # Errors
    /// Where the runtime cannot.
    pub fn listen() -> Result<Self, StartError> {
        let listen = |kind| signal(kind).map_err(StartError::Runtime);
        Ok(Self {
            terminate: listen(SignalKind::terminate())?,
            interrupt: listen(SignalKind::interrupt())?,
            hang_up: listen(SignalKind::hangup())?,
        })
    }

    async fn next(&mut self) -> Asked {
        tokio::select! {
            _ = self.terminate.recv() => Asked::Stop,
            _ = self.interrupt.recv() => Asked::Stop,
            _ = self.hang_up.recv() => Asked::Reload,
        }
    }

    async fn stop(&mut self) {
        while self.next().await != Asked::Stop {}
    }
}

/// What a signal asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asked {
    Stop,
    Reload,
}

/// Why a daemon ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Asked,
    CoreEnded,
    ServerEnded,
    /// Nothing can be proved free any more, and what is confined cannot start it again.
    LookoutEnded,
}

impl Daemon {
    /// The settings that these options lead to, checked.
    ///
    /// # Errors
    /// Where the settings cannot be used.
    pub fn settings(options: &Options) -> Result<Settings, StartError> {
        let host = host(options);
        let settings = Settings::load(&config(options, &host))?;
        CdiFolder::new(&host, &settings.cdi).map_err(StartError::Cdi)?;
        Ok(settings)
    }

    /// Starts with what was taken hold of.
    ///
    /// # Errors
    /// [`StartError`]; then nothing was changed on the host.
    pub async fn start(prepared: Prepared) -> Result<Self, StartError> {
        Self::start_with(prepared, None).await
    }

    /// The same, with another executor where tests bring one.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub(super) async fn start_with(
        prepared: Prepared,
        executor: Option<Arc<dyn Executor>>,
    ) -> Result<Self, StartError> {
        let lookout_ended = prepared.lookout_process.as_deref().map(watch_lookout).transpose()?;
        if let Some(vfs) = &prepared.vfs {
            vfs.listen().map_err(StartError::Vfs)?;
        }
        let Prepared {
            settings, host, config, root, state_dir, socket, lock, lookout, uevents, sandbox, ..
        } = prepared;
        let (settings, folder, path) = (Arc::new(settings), state_dir, socket);
        let (ledger, state) = Ledger::open(&folder)?;
        let (publisher, current) = watch::channel(Arc::clone(&settings));
        let executor = executor.unwrap_or_else(|| {
            let devices = Arc::new(DeviceProcess { program: own_program(), root, confined: sandbox.is_on() });
            Arc::new(HostExecutor::new(host.clone(), current, devices, lookout))
        });
        let parts = Parts { state, ledger, host: host.clone(), settings: publisher, executor };
        let (core, handle) = Core::new(parts);
        // Before anything is changed on the host; clients wait until it is served.
        let (socket, listener) = Socket::bind(&path, Openness::of(&settings)).await?;
        let core_task = run_core(core).await?;
        if let Some(uevents) = uevents {
            tokio::spawn(kernel_events::listen(uevents, handle.sender.clone()));
        }
        let (hang_up, hung_up) = oneshot::channel();
        let guard = Arc::new(Guard::new(handle.clone()));
        let service = Service::new(handle.clone(), host.clone(), Arc::clone(&guard), sandbox.to_string());
        let (serving, server_ended) = watch::channel(());
        let server = tokio::spawn(async move {
            let result = serve(service, guard, listener, hung_up).await;
            drop(serving);
            result
        });
        tracing::info!(socket = %path.display(), ledger = %folder.display(), "vgpud serves");
        let hang_up = Some(hang_up);
        Ok(Self {
            config,
            core: handle,
            core_task,
            server,
            server_ended,
            lookout_ended,
            hang_up,
            settings,
            socket,
            _lock: lock,
        })
    }

    /// Serves until a signal says otherwise, and tells systemd about it.
    ///
    /// # Errors
    /// Where the ledger or the server broke down.
    pub async fn run(mut self, mut signals: Signals) -> Result<(), StartError> {
        tell_systemd(&[NotifyState::Ready]);
        let end = loop {
            tokio::select! {
                asked = signals.next() => match asked {
                    Asked::Stop => break End::Asked,
                    Asked::Reload => self.reload(),
                },
                () = self.core.sender.closed() => break End::CoreEnded,
                _ = self.server_ended.changed() => break End::ServerEnded,
                () = ended(&mut self.lookout_ended) => break End::LookoutEnded,
            }
        };
        tell_systemd(&[NotifyState::Stopping]);
        if end == End::Asked {
            tracing::info!("vgpud stops; leases and running VMs are left alone");
        }
        let stopped = tokio::select! {
            result = self.stop() => result,
            // A second signal: what runs in the kernel is left to the next start.
            () = signals.stop() => Ok(()),
        };
        match end {
            End::LookoutEnded => stopped.and(Err(StartError::LookoutEnded)),
            End::Asked | End::CoreEnded | End::ServerEnded => stopped,
        }
    }

    /// Finishes what runs, and ends.
    ///
    /// # Errors
    /// Where the ledger or the server broke down.
    pub async fn stop(mut self) -> Result<(), StartError> {
        let (reply, stopped) = oneshot::channel();
        if self.core.sender.send(Message::Command(Command::Stop { reply })).is_ok() {
            // An error: the core has ended already, and its result says why.
            let _ = stopped.await;
        }
        let core = self.core_task.await.map_err(|_| StartError::Core)?;
        if let Some(hang_up) = self.hang_up.take() {
            let _ = hang_up.send(());
        }
        drop(self.core);
        match tokio::time::timeout(FAREWELL, &mut self.server).await {
            Ok(server) => server.map_err(|_| StartError::Core)?.map_err(StartError::Server)?,
            // A client that does not end its call cannot keep the daemon.
            Err(_) => self.server.abort(),
        }
        drop(self.socket);
        Ok(core?)
    }

    /// Ends as if the process were killed: nothing is finished and nothing is written any more.
    #[cfg(test)]
    pub(super) async fn crash(self) {
        self.server.abort();
        self.core.sender.send(Message::Crash).unwrap();
        self.core_task.await.unwrap().unwrap();
    }

    #[cfg(test)]
    pub(super) fn handle(&self) -> Handle {
        self.core.clone()
    }

    /// Reads the settings again, and says what only a new start can change.
    fn reload(&mut self) {
        let settings = match Settings::load(&self.config) {
            Ok(settings) => settings,
            Err(error) => {
                tracing::error!(hint = sandbox::hint(&error), "the settings stay as they were: {error}");
                return;
            }
        };
        if settings.daemon != self.settings.daemon {
            tracing::warn!("[daemon] has changed; its keys take effect when vgpud is started again");
        }
        if settings.cdi.dir != self.settings.cdi.dir || settings.cdi.kind != self.settings.cdi.kind {
            tracing::warn!("[cdi] has changed; its keys take effect when vgpud is started again");
        }
        if settings.nvidia != self.settings.nvidia {
            tracing::warn!("[nvidia] has changed; its keys take effect when vgpud is started again");
        }
        if settings.mig() != self.settings.mig() {
            tracing::warn!("mig of a GPU has changed; it takes effect when vgpud is started again");
        }
        if settings.timeouts.device != self.settings.timeouts.device {
            tracing::warn!("device in [timeouts] has changed; it takes effect when vgpud is started again");
        }
        let mut settings = settings;
        settings.timeouts.device = self.settings.timeouts.device;
        settings.daemon.clone_from(&self.settings.daemon);
        settings.cdi.clone_from(&self.settings.cdi);
        settings.nvidia.clone_from(&self.settings.nvidia);
        if let Err(error) = self.socket.set(Openness::of(&settings)) {
            tracing::error!("the socket stays open to whom it was: {}", crate::failure::sentence(&error));
        }
        self.settings = Arc::new(settings);
        let reload = Command::Reload(Arc::clone(&self.settings));
        if self.core.sender.send(Message::Command(reload)).is_ok() {
            tracing::info!(settings = %self.config.display(), "settings read again");
        }
    }
}

pub(super) fn host(options: &Options) -> Host {
    options.root.as_ref().map_or_else(Host::default, Host::new)
}

pub(super) fn config(options: &Options, host: &Host) -> PathBuf {
    options.config.clone().unwrap_or_else(|| host.path(CONFIG))
}

/// Reconciles, then works. The core waits for the disk, so it has a thread of its own, and a
/// runtime of its own that ends with it.
async fn run_core(mut core: Core) -> Result<JoinHandle<Result<(), crate::ledger::Error>>, StartError> {
    let (report, ended) = oneshot::channel();
    let (ready, reconciled) = oneshot::channel();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(StartError::Runtime)?;
    let thread = std::thread::Builder::new().name("core".to_owned());
    thread
        .spawn(move || {
            let result = runtime.block_on(async {
                let result = core.reconcile();
                let failed = result.is_err();
                // Nobody listens where the start was given up.
                let _ = ready.send(result);
                if failed { Ok(()) } else { core.run().await }
            });
            if let Err(error) = &result {
                tracing::error!("vgpud ends: {}", Failure::from(error).line());
            }
            let _ = report.send(result);
            // A reading of a stuck GPU must not keep this thread.
            runtime.shutdown_background();
        })
        .map_err(StartError::Runtime)?;
    reconciled.await.map_err(|_| StartError::Core)??;
    Ok(tokio::spawn(async move { ended.await.unwrap_or(Ok(())) }))
}

async fn serve(
    service: Service,
    guard: Arc<Guard>,
    listener: UnixListener,
    hung_up: oneshot::Receiver<()>,
) -> Result<(), tonic::transport::Error> {
    let stop = async {
        // The sender gone means the same.
        let _ = hung_up.await;
    };
    tonic::transport::Server::builder()
        .max_concurrent_streams(CALLS)
        .http2_max_header_list_size(HEADERS)
        .layer(tower::layer::layer_fn(move |inner| Gate::new(inner, Arc::clone(&guard))))
        .add_service(VgpudServer::new(service))
        .serve_with_incoming_shutdown(Door::new().open(listener), stop)
        .await
}

/// Tells of the end of the lookout.
fn watch_lookout(lookout: &LookoutProcess) -> Result<oneshot::Receiver<()>, StartError> {
    let (tell, ended) = oneshot::channel();
    let tell = || {
        // Nobody listens any more where the daemon ends.
        let _ = tell.send(());
    };
    lookout.listen(tell).map_err(StartError::Lookout)?;
    Ok(ended)
}

/// Waits for the end of something that may not be there.
async fn ended(process: &mut Option<oneshot::Receiver<()>>) {
    match process {
        // The sender gone means the same.
        Some(process) => drop(process.await),
        None => std::future::pending().await,
    }
}

fn tell_systemd(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::warn!(%error, "systemd cannot be told");
    }
}
