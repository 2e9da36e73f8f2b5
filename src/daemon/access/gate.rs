//! The check before every handler.

use super::{AccessDenied, Standing, accounts::HostAccounts, needed, standing::Peer};
use crate::{
    api::Rpc,
    daemon::{
        core::Handle,
        message::{Command, Message},
    },
    failure::Failure,
};
use std::{
    collections::HashMap,
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::{Duration, Instant},
};
use tonic::{
    Status,
    body::Body,
    codegen::http::{Request, Response},
    transport::server::UdsConnectInfo,
};
use tower::Service;

/// How long the user database may take.
const LOOK_UP: Duration = Duration::from_secs(5);
/// How often the ledger hears of the same user and call.
const AUDIT_EVERY: Duration = Duration::from_secs(60);
/// Users and calls that are told apart within that time. A user namespace can have more uids.
const AUDIT_MOST: usize = 1024;

/// Who made a call that was let through, for people: `User alice (1000)`. Handlers find it among the
/// request's extensions.
#[derive(Clone, Debug)]
pub struct Caller(pub String);

/// Decides, logs and counts; one for all connections.
#[derive(Debug)]
pub struct Guard {
    core: Handle,
    denied: AtomicU64,
    audited: Mutex<Audited>,
}

/// Which denied calls were written into the ledger lately.
#[derive(Debug, Default)]
pub(super) struct Audited(HashMap<(u32, Rpc), Instant>);

impl Audited {
    /// Whether the ledger is to hear of it, and then remembers that it did.
    pub(super) fn is_due(&mut self, uid: u32, call: Rpc, now: Instant) -> bool {
        self.0.retain(|_, last| now.saturating_duration_since(*last) < AUDIT_EVERY);
        if self.0.contains_key(&(uid, call)) || self.0.len() >= AUDIT_MOST {
            return false;
        }
        self.0.insert((uid, call), now);
        true
    }
}

impl Guard {
    pub fn new(core: Handle) -> Self {
        Self { core, denied: AtomicU64::new(0), audited: Mutex::default() }
    }

    /// Calls denied since the start.
    pub fn denied(&self) -> u64 {
        self.denied.load(Ordering::Relaxed)
    }

    async fn standing(&self, peer: Peer) -> Standing {
        let settings = Arc::clone(&self.core.snapshot.borrow().settings);
        let looked_up = tokio::task::spawn_blocking(move || peer.look_up(&settings.access, &HostAccounts));
        let doubt = match tokio::time::timeout(LOOK_UP, looked_up).await {
            Ok(Ok(standing)) => return standing,
            Ok(Err(error)) => format!("the look-up of the user broke down: {error}"),
            Err(_) => format!("the user database did not answer within {LOOK_UP:?}"),
        };
        Standing { user: peer.by_number(), role: None, doubts: vec![doubt] }
    }

    async fn check(&self, path: &str, peer: Option<Peer>) -> Result<Caller, Status> {
        let Some(call) = Rpc::ALL.iter().copied().find(|call| call.path() == path) else {
            return Err(Status::unimplemented(format!("This vgpud has no call {path}")));
        };
        let standing = match peer {
            Some(peer) if peer.is_master(nix::unistd::geteuid().as_raw()) => {
                return Ok(Caller(peer.by_number()));
            }
            Some(peer) => self.standing(peer).await,
            None => {
                Standing { user: "A caller unknown to the kernel".to_owned(), role: None, doubts: vec![] }
            }
        };
        let needed = needed(call);
        if standing.role.is_some_and(|role| role >= needed) {
            return Ok(Caller(standing.user));
        }
        let Standing { user, doubts, .. } = standing;
        Err(self.deny(&AccessDenied { call, user, needed, doubts }, peer).into())
    }

    fn deny(&self, denied: &AccessDenied, peer: Option<Peer>) -> Failure {
        self.denied.fetch_add(1, Ordering::Relaxed);
        let uid = peer.map_or(u32::MAX, |peer| peer.uid);
        let pid = peer.and_then(|peer| peer.pid);
        let doubts = (!denied.doubts.is_empty()).then(|| denied.doubts.join("; "));
        tracing::warn!(uid, pid, call = denied.call.name(), doubts, "call denied: {denied}");
        let mut audited = self.audited.lock().unwrap_or_else(PoisonError::into_inner);
        if audited.is_due(uid, denied.call, Instant::now()) {
            let message = format!(
                "{} was refused {}, which takes the role {}",
                denied.user,
                denied.call.name(),
                denied.needed
            );
            // A core that has ended writes nothing any more.
            let _ = self.core.sender.send(Message::Command(Command::Denied { message }));
        }
        Failure::from(denied)
    }
}

/// A service behind a guard.
#[derive(Clone, Debug)]
pub struct Gate<S> {
    inner: S,
    guard: Arc<Guard>,
}

impl<S> Gate<S> {
    pub const fn new(inner: S, guard: Arc<Guard>) -> Self {
        Self { inner, guard }
    }
}

impl<S, B> Service<Request<B>> for Gate<S>
where
    S: Service<Request<B>, Response = Response<Body>> + Clone + Send + 'static,
    S::Future: Send,
    B: Send + 'static,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, S::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        // The one that is ready does the work; its copy may not be.
        let copy = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, copy);
        let guard = Arc::clone(&self.guard);
        let peer = request.extensions().get::<UdsConnectInfo>().and_then(|info| info.peer_cred);
        let peer = peer.map(|found| Peer { uid: found.uid(), gid: found.gid(), pid: found.pid() });
        Box::pin(async move {
            match guard.check(request.uri().path(), peer).await {
                Ok(caller) => {
                    request.extensions_mut().insert(caller);
                    inner.call(request).await
                }
                Err(status) => Ok(status.into_http()),
            }
        })
    }
}
