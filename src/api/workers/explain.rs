//! Why a worker is there, on the wire.

use super::{WorkerView, seen, view};
use crate::api::AppState;
use crate::api::auth::Reader;
use crate::api::decisions::{self, DecisionView};
use crate::api::error::ApiError;
use crate::api::extract::At;
use crate::api::moment::Moment;
use crate::explain::explain_worker;
use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Why a worker is where it is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct WorkerExplanationView {
    pub worker: WorkerView,
    /// Stable; `docs/reference/reasons.md` explains each.
    pub code: String,
    /// Whole, for a person.
    pub sentence: String,
    /// Where the docs explain it.
    pub docs: String,
    /// What the fleet came to when it asked for it; null where that is not kept any more.
    pub launched_by: Option<DecisionView>,
    /// What it came to when it ended it; null where something else did, or that is not kept any more.
    pub ended_by: Option<DecisionView>,
    /// When this was true.
    pub checked_at: Moment,
}

/// Why a worker is there, or is not any more
#[utoipa::path(get, path = "/workers/{worker}/explain", tag = "workers", params(("worker" = String, Path, description = "Its id or its name")),
    responses((status = OK, body = WorkerExplanationView)))]
pub(super) async fn explain(
    Reader(caller): Reader,
    At(which): At<String>,
    State(state): State<AppState>,
) -> Result<Json<WorkerExplanationView>, ApiError> {
    let worker = seen(&state, &caller, &which).await?;
    let answer = explain_worker(&state.ctx, worker).await?;
    Ok(Json(WorkerExplanationView {
        worker: view(&answer.worker, &answer.leases),
        code: answer.code.as_str().to_owned(),
        sentence: answer.sentence,
        docs: answer.code.docs(),
        launched_by: answer.launched_by.map(|decision| decisions::view(&caller, decision)),
        ended_by: answer.ended_by.map(|decision| decisions::view(&caller, decision)),
        checked_at: answer.checked_at.into(),
    }))
}
