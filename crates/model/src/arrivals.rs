//! How work comes: how much of it somebody announced, and how much comes without a word. Learned from what has come.

use crate::Timestamp;
use std::collections::VecDeque;
use std::time::Duration;

/// What came so many requests ago counts a third of what comes now.
const MEMORY: f64 = 2_000.0;
/// Of fewer nothing is learned.
const LEAST: f64 = 20.0;
/// Who looks back further does not learn more.
const BACK: Duration = Duration::from_secs(3_600);
const REMEMBERED: usize = 10_000;
/// Requests come in bursts: of what came without a word within one boot time, so large a share comes again within the next. Lower than the share that is seen in CI
/// queues, where it is about a half, since a worker that nothing needs costs as much as one that comes too late.
const AGAIN: f64 = 0.2;

/// What is remembered of the requests of one kind.
#[derive(Debug, Clone, Default)]
pub struct Arrivals {
    announced: f64,
    unannounced: f64,
    /// When those came that nobody had announced, oldest first.
    recent: VecDeque<Timestamp>,
}

impl Arrivals {
    /// In the order in which they come.
    pub fn came(&mut self, at: Timestamp, announced: bool) {
        let keep = 1.0 - 1.0 / MEMORY;
        self.announced = self.announced * keep + f64::from(u8::from(announced));
        self.unannounced = self.unannounced * keep + f64::from(u8::from(!announced));
        if announced {
            return;
        }
        while self.recent.front().is_some_and(|first| at.since(*first) > BACK)
            || self.recent.len() >= REMEMBERED
        {
            self.recent.pop_front();
        }
        self.recent.push_back(at);
    }

    /// How many come without a word for each that was announced, with it; no more than one.
    #[must_use]
    pub fn beside(&self) -> f64 {
        match self.announced + self.unannounced < LEAST || self.announced < 1.0 {
            true => 0.0,
            false => (self.unannounced / self.announced).min(1.0),
        }
    }

    /// How many are likely to come within `boot` from now without a word, one after the other.
    #[must_use]
    pub fn again(&self, now: Timestamp, boot: Duration) -> f64 {
        let before = self.recent.partition_point(|at| now.since(*at) > boot);
        AGAIN * (self.recent.len() - before) as f64
    }
}

/// The share of all these that was announced, from 0 to 1; 0 where too few have come to say.
#[must_use]
pub fn foretold<'a>(all: impl IntoIterator<Item = &'a Arrivals>) -> f64 {
    let (mut announced, mut unannounced) = (0.0, 0.0);
    for arrivals in all {
        announced += arrivals.announced;
        unannounced += arrivals.unannounced;
    }
    if announced + unannounced < LEAST { 0.0 } else { announced / (announced + unannounced) }
}
