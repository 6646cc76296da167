//! Simulated time: a clock that goes on by tokio's own, paused or not, and outlives the runtime of a master that is killed; and the wall clock over
//! it, which may be set.

use rouse_model::Timestamp;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Mutex, PoisonError};
use tokio::time::Instant;

#[derive(Debug)]
pub struct SimClock {
    /// What the time is, and since when it is counted within the runtime that runs now.
    steady: Mutex<(Timestamp, Option<Instant>)>,
    /// By how many microseconds the wall clock is ahead.
    ahead: AtomicI64,
}

impl SimClock {
    /// Stands still until it is entered.
    #[must_use]
    pub fn at(start: Timestamp) -> Self {
        Self { steady: Mutex::new((start, None)), ahead: AtomicI64::new(0) }
    }

    /// Goes on by the clock of this runtime.
    pub fn enter(&self) {
        let now = self.steady();
        *self.steady.lock().unwrap_or_else(PoisonError::into_inner) = (now, Some(Instant::now()));
    }

    /// This runtime is about to end.
    pub fn leave(&self) {
        let now = self.steady();
        *self.steady.lock().unwrap_or_else(PoisonError::into_inner) = (now, None);
    }

    /// What a master's wall clock shows.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        Timestamp(self.steady().0 + self.ahead.load(Ordering::Relaxed))
    }

    /// What it would show had nobody set it: the time of the world around the masters.
    #[must_use]
    pub fn steady(&self) -> Timestamp {
        let (base, since) = *self.steady.lock().unwrap_or_else(PoisonError::into_inner);
        since.map_or(base, |since| base + since.elapsed())
    }

    /// Somebody sets the wall clock: it is so many seconds ahead from now on, or behind.
    pub fn set_ahead(&self, seconds: i64) {
        self.ahead.store(seconds * 1_000_000, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wall_clock_that_is_set_leaves_the_world_as_it_is() {
        let clock = SimClock::at(Timestamp(5_000_000));
        clock.set_ahead(-2);
        assert_eq!((clock.now(), clock.steady()), (Timestamp(3_000_000), Timestamp(5_000_000)));
        clock.set_ahead(0);
        assert_eq!(clock.now(), clock.steady());
    }
}
