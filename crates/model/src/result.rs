//! The seven results, with Buildbot's numbers and Buildbot's order of badness.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// How a step, a build, a request or a buildset ended. The numbers are what the store and the API carry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BuildResult {
    Success = 0,
    Warnings = 1,
    Failure = 2,
    Skipped = 3,
    Exception = 4,
    Retry = 5,
    Cancelled = 6,
}

impl BuildResult {
    pub const ALL: [Self; 7] = [
        Self::Success,
        Self::Warnings,
        Self::Failure,
        Self::Skipped,
        Self::Exception,
        Self::Retry,
        Self::Cancelled,
    ];

    #[must_use]
    pub fn from_number(number: i64) -> Option<Self> {
        Self::ALL.into_iter().find(|r| *r as i64 == number)
    }

    /// Success and warnings: the work was done.
    #[must_use]
    pub fn is_good(self) -> bool {
        matches!(self, Self::Success | Self::Warnings)
    }

    /// It came to an end of its own: nobody and nothing cut it short.
    #[must_use]
    pub fn is_builds_own(self) -> bool {
        self.is_good() || self == Self::Failure
    }

    /// The worse of two, in the order skipped, success, warnings, failure, exception, retry, cancelled.
    #[must_use]
    pub fn worse(self, other: Self) -> Self {
        if other.badness() > self.badness() { other } else { self }
    }

    fn badness(self) -> u8 {
        match self {
            Self::Skipped => 0,
            Self::Success => 1,
            Self::Warnings => 2,
            Self::Failure => 3,
            Self::Exception => 4,
            Self::Retry => 5,
            Self::Cancelled => 6,
        }
    }

    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Warnings => "warnings",
            Self::Failure => "failure",
            Self::Skipped => "skipped",
            Self::Exception => "exception",
            Self::Retry => "retry",
            Self::Cancelled => "cancelled",
        }
    }
}

impl fmt::Display for BuildResult {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for BuildResult {
    type Err = ();
    fn from_str(text: &str) -> Result<Self, ()> {
        Self::ALL.into_iter().find(|r| r.as_str() == text).ok_or(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_names_round_trip() {
        for result in BuildResult::ALL {
            assert_eq!(BuildResult::from_number(result as i64), Some(result));
            assert_eq!(result.as_str().parse(), Ok(result));
        }
        assert_eq!(BuildResult::from_number(7), None);
    }

    #[test]
    fn some_are_good_and_some_are_the_builds_own() {
        use BuildResult::*;
        let of =
            |is: fn(BuildResult) -> bool| BuildResult::ALL.into_iter().filter(|r| is(*r)).collect::<Vec<_>>();
        assert_eq!(of(BuildResult::is_good), [Success, Warnings]);
        assert_eq!(of(BuildResult::is_builds_own), [Success, Warnings, Failure]);
        assert_eq!(format!("{Retry:>7}"), "  retry");
    }

    #[test]
    fn worse_is_commutative_and_keeps_one_of_both() {
        for a in BuildResult::ALL {
            for b in BuildResult::ALL {
                assert_eq!(a.worse(b), b.worse(a));
                assert!(a.worse(b) == a || a.worse(b) == b);
            }
        }
        assert_eq!(BuildResult::Skipped.worse(BuildResult::Success), BuildResult::Success);
    }
}
