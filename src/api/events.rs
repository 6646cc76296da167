//! `/events`: everything that changes, in order, resumable by number; as server-sent events for tools, as a WebSocket for browsers.

mod feed;
mod sse;
mod ws;

use super::AppState;
use super::error::ApiError;
use super::moment::Moment;
use axum::http::HeaderMap;
use rouse_model::event::Event;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::time::Duration;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// Between two signs of life on a stream where nothing happens.
pub(super) const HEARTBEAT: Duration = Duration::from_secs(15);

pub(super) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(sse::follow)).routes(routes!(ws::follow)).routes(routes!(sse::list))
}

/// Something that changed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct EventView {
    /// Rises by commit; where to go on from.
    pub seq: i64,
    /// `build_started`, `worker_phase`; new kinds may come.
    pub kind: String,
    /// Of the payload's shape, for this kind.
    pub version: i64,
    /// `build/5`, `worker/7`: what it is about.
    pub subject: String,
    /// Empty: the installation's own.
    pub project: String,
    pub at: Moment,
    #[schema(value_type = Object)]
    pub payload: Value,
}

impl From<Event> for EventView {
    fn from(event: Event) -> Self {
        let kind = serde_json::to_value(event.body.kind).ok();
        Self {
            seq: event.seq,
            kind: kind.as_ref().and_then(Value::as_str).unwrap_or_default().to_owned(),
            version: event.body.version,
            subject: event.body.subject,
            project: event.body.project,
            at: event.body.at.into(),
            payload: event.body.payload,
        }
    }
}

/// Which events.
#[derive(Debug, Clone, Default, Deserialize, IntoParams)]
#[serde(default, deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct EventQuery {
    /// Those with higher numbers; absent: those from now on. `Last-Event-ID` wins.
    after: Option<i64>,
    /// Of these kinds alone, with commas between.
    kind: Option<String>,
    /// About these alone, with commas between: `build/5,request/7`.
    subject: Option<String>,
}

/// Where a reader was when its connection broke.
pub(super) fn last_event_id(headers: &HeaderMap) -> Result<Option<i64>, ApiError> {
    let Some(id) = headers.get("last-event-id") else { return Ok(None) };
    let number = id.to_str().ok().and_then(|id| id.parse().ok());
    number.map(Some).ok_or_else(|| ApiError::invalid("`Last-Event-ID` is not a number of ours"))
}
