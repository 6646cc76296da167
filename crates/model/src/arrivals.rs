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
const WINDOWS: usize = 360;
/// Of what is likely to come again, so much is counted on: a burst either goes on or is over, and a worker that comes for nothing costs as much as one that comes late.
const CAUTION: f64 = 0.4;

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

    /// How many to count on that come within `boot` from now without a word, one after the other: as many as came so within the last boot time, by how much of that
    /// came again in the next one, all through the last hour.
    #[must_use]
    pub fn again(&self, now: Timestamp, boot: Duration) -> f64 {
        let mut windows: Vec<f64> = Vec::new();
        for at in self.recent.iter().rev() {
            let before = now.since(*at);
            // Whole windows back from now.
            let window = (before.as_micros() / boot.as_micros().max(1)) as usize;
            if before > BACK || window >= WINDOWS {
                break;
            }
            windows.resize(windows.len().max(window + 1), 0.0);
            windows[window] += 1.0;
        }
        let Some(lately) = windows.first().copied().filter(|lately| *lately > 0.0) else { return 0.0 };
        // Each pair: what came then, and what came next.
        let came: f64 = windows.iter().skip(1).map(|then| then * then).sum();
        let again: f64 = windows.windows(2).map(|pair| pair[0] * pair[1]).sum();
        if came == 0.0 { 0.0 } else { CAUTION * lately * (again / came).min(1.0) }
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
