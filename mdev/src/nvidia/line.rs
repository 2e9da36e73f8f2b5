//! The line for `sriov-manage`, of which one runs at a time on a host.
//!
//! It takes a GPU off NVIDIA's driver and has `pci-pf-stub` take all devices of its id for a moment (`new_id`):
//! of two runs for cards of one kind, each would get the other's. Work that stands in line is as well as any:
//! the time is counted, so that it is not held against its GPU.

use crate::{PciAddress, wait::TimedOut};
use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

/// Who waits for a turn; the first of them has it.
#[derive(Debug, Default)]
pub(crate) struct Line {
    state: Mutex<State>,
    moved: Condvar,
}

#[derive(Debug, Default)]
struct State {
    last: u64,
    standing: VecDeque<Standing>,
    /// How long work on each GPU has stood in line, without those who stand there now.
    stood: BTreeMap<PciAddress, Duration>,
}

#[derive(Debug)]
struct Standing {
    number: u64,
    gpu: PciAddress,
    since: Instant,
}

impl State {
    fn count(&mut self, gpu: PciAddress, since: Instant) {
        *self.stood.entry(gpu).or_default() += since.elapsed();
    }
}

/// A turn, until it is dropped.
#[derive(Debug)]
pub(super) struct Turn<'a>(&'a Line);

impl Line {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Stands in line until its turn comes. `longest` is what one turn takes at most.
    ///
    /// # Errors
    /// Where those before it take longer than they may.
    pub(super) fn stand(&self, gpu: PciAddress, longest: Duration) -> Result<Turn<'_>, TimedOut> {
        let mut state = self.state();
        state.last += 1;
        let number = state.last;
        let ahead = u32::try_from(state.standing.len()).unwrap_or(u32::MAX);
        let within = longest.saturating_mul(ahead);
        state.standing.push_back(Standing { number, gpu, since: Instant::now() });
        let is_behind =
            |state: &mut State| state.standing.front().is_some_and(|first| first.number != number);
        let waited = self.moved.wait_timeout_while(state, within, is_behind);
        let (mut state, waited) = waited.unwrap_or_else(PoisonError::into_inner);
        if !waited.timed_out() {
            return Ok(Turn(self));
        }
        let first = state.standing.front().map_or(gpu, |first| first.gpu);
        if let Some(at) = state.standing.iter().position(|standing| standing.number == number)
            && let Some(gone) = state.standing.remove(at)
        {
            state.count(gone.gpu, gone.since);
        }
        Err(TimedOut { what: format!("sriov-manage, which runs for GPU {first}, to end"), within })
    }

    /// How long work on this GPU has stood in line so far, all in all.
    pub(crate) fn stood(&self, gpu: PciAddress) -> Duration {
        let state = self.state();
        let now = state.standing.iter().skip(1).filter(|standing| standing.gpu == gpu);
        let now: Duration = now.map(|standing| standing.since.elapsed()).sum();
        state.stood.get(&gpu).copied().unwrap_or_default() + now
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.standing.pop_front();
        // Here and not where it wakes: what it has stood must not be forgotten in between.
        if let Some((gpu, since)) = state.standing.front().map(|next| (next.gpu, next.since)) {
            state.count(gpu, since);
        }
        drop(state);
        self.0.moved.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wait;
    use std::thread;

    const LONG: Duration = Duration::from_secs(60);

    fn gpus() -> [PciAddress; 3] {
        ["0000:41:00.0", "0000:42:00.0", "0000:43:00.0"].map(|gpu| gpu.parse().unwrap())
    }

    fn until(line: &Line, count: usize) {
        let come = || Ok::<_, TimedOut>((line.state().standing.len() == count).then_some(()));
        wait::until("all to stand in line", LONG, come).unwrap();
    }

    #[test]
    fn turns_come_in_order_and_time_in_line_is_counted_for_those_behind() {
        let (line, gpus) = (Line::default(), gpus());
        let came = Mutex::new(Vec::new());
        let first = line.stand(gpus[0], LONG).unwrap();
        thread::scope(|scope| {
            for (index, gpu) in gpus.into_iter().enumerate().skip(1) {
                let (line, came) = (&line, &came);
                scope.spawn(move || {
                    let _turn = line.stand(gpu, LONG).unwrap();
                    came.lock().unwrap().push(gpu);
                });
                until(line, index + 1);
            }
            wait::rest(Duration::from_millis(50));
            let soon = line.stood(gpus[1]);
            assert!(soon >= Duration::from_millis(50), "counted while it stands: {soon:?}");
            drop(first);
        });
        assert_eq!(*came.lock().unwrap(), gpus[1..]);
        assert_eq!(line.stood(gpus[0]), Duration::ZERO, "nobody was before it");
        for gpu in &gpus[1..] {
            let stood = line.stood(*gpu);
            assert!(stood >= Duration::from_millis(50) && stood < LONG, "{stood:?}");
        }
        assert_eq!(line.state().standing.len(), 0);
    }

    #[test]
    fn who_is_before_for_too_long_is_named_and_the_line_goes_on() {
        let (line, [first, second, third]) = (Line::default(), gpus());
        let turn = line.stand(first, LONG).unwrap();
        let told = line.stand(second, Duration::from_millis(20)).unwrap_err().to_string();
        assert_eq!(told, "Waited 0.02 s for sriov-manage, which runs for GPU 0000:41:00.0, to end, in vain");
        assert!(line.stood(second) >= Duration::from_millis(20));
        drop(turn);
        drop(line.stand(third, Duration::ZERO).unwrap());
        drop(line.stand(second, Duration::ZERO).unwrap());
    }
}
