//! The kernel's uevents: whenever devices come, go or change, the host is read again.

use super::{
    core::GATHERING,
    message::{Message, Sender},
    readiness,
};
use crate::failure::Failure;
use vgpud_mdev::uevent::{Action, Received, UeventSocket, UeventSubject};

/// The socket that they come from. Where the kernel gives none, the inventory is kept current by the
/// effects' own readings and by each request alone.
pub fn open() -> Option<UeventSocket> {
    let failed =
        |error: &vgpud_mdev::Error| tracing::warn!("no kernel events: {}", Failure::from(error).line());
    UeventSocket::open().inspect_err(failed).ok()
}

/// Events that are read before the host is: in a flood there is always one more.
const AT_ONCE: usize = 1000;

/// Listens until the core is gone.
pub async fn listen(socket: UeventSocket, core: Sender) {
    let socket = match readiness::readable(socket) {
        Ok(socket) => socket,
        Err(error) => {
            tracing::warn!(%error, "no kernel events");
            return;
        }
    };
    loop {
        let Ok(mut ready) = socket.readable().await else { return };
        let mut changed = false;
        for _ in 0..AT_ONCE {
            match socket.get_ref().try_next() {
                Ok(Some(received)) => changed |= matters(&received),
                Ok(None) => {
                    ready.clear_ready();
                    break;
                }
                Err(error) => {
                    tracing::error!("kernel events end: {}", Failure::from(&error).line());
                    return;
                }
            }
        }
        if changed {
            // Enabling VFs makes hundreds of events; one reading answers them all.
            tokio::time::sleep(GATHERING).await;
            if core.send(Message::HostChanged).is_err() {
                return;
            }
        } else {
            // In a flood of events that say nothing, others have their turn too.
            tokio::task::yield_now().await;
        }
    }
}

fn matters(received: &Received) -> bool {
    match received {
        Received::Lost => true,
        Received::Event(event) => {
            let device = !matches!(event.subject, UeventSubject::Other);
            let change = match event.action {
                Action::Add
                | Action::Remove
                | Action::Change
                | Action::Move
                | Action::Bind
                | Action::Unbind => true,
                Action::Online | Action::Offline => false,
            };
            device && change
        }
    }
}
