//! Cancelling by hand.

use super::{RequestView, with_cause};
use crate::api::AppState;
use crate::api::auth::{Caller, Operator};
use crate::api::error::ApiError;
use crate::api::extract::{At, Sent};
use crate::requests::{self, TRIES};
use axum::Json;
use axum::extract::State;
use rouse_model::buildset::RequestState;
use serde::Deserialize;
use utoipa::ToSchema;

/// Why something is to end.
#[derive(Debug, Clone, Default, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub(in crate::api) struct Cancel {
    /// For whoever looks at it later.
    pub reason: Option<String>,
}

/// A reason that says something.
pub(in crate::api) fn said(reason: Option<&str>) -> Option<String> {
    reason.map(str::trim).filter(|reason| !reason.is_empty()).map(str::to_owned)
}

/// Who wants it, and why, as it is recorded.
pub(in crate::api) fn wish(caller: &Caller, cancel: &Cancel) -> String {
    match said(cancel.reason.as_deref()) {
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
        match requests::cancel(&state.ctx, request, &wish).await {
            Ok(request) => {
                return Ok((axum::http::StatusCode::ACCEPTED, Json(with_cause(&state, request).await?)));
            }
            Err(rouse_store::CommitError::Conflict { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(ApiError::conflict(format!("request {id} changes too fast")).help("try again"))
}
