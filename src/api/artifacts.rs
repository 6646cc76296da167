//! `/artifacts`: files kept from builds.

use super::AppState;
use super::auth::Reader;
use super::error::{ApiError, ErrorCode};
use super::extract::At;
use super::moment::Moment;
use crate::artifacts::is_hidden;
use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use rouse_model::logs::Artifact;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

pub(super) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(show)).routes(routes!(content))
}

/// One file kept from a build.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ArtifactView {
    pub id: i64,
    pub build: i64,
    pub step: i64,
    /// The name that the upload gave to its files.
    pub set: String,
    /// Relative.
    pub path: String,
    pub bytes: i64,
    pub sha256: String,
    pub created: Moment,
}

impl From<&Artifact> for ArtifactView {
    fn from(artifact: &Artifact) -> Self {
        Self {
            id: artifact.id.0,
            build: artifact.build.0,
            step: artifact.step.0,
            set: artifact.set.clone(),
            path: artifact.path.clone(),
            bytes: artifact.bytes,
            sha256: artifact.sha256.clone(),
            created: artifact.created.into(),
        }
    }
}

/// Of a build's, those that are for people.
pub(super) fn shown(mut artifacts: Vec<Artifact>) -> Vec<Artifact> {
    artifacts.retain(|artifact| !is_hidden(artifact));
    artifacts
}

/// The artifact, for a caller who may see its build.
async fn seen(state: &AppState, caller: &super::auth::Caller, id: i64) -> Result<Artifact, ApiError> {
    let what = format!("artifact {id}");
    let artifact = state.ctx.store.artifact(id.into()).await?.filter(|artifact| !is_hidden(artifact));
    let artifact = artifact.ok_or_else(|| ApiError::not_found(&what))?;
    let build = state.ctx.store.build(artifact.build).await?.ok_or_else(|| ApiError::not_found(&what))?;
    caller.must_see(&build.project, &what)?;
    Ok(artifact)
}

/// One artifact
#[utoipa::path(get, path = "/artifacts/{id}", tag = "artifacts", params(("id" = i64, Path)), responses((status = OK, body = ArtifactView)))]
async fn show(
    Reader(caller): Reader,
    At(id): At<i64>,
    State(state): State<AppState>,
) -> Result<Json<ArtifactView>, ApiError> {
    Ok(Json(ArtifactView::from(&seen(&state, &caller, id).await?)))
}

/// An artifact's bytes
///
/// A download that broke goes on with `Range: bytes=N-`.
#[utoipa::path(get, path = "/artifacts/{id}/content", tag = "artifacts", params(("id" = i64, Path)),
    responses((status = OK, content_type = "application/octet-stream", body = String), (status = PARTIAL_CONTENT, description = "From the asked byte on")))]
async fn content(
    Reader(caller): Reader,
    At(id): At<i64>,
    headers: HeaderMap,
    State(state): State<AppState>,
) -> Result<Response, ApiError> {
    let artifact = seen(&state, &caller, id).await?;
    let size = artifact.bytes.cast_unsigned();
    let from = range_start(&headers).filter(|from| *from < size);
    let gone = || ApiError::new(ErrorCode::Gone, format!("artifact {id} is not kept any more"));
    let bytes = state.ctx.artifacts.open(artifact.id, from.unwrap_or(0)).await;
    let bytes = bytes.map_err(|error| ApiError::internal(&error))?.ok_or_else(gone)?;
    let file = artifact.path.rsplit('/').next().unwrap_or_default();
    let safe: String =
        file.chars().map(|c| if c.is_ascii_graphic() && c != '"' && c != '\\' { c } else { '_' }).collect();
    let mut response = Response::builder()
        .header(header::CONTENT_TYPE, "application/octet-stream")
        .header(header::CONTENT_DISPOSITION, format!("attachment; filename=\"{safe}\""))
        // What a build makes is never a page of ours, whatever a browser takes it for: no script of it runs here, and no page of another origin
        // takes it in.
        .header(header::X_CONTENT_TYPE_OPTIONS, "nosniff")
        .header(header::CONTENT_SECURITY_POLICY, "sandbox; default-src 'none'")
        .header("cross-origin-resource-policy", "same-origin")
        .header(header::ACCEPT_RANGES, "bytes")
        .header(header::CONTENT_LENGTH, size - from.unwrap_or(0));
    if let Some(from) = from {
        response = response
            .status(StatusCode::PARTIAL_CONTENT)
            .header(header::CONTENT_RANGE, format!("bytes {from}-{}/{size}", size - 1));
    }
    let response = response.body(Body::from_stream(bytes)).map_err(|error| ApiError::internal(&error))?;
    Ok(response.into_response())
}

/// `bytes=N-`, the only range that is known here; every other is answered with the whole.
fn range_start(headers: &HeaderMap) -> Option<u64> {
    headers.get(header::RANGE)?.to_str().ok()?.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok()
}
