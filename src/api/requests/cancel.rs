//! Cancelling: a wish on the request's row, and on its build's where it has one; who holds them honours it.

use super::{RequestView, with_cause};
use crate::api::AppState;
use crate::api::auth::{Caller, Operator};
use crate::api::error::ApiError;
use crate::api::extract::{At, Sent};
use crate::requests::request_event;
use crate::switchboard::ToDriver;
use axum::Json;
use axum::extract::State;
use rouse_model::buildset::{Request, RequestState};
use rouse_model::event::EventKind;
use rouse_store::Batch;
use serde::Deserialize;
use utoipa::ToSchema;

/// How often a lost race is run again.
pub(in crate::api) const TRIES: usize = 20;

/// Why something is to end.
#[derive(Debug, Clone, Default, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub(in crate::api) struct Cancel {
    /// For whoever looks at it later.
    pub reason: Option<String>,
}

/// Who wants it, and why, as it is recorded.
pub(in crate::api) fn wish(caller: &Caller, cancel: &Cancel) -> String {
    match cancel.reason.as_deref().map(str::trim).filter(|reason| !reason.is_empty()) {
        Some(reason) => format!("{}: {reason}", caller.signature()),
        None => caller.signature(),
    }
}

/// Cancel a request, and the build that runs it
///
/// Answers at once; the request ends when what it runs has stopped. Cancelling twice is cancelling once.
#[utoipa::path(post, path = "/requests/{id}/cancel", tag = "requests", params(("id" = i64, Path)), request_body = Cancel,
    security(("token" = ["operate"])), responses((status = ACCEPTED, body = RequestView)))]
pub(super) async fn cancel(
    Operator(caller): Operator,
    At(id): At<i64>,
    State(state): State<AppState>,
    Sent(cancel): Sent<Cancel>,
) -> Result<(axum::http::StatusCode, Json<RequestView>), ApiError> {
    let what = format!("request {id}");
    let wish = wish(&caller, &cancel);
    for _ in 0..TRIES {
        let request = state.ctx.store.request(id.into()).await?.ok_or_else(|| ApiError::not_found(&what))?;
        caller.must_see(&request.project, &what)?;
        if request.state == RequestState::Done {
            return Err(
                ApiError::conflict(format!("request {id} has ended")).help("see `rouse request show`")
            );
        }
        match commit(&state, request, &wish).await {
            Ok(request) => {
                return Ok((axum::http::StatusCode::ACCEPTED, Json(with_cause(&state, request).await?)));
            }
            Err(rouse_store::CommitError::Conflict { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(ApiError::conflict(format!("request {id} changes too fast")).help("try again"))
}

/// The request with the wish on record; it stays as it is where somebody else was first.
async fn commit(
    state: &AppState,
    mut request: Request,
    wish: &str,
) -> Result<Request, rouse_store::CommitError> {
    if request.cancel.is_some() {
        return Ok(request);
    }
    let now = state.ctx.now();
    let mut batch = Batch::new("cancel_request");
    request.cancel = Some(wish.to_owned());
    batch.update(&mut request);
    batch.event(request_event(EventKind::RequestChanged, &request, now));
    // A build that is not there any more, or has ended, needs no wish.
    let running = match request.build {
        Some(id) if request.state == RequestState::Claimed => state.ctx.store.build(id).await.ok().flatten(),
        _ => None,
    };
    if let Some(mut build) = running.filter(|b| b.finished.is_none() && b.cancel.is_none()) {
        build.cancel = Some(wish.to_owned());
        batch.update(&mut build);
    }
    state.ctx.store.commit(batch).await?;
    if let Some(build) = request.build {
        state.ctx.switchboard.to_driver(build, ToDriver::Look);
    }
    // The fleet ends it where it waits; its build's driver, where it is built.
    state.ctx.nudges.fleet.notify_one();
    state.ctx.nudges.builds.notify_one();
    Ok(request)
}
