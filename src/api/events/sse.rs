//! The event log as server-sent events, and as a plain list.

use super::feed::{Feed, Item};
use super::{EventQuery, EventView, HEARTBEAT, last_event_id};
use crate::api::AppState;
use crate::api::auth::Reader;
use crate::api::error::ApiError;
use crate::api::extract::Asked;
use crate::api::listing::Listing;
use axum::Json;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Sse;
use axum::response::sse::{Event, KeepAlive};
use futures::{Stream, stream};
use std::convert::Infallible;

/// Events as they come, as server-sent events
///
/// The id is the event's number, its name the kind, its data the event as JSON. A `reset` comes where events after the reader's place are not
/// kept any more: read what you show anew, and go on from its number. Comments are heartbeats.
#[utoipa::path(get, path = "/events", tag = "events", params(EventQuery),
    responses((status = OK, content_type = "text/event-stream", body = EventView)))]
pub(super) async fn follow(
    Reader(caller): Reader,
    Asked(query): Asked<EventQuery>,
    headers: HeaderMap,
    State(state): State<AppState>,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, ApiError> {
    let after = last_event_id(&headers)?;
    let feed = Feed::open(state, caller, query, after).await?;
    let events = stream::unfold(Some(feed), async |feed| {
        let mut feed = feed?;
        match feed.next().await {
            Ok(Some(item)) => Some((Ok(said(item)), Some(feed))),
            Ok(None) => None,
            Err(error) => {
                // The client comes back from where it was.
                tracing::warn!(%error, "an event stream was cut");
                None
            }
        }
    });
    Ok(Sse::new(events).keep_alive(KeepAlive::new().interval(HEARTBEAT)))
}

fn said(item: Item) -> Event {
    match item {
        Item::Event(event) => Event::default()
            .id(event.seq.to_string())
            .event(event.kind.clone())
            .data(serde_json::to_string(&event).unwrap_or_default()),
        Item::Reset(to) => Event::default()
            .id(to.to_string())
            .event("reset")
            .data(serde_json::json!({"seq": to}).to_string()),
    }
}

/// Events that are there now, oldest first, at most 200 looked at
///
/// `next` is the number to pass as `after` for what comes then.
#[utoipa::path(get, path = "/events/list", tag = "events", params(EventQuery), responses((status = OK, body = Listing<EventView>)))]
pub(super) async fn list(
    Reader(caller): Reader,
    Asked(query): Asked<EventQuery>,
    State(state): State<AppState>,
) -> Result<Json<Listing<EventView>>, ApiError> {
    let after = query.after.unwrap_or(0);
    let after = if after == 0 { (state.ctx.store.oldest_event().await? - 1).max(0) } else { after };
    let mut feed = Feed::open(state, caller, query, Some(after)).await?;
    feed.look().await?;
    let mut items = Vec::new();
    for item in feed.take_ready() {
        match item {
            Item::Event(event) => items.push(*event),
            Item::Reset(to) => {
                return Err(ApiError::new(
                    crate::api::error::ErrorCode::Gone,
                    format!("events after {after} are not kept any more; the newest is {to}"),
                ));
            }
        }
    }
    Ok(Json(Listing { items, next: Some(feed.cursor()) }))
}
