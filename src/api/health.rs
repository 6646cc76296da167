//! Whether the process lives, whether it can work, and what the API looks like: the only answers without a token.

use super::AppState;
use super::error::{ApiError, ErrorCode};
use axum::extract::State;
use axum::http::header;
use axum::response::IntoResponse;
use std::time::Duration;

/// Whether the process answers at all
#[utoipa::path(get, path = "/livez", tag = "health", security(()), responses((status = OK, body = String, content_type = "text/plain")))]
pub(super) async fn livez() -> &'static str {
    "ok\n"
}

/// How long a look at the database may take before it is not there.
const LOOK: Duration = Duration::from_secs(3);

/// Whether this master can work: its database can be read and written, no disk is full, and it is not about to stop; else why not
#[utoipa::path(get, path = "/readyz", tag = "health", security(()), responses((status = OK, body = String, content_type = "text/plain")))]
pub(super) async fn readyz(State(state): State<AppState>) -> Result<&'static str, ApiError> {
    if state.stopping.is_cancelled() {
        return Err(ApiError::new(ErrorCode::Unavailable, "this master is stopping"));
    }
    let mut said: Vec<String> = state.ctx.troubles().into_iter().map(|trouble| trouble.message).collect();
    if said.is_empty() {
        match tokio::time::timeout(LOOK, state.ctx.store.newest_event()).await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => {
                let error = crate::supervisor::chain(&error);
                said.push(format!("the database cannot be read now: {error}"));
            }
            Err(_) => said.push("the database does not answer".to_owned()),
        }
    }
    if said.is_empty() { Ok("ok\n") } else { Err(ApiError::new(ErrorCode::Unavailable, said.join("; "))) }
}

/// This document
#[utoipa::path(get, path = "/openapi.json", tag = "health", security(()), responses((status = OK, body = Object)))]
pub(super) async fn openapi_document() -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "application/json")], super::openapi_json())
}
