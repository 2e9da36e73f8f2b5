//! An empty host in a folder, and vgpud as a process on it.

use std::{
    fs::{self, File},
    os::unix::{fs::PermissionsExt, net::UnixDatagram},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::Mutex,
    time::{Duration, Instant},
};
use tempfile::TempDir;
use vgpud::api::{GetStatusRequest, Status, vgpud_client::VgpudClient};
use vgpud_mdev::fake::Machine;

pub const LIMIT: Duration = Duration::from_secs(20);

pub struct Home {
    root: PathBuf,
    /// Whose folder it is.
    _owner: Box<dyn std::any::Any + Send + Sync>,
}

pub struct Vgpud {
    child: Mutex<Child>,
}

/// Where systemd would listen.
pub struct Notified(UnixDatagram);

pub fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let begin = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(begin.elapsed() < LIMIT, "waited in vain for {what}");
        std::thread::park_timeout(Duration::from_millis(10));
    }
}

impl Home {
    pub fn new() -> Self {
        let folder = TempDir::new().unwrap();
        Self::on(folder.path().to_owned(), folder)
    }

    /// On a host made of files. Only this process plays the kernel behind it: vgpud's writes are seen,
    /// and answered by nobody.
    pub fn with(machine: &Machine) -> Self {
        let fake = machine.build();
        Self::on(fake.host().path("/"), fake)
    }

    fn on(root: PathBuf, owner: impl std::any::Any + Send + Sync) -> Self {
        for path in ["sys/bus/pci/devices", "proc", "etc/vgpud"] {
            fs::create_dir_all(root.join(path)).unwrap();
        }
        Self { root, _owner: Box::new(owner) }
    }

    pub fn folder(&self) -> &Path {
        &self.root
    }

    pub fn socket(&self) -> PathBuf {
        self.folder().join("run/vgpud/vgpud.sock")
    }

    pub fn state_dir(&self) -> PathBuf {
        self.folder().join("var/lib/vgpud")
    }

    pub fn write_settings(&self, text: &str) {
        fs::write(self.folder().join("etc/vgpud/vgpud.toml"), text).unwrap();
    }

    pub fn log(&self) -> String {
        fs::read_to_string(self.folder().join("log")).unwrap()
    }

    pub fn until_logged(&self, text: &str) {
        wait_for(text, || self.log().contains(text).then_some(()));
    }

    /// Lets users other than root come to the socket.
    pub fn let_others_in(&self) {
        for path in [".", "run", "run/vgpud"] {
            fs::set_permissions(self.folder().join(path), fs::Permissions::from_mode(0o755)).unwrap();
        }
    }

    pub fn notify_socket(&self) -> Notified {
        let socket = UnixDatagram::bind(self.folder().join("notify")).unwrap();
        socket.set_read_timeout(Some(LIMIT)).unwrap();
        Notified(socket)
    }

    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(Vgpud::PROGRAM);
        command.arg("--root").arg(self.folder()).args(arguments).stdin(Stdio::null());
        command.env_remove("VGPUD_LOG").env_remove("JOURNAL_STREAM").env_remove("NOTIFY_SOCKET");
        let notify = self.folder().join("notify");
        if notify.try_exists().unwrap() {
            command.env("NOTIFY_SOCKET", notify);
        }
        command
    }

    /// vgpuctl on this host, to its end.
    pub fn vgpuctl(&self, arguments: &[&str]) -> std::process::Output {
        self.vgpuctl_command(arguments).output().unwrap()
    }

    pub fn vgpuctl_command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_vgpuctl"));
        command.arg("--root").arg(self.folder()).arg("--socket").arg(self.socket()).args(arguments);
        command.stdin(Stdio::null());
        command
    }

    pub fn start(&self) -> Vgpud {
        self.start_with(&[])
    }

    /// Starts it and waits until it serves.
    pub fn start_with(&self, arguments: &[&str]) -> Vgpud {
        let log = File::options().create(true).append(true).open(self.folder().join("log")).unwrap();
        let daemon = Vgpud { child: Mutex::new(self.command(arguments).stderr(log).spawn().unwrap()) };
        wait_for("vgpud to serve", || {
            let ended = daemon.child.lock().unwrap().try_wait().unwrap();
            assert!(ended.is_none(), "vgpud ended: {}", self.log());
            std::os::unix::net::UnixStream::connect(self.socket()).ok()
        });
        daemon
    }

    /// What it says when it refuses to start.
    pub fn refused(&self, arguments: &[&str]) -> String {
        let path = self.folder().join("refusal");
        let stderr = File::create(&path).unwrap();
        let daemon = Vgpud { child: Mutex::new(self.command(arguments).stderr(stderr).spawn().unwrap()) };
        let code = daemon.ended().code();
        let text = fs::read_to_string(path).unwrap();
        assert_eq!(code, Some(2), "{text}");
        assert!(text.contains("error: "), "{text}");
        text
    }

    pub fn status(&self) -> Status {
        let path = self.socket();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let connector = tower::service_fn(move |_| {
                let path = path.clone();
                async move { tokio::net::UnixStream::connect(path).await.map(hyper_util::rt::TokioIo::new) }
            });
            let endpoint = tonic::transport::Endpoint::from_static("http://vgpud").timeout(LIMIT);
            let channel = endpoint.connect_with_connector(connector).await.unwrap();
            VgpudClient::new(channel).get_status(GetStatusRequest {}).await.unwrap().into_inner()
        })
    }
}

impl Vgpud {
    pub const PROGRAM: &str = env!("CARGO_BIN_EXE_vgpud");

    pub fn pid(&self) -> u32 {
        self.child.lock().unwrap().id()
    }

    pub fn signal(&self, name: &str) {
        let sent = Command::new("kill").args(["-s", name]).arg(self.pid().to_string()).status().unwrap();
        assert!(sent.success());
    }

    pub fn ended(&self) -> ExitStatus {
        wait_for("vgpud to end", || self.child.lock().unwrap().try_wait().unwrap())
    }
}

impl Drop for Vgpud {
    fn drop(&mut self) {
        let child = self.child.get_mut().unwrap();
        if child.try_wait().unwrap().is_none() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }
}

impl Notified {
    pub fn next(&self) -> String {
        let mut buffer = [0; 256];
        let length = self.0.recv(&mut buffer).unwrap();
        String::from_utf8_lossy(&buffer[..length]).trim().to_owned()
    }
}
