//! The event log over a WebSocket: one connection for a whole browser tab.

use super::feed::{Feed, Item};
use super::{EventQuery, HEARTBEAT};
use crate::api::AppState;
use crate::api::auth::{PROTOCOL_PREFIX, Reader};
use crate::api::error::ApiError;
use crate::api::extract::Asked;
use axum::extract::State;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::ws::{Message, WebSocket, WebSocketUpgrade};
use axum::response::Response;
use serde_json::json;

/// The sub-protocol that is spoken; a browser offers `rouse.token.TOKEN` beside it, since it can set no header.
const PROTOCOL: &str = "rouse.events.v1";

/// Events as they come, over a WebSocket
///
/// Each message is JSON: `{"event": …}`, or `{"reset": SEQ}` where events after the reader's place are not kept any more. A browser, which can
/// set no header, offers the sub-protocols `rouse.events.v1` and `rouse.token.TOKEN`.
#[utoipa::path(get, path = "/events/ws", tag = "events", params(EventQuery),
    responses((status = SWITCHING_PROTOCOLS, description = "The connection is a WebSocket from here on")))]
pub(super) async fn follow(
    Reader(caller): Reader,
    Asked(query): Asked<EventQuery>,
    State(state): State<AppState>,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Result<Response, ApiError> {
    let upgrade = upgrade.map_err(|why| {
        ApiError::invalid(format!("this is a WebSocket: {}", why.body_text()))
            .help("`/api/v1/events` is the same as server-sent events")
    })?;
    let feed = Feed::open(state, caller, query, None).await?;
    debug_assert!(!PROTOCOL.starts_with(PROTOCOL_PREFIX), "a token is never echoed");
    Ok(upgrade.protocols([PROTOCOL]).on_upgrade(move |socket| tell(socket, feed)))
}

async fn tell(mut socket: WebSocket, mut feed: Feed) {
    let mut beat = tokio::time::interval(HEARTBEAT);
    loop {
        let message = tokio::select! {
            item = feed.next() => match item {
                Ok(Some(Item::Event(event))) => Message::Text(json!({"event": event}).to_string().into()),
                Ok(Some(Item::Reset(to))) => Message::Text(json!({"reset": to}).to_string().into()),
                Ok(None) => break,
                Err(error) => {
                    tracing::warn!(%error, "an event stream was cut");
                    break;
                }
            },
            _ = beat.tick() => Message::Ping(Default::default()),
            heard = socket.recv() => match heard {
                // A reader has nothing to say.
                Some(Ok(_)) => continue,
                Some(Err(_)) | None => return,
            },
        };
        if socket.send(message).await.is_err() {
            return;
        }
    }
    // The reader may be gone already.
    let _ = socket.send(Message::Close(None)).await;
}
