//! What the tests of a build came to, as its reports say.

use crate::{BuildId, StepId, Timestamp, Trust};
use serde::{Deserialize, Serialize};

/// The reports that one step kept, summed up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TestReport {
    pub build: BuildId,
    pub step: StepId,
    pub builder: String,
    /// Of the build's first codebase; empty where it has none. With the builder and the trust it is the line of builds that a test has a history in.
    pub branch: String,
    pub trust: Trust,
    pub total: i64,
    /// Errors among them.
    pub failed: i64,
    pub skipped: i64,
    /// What the tests say that they took, together.
    pub duration_us: i64,
    pub created: Timestamp,
}

/// One test that did not pass.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TestResult {
    pub build: BuildId,
    pub step: StepId,
    /// Its place among those of the step.
    pub seq: i64,
    /// The class or the suite.
    pub suite: String,
    pub name: String,
    pub outcome: TestOutcome,
    pub duration_us: Option<i64>,
    pub message: String,
    /// Where it failed first of all builds in a row up to this one; `None` for one that was skipped.
    pub since: Option<BuildId>,
}

/// What became of a test.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TestOutcome {
    Passed,
    Skipped,
    /// What it looked at was not as it should be.
    Failed,
    /// It broke by itself.
    Error,
}

impl TestOutcome {
    #[must_use]
    pub fn is_failure(self) -> bool {
        self >= Self::Failed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_failed_or_broke_is_a_failure() {
        use TestOutcome::*;
        let of = [Passed, Skipped, Failed, Error].map(TestOutcome::is_failure);
        assert_eq!(of, [false, false, true, true]);
    }
}
