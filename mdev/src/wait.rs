//! Waiting for the kernel: polls with a deadline that names what it waited for.

use std::time::{Duration, Instant};

/// Something did not become so in time.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("Waited {} s for {what}, in vain", within.as_secs_f32())]
pub struct TimedOut {
    pub what: String,
    pub within: Duration,
}

/// Longest pause between two looks.
const LONGEST_PAUSE: Duration = Duration::from_millis(100);

/// Polls `probe` until it returns something, at growing pauses from 1 ms to 100 ms. It looks at
/// least once, and once more when the time is up.
///
/// # Errors
/// The probe's own error at once, or [`TimedOut`] naming `what` after `within`.
pub fn until<T, E: From<TimedOut>>(
    what: &str,
    within: Duration,
    mut probe: impl FnMut() -> Result<Option<T>, E>,
) -> Result<T, E> {
    let deadline = Instant::now() + within;
    let mut pause = Duration::from_millis(1);
    loop {
        let last = Instant::now() >= deadline;
        if let Some(found) = probe()? {
            return Ok(found);
        }
        if last {
            return Err(TimedOut { what: what.to_owned(), within }.into());
        }
        rest(pause.min(deadline.saturating_duration_since(Instant::now())));
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// The one place in the workspace that sleeps (clippy.toml).
#[allow(clippy::disallowed_methods)]
pub(crate) fn rest(time: Duration) {
    std::thread::sleep(time);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn returns_what_the_probe_finds_and_names_what_never_came() {
        let mut looks = 0;
        let third_time = || {
            looks += 1;
            Ok::<_, TimedOut>((looks == 3).then_some(looks))
        };
        assert_eq!(until("the third look", Duration::from_secs(60), third_time), Ok(3));
        let never = until::<(), _>("a node", Duration::ZERO, || Ok::<_, TimedOut>(None));
        assert_eq!(never.unwrap_err().to_string(), "Waited 0 s for a node, in vain");
    }
}
