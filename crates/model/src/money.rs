//! Money, in millionths of the installation's one currency: exact sums, and room for what a second of a small machine costs.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::iter::Sum;
use std::ops::{Add, Sub};
use std::time::Duration;

const MILLION: i64 = 1_000_000;
const HOUR_MS: i128 = 3_600_000;

/// An amount, in millionths.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Money(pub i64);

/// What something costs for each hour that it is there, in millionths.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Price(pub i64);

impl Money {
    /// In whole ones, for a picture or the wire.
    #[must_use]
    pub fn as_f64(self) -> f64 {
        self.0 as f64 / MILLION as f64
    }

    /// `None` where it is no amount, or too large for one.
    #[must_use]
    pub fn from_f64(amount: f64) -> Option<Self> {
        let micros = (amount * MILLION as f64).round();
        (micros.is_finite() && micros.abs() < 9e15).then_some(Self(micros as i64))
    }
}

impl Price {
    pub const NONE: Self = Self(0);

    /// What so long costs: to the millisecond, rounded up.
    #[must_use]
    pub fn over(self, time: Duration) -> Money {
        let millis = i128::try_from(time.as_millis()).unwrap_or(i128::MAX);
        let cost = i128::from(self.0).saturating_mul(millis).saturating_add(HOUR_MS - 1) / HOUR_MS;
        Money(i64::try_from(cost).unwrap_or(i64::MAX))
    }
}

impl Add for Money {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }
}

impl Sub for Money {
    type Output = Self;
    fn sub(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }
}

impl Sum for Money {
    fn sum<I: Iterator<Item = Self>>(amounts: I) -> Self {
        amounts.fold(Self::default(), Add::add)
    }
}

/// With two digits after the point, more where it is less than that shows.
impl fmt::Display for Money {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let amount = self.as_f64();
        let digits = if self.0 != 0 && self.0.abs() < MILLION / 10 { 4 } else { 2 };
        write!(f, "{amount:.digits$}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_costs_to_the_millisecond() {
        let price = Price(170_000);
        assert_eq!(price.over(Duration::from_secs(3600)), Money(170_000));
        assert_eq!(price.over(Duration::from_secs(90)), Money(4_250));
        assert_eq!(price.over(Duration::from_millis(1)), Money(1), "never nothing");
        assert_eq!(Price::NONE.over(Duration::from_secs(3600)), Money(0));
        assert_eq!(Price(i64::MAX).over(Duration::MAX), Money(i64::MAX));
    }

    #[test]
    fn what_is_no_amount_is_none() {
        assert_eq!(Money::from_f64(0.170_000_4), Some(Money(170_000)));
        assert_eq!(Money::from_f64(-2.5), Some(Money(-2_500_000)));
        assert_eq!(Money::from_f64(8.9e9), Some(Money(8_900_000_000_000_000)));
        for not in [f64::NAN, f64::INFINITY, 9.0e9, -9.0e9, 1e300] {
            assert_eq!(Money::from_f64(not), None, "{not}");
        }
    }

    #[test]
    fn amounts_are_read_by_people() {
        for (micros, text) in [(0, "0.00"), (29_994_999, "29.99"), (4_250, "0.0043"), (-1_500_000, "-1.50")] {
            assert_eq!(Money(micros).to_string(), text);
        }
        assert_eq!([Money(1), Money(2)].into_iter().sum::<Money>() - Money(4), Money(-1));
    }
}
