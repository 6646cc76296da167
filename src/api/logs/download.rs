//! A whole log: the bytes as they came, or the text without escape sequences.

use super::seen;
use crate::api::AppState;
use crate::api::auth::Reader;
use crate::api::error::ApiError;
use crate::api::extract::{Asked, At};
use crate::logs::LogError;
use axum::body::Body;
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures::StreamExt;
use futures::stream::BoxStream;
use rouse_model::logs::Log;
use serde::Deserialize;
use utoipa::IntoParams;

#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(default, deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Part {
    /// The first byte.
    from: u64,
    /// Go on until the log is sealed.
    follow: bool,
}

/// A log's bytes as they came, secrets masked
#[utoipa::path(get, path = "/logs/{id}/raw", tag = "logs", params(("id" = i64, Path), Part),
    responses((status = OK, content_type = "application/octet-stream", body = String)))]
pub(super) async fn raw(
    Reader(caller): Reader,
    At(id): At<i64>,
    Asked(part): Asked<Part>,
    State(state): State<AppState>,
) -> Result<Response, ApiError> {
    let log = seen(&state, &caller, id).await?;
    let bytes = state.ctx.logs.raw(log.id, part.from, part.follow);
    Ok(download(&state, &log, bytes, "application/octet-stream", "raw"))
}

/// A log's text: no escape sequences, of each line what a carriage return left
#[utoipa::path(get, path = "/logs/{id}/plain", tag = "logs", params(("id" = i64, Path)),
    responses((status = OK, content_type = "text/plain", body = String)))]
pub(super) async fn plain(
    Reader(caller): Reader,
    At(id): At<i64>,
    State(state): State<AppState>,
) -> Result<Response, ApiError> {
    let log = seen(&state, &caller, id).await?;
    let bytes = state.ctx.logs.plain(log.id);
    Ok(download(&state, &log, bytes, "text/plain; charset=utf-8", "txt"))
}

fn download(
    state: &AppState,
    log: &Log,
    bytes: BoxStream<'static, Result<Bytes, LogError>>,
    kind: &'static str,
    ending: &str,
) -> Response {
    let name = format!("inline; filename=\"build-{}-log-{}.{ending}\"", log.build, log.id);
    // What a build prints is never a page of ours, whatever a browser takes it for.
    let headers = [
        (header::CONTENT_TYPE, kind.to_owned()),
        (header::CONTENT_DISPOSITION, name),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff".to_owned()),
        (header::CONTENT_SECURITY_POLICY, "sandbox; default-src 'none'".to_owned()),
    ];
    let body = Body::from_stream(bytes.take_until(state.stopping.clone().cancelled_owned()));
    (headers, body).into_response()
}
