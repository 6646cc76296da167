//! What a caller does wrong, and what is said to that.

use super::world::{OPERATE, READ, World, answer, request};
use axum::body::Body;
use axum::http::{Method, StatusCode, header};
use serde_json::json;

#[tokio::test]
async fn every_refusal_has_a_code_and_words() {
    let world = World::seeded().await;
    let mut said = Vec::new();
    for (method, path, body) in [
        (Method::GET, "/builds/99", None),
        (Method::GET, "/builds/nine", None),
        (Method::GET, "/nowhere", None),
        (Method::PUT, "/builds/1", None),
        (Method::GET, "/builds?limt=3", None),
        (Method::GET, "/builds?limit=0", None),
        (Method::GET, "/builds?limit=501", None),
        (Method::GET, "/builds?result=green", None),
        (Method::GET, "/requests/99/explain", None),
        (Method::GET, "/workers/nobody", None),
        (Method::GET, "/pools/nowhere", None),
        (Method::GET, "/logs/99/lines", None),
        (Method::GET, "/logs/2/lines?limit=99999", None),
        (Method::GET, "/events/ws", None),
        (Method::POST, "/builds/1/cancel", Some(json!({"why": "x"}))),
        (Method::POST, "/builds/1/cancel", Some(json!({}))),
        (Method::POST, "/requests/1/cancel", Some(json!({}))),
        (Method::POST, "/workers/1/drain", Some(json!({"reason": 5}))),
        (Method::POST, "/changes", Some(json!({"codebase": "ap"}))),
        (Method::POST, "/changes", Some(json!({"codebase": "app", "branch": "a..b"}))),
        (Method::POST, "/schedulers/push/force", Some(json!({}))),
        (Method::POST, "/schedulers/none/force", Some(json!({}))),
        (
            Method::POST,
            "/schedulers/release/force",
            Some(json!({"parameters": {"version": "x", "level": 12, "targt": "debian"}})),
        ),
        (
            Method::POST,
            "/schedulers/release/force",
            Some(json!({"parameters": {"version": "1"}, "sources": [{"revision": "4f1c"}]})),
        ),
        (Method::POST, "/builders/none/build", Some(json!({}))),
        (Method::POST, "/builders/unit/build", Some(json!({"properties": {"a b": 1}}))),
        (
            Method::POST,
            "/builders/unit/build",
            Some(json!({"sources": [{"codebase": "none", "branch": "main"}]})),
        ),
        (Method::POST, "/config/check", Some(json!({"files": []}))),
    ] {
        let (status, answer) = world.call(OPERATE, method.clone(), path, body.clone()).await;
        assert!(status.is_client_error(), "{method} {path}: {status} {answer}");
        let error = &answer["error"];
        assert!(error["code"].is_string() && error["message"].is_string(), "{method} {path}: {answer}");
        said.push(json!({
            "call": format!("{method} {path} {}", body.unwrap_or_default()), "status": status.as_u16(), "error": error,
        }));
    }
    insta::assert_json_snapshot!("refusals", said);
}

#[tokio::test]
async fn a_body_that_is_no_json_is_told_so() {
    let world = World::seeded().await;
    for (kind, body, status) in [
        ("application/json", "{", StatusCode::BAD_REQUEST),
        ("text/plain", "{}", StatusCode::BAD_REQUEST),
        ("application/json", "", StatusCode::BAD_REQUEST),
    ] {
        let mut asked = request(OPERATE, Method::POST, "/builds/2/cancel", None);
        asked.headers_mut().insert(header::CONTENT_TYPE, kind.parse().unwrap());
        *asked.body_mut() = Body::from(body);
        let (said, body) = answer(world.send(asked).await).await;
        assert_eq!((said, &body["error"]["code"]), (status, &"invalid".into()));
    }
    let mut asked = request(OPERATE, Method::POST, "/config/check", None);
    asked.headers_mut().insert(header::CONTENT_TYPE, "application/json".parse().unwrap());
    *asked.body_mut() = Body::from(vec![b' '; 3 << 20]);
    let (said, body) = answer(world.send(asked).await).await;
    assert_eq!((said, &body["error"]["code"]), (StatusCode::PAYLOAD_TOO_LARGE, &"too_large".into()));
}

#[tokio::test]
async fn a_place_that_is_no_number_is_refused() {
    let world = World::seeded().await;
    for path in ["/events", "/logs/2/follow"] {
        let mut asked = request(READ, Method::GET, path, None);
        asked.headers_mut().insert("last-event-id", "seven".parse().unwrap());
        assert_eq!(world.send(asked).await.status(), StatusCode::BAD_REQUEST, "{path}");
    }
}
