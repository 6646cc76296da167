//! What tests came to.

use crate::{ReadError, Store};
use rouse_model::BuildId;
use rouse_model::test_report::{TestReport, TestResult};

impl Store {
    /// What the reports of a build came to, a row for each step that kept some.
    pub async fn test_reports(&self, build: BuildId) -> Result<Vec<TestReport>, ReadError> {
        self.select("WHERE build = $1 ORDER BY step", vec![build.0.into()]).await
    }

    /// The tests of a build that did not pass, as far as they are kept.
    pub async fn test_results(&self, build: BuildId) -> Result<Vec<TestResult>, ReadError> {
        self.select("WHERE build = $1 ORDER BY step, seq", vec![build.0.into()]).await
    }

    /// The newest build with a report before this one, of the same builder, branch and trust.
    pub async fn tested_before(&self, report: &TestReport) -> Result<Option<BuildId>, ReadError> {
        let tail =
            "WHERE builder = $1 AND branch = $2 AND trust = $3 AND build < $4 ORDER BY build DESC LIMIT 1";
        let TestReport { builder, branch, trust, build, .. } = report;
        let found: Option<TestReport> = self
            .select_one(
                tail,
                vec![builder.as_str().into(), branch.as_str().into(), trust.as_str().into(), build.0.into()],
            )
            .await?;
        Ok(found.map(|report| report.build))
    }

    /// A builder's reports, of one branch where one is given: those of its newest builds first.
    pub async fn tested(
        &self,
        builder: &str,
        branch: Option<&str>,
        limit: i64,
    ) -> Result<Vec<TestReport>, ReadError> {
        match branch {
            Some(branch) => {
                let tail = "WHERE builder = $1 AND branch = $2 ORDER BY build DESC, step LIMIT $3";
                self.select(tail, vec![builder.into(), branch.into(), limit.into()]).await
            }
            None => {
                let tail = "WHERE builder = $1 ORDER BY build DESC, step LIMIT $2";
                self.select(tail, vec![builder.into(), limit.into()]).await
            }
        }
    }

    /// What became of one test in these builds, where it did not pass.
    pub async fn test_in(
        &self,
        builds: &[BuildId],
        suite: &str,
        name: &str,
    ) -> Result<Vec<TestResult>, ReadError> {
        if builds.is_empty() {
            return Ok(Vec::new());
        }
        let marks = (1..=builds.len()).map(|n| format!("${n}")).collect::<Vec<_>>().join(", ");
        let (suite_at, name_at) = (builds.len() + 1, builds.len() + 2);
        let tail = format!("WHERE build IN ({marks}) AND suite = ${suite_at} AND name = ${name_at}");
        let ids = builds.iter().map(|id| id.0.into());
        self.select(&tail, ids.chain([suite.into(), name.into()]).collect()).await
    }
}
