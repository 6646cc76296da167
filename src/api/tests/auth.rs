//! Who is let in, and what they may do.

use super::world::{ADMIN, NOW, OPERATE, READ, World, answer, request};
use crate::api::auth::{TOKEN_FILE, ensure_first_token, fingerprint, operations};
use crate::api::words::Role;
use axum::body::Body;
use axum::http::{Method, Request, StatusCode, header};
use serde_json::{Value, json};
use std::os::unix::fs::PermissionsExt;

/// Every operation of the document: method, path with something in its gaps, and the role that the document says it needs; none for the open ones.
fn all() -> Vec<(Method, String, Option<Role>)> {
    let mut document = crate::api::openapi();
    let mut all = Vec::new();
    for (path, item) in &mut document.paths.paths {
        let path = path.strip_prefix(crate::api::BASE).unwrap_or(path);
        let filled: Vec<&str> =
            path.split('/').map(|part| if part.starts_with('{') { "1" } else { part }).collect();
        let methods = [
            (Method::GET, item.get.is_some()),
            (Method::PUT, item.put.is_some()),
            (Method::POST, item.post.is_some()),
            (Method::DELETE, item.delete.is_some()),
            (Method::PATCH, item.patch.is_some()),
        ];
        let there = methods.into_iter().filter(|(_, there)| *there).map(|(method, _)| method);
        for (method, operation) in there.zip(operations(item)) {
            let security = serde_json::to_value(&operation.security).unwrap();
            let role = security[0]["token"][0].as_str().map(|role| role.parse().unwrap());
            all.push((method, filled.join("/"), role));
        }
    }
    all
}

#[tokio::test]
async fn without_a_token_nothing_is_told() {
    let world = World::seeded().await;
    for (method, path, role) in all() {
        for token in ["", "not-a-token"] {
            let (status, body) = world.call(token, method.clone(), &path, Some(json!({}))).await;
            if role.is_some() {
                assert_eq!(status, StatusCode::UNAUTHORIZED, "{method} {path}");
                assert_eq!(body["error"]["code"], "unauthenticated");
                assert!(body["error"]["help"].is_string());
            } else {
                assert_eq!(status, StatusCode::OK, "{method} {path}");
            }
        }
    }
}

#[tokio::test]
async fn each_operation_wants_the_role_that_the_document_says() {
    let world = World::seeded().await;
    let tokens = [(READ, Role::Read), (OPERATE, Role::Operate), (ADMIN, Role::Admin)];
    let mut operations = 0;
    for (method, path, role) in all() {
        let Some(needed) = role else { continue };
        operations += 1;
        for (token, has) in tokens {
            // A stream that is let in would not end.
            if has >= needed && (path.starts_with("/events") || path.ends_with("/follow")) {
                continue;
            }
            // Nothing that would change what the others find.
            let body = if has >= needed { json!("nonsense") } else { json!({}) };
            let (status, body) = world.call(token, method.clone(), &path, Some(body)).await;
            if has < needed {
                assert_eq!(status, StatusCode::FORBIDDEN, "{method} {path} with {has}: {body}");
                assert_eq!(body["error"]["code"], "forbidden");
            } else {
                let refused = [StatusCode::UNAUTHORIZED, StatusCode::FORBIDDEN];
                assert!(!refused.contains(&status), "{method} {path} with {has}: {body}");
            }
        }
    }
    assert!(operations > 50, "{operations}");
}

#[tokio::test]
async fn only_writes_and_what_is_hidden_want_more_than_read() {
    for (method, path, role) in all() {
        let hidden = path.starts_with("/tokens") || path.starts_with("/secrets");
        let reads = method == Method::GET && !hidden;
        assert_eq!(role.is_none_or(|role| role == Role::Read), reads, "{method} {path}");
    }
}

#[tokio::test]
async fn a_token_is_told_by_its_hash_alone() {
    let world = World::seeded().await;
    // What the database holds opens nothing.
    let (status, _) = world.call(&fingerprint(ADMIN), Method::GET, "/master", None).await;
    assert_eq!(status, StatusCode::UNAUTHORIZED);
    let lower = Request::builder()
        .uri("/api/v1/master")
        .header(header::HOST, "localhost")
        .header(header::AUTHORIZATION, format!("bearer {READ}"));
    let (status, body) = answer(world.send(lower.body(Body::empty()).unwrap()).await).await;
    assert_eq!((status, &body["token"]["role"]), (StatusCode::OK, &"read".into()));
    let basic = Request::builder()
        .uri("/api/v1/master")
        .header(header::HOST, "localhost")
        .header(header::AUTHORIZATION, format!("Basic {READ}"));
    let response = world.send(basic.body(Body::empty()).unwrap()).await;
    assert_eq!(response.headers()[header::WWW_AUTHENTICATE], "Bearer");
}

#[tokio::test]
async fn tokens_are_made_used_and_removed() {
    let world = World::seeded().await;
    let admin = async |method, path: &str, body: Option<Value>| world.call(ADMIN, method, path, body).await;
    let wanted = json!({"name": "ci", "role": "operate", "project": "shop"});
    let (status, made) = admin(Method::POST, "/tokens", Some(wanted.clone())).await;
    assert_eq!(status, StatusCode::CREATED, "{made}");
    let token = made["token"].as_str().unwrap();
    assert!(token.starts_with("rouse_") && token.len() > 40);
    let (status, master) = world.call(token, Method::GET, "/master", None).await;
    assert_eq!(
        (status, &master["token"]),
        (StatusCode::OK, &json!({"name": "ci", "role": "operate", "project": "shop"}))
    );
    assert_eq!(admin(Method::POST, "/tokens", Some(wanted)).await.0, StatusCode::CONFLICT);
    let (_, list) = admin(Method::GET, "/tokens", None).await;
    assert!(!list.to_string().contains(token) && !list.to_string().contains(&fingerprint(token)));
    assert_eq!(admin(Method::DELETE, "/tokens/ci", None).await.0, StatusCode::NO_CONTENT);
    assert_eq!(world.call(token, Method::GET, "/master", None).await.0, StatusCode::UNAUTHORIZED);
    assert_eq!(admin(Method::DELETE, "/tokens/ci", None).await.0, StatusCode::NOT_FOUND);
    let (status, body) = admin(Method::DELETE, "/tokens/admin", None).await;
    assert_eq!((status, &body["error"]["code"]), (StatusCode::CONFLICT, &"conflict".into()));
    let odd = json!({"name": "a b", "role": "read"});
    assert_eq!(admin(Method::POST, "/tokens", Some(odd)).await.0, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn the_first_token_is_made_once_and_only_its_owner_can_read_it() {
    let folder = tempfile::tempdir().unwrap();
    let store =
        rouse_store::Store::open(&rouse_store::Location::Sqlite(folder.path().join("db"))).await.unwrap();
    let path = ensure_first_token(&store, folder.path(), NOW).await.unwrap().unwrap();
    assert_eq!(path, folder.path().join(TOKEN_FILE));
    let text = std::fs::read_to_string(&path).unwrap();
    let known = store.api_token(&fingerprint(text.trim_end())).await.unwrap().unwrap();
    assert_eq!((known.name.as_str(), known.role.as_str()), ("admin", "admin"));
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(ensure_first_token(&store, folder.path(), NOW).await.unwrap(), None);
    assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
    // Killed between the record and the name: the next start gives it its name.
    let half = folder.path().join(format!("{TOKEN_FILE}.new"));
    std::fs::rename(&path, &half).unwrap();
    assert_eq!(ensure_first_token(&store, folder.path(), NOW).await.unwrap(), Some(path.clone()));
    assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
    // Killed before the record: what lies there is no token, and a fresh one takes its place.
    let other = tempfile::tempdir().unwrap();
    std::fs::write(other.path().join(format!("{TOKEN_FILE}.new")), "rouse_lost\n").unwrap();
    let store =
        rouse_store::Store::open(&rouse_store::Location::Sqlite(other.path().join("db"))).await.unwrap();
    let path = ensure_first_token(&store, other.path(), NOW).await.unwrap().unwrap();
    assert_ne!(std::fs::read_to_string(&path).unwrap(), "rouse_lost\n");
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
}

#[tokio::test]
async fn a_strangers_name_is_refused_on_loopback() {
    let world = World::seeded().await;
    for (host, expected) in [
        ("evil.example.org:8010", StatusCode::MISDIRECTED_REQUEST),
        ("127.0.0.1.evil.example.org", StatusCode::MISDIRECTED_REQUEST),
        ("", StatusCode::MISDIRECTED_REQUEST),
        ("127.0.0.1:8010", StatusCode::OK),
        ("[::1]:8010", StatusCode::OK),
        ("LOCALHOST", StatusCode::OK),
    ] {
        let mut asked = request(READ, Method::GET, "/master", None);
        asked.headers_mut().insert(header::HOST, host.parse().unwrap());
        assert_eq!(world.send(asked).await.status(), expected, "{host}");
    }
    let mut asked = request(READ, Method::GET, "/master", None);
    asked.headers_mut().insert(header::ORIGIN, "https://evil.example.org".parse().unwrap());
    let response = world.send(asked).await;
    assert!(!response.headers().contains_key(header::ACCESS_CONTROL_ALLOW_ORIGIN));
}
