//! Simulated time: a wall clock that goes on by tokio's own, paused or not, and outlives the runtime of a master that is killed.

use rouse_model::Timestamp;
use std::sync::{Mutex, PoisonError};
use tokio::time::Instant;

/// What the time is, and since when it is counted within the runtime that runs now.
#[derive(Debug)]
pub struct SimClock(Mutex<(Timestamp, Option<Instant>)>);

impl SimClock {
    /// Stands still until it is entered.
    #[must_use]
    pub fn at(start: Timestamp) -> Self {
        Self(Mutex::new((start, None)))
    }

    /// Goes on by the clock of this runtime.
    pub fn enter(&self) {
        let now = self.now();
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = (now, Some(Instant::now()));
    }

    /// This runtime is about to end.
    pub fn leave(&self) {
        let now = self.now();
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = (now, None);
    }

    #[must_use]
    pub fn now(&self) -> Timestamp {
        let (base, since) = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        since.map_or(base, |since| base + since.elapsed())
    }
}
