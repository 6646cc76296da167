//! Test reports among what a step has kept: what they came to, and since when a test fails.

use super::outcome::End;
use super::state::{DriveError, State};
use super::turn::Turn;
use crate::artifacts::ReceiveError;
use crate::junit::{JunitError, Limits, Report, TestCase};
use rouse_agent_protocol::masking::Masks;
use rouse_model::BuildResult;
use rouse_model::build::Step;
use rouse_model::logs::Artifact;
use rouse_model::test_report::{TestReport, TestResult};
use std::collections::HashMap;
use std::time::Duration;

/// An artifact set of this name is test reports.
pub(super) const REPORTS_SET: &str = "junit";
/// A larger file is kept, and not read.
const MAX_BYTES: u64 = 16 << 20;

impl Turn<'_> {
    /// Reads the reports that have arrived, and puts down what they came to. One that cannot be read gives the step warnings: it says nothing of the
    /// tests.
    pub(super) async fn take_reports(
        &mut self,
        state: &State,
        step: &Step,
        arrived: &[&Artifact],
        masks: &Masks,
        end: &mut End,
    ) -> Result<(), DriveError> {
        let mut whole = Report::default();
        let mut unread = Vec::new();
        for artifact in arrived {
            match self.report_of(artifact).await? {
                Ok(report) => add(&mut whole, report),
                Err(error) => unread.push(format!("{}: {error}", artifact.path)),
            }
        }
        end.summary = summary(&whole);
        if !unread.is_empty() {
            end.result = BuildResult::Warnings;
            end.summary = format!("{}; not read: {}", end.summary, unread.join("; "));
        }
        if whole.total == 0 {
            return Ok(());
        }
        let build = &state.build;
        let count = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
        let report = TestReport {
            build: build.id,
            step: step.id,
            builder: build.builder.clone(),
            branch: state.scope.branch.clone().unwrap_or_default(),
            trust: build.trust,
            total: count(whole.total),
            failed: count(whole.failed),
            skipped: count(whole.skipped),
            duration_us: micros(whole.duration),
            created: self.ctx.now(),
        };
        let before = match self.ctx.store.tested_before(&report).await? {
            Some(build) => self.ctx.store.test_results(build).await?,
            None => Vec::new(),
        };
        let since: HashMap<(&str, &str), _> =
            before.iter().map(|t| ((t.suite.as_str(), t.name.as_str()), t.since)).collect();
        self.batch.insert(&report);
        for (seq, case) in (0..).zip(whole.results) {
            let TestCase { outcome, duration, .. } = case;
            let [suite, name, message] =
                [case.suite, case.name, case.message].map(|text| masks.mask_text(&text));
            let first = since.get(&(suite.as_str(), name.as_str())).copied().flatten().unwrap_or(build.id);
            let since = outcome.is_failure().then_some(first);
            let duration_us = duration.map(micros);
            let (build, step) = (build.id, step.id);
            self.batch.insert(&TestResult {
                build,
                step,
                seq,
                suite,
                name,
                outcome,
                duration_us,
                message,
                since,
            });
        }
        Ok(())
    }

    async fn report_of(&self, artifact: &Artifact) -> Result<Result<Report, Unread>, DriveError> {
        if artifact.bytes.unsigned_abs() > MAX_BYTES {
            return Ok(Err(Unread::Large));
        }
        match self.ctx.artifacts.bytes(artifact).await {
            Ok(bytes) => Ok(Report::read(&bytes, &Limits::default()).map_err(Unread::from)),
            // Nobody's build is red for a store that is away.
            Err(error) if error.is_away() => Err(error.into()),
            Err(error) => Ok(Err(error.into())),
        }
    }
}

/// Why a report says nothing.
#[derive(Debug, thiserror::Error)]
enum Unread {
    #[error("it has more than {} MiB", MAX_BYTES >> 20)]
    Large,
    #[error(transparent)]
    Malformed(#[from] JunitError),
    #[error(transparent)]
    Lost(#[from] ReceiveError),
}

fn add(whole: &mut Report, report: Report) {
    whole.total += report.total;
    whole.failed += report.failed;
    whole.skipped += report.skipped;
    whole.duration = whole.duration.saturating_add(report.duration);
    whole.results.extend(report.results);
    whole.results.truncate(Limits::default().results);
}

/// `120 tests, 2 failed, 3 skipped`.
fn summary(report: &Report) -> String {
    let tests = if report.total == 1 { "1 test".to_owned() } else { format!("{} tests", report.total) };
    let counted = [(report.failed, "failed"), (report.skipped, "skipped")];
    let others = counted.iter().filter(|(n, _)| *n > 0).map(|(n, what)| format!(", {n} {what}"));
    others.fold(tests, |text, other| text + &other)
}

fn micros(time: Duration) -> i64 {
    i64::try_from(time.as_micros()).unwrap_or(i64::MAX)
}
