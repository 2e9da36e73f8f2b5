//! Reaching vgpud over its Unix socket, and saying precisely why that fails.

use crate::api::vgpud_client::VgpudClient;
use hyper_util::rt::TokioIo;
use nix::unistd::{Gid, Group, Uid, User};
use std::{
    io,
    os::unix::fs::{FileTypeExt as _, MetadataExt as _},
    path::{Path, PathBuf},
    time::Duration,
};
use tokio::{net::UnixStream, time::timeout};
use tonic::transport::{Channel, Endpoint, Uri};
use tower::service_fn;

/// A daemon that lives answers at once; longer than this and it hangs.
const PATIENCE: Duration = Duration::from_secs(5);

/// The socket is open to all as soon as somebody is named there.
const NAMED: &str = "have an administrator name you in [access] of vgpud's settings";

/// Why vgpud cannot be reached.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    #[error("vgpud is not running: there is no socket {}", socket.display())]
    Missing { socket: PathBuf },
    #[error("vgpud is not running: nobody listens on {}, which is still there", socket.display())]
    Stopped { socket: PathBuf },
    #[error("{} is no socket", socket.display())]
    NoSocket { socket: PathBuf },
    #[error("You have no permission to use {}{access}", socket.display())]
    Forbidden { socket: PathBuf, access: Access },
    #[error("The path {} is longer than the 107 bytes that a socket's may have", socket.display())]
    TooLong { socket: PathBuf },
    #[error("vgpud does not answer on {} within {} s", socket.display(), PATIENCE.as_secs())]
    Hangs { socket: PathBuf },
    #[error("Cannot connect to {}", socket.display())]
    Other {
        socket: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("What listens on {} does not speak as vgpud does", socket.display())]
    Stranger {
        socket: PathBuf,
        #[source]
        source: tonic::transport::Error,
    },
}

/// Who may use a socket, as far as it can be seen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Access {
    file: Option<(PathBuf, String, String, u32)>,
}

impl std::fmt::Display for Access {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.file {
            Some((path, user, group, mode)) => {
                write!(f, ": {} belongs to {user}:{group}, mode {mode:04o}", path.display())
            }
            None => Ok(()),
        }
    }
}

impl Access {
    /// Of the socket, or of the nearest folder above it that can be seen.
    fn of(socket: &Path) -> Self {
        let file = socket.ancestors().find_map(|path| {
            let metadata = path.symlink_metadata().ok()?;
            let (user, group) = (Uid::from_raw(metadata.uid()), Gid::from_raw(metadata.gid()));
            let user = User::from_uid(user).ok().flatten().map_or_else(|| user.to_string(), |user| user.name);
            let group =
                Group::from_gid(group).ok().flatten().map_or_else(|| group.to_string(), |group| group.name);
            Some((path.to_owned(), user, group, metadata.mode() & 0o7777))
        });
        Self { file }
    }

    fn group(&self) -> Option<&str> {
        self.file.as_ref().map(|(_, _, group, _)| group.as_str()).filter(|group| *group != "root")
    }
}

impl ConnectError {
    fn new(socket: PathBuf, source: io::Error) -> Self {
        match source.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => Self::Missing { socket },
            io::ErrorKind::PermissionDenied => {
                let access = Access::of(&socket);
                Self::Forbidden { socket, access }
            }
            io::ErrorKind::InvalidInput => Self::TooLong { socket },
            io::ErrorKind::ConnectionRefused => {
                let is_socket = socket.metadata().is_ok_and(|file| file.file_type().is_socket());
                if is_socket { Self::Stopped { socket } } else { Self::NoSocket { socket } }
            }
            _ => Self::Other { socket, source },
        }
    }

    /// A stable word for programs.
    #[must_use]
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::Missing { .. } | Self::Stopped { .. } => "DAEMON_NOT_RUNNING",
            Self::NoSocket { .. } | Self::TooLong { .. } => "NOT_A_SOCKET",
            Self::Forbidden { .. } => "PERMISSION_DENIED",
            Self::Hangs { .. } => "NO_ANSWER",
            Self::Other { .. } | Self::Stranger { .. } => "CONNECTION_FAILED",
        }
    }

    /// The way out.
    #[must_use]
    pub fn hint(&self) -> String {
        match self {
            Self::Missing { .. } | Self::Stopped { .. } => {
                "start it with `systemctl start vgpud`, or name its socket with --socket or VGPUD_SOCKET"
                    .into()
            }
            Self::NoSocket { .. } | Self::TooLong { .. } | Self::Stranger { .. } | Self::Other { .. } => {
                "name the socket of vgpud with --socket or VGPUD_SOCKET".into()
            }
            Self::Forbidden { access, .. } => access.group().map_or_else(
                || format!("run vgpuctl as root, or {NAMED}"),
                |group| format!("run vgpuctl as root or as a member of the group {group}, or {NAMED}"),
            ),
            Self::Hangs { .. } => "look at its log with `journalctl -u vgpud`".into(),
        }
    }
}

/// Connects to vgpud.
///
/// # Errors
/// [`ConnectError`] with what is the matter with the socket and the way out.
pub async fn connect(socket: &Path) -> Result<VgpudClient<Channel>, ConnectError> {
    let stream = match timeout(PATIENCE, UnixStream::connect(socket)).await {
        Ok(connected) => connected.map_err(|source| ConnectError::new(socket.to_owned(), source))?,
        Err(_) => return Err(ConnectError::Hangs { socket: socket.to_owned() }),
    };
    // One connection only: where it breaks, the command fails with that and does not ask twice.
    let mut stream = Some(stream);
    let once = service_fn(move |_: Uri| {
        let stream = stream.take().map(TokioIo::new);
        std::future::ready(stream.ok_or_else(|| io::Error::from(io::ErrorKind::ConnectionReset)))
    });
    let endpoint = Endpoint::from_static("http://vgpud");
    match timeout(PATIENCE, endpoint.connect_with_connector(once)).await {
        Ok(Ok(channel)) => Ok(VgpudClient::new(channel)),
        Ok(Err(source)) => Err(ConnectError::Stranger { socket: socket.to_owned(), source }),
        Err(_) => Err(ConnectError::Hangs { socket: socket.to_owned() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    async fn failure(socket: &Path) -> ConnectError {
        connect(socket).await.expect_err("nobody can be there")
    }

    #[tokio::test]
    async fn each_state_of_the_socket_is_told_apart() {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("vgpud.sock");
        assert!(matches!(failure(&socket).await, ConnectError::Missing { .. }));

        drop(std::os::unix::net::UnixListener::bind(&socket).unwrap());
        assert!(matches!(failure(&socket).await, ConnectError::Stopped { .. }));

        let file = folder.path().join("file");
        std::fs::File::create(&file).unwrap();
        assert!(matches!(failure(&file).await, ConnectError::NoSocket { .. }));

        let long = folder.path().join("x".repeat(120));
        assert!(matches!(failure(&long).await, ConnectError::TooLong { .. }));
    }

    #[test]
    fn a_refused_user_learns_whose_the_socket_is() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o750)).unwrap();
        let denied = io::Error::from(io::ErrorKind::PermissionDenied);
        let error = ConnectError::new(folder.path().join("vgpud.sock"), denied);
        let text = error.to_string();
        assert!(text.contains("belongs to") && text.contains("mode 0750"), "{text}");
        assert!(error.hint().contains("root") && error.hint().contains("[access]"), "{}", error.hint());
    }
}
