//! Whether the process lives, whether it can work, and what the API looks like: the only answers without a token.

use super::AppState;
use super::error::{ApiError, ErrorCode};
use axum::extract::State;
use axum::http::header;
use axum::response::IntoResponse;

/// Whether the process answers at all
#[utoipa::path(get, path = "/livez", tag = "health", security(()), responses((status = OK, body = String, content_type = "text/plain")))]
pub(super) async fn livez() -> &'static str {
    "ok\n"
}

/// Whether this master can read its database and is not about to stop
#[utoipa::path(get, path = "/readyz", tag = "health", security(()), responses((status = OK, body = String, content_type = "text/plain")))]
pub(super) async fn readyz(State(state): State<AppState>) -> Result<&'static str, ApiError> {
    if state.stopping.is_cancelled() {
        return Err(ApiError::new(ErrorCode::Unavailable, "this master is stopping"));
    }
    match state.ctx.store.newest_event().await {
        Ok(_) => Ok("ok\n"),
        Err(error) => {
            tracing::warn!(%error, "not ready");
            Err(ApiError::new(ErrorCode::Unavailable, "the database cannot be read now"))
        }
    }
}

/// This document
#[utoipa::path(get, path = "/openapi.json", tag = "health", security(()), responses((status = OK, body = Object)))]
pub(super) async fn openapi_document() -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "application/json")], super::openapi_json())
}
