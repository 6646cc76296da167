//! How long a launch and an agent's coming may take: as the pool says, or as was learned. And how long it is until a moment that is on record.

use super::Fleet;
use super::reaper::INTERVAL;
use crate::config::{Attach, Deadlines};
use rouse_contract::ObservedState;
use rouse_model::Timestamp;
use rouse_model::worker::{Link, Worker};
use std::collections::HashMap;
use std::time::Duration;
use tokio::time::Instant;

/// Moments that are on record, on a clock that nobody sets, from when this process first saw them.
#[derive(Debug, Default)]
pub(super) struct Moments {
    known: HashMap<Timestamp, Instant>,
    /// Since when its provider does not show an instance whose agent has not come yet.
    absent: Option<Instant>,
    /// The last time that its provider has said that it is resumed, by its number.
    resumed: Option<i64>,
}

impl Moments {
    /// How long it is until a moment, at first sight at most `most`.
    pub(super) fn until(&mut self, at: Timestamp, now: Timestamp, most: Duration) -> Duration {
        let seen = self.known.entry(at).or_insert_with(|| Instant::now() + at.since(now).min(most));
        seen.saturating_duration_since(Instant::now())
    }

    /// The provider shows it.
    pub(super) fn is_there(&mut self, state: ObservedState) -> ObservedState {
        self.absent = None;
        state
    }

    /// Whether an absence of which a provider speaks is believed. What it shows may lag behind: not while the agent speaks, at once where that is
    /// silent too, and of one that has not come yet when it was absent twice, one interval apart.
    pub(super) fn is_absent(&mut self, link: &Link) -> bool {
        match link {
            Link::Attached { .. } => false,
            Link::Silent { .. } | Link::Lost { .. } => true,
            Link::Never => self.absent.get_or_insert_with(Instant::now).elapsed() >= INTERVAL,
        }
    }

    pub(super) fn is_resumed(&mut self, nth: i64) {
        self.resumed = Some(nth);
    }

    pub(super) fn was_resumed(&self, nth: i64) -> bool {
        self.resumed == Some(nth)
    }

    /// Whether it was absent when it was looked for last.
    pub(super) fn misses_it(&self) -> bool {
        self.absent.is_some()
    }
}

/// How long it may be until the agent of an instance that is resumed has come.
pub(super) fn resume_within(fleet: &Fleet, worker: &Worker) -> Duration {
    match deadlines(fleet, worker).attach {
        Attach::Within(period) => period.0,
        Attach::Auto => fleet.learned.resume_within(&worker.pool),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn one_that_is_not_shown_is_looked_for_until_it_is() {
        let mut moments = Moments::default();
        assert!(!moments.misses_it());
        assert!(!moments.is_absent(&Link::Never) && moments.misses_it(), "once is not enough");
        tokio::time::advance(INTERVAL).await;
        assert!(moments.is_absent(&Link::Never));
        assert_eq!(moments.is_there(ObservedState::Running), ObservedState::Running);
        assert!(!moments.misses_it());
    }

    #[test]
    fn each_time_that_it_is_resumed_is_another_one() {
        let mut moments = Moments::default();
        assert!(!moments.was_resumed(1));
        moments.is_resumed(1);
        assert!(moments.was_resumed(1) && !moments.was_resumed(2));
    }
}
