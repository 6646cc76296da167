//! A worker that is kept for somebody to look at, for a time.

use super::end::{cause, change};
use super::{WorkerView, seen};
use crate::api::AppState;
use crate::api::auth::Operator;
use crate::api::error::ApiError;
use crate::api::extract::{At, Sent};
use crate::api::requests::Cancel;
use crate::config::Period;
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use rouse_model::worker::WorkerEvent;
use serde::Deserialize;
use std::time::Duration;
use utoipa::ToSchema;

/// For how long a worker is to be held, and why.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Hold {
    /// From now on, in seconds.
    seconds: f64,
    /// For whoever looks at it later.
    #[serde(default)]
    reason: Option<String>,
}

/// Give a worker no new builds, and keep it for a time
///
/// Its builds go on. It is not ended for being idle, used up or in the way, and counts in its pool's `max`. Held again, the new time is in force. When the time is
/// over it takes builds again, or ends where its pool lets it serve no more.
#[utoipa::path(post, path = "/workers/{worker}/hold", tag = "workers", params(("worker" = String, Path, description = "Its id or its name")),
    request_body = Hold, security(("token" = ["operate"])), responses((status = ACCEPTED, body = WorkerView)))]
pub(super) async fn hold(
    Operator(caller): Operator,
    At(which): At<String>,
    State(state): State<AppState>,
    Sent(wish): Sent<Hold>,
) -> Result<(StatusCode, Json<WorkerView>), ApiError> {
    let length = Duration::try_from_secs_f64(wish.seconds).ok().filter(|length| !length.is_zero());
    let length = length.ok_or_else(|| ApiError::invalid("`seconds` must be a number above 0"))?;
    let worker = seen(&state, &caller, &which).await?;
    let now = state.ctx.now();
    let until = now + length;
    if until > worker.expires {
        let left = Period(Duration::from_secs(worker.expires.since(now).as_secs()));
        let message = format!(
            "worker {} cannot be held for {}: nothing of it lives that long",
            worker.name,
            Period(length)
        );
        return Err(ApiError::invalid(message).help(format!("hold it for at most {left}")));
    }
    let by = cause(&caller, &Cancel { reason: wish.reason }).message;
    change(&state, &caller, &which, "hold_worker", WorkerEvent::Hold { until, by }, None).await
}

/// Hold a worker no longer
#[utoipa::path(post, path = "/workers/{worker}/release", tag = "workers", params(("worker" = String, Path, description = "Its id or its name")),
    security(("token" = ["operate"])), responses((status = ACCEPTED, body = WorkerView)))]
pub(super) async fn release(
    Operator(caller): Operator,
    At(which): At<String>,
    State(state): State<AppState>,
) -> Result<(StatusCode, Json<WorkerView>), ApiError> {
    change(&state, &caller, &which, "release_worker", WorkerEvent::Release, None).await
}
