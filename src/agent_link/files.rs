//! Files beside the link: trees and artifacts down, artifacts up. Each request carries a token for just this worker, direction and path.

use super::listener::Door;
use crate::artifacts::{Incoming, ReceiveError};
use crate::transfers::Transfer;
use axum::body::Body;
use axum::extract::{Path, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use rouse_agent_protocol::SHA256_HEADER;

/// A refusal, in words that end up in the step's summary.
fn refuse(status: StatusCode, why: impl Into<String>) -> Response {
    (status, why.into()).into_response()
}

fn is_allowed(door: &Door, transfer: &Transfer, headers: &HeaderMap) -> bool {
    let token = headers
        .get(header::AUTHORIZATION)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.strip_prefix("Bearer "));
    let epoch = door.ctx.store.facts().store_epoch;
    token.is_some_and(|token| transfer.is_token(&door.ctx.key, epoch, door.worker, token))
}

pub(super) async fn get(State(door): State<Door>, Path(path): Path<String>, headers: HeaderMap) -> Response {
    let Some((transfer, _)) = Transfer::parse(&path) else {
        return refuse(StatusCode::NOT_FOUND, "no such file");
    };
    if !is_allowed(&door, &transfer, &headers) {
        return refuse(StatusCode::FORBIDDEN, "the transfer token does not fit");
    }
    let from = range_start(&headers);
    match transfer {
        Transfer::Tree { codebase, revision } => tree(&door, &codebase, &revision, from).await,
        Transfer::Artifact { id } => match door.ctx.artifacts.open(id, from).await {
            Ok(Some(body)) => with_body(Body::from_stream(body), from),
            Ok(None) => refuse(StatusCode::NOT_FOUND, format!("artifact {id} is not there any more")),
            Err(error) => refuse(StatusCode::INTERNAL_SERVER_ERROR, crate::supervisor::chain(&error)),
        },
        Transfer::Upload { .. } => refuse(StatusCode::METHOD_NOT_ALLOWED, "files are put here"),
    }
}

/// A tree is packed anew for each request; the same revision gives the same bytes, so a transfer goes on where it broke.
async fn tree(door: &Door, codebase: &str, revision: &str, from: u64) -> Response {
    match door.ctx.sources.tree(codebase, revision, from).await {
        Ok(stream) => with_body(Body::from_stream(stream), from),
        Err(error) => {
            let why = crate::supervisor::chain(&error);
            tracing::warn!(codebase, revision, error = why, "a tree could not be packed");
            refuse(StatusCode::NOT_FOUND, why)
        }
    }
}

fn with_body(body: Body, from: u64) -> Response {
    let status = if from > 0 { StatusCode::PARTIAL_CONTENT } else { StatusCode::OK };
    (status, [(header::CONTENT_TYPE, "application/octet-stream")], body).into_response()
}

/// `bytes=N-`, the only range that agents ask for.
fn range_start(headers: &HeaderMap) -> u64 {
    headers
        .get(header::RANGE)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.strip_prefix("bytes="))
        .and_then(|range| range.strip_suffix('-'))
        .and_then(|start| start.parse().ok())
        .unwrap_or(0)
}

pub(super) async fn put(State(door): State<Door>, Path(path): Path<String>, request: Request) -> Response {
    let Some((Transfer::Upload { build, step, set }, file)) = Transfer::parse(&path) else {
        return refuse(StatusCode::NOT_FOUND, "no such place");
    };
    let transfer = Transfer::Upload { build, step, set: set.clone() };
    if !is_allowed(&door, &transfer, request.headers()) {
        return refuse(StatusCode::FORBIDDEN, "the transfer token does not fit");
    }
    let (parts, body) = request.into_parts();
    let header = |name: &str| parts.headers.get(name).and_then(|v| v.to_str().ok()).map(str::to_owned);
    let incoming = Incoming {
        build,
        step,
        set,
        path: file.to_owned(),
        sha256: header(SHA256_HEADER),
        content_range: header(header::CONTENT_RANGE.as_str()),
    };
    match door.ctx.artifacts.receive(incoming, body.into_data_stream()).await {
        Ok(_) => StatusCode::CREATED.into_response(),
        Err(error @ ReceiveError::Refused(_)) => {
            refuse(StatusCode::UNPROCESSABLE_ENTITY, crate::supervisor::chain(&error))
        }
        Err(error) => refuse(StatusCode::INTERNAL_SERVER_ERROR, crate::supervisor::chain(&error)),
    }
}
