//! What is drawn: which requests are announced, which announcements are false, how long boots take and which fail. The same for each policy.

use super::{Trace, World};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use rand_distr::{Distribution, Exp1, StandardNormal};
use rouse_model::Timestamp;
use std::time::Duration;

/// One in a hundred is above the mean by so many standard deviations.
const NINETY_NINE: f64 = 2.326;

/// What schedulers say ahead, in order of saying: when it is said, when it is due, and which request that is; none where it comes to nothing.
pub(super) fn announcements(trace: &Trace, world: &World) -> Vec<Announcement> {
    let mut dice = StdRng::seed_from_u64(world.seed);
    let mut all = Vec::new();
    for (number, job) in trace.jobs.iter().enumerate() {
        if dice.random::<f64>() >= world.announced {
            continue;
        }
        let said = job.arrives - world.lead;
        all.push(Announcement { said, due: job.arrives, class: job.class, job: Some(number) });
        if dice.random::<f64>() < world.false_alarms {
            all.push(Announcement { said, due: job.arrives, class: job.class, job: None });
        }
    }
    all
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Announcement {
    pub said: Timestamp,
    pub due: Timestamp,
    pub class: usize,
    pub job: Option<usize>,
}

/// When the workers of a policy are taken back, one after the other.
pub(super) struct Fates(StdRng);

impl Fates {
    pub(super) fn of(world: &World) -> Self {
        Self(StdRng::seed_from_u64(world.seed ^ 0xFA7E))
    }

    /// How long the next one runs, of which so many are taken back in an hour: how long it has run already makes no difference.
    pub(super) fn next(&mut self, rate: f64) -> Duration {
        let hours: f64 = Exp1.sample(&mut self.0);
        Duration::from_secs_f64(hours / rate * 3600.0)
    }
}

/// The boots of a policy's workers, one after the other.
pub(super) struct Boots {
    dice: StdRng,
    median: f64,
    spread: f64,
    failures: f64,
}

impl Boots {
    pub(super) fn of(world: &World) -> Self {
        Self {
            dice: StdRng::seed_from_u64(world.seed ^ 0xB007),
            median: world.boot.as_secs_f64(),
            spread: world.boot_spread.max(1.0).ln() / NINETY_NINE,
            failures: world.boot_failures,
        }
    }

    /// How long the next one takes, and whether there is a worker then.
    pub(super) fn next(&mut self) -> (Duration, bool) {
        let normal: f64 = StandardNormal.sample(&mut self.dice);
        let takes = self.median * (normal * self.spread).exp();
        (Duration::from_secs_f64(takes), self.dice.random::<f64>() >= self.failures)
    }
}
