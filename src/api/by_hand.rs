//! What forcing, starting and rebuilding have in common: sources that somebody names, a key that makes a call once, and what was made.

use super::AppState;
use super::auth::Caller;
use super::buildsets::{MadeRequestView, MadeView};
use super::error::ApiError;
use crate::requests::{AskedSource, ForceError, Made, MakeError};
use axum::Json;
use axum::http::{HeaderMap, StatusCode};
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::collections::BTreeMap;
use utoipa::ToSchema;

/// The header under whose value a call makes the same thing once.
const KEY: &str = "idempotency-key";

/// What to build of one codebase.
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Named {
    /// May be left out where there is only one.
    pub codebase: Option<String>,
    /// Its tip is built, unless a revision is named too.
    pub branch: Option<String>,
    /// A full object id.
    pub revision: Option<String>,
}

/// Sources by codebase; `built` are those that are built in any case.
pub(super) fn sources(
    built: &[String],
    named: Vec<Named>,
) -> Result<BTreeMap<String, AskedSource>, ApiError> {
    let mut sources = BTreeMap::new();
    for Named { codebase, branch, revision } in named {
        if let Some(revision) = &revision
            && !(matches!(revision.len(), 40 | 64) && revision.bytes().all(|b| b.is_ascii_hexdigit()))
        {
            return Err(ApiError::invalid(format!("`{revision}` is no full object id"))
                .help("git rev-parse prints it"));
        }
        let codebase = match codebase {
            Some(codebase) => codebase,
            None => only(built)?,
        };
        if sources.insert(codebase.clone(), AskedSource { branch, revision }).is_some() {
            return Err(ApiError::invalid(format!("two sources are named for codebase `{codebase}`")));
        }
    }
    Ok(sources)
}

fn only(built: &[String]) -> Result<String, ApiError> {
    match built {
        [one] => Ok(one.clone()),
        [] => Err(ApiError::invalid("no codebase is built here; say which one a source is of")),
        several => Err(ApiError::invalid("several codebases are built here; say which one a source is of")
            .help(format!("codebases: {}", several.join(", ")))),
    }
}

/// The caller's own key, apart from the keys of other callers.
pub(super) fn key(caller: &Caller, headers: &HeaderMap) -> Result<Option<String>, ApiError> {
    let Some(key) = headers.get(KEY) else { return Ok(None) };
    let key = key.to_str().ok().filter(|key| (1..=200).contains(&key.len()));
    let key =
        key.ok_or_else(|| ApiError::invalid("`Idempotency-Key` has 1 to 200 visible ASCII characters"))?;
    Ok(Some(format!("{}/{key}", caller.name)))
}

/// Says what was made.
pub(super) async fn made(state: &AppState, made: Made) -> Result<(StatusCode, Json<MadeView>), ApiError> {
    let (buildset, fresh) = match made {
        Made::New { buildset, .. } => (buildset, true),
        Made::Before { buildset } => (buildset, false),
    };
    let requests = state.ctx.store.requests_of(buildset).await?;
    let requests = requests.into_iter().map(|r| MadeRequestView { id: r.id.0, builder: r.builder }).collect();
    let status = if fresh { StatusCode::CREATED } else { StatusCode::OK };
    Ok((status, Json(MadeView { buildset: buildset.0, requests, fresh })))
}

pub(super) fn refused(error: ForceError) -> ApiError {
    let message = error.to_string();
    match error {
        ForceError::NoScheduler(name) => ApiError::not_found(format_args!("scheduler `{name}`")),
        ForceError::NotForced(_) => ApiError::invalid(message)
            .help("give it `force:` in the configuration, or start a builder: rouse build start BUILDER"),
        ForceError::Answers(faults) => ApiError::invalid(message).detail(json!({"faults": faults})),
        ForceError::NoCodebase(_) => ApiError::invalid(message),
        ForceError::Make(error) => not_made(error),
        ForceError::Read(error) => error.into(),
    }
}

pub(super) fn not_made(error: MakeError) -> ApiError {
    match error {
        MakeError::NoBuilder(name) => ApiError::not_found(format_args!("builder `{name}`")),
        MakeError::Empty => ApiError::internal(&error),
        MakeError::Read(error) => error.into(),
        MakeError::Commit(error) => error.into(),
    }
}
