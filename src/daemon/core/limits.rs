//! Limits of leases: of time, and of what an owner may have.

use super::{
    Cause, Core, Running,
    commands::refuse,
    waiter::{Waiter, Want},
};
use crate::{
    daemon::message::Reply,
    engine::{BootMillis, Claim, Event, Generation, Moment, ReleaseCause, SliceId, Terms},
    failure::Failure,
    ledger,
};
use nix::time::{ClockId, clock_gettime};
use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};
use vgpud_config::Owner;

/// By the clock that nobody can set.
#[must_use]
pub fn boot_now() -> BootMillis {
    // Fails for a clock that the kernel lacks, and this one is older than Rust's own needs.
    let now = clock_gettime(ClockId::CLOCK_BOOTTIME).map(Duration::from).unwrap_or_default();
    BootMillis(u64::try_from(now.as_millis()).unwrap_or(u64::MAX))
}

/// By both clocks.
pub fn moment() -> Moment {
    Moment { wall: super::now(), boot: boot_now() }
}

/// When the end of a lease whose device was held is tried again.
#[derive(Debug, Default)]
pub struct Retries(pub(super) BTreeMap<(SliceId, Generation), Instant>);

impl Core {
    /// A request for a lease with what its owner may have by the settings of now.
    pub(super) fn claim(&self, owner: Owner, terms: Terms) -> Claim {
        let allowance = self.settings.borrow().quota.of(&owner);
        Claim { owner, terms, allowance }
    }

    /// Begins to take back the leases whose time is up. Whether there were any.
    pub(super) fn end_overtime(&mut self) -> Result<bool, ledger::Error> {
        if !matches!(self.running, Running::Yes) {
            return Ok(false);
        }
        let now = boot_now();
        let due = self.state.slices.values().filter(|slice| {
            let over = slice.phase.lease().is_some_and(|lease| lease.over_at(now).is_some());
            let later = self.retries.0.get(&(slice.id, slice.generation));
            over && slice.at_rest()
                && slice.tie.is_none()
                && later.is_none_or(|instant| *instant <= Instant::now())
        });
        let due: Vec<_> = due.map(|slice| (slice.id, slice.generation)).collect();
        let any = !due.is_empty();
        for (slice, generation) in due {
            let event = Event::Release { slice, generation: Some(generation), cause: ReleaseCause::TimeIsUp };
            if let Err(rejected) = self.apply(event, Cause::default())? {
                tracing::warn!(%slice, "a lease whose time is up is not released: {rejected}");
            }
        }
        Ok(any)
    }

    /// The device of a lease that was to end is still held: its end is tried again after a while.
    pub(super) fn postpone(&mut self, slice: SliceId) {
        let Some(generation) = self.state.slices.get(&slice).map(|found| found.generation) else { return };
        self.retries.0.insert((slice, generation), Instant::now() + self.retry_pause());
    }

    /// Between two tries to take back a device that is held.
    pub(super) fn retry_pause(&self) -> Duration {
        self.settings.borrow().timeouts.release * 4
    }

    /// Makes a lease last at least `time` from now on.
    pub(super) fn extend(
        &mut self,
        slice: SliceId,
        time: Duration,
        reply: Reply<SliceId>,
    ) -> Result<(), ledger::Error> {
        if let Some(failure) = self.obstacle(slice) {
            refuse(reply, failure);
            return Ok(());
        }
        let message = format!("lasts {} from now on", humantime::format_duration(time));
        let event = Event::Extend { slice, until: boot_now().after(time), message };
        if let Err(rejected) = self.apply(event, Cause::default())? {
            refuse(reply, Failure::from(&rejected));
            return Ok(());
        }
        let Some(found) = self.state.slices.get(&slice) else { return Ok(()) };
        let (generation, gpu) = (found.generation, found.gpu);
        self.retries.0.remove(&(slice, generation));
        self.waiters.push(Waiter::new(Want::Leased { slice, generation, reply }, [(slice, gpu)]));
        Ok(())
    }
}
