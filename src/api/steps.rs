//! `/steps`: the parts of a build.

use super::AppState;
use super::auth::Reader;
use super::error::ApiError;
use super::extract::At;
use super::logs::LogView;
use super::moment::{Moment, secs};
use super::words::{BuildResult, FailureClass};
use axum::Json;
use axum::extract::State;
use rouse_model::Timestamp;
use rouse_model::build::Step;
use rouse_model::logs::Log;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

pub(super) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(show))
}

/// One part of a build.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct StepView {
    pub id: i64,
    pub build: i64,
    /// Its place in the plan, from 0.
    pub seq: i64,
    pub name: String,
    /// Null while it runs.
    pub result: Option<BuildResult>,
    /// Set where an infrastructure failure ended it.
    pub class: Option<FailureClass>,
    /// For a person: `exit 2`, `ok`.
    pub summary: String,
    pub started: Moment,
    pub finished: Option<Moment>,
    /// How long it took, or has taken so far.
    pub seconds: f64,
    pub logs: Vec<LogView>,
}

impl StepView {
    /// `logs` are the build's; those of the step are taken.
    pub(super) fn of(step: Step, logs: &[Log], now: Timestamp) -> Self {
        Self {
            id: step.id.0,
            build: step.build.0,
            seq: step.seq,
            name: step.name,
            result: step.result.map(BuildResult::from),
            class: step.class.map(FailureClass::from),
            summary: step.summary,
            started: step.started.into(),
            finished: step.finished.map(Moment),
            seconds: secs(step.finished.unwrap_or(now).since(step.started)),
            logs: logs.iter().filter(|log| log.step == step.id).map(LogView::from).collect(),
        }
    }
}

/// One step
#[utoipa::path(get, path = "/steps/{id}", tag = "builds", params(("id" = i64, Path)), responses((status = OK, body = StepView)))]
async fn show(
    Reader(caller): Reader,
    At(id): At<i64>,
    State(state): State<AppState>,
) -> Result<Json<StepView>, ApiError> {
    let store = &state.ctx.store;
    let what = format!("step {id}");
    let step = store.step(id.into()).await?.ok_or_else(|| ApiError::not_found(&what))?;
    let build = store.build(step.build).await?.ok_or_else(|| ApiError::not_found(&what))?;
    caller.must_see(&build.project, &what)?;
    let logs = store.logs_of(build.id).await?;
    Ok(Json(StepView::of(step, &logs, state.ctx.now())))
}
