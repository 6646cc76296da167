//! What workers have cost and may still cost, and what is left of a budget after that.
//!
//! Money is promised before it is spent: a worker that is there is counted with all that it may still be given to do, so that whatever waits, and however much of it,
//! what is launched is paid for to its end.

use crate::money::{Money, Price};
use crate::{BudgetGrantId, Timestamp, WorkerId};
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// From the end of the last build until the provider has confirmed that the instance is gone.
pub const TEARDOWN: Duration = Duration::from_secs(60);
/// A build that has outlasted what it is counted with goes on for so long at least.
const OVERDUE: Duration = Duration::from_secs(60);

/// What somebody allows beyond a pool's budget, for a time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BudgetGrant {
    pub id: BudgetGrantId,
    pub pool: String,
    pub amount: Money,
    pub granted: Timestamp,
    pub until: Timestamp,
    /// Who, and why where that was said.
    pub by: String,
}

/// A worker lay parked, and cost less for that time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Parking {
    pub worker: WorkerId,
    /// How often it had been resumed by then.
    pub nth: i64,
    pub since: Timestamp,
    /// `None` where it was not resumed: it lies, or ended where it lay.
    pub until: Option<Timestamp>,
    /// Of its price.
    pub spares: Price,
}

impl Parking {
    /// What that has spared since `from`, of a worker that is or was there until `end`.
    #[must_use]
    pub fn spared(&self, from: Timestamp, end: Timestamp) -> Money {
        cost_since(self.spares, self.since, from, self.until.unwrap_or(end))
    }
}

/// How a worker stands, as far as that costs something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Doing {
    /// On its way for so long, where so long may be needed.
    Coming {
        since: Timestamp,
        within: Duration,
    },
    /// The latest of its builds began then.
    Building {
        since: Timestamp,
    },
    Held {
        until: Timestamp,
    },
    /// Idle, or ending.
    Nothing,
}

impl Doing {
    /// How long it is still there for what it does, where a build is counted with `build`.
    #[must_use]
    pub fn rest(self, build: Duration, now: Timestamp) -> Duration {
        let rest = match self {
            Self::Coming { since, within } => within.saturating_sub(now.since(since)),
            Self::Building { since } => build.saturating_sub(now.since(since)).max(OVERDUE),
            Self::Held { until } => until.since(now),
            Self::Nothing => Duration::ZERO,
        };
        rest + TEARDOWN
    }
}

/// How a budget stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Standing {
    /// As it is written: `30.00 USD/day`.
    pub limit: String,
    /// That, with what somebody allows beyond it.
    pub amount: Money,
    /// Since it began anew.
    pub spent: Money,
    /// What those that are there may still cost.
    pub promised: Money,
    /// What one more is counted with.
    pub launch: Money,
    /// When it begins anew.
    pub until: Timestamp,
}

impl Standing {
    /// Less than nothing where more is promised than may be spent.
    #[must_use]
    pub fn left(&self) -> Money {
        self.amount - self.spent - self.promised
    }
}

/// What a worker that is there has cost since then.
#[must_use]
pub fn cost_since(price: Price, there_since: Timestamp, from: Timestamp, now: Timestamp) -> Money {
    price.over(now.since(there_since.max(from)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_secs(seconds)
    }

    #[test]
    fn what_is_there_is_counted_to_its_end() {
        let build = Duration::from_secs(600);
        let rest = |doing: Doing| doing.rest(build, at(1_000)).as_secs() - TEARDOWN.as_secs();
        let coming = |since| Doing::Coming { since: at(since), within: Duration::from_secs(120) };
        assert_eq!((rest(coming(1_000)), rest(coming(940)), rest(coming(0))), (120, 60, 0));
        let building = |since| Doing::Building { since: at(since) };
        assert_eq!((rest(building(1_000)), rest(building(500)), rest(building(0))), (600, 100, 60));
        assert_eq!((rest(Doing::Held { until: at(1_300) }), rest(Doing::Nothing)), (300, 0));
    }

    #[test]
    fn what_is_promised_is_not_left() {
        let standing = Standing {
            limit: "100.00 USD/h".into(),
            amount: Money(100),
            spent: Money(30),
            promised: Money(80),
            launch: Money(7),
            until: at(3_600),
        };
        assert_eq!(standing.left(), Money(-10));
    }

    #[test]
    fn only_what_falls_into_it_is_counted() {
        let price = Price(3_600);
        assert_eq!(cost_since(price, at(100), at(0), at(150)), Money(50));
        assert_eq!(cost_since(price, at(100), at(140), at(150)), Money(10));
        assert_eq!(cost_since(price, at(100), at(140), at(90)), Money(0), "a clock that was set back");
    }
}
