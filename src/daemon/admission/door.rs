//! Who gets a connection.

use super::{Line, Places, Who, connection::Connection};
use crate::daemon::access::Peer;
use std::{io, sync::Arc, time::Duration};
use tokio::net::{UnixListener, UnixStream};
use tokio_stream::{Stream, StreamExt, wrappers::UnixListenerStream};

/// After an error of accept(2), such as too many open files, which would come again at once.
const PAUSE: Duration = Duration::from_millis(100);

/// Lets clients in as long as there is room.
#[derive(Clone, Debug)]
pub struct Door {
    connections: Arc<Places>,
    farewells: Arc<Places>,
    /// Who runs the daemon.
    owner: u32,
}

impl Door {
    pub fn new() -> Self {
        let owner = nix::unistd::geteuid().as_raw();
        Self { connections: Places::connections(), farewells: Places::farewells(), owner }
    }

    /// The connections that come in.
    pub fn open(self, listener: UnixListener) -> impl Stream<Item = io::Result<Connection>> {
        let accepted = UnixListenerStream::new(listener);
        let admitted = accepted.then(move |accepted| {
            let door = self.clone();
            async move {
                match accepted {
                    Ok(stream) => door.admit(stream),
                    Err(error) => {
                        tracing::error!("a client cannot be let in: {}", crate::failure::sentence(&error));
                        tokio::time::sleep(PAUSE).await;
                        None
                    }
                }
            }
        });
        admitted.filter_map(|connection| connection.map(Ok))
    }

    /// None where there is not even room to say why.
    fn admit(&self, stream: UnixStream) -> Option<Connection> {
        let found = stream.peer_cred().ok();
        let peer = found.map(|found| Peer { uid: found.uid(), gid: found.gid(), pid: found.pid() });
        let who = match peer {
            Some(peer) if peer.is_master(self.owner) => Who::Master,
            Some(peer) => Who::User(peer.uid),
            None => Who::Unknown,
        };
        let line = match self.connections.take(who) {
            Ok(place) => Line::new(peer, who, None, place),
            Err(full) => match self.farewells.take(who) {
                Ok(place) => Line::new(peer, who, Some(full), place),
                Err(_) => {
                    tracing::debug!("a connection is closed at once: {full}");
                    return None;
                }
            },
        };
        Some(Connection::new(stream, line))
    }
}
