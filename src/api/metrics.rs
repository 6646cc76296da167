//! `/metrics`: this master's own, for Prometheus.

use super::AppState;
use super::auth::Reader;
use super::error::ApiError;
use axum::extract::State;
use axum::http::header;
use axum::response::IntoResponse;

/// OpenMetrics text.
const TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// What this master counts and measures, as OpenMetrics text; for tokens that see all projects. Each metric: docs/reference/metrics.md
#[utoipa::path(get, path = "/metrics", tag = "health", responses((status = OK, body = String, content_type = "application/openmetrics-text")))]
pub(super) async fn scrape(
    Reader(caller): Reader,
    State(state): State<AppState>,
) -> Result<impl IntoResponse, ApiError> {
    caller.must_see_all()?;
    Ok(([(header::CONTENT_TYPE, TYPE)], state.ctx.metrics.scrape(&state.ctx).await))
}
