//! What an operator may want of a worker: a wish on its row, by the model's own transitions.

use super::{WorkerView, seen, view};
use crate::api::AppState;
use crate::api::auth::{Caller, Operator};
use crate::api::error::ApiError;
use crate::api::extract::{At, Sent};
use crate::api::requests::{Cancel, wish};
use crate::switchboard::ToSession;
use crate::workers::{WorkerError, apply_for};
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use rouse_model::worker::{Cause, CauseCode, WorkerEvent};

/// Give a worker no new builds, and end it once it is free
#[utoipa::path(post, path = "/workers/{worker}/drain", tag = "workers", params(("worker" = String, Path, description = "Its id or its name")),
    request_body = Cancel, security(("token" = ["operate"])), responses((status = ACCEPTED, body = WorkerView)))]
pub(super) async fn drain(
    Operator(caller): Operator,
    At(which): At<String>,
    State(state): State<AppState>,
    Sent(why): Sent<Cancel>,
) -> Result<(StatusCode, Json<WorkerView>), ApiError> {
    let event = WorkerEvent::Drain { cause: cause(&caller, &why) };
    change(&state, &caller, &which, "drain_worker", event, Some(ToSession::Drain { on: true })).await
}

/// Take a drain back
#[utoipa::path(post, path = "/workers/{worker}/cancel-drain", tag = "workers", params(("worker" = String, Path, description = "Its id or its name")),
    security(("token" = ["operate"])), responses((status = ACCEPTED, body = WorkerView)))]
pub(super) async fn cancel_drain(
    Operator(caller): Operator,
    At(which): At<String>,
    State(state): State<AppState>,
) -> Result<(StatusCode, Json<WorkerView>), ApiError> {
    let tell = ToSession::Drain { on: false };
    change(&state, &caller, &which, "cancel_drain", WorkerEvent::CancelDrain, Some(tell)).await
}

/// End a worker now; its builds are lost and go by their `on_lost`
#[utoipa::path(post, path = "/workers/{worker}/terminate", tag = "workers", params(("worker" = String, Path, description = "Its id or its name")),
    request_body = Cancel, security(("token" = ["operate"])), responses((status = ACCEPTED, body = WorkerView)))]
pub(super) async fn terminate(
    Operator(caller): Operator,
    At(which): At<String>,
    State(state): State<AppState>,
    Sent(why): Sent<Cancel>,
) -> Result<(StatusCode, Json<WorkerView>), ApiError> {
    let cause = cause(&caller, &why);
    let tell = ToSession::End { reason: cause.message.clone() };
    change(&state, &caller, &which, "end_worker", WorkerEvent::End { cause }, Some(tell)).await
}

pub(super) fn cause(caller: &Caller, why: &Cancel) -> Cause {
    Cause::new(CauseCode::Operator, None, wish(caller, why))
}

/// Applies it, and tells the worker's agent where it has to know.
pub(super) async fn change(
    state: &AppState,
    caller: &Caller,
    which: &str,
    name: &'static str,
    event: WorkerEvent,
    tell: Option<ToSession>,
) -> Result<(StatusCode, Json<WorkerView>), ApiError> {
    let worker = seen(state, caller, which).await?;
    let why = cause(caller, &Cancel::default());
    let applied =
        apply_for(&state.ctx, worker.id, name, &event, Some(&why), |_, _| {}).await.map_err(refused)?;
    if applied.changed {
        if let Some(tell) = tell {
            state.ctx.switchboard.to_session(worker.id, tell);
        }
        state.ctx.nudges.matching.notify_one();
        state.ctx.nudges.fleet.notify_one();
    }
    let leases = state.ctx.store.leases_of(worker.id).await?;
    Ok((StatusCode::ACCEPTED, Json(view(&applied.worker, &leases))))
}

fn refused(error: WorkerError) -> ApiError {
    match error {
        WorkerError::Unknown(id) => ApiError::not_found(format_args!("worker {id}")),
        WorkerError::Conflict { worker, reason } => ApiError::conflict(format!("worker {worker}: {reason}")),
        WorkerError::Contended { worker } => {
            ApiError::conflict(format!("worker {worker} changes too fast")).help("try again")
        }
        WorkerError::Read(error) => error.into(),
        WorkerError::Commit(error) => error.into(),
    }
}
