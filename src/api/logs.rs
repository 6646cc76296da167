//! `/logs`: what steps have printed: ranges of lines, a live tail, and downloads as it came or as plain text.

mod download;
mod follow;

use super::AppState;
use super::auth::{Caller, Reader};
use super::error::ApiError;
use super::extract::{Asked, At};
use super::moment::Moment;
use crate::logs::{Line, LogError, channel_word};
use axum::Json;
use axum::extract::State;
use rouse_model::LogId;
use rouse_model::logs::Log;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

pub(super) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(show))
        .routes(routes!(lines))
        .routes(routes!(follow::follow))
        .routes(routes!(download::raw))
        .routes(routes!(download::plain))
}

/// What a step has printed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct LogView {
    pub id: i64,
    pub build: i64,
    pub step: i64,
    /// `stdio` for a step's own output; others are called as in the step's `logs`, and those of services `service NAME`.
    pub name: String,
    /// What is on record; while it grows, more may be readable.
    pub bytes: i64,
    pub lines: i64,
    /// It will not grow any more.
    pub sealed: bool,
    /// Why bytes are missing, and what else there is to say of a file.
    pub note: Option<String>,
    pub created: Moment,
}

impl From<&Log> for LogView {
    fn from(log: &Log) -> Self {
        Self {
            id: log.id.0,
            build: log.build.0,
            step: log.step.0,
            name: log.name.clone(),
            bytes: log.bytes,
            lines: log.lines,
            sealed: log.sealed,
            note: log.note.clone(),
            created: log.created.into(),
        }
    }
}

/// One line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LineView {
    /// Counted from 0.
    pub n: i64,
    pub at: Moment,
    /// `out`, `err`, `pty`.
    pub channel: String,
    /// With colours (SGR) alone of all escape sequences; complete by itself.
    pub text: String,
    /// It may still grow: a line of the same number replaces it.
    pub open: bool,
}

impl From<&Line> for LineView {
    fn from(line: &Line) -> Self {
        Self {
            n: line.n,
            at: line.at.into(),
            channel: channel_word(line.channel).to_owned(),
            text: line.text(),
            open: line.open,
        }
    }
}

/// A range of lines.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LinesView {
    pub lines: Vec<LineView>,
    /// Where the next range begins.
    pub next: i64,
    /// The log is sealed, and these were its last.
    pub end: bool,
}

/// The log, for a caller who may see its build.
async fn seen(state: &AppState, caller: &Caller, id: i64) -> Result<Log, ApiError> {
    let what = format!("log {id}");
    let log = state.ctx.store.log(id.into()).await?.ok_or_else(|| ApiError::not_found(&what))?;
    let build = state.ctx.store.build(log.build).await?.ok_or_else(|| ApiError::not_found(&what))?;
    caller.must_see(&build.project, &what)?;
    Ok(log)
}

/// One log, without its text
#[utoipa::path(get, path = "/logs/{id}", tag = "logs", params(("id" = i64, Path)), responses((status = OK, body = LogView)))]
async fn show(
    Reader(caller): Reader,
    At(id): At<i64>,
    State(state): State<AppState>,
) -> Result<Json<LogView>, ApiError> {
    let log = seen(&state, &caller, id).await?;
    let status = state.ctx.logs.status(log.id).await.map_err(unreadable)?;
    let mut view = LogView::from(&log);
    view.bytes = i64::try_from(status.bytes).unwrap_or(i64::MAX);
    view.lines = status.lines;
    Ok(Json(view))
}

#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(default, deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct Range {
    /// The first line, counted from 0; a negative number counts from the end.
    from: i64,
    /// At most so many, 1 to 10000; 1000 where it is not given.
    limit: Option<usize>,
}

/// A range of lines
#[utoipa::path(get, path = "/logs/{id}/lines", tag = "logs", params(("id" = i64, Path), Range), responses((status = OK, body = LinesView)))]
async fn lines(
    Reader(caller): Reader,
    At(id): At<i64>,
    Asked(range): Asked<Range>,
    State(state): State<AppState>,
) -> Result<Json<LinesView>, ApiError> {
    let limit = range.limit.unwrap_or(1_000);
    if !(1..=10_000).contains(&limit) {
        return Err(ApiError::invalid(format!("`limit` is {limit}; it can be 1 to 10000")));
    }
    let log = seen(&state, &caller, id).await?;
    let page = state.ctx.logs.lines(log.id, range.from, limit).await.map_err(unreadable)?;
    Ok(Json(LinesView {
        lines: page.lines.iter().map(LineView::from).collect(),
        next: page.next,
        end: page.end,
    }))
}

fn unreadable(error: LogError) -> ApiError {
    match error {
        LogError::Unknown(LogId(id)) => ApiError::not_found(format_args!("log {id}")),
        error => ApiError::internal(&error),
    }
}
