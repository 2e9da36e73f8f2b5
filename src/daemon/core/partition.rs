//! GPUs whose inside is divided anew for a layout.

use super::{
    Cause, Core, Running,
    commands::refuse,
    waiter::{Waiter, Want},
};
use crate::{
    daemon::{message::Reply, worker::Worker},
    engine::{Event, Partition},
    failure::Failure,
    ledger,
};

impl Core {
    /// Only while no worker of these GPUs is at anything: nothing else touches them until it is done.
    pub(super) fn partition(&mut self, partition: Partition, reply: Reply<()>) -> Result<(), ledger::Error> {
        if matches!(self.running, Running::Stopping { .. }) {
            refuse(reply, Failure::stopping());
            return Ok(());
        }
        let mut workers = partition.gpus.iter().filter_map(|gpu| self.workers.get(gpu));
        if let Some(running) = workers.find_map(Worker::running) {
            refuse(reply, Failure::busy(&running.intent.effect.to_string()));
            return Ok(());
        }
        let gpus = partition.gpus.clone();
        if let Err(rejected) = self.apply(Event::Partition(partition), Cause::default())? {
            refuse(reply, Failure::from(&rejected));
            return Ok(());
        }
        self.waiters.push(Waiter::of_gpus(Want::Partitioned { reply }, gpus));
        Ok(())
    }
}
