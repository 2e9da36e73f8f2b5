//! The check before every handler.

use super::{AccessDenied, Standing, accounts, needed, standing::Peer};
use crate::{
    api::Rpc,
    daemon::{
        admission::{Line, OnLine, Place, Places},
        core::Handle,
        message::{Command, Message},
    },
    failure::Failure,
};
use http_body_util::{BodyExt, Full, Limited};
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
};
use tower::Service;

/// How often the ledger hears of the same user and call.
const AUDIT_EVERY: Duration = Duration::from_secs(60);
/// Users and calls that are told apart within that time. A user namespace can have more uids.
const AUDIT_MOST: usize = 1024;

/// Who made a call that was let through, for people: `User alice (1000)`. Handlers find it among the
/// request's extensions.
#[derive(Clone, Debug)]
pub struct Caller(pub String);

/// What a call takes up, given back when the last copy goes. Handlers whose work goes on after their
/// answer find it among the request's extensions, and keep it until that work has ended.
#[derive(Clone, Debug)]
pub struct Admitted {
    _taken: Arc<(OnLine, Place)>,
}

/// Decides, logs and counts; one for all connections.
#[derive(Debug)]
pub struct Guard {
    core: Handle,
    calls: Arc<Places>,
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
        Self { core, calls: Places::calls(), denied: AtomicU64::new(0), audited: Mutex::default() }
    }

    /// Calls denied since the start.
    pub fn denied(&self) -> u64 {
        self.denied.load(Ordering::Relaxed)
    }

    async fn standing(&self, peer: Peer) -> Standing {
        let settings = Arc::clone(&self.core.snapshot.borrow().settings);
        match accounts::ask(move |accounts| peer.look_up(&settings.access, accounts)).await {
            Ok(standing) => standing,
            Err(error) => Standing { user: peer.by_number(), role: None, doubts: vec![error.to_string()] },
        }
    }

    async fn check(&self, path: &str, peer: Option<Peer>) -> Result<Caller, Status> {
        let Some(call) = Rpc::ALL.iter().copied().find(|call| call.path() == path) else {
            return Err(Status::unimplemented(format!("This vgpud has no call {path}")));
        };
        self.allow(call, peer).await
    }

    /// Who makes this call, if it may be made now.
    ///
    /// # Errors
    /// Where not: that, or what is in doubt.
    pub async fn allow(&self, call: Rpc, peer: Option<Peer>) -> Result<Caller, Status> {
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

    /// Lets a call in: there is room for it, its caller may make it, and all of its request is there.
    async fn admit(&self, request: Request<Body>) -> Result<(Request<Body>, Admitted), Status> {
        let line = request.extensions().get::<Arc<Line>>().map(Arc::clone);
        let Some(line) = line else {
            return Err(Status::internal("vgpud does not know this connection"));
        };
        let on_line = line.begin().map_err(|full| Failure::from(&full))?;
        let place = self.calls.take(line.who).map_err(|full| Failure::from(&full))?;
        let caller = self.check(request.uri().path(), line.peer).await?;
        let (mut head, body) = request.into_parts();
        let admitted = Admitted { _taken: Arc::new((on_line, place)) };
        head.extensions.insert(caller);
        head.extensions.insert(admitted.clone());
        let body = read(body).await.map_err(|error| Failure::from(&error))?;
        Ok((Request::from_parts(head, body), admitted))
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

impl<S> Service<Request<Body>> for Gate<S>
where
    S: Service<Request<Body>, Response = Response<Body>> + Clone + Send + 'static,
    S::Future: Send + 'static,
    S::Error: Send,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, S::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        // The one that is ready does the work; its copy may not be.
        let copy = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, copy);
        let guard = Arc::clone(&self.guard);
        Box::pin(async move {
            let (request, admitted) = match guard.admit(request).await {
                Ok(admitted) => admitted,
                Err(status) => return Ok(status.into_http()),
            };
            // A call goes on where its client has gone, and keeps its place: else a client could fill
            // the core's queue with calls that it gives up.
            let call = tokio::spawn(async move { (inner.call(request).await, admitted) });
            let Ok((answer, admitted)) = call.await else {
                return Ok(Status::internal("vgpud failed in the middle of this call; its log says more")
                    .into_http());
            };
            // It is given back when the answer has been sent.
            Ok(answer?.map(|body| {
                Body::new(body.map_frame(move |frame| {
                    let _ = &admitted;
                    frame
                }))
            }))
        })
    }
}

/// The longest request that is read, in bytes. The longest that makes sense has some 600.
const LONGEST: usize = 8192;

/// How long a client may take to send one.
const SENDING: Duration = Duration::from_secs(5);

/// A request that is none.
#[derive(Debug, thiserror::Error)]
pub enum Unread {
    #[error("The request has more than {LONGEST} bytes, and no call of vgpud needs as many")]
    TooLong,
    #[error("The request was not complete within {SENDING:?}")]
    Late,
    #[error("The request says that it has {said} bytes, and has {found}")]
    Length { said: usize, found: usize },
    #[error("The request ends before its length is said, after {0} bytes")]
    NoLength(usize),
    #[error("The request broke off: {0}")]
    Broken(String),
}

/// Reads a request, which in this API is always one message, and checks gRPC's frame around it: a
/// flag of one byte and the length in four.
async fn read(body: Body) -> Result<Body, Unread> {
    let whole = Limited::new(body, LONGEST).collect();
    let whole = match tokio::time::timeout(SENDING, whole).await {
        Ok(Ok(whole)) => whole.to_bytes(),
        Ok(Err(error)) if error.is::<http_body_util::LengthLimitError>() => return Err(Unread::TooLong),
        Ok(Err(error)) => return Err(Unread::Broken(error.to_string())),
        Err(_) => return Err(Unread::Late),
    };
    let Some((&[_, a, b, c, d], message)) = whole.split_first_chunk::<5>() else {
        return Err(Unread::NoLength(whole.len()));
    };
    let said = usize::try_from(u32::from_be_bytes([a, b, c, d])).unwrap_or(usize::MAX);
    if said != message.len() {
        return Err(Unread::Length { said, found: message.len() });
    }
    Ok(Body::new(Full::new(whole)))
}

#[cfg(test)]
mod tests;
