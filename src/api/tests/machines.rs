//! Enrolled machines: who may let them come, and what is shown of their keys.

use super::seed;
use super::world::{ADMIN, CONFIG, NOW, OPERATE, World};
use crate::machines::end_workers;
use axum::http::{Method, StatusCode};
use rouse_model::worker::{LaunchToken, Link, Phase, ProviderRef, Wanted, Worker};
use rouse_model::{Timestamp, WorkerId};
use rouse_store::Batch;
use serde_json::{Value, json};

async fn world() -> World {
    let world = World::new().await;
    let config = CONFIG
        .replace("https://git.example.org/shop/app.git", "file:///nowhere/app.git")
        .replace("pools:\n", "providers: {rack: {enrolled: {}}}\npools:\n");
    std::fs::write(world.folder.path().join("rouse.yaml"), config).unwrap();
    let (status, done) = world.call(ADMIN, Method::POST, "/config/reload", Some(json!({}))).await;
    assert_eq!(status, StatusCode::OK, "{done}");
    world
}

async fn enroll(world: &World, machine: Value) -> (StatusCode, Value) {
    world.call(ADMIN, Method::POST, "/machines", Some(machine)).await
}

/// With `address` where it is said how machines see the master.
fn machine(account: &str, name: &str, address: Option<&str>) -> Value {
    json!({"account": account, "name": name, "address": address})
}

#[tokio::test]
async fn a_machine_is_enrolled_once_until_it_is_revoked_and_its_key_is_shown_once() {
    let world = world().await;
    let wish = || machine("rack", "a", Some("ci.example.org:9443"));
    let (status, _) = world.call(OPERATE, Method::POST, "/machines", Some(wish())).await;
    assert_eq!(status, StatusCode::FORBIDDEN);
    let (status, first) = enroll(&world, wish()).await;
    assert_eq!(status, StatusCode::CREATED, "{first}");
    assert_eq!((&first["account"], &first["name"]), (&json!("rack"), &json!("a")));
    assert_eq!(first["address"], "ci.example.org:9443");
    assert!(first["ca"].as_str().unwrap().starts_with("-----BEGIN CERTIFICATE-----"));
    let (status, again) = enroll(&world, wish()).await;
    assert_eq!(status, StatusCode::CONFLICT, "{again}");
    assert!(again.to_string().contains("rouse worker revoke a --on rack"), "{again}");
    let list = world.get("/machines").await;
    assert_eq!((&list["items"][0]["revoked"], &list["items"][0]["connected"]), (&Value::Null, &json!(false)));
    let key = first["key"].as_str().unwrap();
    assert_eq!(key.len(), 64);
    assert!(!list.to_string().contains(key) && !world.get("/events/list").await.to_string().contains(key));
    let path = "/machines/rack/a";
    let (status, _) = world.call(OPERATE, Method::DELETE, path, None).await;
    assert_eq!(status, StatusCode::FORBIDDEN);
    for _ in 0..2 {
        let (status, revoked) = world.call(ADMIN, Method::DELETE, path, None).await;
        assert_eq!((status, revoked["revoked"].is_null()), (StatusCode::ACCEPTED, false), "{revoked}");
    }
    let (status, next) = enroll(&world, wish()).await;
    assert_eq!(status, StatusCode::CREATED, "{next}");
    assert_ne!(next["key"], first["key"]);
    assert_eq!(world.get("/machines").await["items"][0]["revoked"], Value::Null);
    let events = world.get("/events/list?subject=machine/rack/a&kind=machine").await;
    let told: Vec<&str> =
        events["items"].as_array().unwrap().iter().filter_map(|e| e["payload"]["machine"].as_str()).collect();
    assert_eq!(told, ["enrolled", "revoked", "enrolled"], "{events:#}");
}

#[tokio::test]
async fn a_machine_that_was_revoked_stays_until_all_that_it_may_have_been_asked_for_is_known() {
    let world = world().await;
    let at = |seconds: i64| Timestamp(NOW.0 + seconds * 1_000_000);
    let asked = |id, requested| {
        let token = LaunchToken(format!("token {id}"));
        let phase = Phase::Launching { token, since: requested, deadline: at(60) };
        Worker { provider: "rack".into(), requested, ..seed::worker(id, phase, Link::Never) }
    };
    let mut batch = Batch::new("test.workers");
    batch.insert(&asked(7_001, at(0))).insert(&asked(7_002, at(2)));
    let elsewhere = Worker { provider: "shed".into(), ..asked(7_003, at(0)) };
    let there = Phase::Up { at: ProviderRef("a/1".into()) };
    batch.insert(&elsewhere).insert(&Worker { phase: there, ..asked(7_004, at(2)) });
    world.ctx.store.commit(batch).await.unwrap();
    let left = async |name, revoked| end_workers(&world.ctx, "rack", name, at(revoked)).await.unwrap();
    assert_eq!(
        (left("a", 1).await, left("b", 1).await),
        (2, 1),
        "one that was asked for before, of nobody knows whom"
    );
    assert_eq!((left("b", -1).await, left("b", 3).await), (0, 2));
    let ended = world.ctx.store.worker(WorkerId(7_004)).await.unwrap().unwrap();
    assert!(matches!(ended.wanted, Wanted::End { .. }), "{ended:?}");
}

#[tokio::test]
async fn what_cannot_be_enrolled_is_told_with_what_to_do() {
    let world = world().await;
    let at = Some("ci.example.org:9443");
    for (wish, says) in [
        (machine("shed", "a", at), "there is no account `shed` of enrolled machines"),
        (machine("rack", "a b", at), "the name `a b` is refused"),
        (machine("rack", "a", None), "--at HOST:PORT"),
        (machine("rack", "a", Some("ci.example.org")), "the address `ci.example.org`"),
    ] {
        let (status, refused) = enroll(&world, wish).await;
        assert!(status.is_client_error() && refused.to_string().contains(says), "{status}: {refused}");
    }
    let (status, refused) = world.call(ADMIN, Method::DELETE, "/machines/rack/a", None).await;
    assert_eq!(status, StatusCode::NOT_FOUND, "{refused}");
    assert!(world.get("/machines").await["items"].as_array().unwrap().is_empty());
}
