//! What if: a trace of CI work is run through the very function that scales the fleet, for one policy after the other, in simulated time.
//!
//! It reads a file and answers values; `rouse simulate` prints and draws them. It must not know the store, a provider or the master's configuration.

mod bound;
mod chance;
mod engine;
mod lives;
mod market;
mod picture;
mod policy;
mod sold;
mod supply;
#[cfg(test)]
mod tests;
mod trace;

pub use bound::bound;
pub use engine::{Outcome, Sample, simulate};
pub use market::OfOffering;
pub use picture::picture;
pub use policy::{Policy, PolicyError};
pub use sold::{Offer, OfferError, Sold};
pub use trace::{Job, Trace, TraceError};

use std::time::Duration;

/// What is assumed of the world that a trace says nothing of.
#[derive(Debug, Clone, PartialEq)]
pub struct World {
    /// The median time from the launch of a worker until it takes builds.
    pub boot: Duration,
    /// How much longer than the median one boot of a hundred takes: 1 where all take alike. Distributed log-normally.
    pub boot_spread: f64,
    /// The share of launches that never come up, found out after the time that a boot would have taken.
    pub boot_failures: f64,
    /// The share of requests that schedulers announce.
    pub announced: f64,
    /// So long ahead.
    pub lead: Duration,
    /// So many announcements, in parts of those that come true, come to nothing.
    pub false_alarms: f64,
    pub slots: usize,
    /// Builds that one worker serves in all.
    pub max_uses: usize,
    /// Of one worker for an hour, in any currency, where nothing is offered.
    pub price: f64,
    /// What workers may be launched as, in order.
    pub offers: Vec<Offer>,
    /// The time until a parked worker that is resumed takes builds.
    pub resume: Duration,
    /// Of one parked worker for an hour, no more than of one that runs.
    pub park_price: f64,
    pub seed: u64,
}
