//! The limit of time of the lease that a micro-VM runs on.

use crate::{api, cli::session::Session};
use std::{future::pending, time::Duration};
use tokio::time::sleep;

/// Before vgpud is asked again that did not answer: it may just be started again.
const PAUSE: Duration = Duration::from_secs(5);

/// What is left of a lease; none where it has no limit.
fn left(slice: &api::Slice) -> Option<Duration> {
    let ms = slice.lease.as_ref()?.ends_in_ms?;
    Some(Duration::from_millis(u64::try_from(ms).unwrap_or(0)))
}

/// Comes back when the time of the slice's lease is up, and never where it has no limit. The lease may
/// be extended meanwhile: vgpud has the last word.
pub async fn time_is_up(session: &Session, slice: &api::Slice) {
    let Some(mut rest) = left(slice) else { return pending().await };
    while !rest.is_zero() {
        sleep(rest).await;
        let asked = async { session.connect().await?.slice(&slice.id).await };
        rest = match asked.await {
            // Of another lease, or of none: this one is over.
            Ok(now) if now.generation != slice.generation => Duration::ZERO,
            Ok(now) => left(&now).unwrap_or_default(),
            Err(_) => PAUSE,
        };
    }
}
