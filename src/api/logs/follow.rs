//! A log's live tail, as server-sent events.

use super::{LineView, seen};
use crate::api::AppState;
use crate::api::auth::Reader;
use crate::api::error::ApiError;
use crate::api::events::{HEARTBEAT, last_event_id};
use crate::api::extract::{Asked, At};
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Sse;
use axum::response::sse::{Event, KeepAlive};
use futures::{Stream, StreamExt, stream};
use serde::Deserialize;
use std::convert::Infallible;
use utoipa::IntoParams;

#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(default, deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct From {
    /// The first line, counted from 0. `Last-Event-ID` wins.
    from: i64,
}

/// A log's lines as they come, as server-sent events
///
/// Events are `line`, with a line as JSON and the number to go on from as id; and at last `end`. A line that is still open comes again
/// under its number when it has more.
#[utoipa::path(get, path = "/logs/{id}/follow", tag = "logs", params(("id" = i64, Path), From),
    responses((status = OK, content_type = "text/event-stream", body = LineView)))]
pub(super) async fn follow(
    Reader(caller): Reader,
    At(id): At<i64>,
    Asked(query): Asked<From>,
    headers: HeaderMap,
    State(state): State<AppState>,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, ApiError> {
    let log = seen(&state, &caller, id).await?;
    let from = last_event_id(&headers)?.unwrap_or(query.from);
    let stopping = state.stopping.clone();
    let lines = state.ctx.logs.follow(log.id, from).scan(false, |failed, line| {
        // An error ends the stream; the client comes back and is told why.
        let item = (!*failed).then(|| match line {
            Ok(line) => Ok(said(&line)),
            Err(error) => {
                tracing::warn!(error = %error, "a log cannot be followed");
                *failed = true;
                Err(())
            }
        });
        futures::future::ready(item)
    });
    let ended = stream::once(futures::future::ready(Ok(Event::default().event("end").data("{}"))));
    let all = lines
        .chain(ended)
        .take_while(|item| futures::future::ready(item.is_ok()))
        .filter_map(|item| futures::future::ready(item.ok().map(Ok)))
        .take_until(stopping.cancelled_owned());
    Ok(Sse::new(all).keep_alive(KeepAlive::new().interval(HEARTBEAT)))
}

fn said(line: &crate::logs::Line) -> Event {
    let go_on_from = if line.open { line.n } else { line.n + 1 };
    let data = serde_json::to_string(&LineView::from(line)).unwrap_or_default();
    Event::default().event("line").id(go_on_from.to_string()).data(data)
}
