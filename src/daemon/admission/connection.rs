//! One client's connection, and when it is over.

use super::{Full, Who, places::Place};
use crate::daemon::access::Peer;
use std::{
    io,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
    time::{Duration, Instant},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::UnixStream,
    time::{Interval, MissedTickBehavior, interval},
};
use tonic::transport::server::Connected;

/// How long a user's connection may be there without a call. It also ends clients that connect and say
/// nothing, or half of a call.
pub const IDLE: Duration = Duration::from_secs(20);

/// How long a connection is kept so that its client can read why it ends.
const FAREWELL: Duration = Duration::from_secs(2);

/// How often it is looked at.
const TICK: Duration = Duration::from_secs(1);

/// What is known of a connection, for its calls and its end.
#[derive(Debug)]
pub struct Line {
    pub peer: Option<Peer>,
    pub who: Who,
    /// Why its calls are not served.
    refused: Option<Full>,
    use_: Mutex<Use>,
    _place: Place,
}

#[derive(Debug)]
struct Use {
    calls: usize,
    /// Since when it has been so.
    since: Instant,
    /// It ends then, whatever its client does.
    ends: Option<Instant>,
}

/// A call on it.
#[derive(Debug)]
pub struct OnLine(Arc<Line>);

impl Line {
    pub fn new(peer: Option<Peer>, who: Who, refused: Option<Full>, place: Place) -> Self {
        let now = Instant::now();
        let ends = refused.is_some().then(|| now + FAREWELL);
        Self { peer, who, refused, use_: Mutex::new(Use { calls: 0, since: now, ends }), _place: place }
    }

    fn usage(&self) -> MutexGuard<'_, Use> {
        self.use_.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A call begins, and ends when what is returned goes.
    ///
    /// # Errors
    /// Where the connection is one too many.
    pub fn begin(self: &Arc<Self>) -> Result<OnLine, Full> {
        if let Some(full) = &self.refused {
            return Err(full.clone());
        }
        self.usage().calls += 1;
        Ok(OnLine(Arc::clone(self)))
    }

    /// Its client does not read: it is cut off, with a moment to read why.
    pub fn cut_off(&self) {
        self.usage().ends = Some(Instant::now() + FAREWELL);
    }

    /// Whether it is to be closed.
    pub fn is_over(&self, now: Instant) -> bool {
        let usage = self.usage();
        let idle = usage.calls == 0 && now.saturating_duration_since(usage.since) >= IDLE;
        usage.ends.is_some_and(|ends| now >= ends) || (idle && self.who != Who::Master)
    }
}

impl Drop for OnLine {
    fn drop(&mut self) {
        let mut usage = self.0.usage();
        usage.calls -= 1;
        usage.since = Instant::now();
    }
}

/// A client's socket.
#[derive(Debug)]
pub struct Connection {
    stream: UnixStream,
    line: Arc<Line>,
    tick: Interval,
}

impl Connection {
    pub fn new(stream: UnixStream, line: Line) -> Self {
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self { stream, line: Arc::new(line), tick }
    }

    /// Ends it when its time is over; whoever works on the socket is woken for that.
    fn check(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        while self.tick.poll_tick(context).is_ready() {
            if self.line.is_over(Instant::now()) {
                return Err(io::ErrorKind::TimedOut.into());
            }
        }
        Ok(())
    }
}

impl Connected for Connection {
    type ConnectInfo = Arc<Line>;

    fn connect_info(&self) -> Arc<Line> {
        Arc::clone(&self.line)
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.check(context)?;
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.check(context)?;
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
