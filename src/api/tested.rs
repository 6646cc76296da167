//! What tests came to: in one build, and from build to build.

use super::AppState;
use super::auth::Reader;
use super::builds;
use super::error::ApiError;
use super::extract::{Asked, At};
use super::listing::Listing;
use super::moment::Moment;
use super::words::{TestOutcome, Trust};
use axum::Json;
use axum::extract::State;
use rouse_model::BuildId;
use rouse_model::test_report::{TestReport, TestResult};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

pub(super) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(of_build)).routes(routes!(of_builder))
}

/// The tests of one build.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct TestsView {
    /// One for each step that kept reports.
    pub reports: Vec<TestReportView>,
    /// Those that did not pass, at most a thousand of a step, failures before what was skipped where there were more.
    pub results: Vec<TestResultView>,
}

/// The reports that one step kept, summed up.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct TestReportView {
    pub build: i64,
    pub step: i64,
    /// Empty where the build has no codebase.
    pub branch: String,
    pub trust: Trust,
    pub total: i64,
    /// Errors among them.
    pub failed: i64,
    pub skipped: i64,
    /// What the tests say that they took, together.
    pub seconds: f64,
    pub created: Moment,
    /// What became of the test that was asked for; `passed` also where the report does not have it. Null where none was.
    pub outcome: Option<TestOutcome>,
}

/// One test that did not pass.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct TestResultView {
    pub step: i64,
    /// The class or the suite.
    pub suite: String,
    pub name: String,
    pub outcome: TestOutcome,
    pub seconds: Option<f64>,
    pub message: String,
    /// The build in which it failed first, of all in a row up to this one; null where it was skipped.
    pub since: Option<i64>,
}

#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(default, deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct Query {
    /// Only builds of this branch.
    branch: Option<String>,
    /// The class or suite of the test whose history is asked for.
    suite: Option<String>,
    /// The name of that test.
    test: Option<String>,
    /// At most so many, 1 to 500; 50 where it is not given.
    limit: Option<i64>,
}

/// What the tests of a build came to
///
/// Read from the files that its steps upload as `junit`.
#[utoipa::path(get, path = "/builds/{id}/tests", tag = "builds", params(("id" = i64, Path)), responses((status = OK, body = TestsView)))]
async fn of_build(
    Reader(caller): Reader,
    At(id): At<i64>,
    State(state): State<AppState>,
) -> Result<Json<TestsView>, ApiError> {
    let build = builds::seen(&state, &caller, id).await?;
    let reports = state.ctx.store.test_reports(build.id).await?;
    let results = state.ctx.store.test_results(build.id).await?;
    Ok(Json(TestsView {
        reports: reports.iter().map(|report| report_view(report, None)).collect(),
        results: results.into_iter().map(result_view).collect(),
    }))
}

/// What the tests of a builder came to, newest build first
///
/// With `suite` and `test`: what became of that one in each.
#[utoipa::path(get, path = "/builders/{name}/tests", tag = "builders", params(("name" = String, Path), Query),
    responses((status = OK, body = Listing<TestReportView>)))]
async fn of_builder(
    Reader(caller): Reader,
    At(name): At<String>,
    Asked(query): Asked<Query>,
    State(state): State<AppState>,
) -> Result<Json<Listing<TestReportView>>, ApiError> {
    let active = state.ctx.config();
    let project = active.config.builders.get(name.as_str()).map(|builder| builder.project.to_string());
    let what = format!("builder `{name}`");
    caller.must_see(&project.ok_or_else(|| ApiError::not_found(&what))?, &what)?;
    let limit = super::listing::page(query.limit, None)?.limit;
    let reports = state.ctx.store.tested(&name, query.branch.as_deref(), limit).await?;
    let ids: Vec<BuildId> = reports.iter().map(|report| report.build).collect();
    let one = match query.test.as_deref() {
        Some(test) => {
            Some(state.ctx.store.test_in(&ids, query.suite.as_deref().unwrap_or_default(), test).await?)
        }
        None => None,
    };
    let outcome = |report: &TestReport| {
        let mut found = one.as_ref()?.iter().filter(|r| (r.build, r.step) == (report.build, report.step));
        Some(found.next().map_or(TestOutcome::Passed, |result| result.outcome.into()))
    };
    Ok(Json(Listing::whole(reports.iter().map(|report| report_view(report, outcome(report))).collect())))
}

fn report_view(report: &TestReport, outcome: Option<TestOutcome>) -> TestReportView {
    TestReportView {
        build: report.build.0,
        step: report.step.0,
        branch: report.branch.clone(),
        trust: report.trust.into(),
        total: report.total,
        failed: report.failed,
        skipped: report.skipped,
        seconds: seconds(report.duration_us),
        created: report.created.into(),
        outcome,
    }
}

fn result_view(result: TestResult) -> TestResultView {
    TestResultView {
        step: result.step.0,
        suite: result.suite,
        name: result.name,
        outcome: result.outcome.into(),
        seconds: result.duration_us.map(seconds),
        message: result.message,
        since: result.since.map(|build| build.0),
    }
}

#[expect(clippy::cast_precision_loss, reason = "a test takes far less than 2^52 µs")]
fn seconds(micros: i64) -> f64 {
    micros as f64 / 1e6
}
