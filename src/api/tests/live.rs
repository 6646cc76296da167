//! Streams: events and logs as they come, resumed where they broke.

use super::seed::{LOG_TEXT, ago, print};
use super::world::{READ, SHOP, World, request};
use axum::body::{Body, BodyDataStream};
use axum::http::{Method, StatusCode};
use futures::StreamExt;
use rouse_agent_protocol::masking::Masks;
use rouse_model::LogId;
use rouse_model::event::{EventKind, NewEvent};
use rouse_store::Batch;
use serde_json::Value;
use std::time::Duration;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;

/// Reads server-sent events from a body.
struct Reader {
    body: BodyDataStream,
    buffer: String,
}

#[derive(Debug, Clone, PartialEq)]
struct Said {
    id: Option<i64>,
    event: String,
    data: Value,
}

impl Reader {
    async fn open(world: &World, token: &str, path: &str, after: Option<i64>) -> Self {
        let mut asked = request(token, Method::GET, path, None);
        if let Some(after) = after {
            asked.headers_mut().insert("last-event-id", after.into());
        }
        let response = world.send(asked).await;
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        Self { body: Body::new(response.into_body()).into_data_stream(), buffer: String::new() }
    }

    /// The next event; `None` at the end of the stream. Panics where nothing comes.
    async fn next(&mut self) -> Option<Said> {
        loop {
            if let Some((message, rest)) = self.buffer.split_once("\n\n") {
                let said = parse(message);
                self.buffer = rest.to_owned();
                match said {
                    Some(said) => return Some(said),
                    None => continue,
                }
            }
            let chunk = tokio::time::timeout(Duration::from_secs(20), self.body.next()).await;
            let chunk = chunk.expect("something comes").transpose().unwrap()?;
            self.buffer.push_str(std::str::from_utf8(&chunk).unwrap());
        }
    }

    async fn take(&mut self, n: usize) -> Vec<Said> {
        let mut all = Vec::new();
        for _ in 0..n {
            all.push(self.next().await.expect("the stream goes on"));
        }
        all
    }
}

fn parse(message: &str) -> Option<Said> {
    let field = |name: &str| message.lines().find_map(|l| l.strip_prefix(name)).map(str::trim);
    let data = field("data:")?;
    Some(Said {
        id: field("id:").map(|id| id.parse().unwrap()),
        event: field("event:").unwrap_or_default().to_owned(),
        data: serde_json::from_str(data).unwrap(),
    })
}

fn event(subject: &str, project: &str) -> Batch {
    let mut batch = Batch::new("test.event");
    batch.event(NewEvent {
        kind: EventKind::BuildPhase,
        version: 1,
        subject: subject.into(),
        project: project.into(),
        at: ago(0),
        payload: serde_json::json!({}),
    });
    batch
}

#[tokio::test]
async fn a_reader_that_comes_back_misses_nothing_and_sees_nothing_twice() {
    let world = World::seeded().await;
    let whole = world.get("/events/list?after=0").await;
    let all: Vec<i64> =
        whole["items"].as_array().unwrap().iter().map(|e| e["seq"].as_i64().unwrap()).collect();
    assert!(all.len() >= 10, "{whole:#}");
    let mut first = Reader::open(&world, READ, "/events?after=0", None).await;
    let begun = first.take(4).await;
    drop(first);
    world.commit(event("build/2", "shop")).await;
    let place = begun.last().unwrap().id;
    let mut second = Reader::open(&world, READ, "/events?after=0", place).await;
    let rest = second.take(all.len() - 4 + 1).await;
    let seen: Vec<i64> = begun.iter().chain(&rest).map(|s| s.id.unwrap()).collect();
    assert_eq!(seen[..all.len()], all);
    assert!(seen.windows(2).all(|w| w[0] < w[1]));
    let last = rest.last().unwrap();
    assert_eq!((last.event.as_str(), &last.data["subject"]), ("build_phase", &"build/2".into()));
    assert_eq!(last.data["seq"], last.id.unwrap());
    // And live.
    world.commit(event("build/7", "shop")).await;
    assert_eq!(second.next().await.unwrap().data["subject"], "build/7");
}

#[tokio::test]
async fn without_a_place_a_reader_begins_now() {
    let world = World::seeded().await;
    let mut reader = Reader::open(&world, READ, "/events", None).await;
    world.commit(event("build/9", "shop")).await;
    assert_eq!(reader.next().await.unwrap().data["subject"], "build/9");
}

#[tokio::test]
async fn events_are_picked_by_kind_subject_and_project() {
    let world = World::seeded().await;
    let mut picked =
        Reader::open(&world, READ, "/events?subject=build/2,build/3&kind=build_phase", None).await;
    let mut shop = Reader::open(&world, SHOP, "/events", None).await;
    for (subject, project) in [("build/1", "shop"), ("build/2", "default"), ("build/3", "shop")] {
        world.commit(event(subject, project)).await;
    }
    let subjects = |said: Vec<Said>| said.into_iter().map(|s| s.data["subject"].clone()).collect::<Vec<_>>();
    assert_eq!(subjects(picked.take(2).await), ["build/2", "build/3"]);
    assert_eq!(subjects(shop.take(2).await), ["build/1", "build/3"]);
}

#[tokio::test]
async fn a_place_that_is_not_kept_is_reset() {
    let world = World::seeded().await;
    let newest = world.ctx.store.newest_event().await.unwrap();
    let mut reader = Reader::open(&world, READ, "/events", Some(newest + 1_000)).await;
    let reset = reader.next().await.unwrap();
    assert_eq!((reset.event.as_str(), reset.id), ("reset", Some(newest)));
    world.commit(event("build/2", "shop")).await;
    assert_eq!(reader.next().await.unwrap().data["subject"], "build/2");
    let (status, body) =
        world.call(READ, Method::GET, &format!("/events/list?after={}", newest + 1_000), None).await;
    assert_eq!((status, &body["error"]["code"]), (StatusCode::GONE, &"gone".into()));
}

#[tokio::test]
async fn streams_end_when_the_master_stops() {
    let world = World::seeded().await;
    let mut events = Reader::open(&world, READ, "/events", None).await;
    world.ctx.logs.open(LogId(3), Masks::default());
    let mut log = Reader::open(&world, READ, "/logs/3/follow", None).await;
    world.stopping.cancel();
    assert_eq!(events.next().await, None);
    assert_eq!(log.next().await.map(|s| s.event), None);
}

#[tokio::test]
async fn a_log_is_followed_to_its_end_and_resumed_in_between() {
    let world = World::seeded().await;
    let mut done = Reader::open(&world, READ, "/logs/2/follow", None).await;
    let lines = done.take(4).await;
    assert_eq!(lines[0].data["text"], "running 14 tests");
    assert_eq!(lines.iter().map(|l| l.id.unwrap()).collect::<Vec<_>>(), [1, 2, 3, 4]);
    assert_eq!(done.next().await.unwrap().event, "end");
    assert_eq!(done.next().await, None);
    let mut later = Reader::open(&world, READ, "/logs/2/follow", lines[2].id).await;
    assert_eq!(later.next().await.unwrap().data["text"], "1 of 14 failed");

    let log = LogId(3);
    world.ctx.logs.open(log, Masks::default());
    let mut live = Reader::open(&world, READ, "/logs/3/follow", None).await;
    print(&world, log, 0, "one\ntw").await;
    assert_eq!(live.next().await.unwrap().data["text"], "one");
    let open = live.next().await.unwrap();
    assert_eq!((&open.data["text"], &open.data["open"], open.id), (&"tw".into(), &true.into(), Some(1)));
    print(&world, log, 6, "o\n").await;
    let whole = live.next().await.unwrap();
    assert_eq!((&whole.data["text"], &whole.data["open"], whole.id), (&"two".into(), &false.into(), Some(2)));
    let sealed = world.ctx.logs.seal(log, 8, None).await.unwrap();
    world.commit(sealed).await;
    assert_eq!(live.next().await.unwrap().event, "end");
}

#[tokio::test]
async fn raw_bytes_are_followed_too() {
    let world = World::seeded().await;
    let log = LogId(3);
    world.ctx.logs.open(log, Masks::default());
    print(&world, log, 0, "one ").await;
    let response = world.send(request(READ, Method::GET, "/logs/3/raw?follow=true", None)).await;
    print(&world, log, 4, "two").await;
    let sealed = world.ctx.logs.seal(log, 7, None).await.unwrap();
    world.commit(sealed).await;
    let bytes = axum::body::to_bytes(response.into_body(), 1024).await.unwrap();
    assert_eq!(bytes, "one two");
    let response = world.send(request(READ, Method::GET, "/logs/2/raw", None)).await;
    assert_eq!(response.headers()["x-content-type-options"], "nosniff");
    let bytes = axum::body::to_bytes(response.into_body(), 1024).await.unwrap();
    assert_eq!(bytes, LOG_TEXT);
}

/// A real listener, since a WebSocket needs a connection of its own.
async fn listen(world: &World) -> std::net::SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (router, stopping) = (world.router.clone(), world.stopping.clone());
    tokio::spawn(async move {
        axum::serve(listener, router).with_graceful_shutdown(stopping.cancelled_owned()).await.unwrap();
    });
    address
}

#[tokio::test]
async fn a_browser_follows_over_one_socket_with_its_token_as_a_protocol() {
    let world = World::seeded().await;
    let address = listen(&world).await;
    let connect = async |path: &str, protocols: &str| {
        let mut asked = format!("ws://{address}/api/v1/events/ws{path}").into_client_request().unwrap();
        asked.headers_mut().insert("sec-websocket-protocol", protocols.parse().unwrap());
        let stream = tokio::net::TcpStream::connect(address).await.unwrap();
        tokio_tungstenite::client_async(asked, stream).await
    };
    assert!(connect("", "rouse.events.v1").await.is_err());
    let (mut socket, response) =
        connect("?after=0&subject=worker/1", &format!("rouse.events.v1, rouse.token.{READ}")).await.unwrap();
    assert_eq!(response.headers()["sec-websocket-protocol"], "rouse.events.v1");
    let mut next = async || loop {
        let message =
            tokio::time::timeout(Duration::from_secs(20), socket.next()).await.expect("something comes");
        let message = message?.ok()?;
        if message.is_text() {
            return Some(serde_json::from_str::<Value>(message.to_text().unwrap()).unwrap());
        }
        if message.is_close() {
            return None;
        }
    };
    assert_eq!(next().await.unwrap()["event"]["payload"]["phase"], "requested");
    for _ in 0..7 {
        next().await.unwrap();
    }
    world.commit(event("worker/1", "shop")).await;
    assert_eq!(next().await.unwrap()["event"]["kind"], "build_phase");
    world.stopping.cancel();
    assert_eq!(next().await, None);
}
