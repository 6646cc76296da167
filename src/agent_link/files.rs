//! Files beside the link: trees and artifacts down, artifacts up. Each request carries a token for just this worker, direction and path.

use super::doors::{Door, Entry};
use super::guard::Stranger;
use super::handshake::too_many;
use crate::artifacts::{Incoming, ReceiveError};
use crate::objects::Signed;
use crate::sources::{SourceError, Tree};
use crate::transfers::Transfer;
use axum::body::Body;
use axum::extract::{ConnectInfo, Path, Request, State};
use axum::http::{HeaderMap, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use futures::StreamExt;
use rouse_agent_protocol::{
    DIRECT_HEADER, KEPT_HEADER, MAX_UPLOAD_BYTES, RECEIVED_HEADER, SHA256_HEADER, SIZE_HEADER,
};
use rouse_model::{ArtifactId, CacheId, WorkerId};
use rouse_store::ReadError;

/// A refusal, in words that end up in the step's summary.
fn refuse(status: StatusCode, why: impl Into<String>) -> Response {
    (status, why.into()).into_response()
}

/// Whether the request has a token for this. Whoever has one is no stranger any more.
fn allow(door: &Door, stranger: &Stranger, transfer: &Transfer, headers: &HeaderMap) -> Result<(), Refusal> {
    let token = headers
        .get(header::AUTHORIZATION)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.strip_prefix("Bearer "));
    let epoch = door.ctx.store.facts().store_epoch;
    if !token.is_some_and(|token| transfer.is_token(&door.ctx.key, epoch, door.worker, token)) {
        return Err((StatusCode::FORBIDDEN, "the transfer token does not fit".into()));
    }
    if stranger.is_of(&door.guard) { Ok(()) } else { Err((StatusCode::TOO_MANY_REQUESTS, too_many())) }
}

/// The door of the worker that a path names.
async fn door(entry: &Entry, worker: i64) -> Result<Door, Refusal> {
    match entry.door(WorkerId(worker)).await {
        Ok(Some(door)) => Ok(door),
        Ok(None) => Err((StatusCode::NOT_FOUND, "no such worker here".into())),
        Err(error) => Err((StatusCode::SERVICE_UNAVAILABLE, crate::supervisor::chain(&error))),
    }
}

pub(super) async fn get(
    State(entry): State<Entry>,
    ConnectInfo(stranger): ConnectInfo<Stranger>,
    Path((worker, path)): Path<(i64, String)>,
    headers: HeaderMap,
) -> Response {
    let door = match door(&entry, worker).await {
        Ok(door) => door,
        Err(refusal) => return refusal.into_response(),
    };
    let Some((transfer, _)) = Transfer::parse(&path) else {
        return refuse(StatusCode::NOT_FOUND, "no such file");
    };
    if let Err(refusal) = allow(&door, &stranger, &transfer, &headers) {
        door.refused(code_of(&refusal), &format!("{}: {}", transfer.url_path(), refusal.1)).await;
        return refusal.into_response();
    }
    let from = range_start(&headers);
    match transfer {
        Transfer::Tree { codebase, revision, selection } => {
            let tree = door.ctx.sources.tree(&codebase, &revision, &selection, from).await;
            packed(tree, &codebase, &revision, from)
        }
        Transfer::Merge { codebase, revision, onto } => {
            let pack = door.ctx.sources.merge_pack(&codebase, &revision, &onto, from).await;
            packed(pack, &codebase, &revision, from)
        }
        Transfer::Artifact { id } => kept(&door, Kept::Artifact(id), from, &headers).await,
        Transfer::Cache { id } => kept(&door, Kept::Cache(id), from, &headers).await,
        Transfer::Upload { .. } => refuse(StatusCode::METHOD_NOT_ALLOWED, "files are put here"),
    }
}

/// What lies in the object store.
#[derive(Clone, Copy)]
enum Kept {
    Artifact(ArtifactId),
    Cache(CacheId),
}

impl std::fmt::Display for Kept {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Artifact(id) => write!(f, "artifact {id}"),
            Self::Cache(id) => write!(f, "cache {id}"),
        }
    }
}

/// Its object, and how large that is.
async fn object_of(door: &Door, what: Kept) -> Result<Option<(String, i64)>, ReadError> {
    let store = &door.ctx.store;
    Ok(match what {
        Kept::Artifact(id) => store.artifact(id).await?.map(|artifact| (artifact.key, artifact.bytes)),
        Kept::Cache(id) => store.cache(id).await?.map(|cache| (cache.object, cache.bytes)),
    })
}

/// From here, or by leave from the store itself.
async fn kept(door: &Door, what: Kept, from: u64, headers: &HeaderMap) -> Response {
    let artifacts = &door.ctx.artifacts;
    let answer = async {
        let Some((key, bytes)) = object_of(door, what).await? else { return Ok(None) };
        if headers.contains_key(DIRECT_HEADER)
            && let Some(leave) = artifacts.leave_to_read(&key, bytes).await?
        {
            let answer = (StatusCode::TEMPORARY_REDIRECT, [(header::LOCATION, leave.url)]);
            return Ok(Some(answer.into_response()));
        }
        let body = artifacts.open_object(&key, from).await?;
        Ok::<_, ReceiveError>(body.map(|body| with_body(Body::from_stream(body), from)))
    };
    match answer.await {
        Ok(Some(answer)) => answer,
        Ok(None) => refuse(StatusCode::NOT_FOUND, format!("{what} is not there any more")),
        Err(error) => refuse(StatusCode::INTERNAL_SERVER_ERROR, crate::supervisor::chain(&error)),
    }
}

/// A tree is packed anew for each request; the same revision gives the same bytes, so a transfer goes on where it broke.
fn packed(packed: Result<Tree, SourceError>, codebase: &str, revision: &str, from: u64) -> Response {
    match packed {
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

/// The word under which a refusal stands in the worker's timeline.
fn code_of(refusal: &Refusal) -> &'static str {
    match refusal.0 {
        StatusCode::FORBIDDEN => "transfer_token",
        StatusCode::TOO_MANY_REQUESTS => "connections",
        _ => "upload",
    }
}

pub(super) async fn put(
    State(entry): State<Entry>,
    ConnectInfo(stranger): ConnectInfo<Stranger>,
    request: Request,
) -> Response {
    let (parts, body) = request.into_parts();
    let mut body = body.into_data_stream();
    let door = match door(&entry, worker_of(&parts.uri)).await {
        Ok(door) => door,
        Err(refusal) => return refusal.into_response(),
    };
    let refusal = match incoming(&door, &stranger, &parts.uri, &parts.headers) {
        Ok(incoming) => match entry.ctx().artifacts.receive(incoming, &mut body).await {
            Ok(_) => return StatusCode::CREATED.into_response(),
            Err(error @ ReceiveError::Refused(_)) => {
                (StatusCode::UNPROCESSABLE_ENTITY, crate::supervisor::chain(&error))
            }
            Err(error) => return refuse(StatusCode::INTERNAL_SERVER_ERROR, crate::supervisor::chain(&error)),
        },
        Err(refusal) => refusal,
    };
    // An agent of ours says it in its outcome; not everybody does.
    door.refused(code_of(&refusal), &refusal.1).await;
    // An answer sent before the body was read may be lost with the connection, and with it why.
    let mut left = MAX_UPLOAD_BYTES;
    while let Some(Ok(piece)) = body.next().await
        && left > 0
    {
        left = left.saturating_sub(piece.len() as u64);
    }
    refusal.into_response()
}

/// Leave to put a file into the object store itself; with an id, word that it is there.
pub(super) async fn post(
    State(entry): State<Entry>,
    ConnectInfo(stranger): ConnectInfo<Stranger>,
    request: Request,
) -> Response {
    let door = match door(&entry, worker_of(request.uri())).await {
        Ok(door) => door,
        Err(refusal) => return refusal.into_response(),
    };
    let headers = request.headers();
    let number = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()?.parse::<i64>().ok());
    let done = match incoming(&door, &stranger, request.uri(), headers) {
        Ok(incoming) => match (number(KEPT_HEADER), number(SIZE_HEADER)) {
            (Some(id), _) => door
                .ctx
                .artifacts
                .keep(incoming, ArtifactId(id))
                .await
                .map(|_| StatusCode::CREATED.into_response()),
            (None, Some(bytes)) => {
                door.ctx.artifacts.leave(&incoming, bytes.unsigned_abs()).await.map(|leave| match leave {
                    Some((id, signed)) => leave_as_text(id, &signed).into_response(),
                    None => StatusCode::NO_CONTENT.into_response(),
                })
            }
            (None, None) => return refuse(StatusCode::BAD_REQUEST, "neither a size nor an id"),
        },
        Err(refusal) => {
            door.refused(code_of(&refusal), &refusal.1).await;
            return refusal.into_response();
        }
    };
    match done {
        Ok(answer) => answer,
        Err(error @ ReceiveError::Refused(_)) => {
            let refusal = (StatusCode::UNPROCESSABLE_ENTITY, crate::supervisor::chain(&error));
            door.refused(code_of(&refusal), &refusal.1).await;
            refusal.into_response()
        }
        // It may be sent here.
        Err(error @ ReceiveError::Broken(_)) => {
            refuse(StatusCode::CONFLICT, crate::supervisor::chain(&error))
        }
        Err(error) => refuse(StatusCode::INTERNAL_SERVER_ERROR, crate::supervisor::chain(&error)),
    }
}

/// Line by line: what the file will be known by, where it is to be put, and each header that is to stand in the request.
fn leave_as_text(id: ArtifactId, signed: &Signed) -> String {
    let headers: String = signed.headers.iter().map(|(name, value)| format!("{name}: {value}\n")).collect();
    format!("{id}\n{}\n{headers}", signed.url)
}

/// How much there is of an upload that broke.
pub(super) async fn head(
    State(entry): State<Entry>,
    ConnectInfo(stranger): ConnectInfo<Stranger>,
    request: Request,
) -> Response {
    let wanted = match door(&entry, worker_of(request.uri())).await {
        Ok(door) => incoming(&door, &stranger, request.uri(), request.headers()).map(|found| (door, found)),
        Err(refusal) => Err(refusal),
    };
    let (door, incoming) = match wanted {
        Ok(wanted) => wanted,
        Err(refusal) => return refusal.into_response(),
    };
    match door.ctx.artifacts.received(&incoming) {
        Some(bytes) => (StatusCode::OK, [(RECEIVED_HEADER, bytes.to_string())]).into_response(),
        None => refuse(StatusCode::NOT_FOUND, "nothing of it is here"),
    }
}

/// A status, and why in words.
type Refusal = (StatusCode, String);

/// Read by hand: a path with names that are no text is none to the router's own reader.
fn worker_of(uri: &Uri) -> i64 {
    uri.path().split('/').nth(2).and_then(|worker| worker.parse().ok()).unwrap_or_default()
}

/// What an upload's request is about, where it may be made.
fn incoming(door: &Door, stranger: &Stranger, uri: &Uri, headers: &HeaderMap) -> Result<Incoming, Refusal> {
    let unprocessable = |why: String| (StatusCode::UNPROCESSABLE_ENTITY, why);
    // `/files/WORKER/` and then the transfer.
    let path = uri.path().splitn(4, '/').nth(3).unwrap_or_default();
    // Names on a worker are bytes; here they become text, which not every name is.
    let (path, is_text) = match unescape(path) {
        Ok(path) => (path, true),
        Err(shown) => (shown, false),
    };
    let Some((Transfer::Upload { build, step, set }, file)) = Transfer::parse(&path) else {
        return Err((StatusCode::NOT_FOUND, "no such place".into()));
    };
    let transfer = Transfer::Upload { build, step, set: set.clone() };
    allow(door, stranger, &transfer, headers)?;
    if !is_text {
        let name = file.rsplit('/').next().unwrap_or_default();
        return Err(unprocessable(format!("the name `{name}` is not UTF-8; rename the file")));
    }
    let header = |name: &str| headers.get(name).and_then(|v| v.to_str().ok()).map(str::to_owned);
    let from = match header(header::CONTENT_RANGE.as_str()) {
        None => 0,
        Some(range) => range_from(&range)
            .ok_or_else(|| unprocessable(format!("the range `{range}` is not understood")))?,
    };
    let sha256 = header(SHA256_HEADER);
    Ok(Incoming { build, step, set, path: file.to_owned(), sha256, from })
}

/// Where `bytes N-M/SIZE` begins; `bytes */SIZE` says that all is there already.
fn range_from(range: &str) -> Option<u64> {
    let (part, size) = range.strip_prefix("bytes ")?.split_once('/')?;
    let from = if part == "*" { size } else { part.split_once('-')?.0 };
    from.parse().ok()
}

/// A URL's path without its escapes, or as much of it as can be shown where the bytes are no text.
fn unescape(path: &str) -> Result<String, String> {
    let mut bytes = Vec::with_capacity(path.len());
    let mut rest = path.as_bytes();
    while let Some((first, more)) = rest.split_first() {
        let escaped = (*first == b'%').then(|| more.get(..2)).flatten();
        let value = escaped.and_then(|hex| u8::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok());
        bytes.push(value.unwrap_or(*first));
        rest = if value.is_some() { &more[2..] } else { more };
    }
    String::from_utf8(bytes).map_err(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_are_bytes_and_ranges_have_a_beginning() {
        assert_eq!(unescape("a%20b/%C3%BC%3F%23%25.txt").unwrap(), "a b/ü?#%.txt");
        assert_eq!(unescape("100%/%zz").unwrap(), "100%/%zz");
        assert_eq!(unescape("dir/bad%FFname").unwrap_err(), "dir/bad\u{fffd}name");
        assert_eq!(range_from("bytes 5-9/10"), Some(5));
        assert_eq!(range_from("bytes */10"), Some(10));
        assert_eq!(range_from("lines 5-9/10"), None);
    }
}
