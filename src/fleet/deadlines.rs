//! How long a launch and an agent's coming may take: as the pool says, or as was learned. And how long it is until a moment that is on record.

use super::Fleet;
use crate::config::{Attach, Deadlines};
use rouse_model::Timestamp;
use rouse_model::worker::Worker;
use std::collections::HashMap;
use std::time::Duration;
use tokio::time::Instant;

/// Moments that are on record, on a clock that nobody sets, from when this process first saw them.
#[derive(Debug, Default)]
pub(super) struct Moments(HashMap<Timestamp, Instant>);

impl Moments {
    /// How long it is until a moment, at first sight at most `most`.
    pub(super) fn until(&mut self, at: Timestamp, now: Timestamp, most: Duration) -> Duration {
        let seen = self.0.entry(at).or_insert_with(|| Instant::now() + at.since(now).min(most));
        seen.saturating_duration_since(Instant::now())
    }
}

/// As its pool says; as one that says nothing where it is not there any more.
fn deadlines(fleet: &Fleet, worker: &Worker) -> Deadlines {
    let active = fleet.ctx.config();
    let pool = active.config.pools.iter().find(|(name, _)| name.as_str() == worker.pool);
    pool.map_or_else(Deadlines::default, |(_, pool)| pool.deadlines)
}

pub(super) fn launch_within(fleet: &Fleet, worker: &Worker) -> Duration {
    deadlines(fleet, worker).launch.0
}

pub(super) fn attach_within(fleet: &Fleet, worker: &Worker) -> Duration {
    match deadlines(fleet, worker).attach {
        Attach::Within(period) => period.0,
        Attach::Auto => fleet.learned.attach_within(&worker.pool),
    }
}
