//! What calls change: wishes on rows, and new buildsets.

use super::world::{ADMIN, CONFIG, OPERATE, READ, World, answer, request};
use axum::http::{Method, StatusCode};
use rouse_model::event::EventKind;
use rouse_model::worker::Wanted;
use rouse_model::{BuildId, BuildsetId, RequestId, Trust, WorkerId};
use serde_json::{Value, json};

#[tokio::test]
async fn cancelling_a_build_records_who_and_why_once() {
    let world = World::seeded().await;
    let (status, body) = world.post("/builds/2/cancel", json!({"reason": "not needed"})).await;
    assert_eq!((status, &body["cancel"]), (StatusCode::ACCEPTED, &"api (token operate): not needed".into()));
    let (status, body) =
        world.call(ADMIN, Method::POST, "/builds/2/cancel", Some(json!({"reason": "me too"}))).await;
    assert_eq!((status, &body["cancel"]), (StatusCode::ACCEPTED, &"api (token operate): not needed".into()));
    let build = world.ctx.store.build(BuildId(2)).await.unwrap().unwrap();
    assert_eq!((build.cancel.as_deref(), build.generation), (Some("api (token operate): not needed"), 1));
}

#[tokio::test]
async fn cancelling_a_request_cancels_what_runs_it() {
    let world = World::seeded().await;
    let (status, body) = world.post("/requests/2/cancel", json!({})).await;
    assert_eq!((status, &body["cancel"]), (StatusCode::ACCEPTED, &"api (token operate)".into()));
    let store = &world.ctx.store;
    assert_eq!(
        store.build(BuildId(2)).await.unwrap().unwrap().cancel.as_deref(),
        Some("api (token operate)")
    );
    let newest = store.newest_event().await.unwrap();
    let event = store.events_after(newest - 1, 1).await.unwrap().remove(0).body;
    assert_eq!((event.kind, event.subject.as_str()), (EventKind::RequestChanged, "request/2"));
    let (status, _) = world.post("/requests/3/cancel", json!({})).await;
    assert_eq!(status, StatusCode::ACCEPTED);
    let explained = world.get("/requests/3/explain").await;
    assert_eq!(explained["primary"]["code"], "cancelling");
}

#[tokio::test]
async fn many_who_cancel_at_once_agree() {
    let world = World::seeded().await;
    let calls = (0..8).map(|n| world.post("/builds/2/cancel", json!({"reason": n.to_string()})));
    let answers = futures::future::join_all(calls).await;
    assert!(answers.iter().all(|(status, _)| *status == StatusCode::ACCEPTED), "{answers:?}");
    let said = world.ctx.store.build(BuildId(2)).await.unwrap().unwrap().cancel.unwrap();
    assert!(answers.iter().all(|(_, body)| body["cancel"] == said.as_str()));
}

#[tokio::test]
async fn a_worker_is_drained_taken_back_and_ended() {
    let world = World::seeded().await;
    let worker = async || world.ctx.store.worker(WorkerId(2)).await.unwrap().unwrap();
    let (status, body) = world.post("/workers/here-7f3k2/drain", json!({"reason": "disk swap"})).await;
    assert_eq!((status, &body["state"]), (StatusCode::ACCEPTED, &"draining".into()));
    assert_eq!(
        body["cause"],
        json!({"code": "operator", "class": null, "message": "api (token operate): disk swap"})
    );
    assert!(matches!(worker().await.wanted, Wanted::Drain { .. }));
    let (status, body) = world.post("/workers/2/cancel-drain", json!({})).await;
    assert_eq!((status, &body["state"]), (StatusCode::ACCEPTED, &"busy".into()));
    let (status, body) = world.post("/workers/2/terminate", json!({})).await;
    assert_eq!((status, &body["state"]), (StatusCode::ACCEPTED, &"ending".into()));
    let (status, body) = world.post("/workers/2/cancel-drain", json!({})).await;
    assert_eq!(
        (status, &body["error"]["message"]),
        (StatusCode::CONFLICT, &"worker 2: its end was decided".into())
    );
}

#[tokio::test]
async fn a_worker_is_held_for_a_time_within_its_own() {
    let world = World::seeded().await;
    let (status, body) = world.post("/workers/2/hold", json!({"seconds": 3600, "reason": "core dump"})).await;
    assert_eq!((status, &body["state"]), (StatusCode::ACCEPTED, &"held".into()), "{body}");
    assert_eq!(body["held"]["by"], "api (token operate): core dump");
    let until = body["held"]["until"].clone();
    let (_, longer) = world.post("/workers/2/hold", json!({"seconds": 7200})).await;
    assert_ne!(longer["held"]["until"], until, "held again, the new time is in force");
    for seconds in [json!(0), json!(-5), json!(1e300), json!("1h")] {
        let (status, body) = world.post("/workers/2/hold", json!({"seconds": seconds})).await;
        assert!(status.is_client_error(), "{seconds}: {body}");
    }
    let (status, body) = world.post("/workers/2/hold", json!({"seconds": 1e9})).await;
    assert_eq!(status, StatusCode::BAD_REQUEST, "{body}");
    assert!(body["error"]["help"].as_str().unwrap().starts_with("hold it for at most "), "{body}");
    let (status, _) = world.call(READ, Method::POST, "/workers/2/hold", Some(json!({"seconds": 1}))).await;
    assert_eq!(status, StatusCode::FORBIDDEN);
    let (status, body) = world.post("/workers/2/release", json!({})).await;
    assert_eq!((status, &body["state"], &body["held"]), (StatusCode::ACCEPTED, &"busy".into(), &json!(null)));
    let timeline = world.get("/workers/2").await["timeline"].clone();
    let wishes: Vec<(&str, &str)> = timeline
        .as_array()
        .unwrap()
        .iter()
        .filter(|moment| moment["fact"] == "wanted")
        .map(|moment| (moment["what"].as_str().unwrap(), moment["cause"]["message"].as_str().unwrap()))
        .collect();
    let [(first, why), (second, _), ("run", by)] = wishes[..] else { panic!("{wishes:?}") };
    assert!(
        first.starts_with("hold until ") && second.starts_with("hold until ") && first != second,
        "{wishes:?}"
    );
    assert_eq!((why, by), ("api (token operate): core dump", "api (token operate)"));
}

#[tokio::test]
async fn more_than_a_budget_is_granted_for_a_time_and_stays_on_record() {
    let world = World::seeded().await;
    let grant = async |body: Value| world.call(ADMIN, Method::POST, "/pools/here/grants", Some(body)).await;
    let (status, body) = grant(json!({"amount": 2.5, "seconds": 3600, "reason": "a release"})).await;
    assert_eq!((status, &body["amount"]), (StatusCode::CREATED, &json!(2.5)), "{body}");
    assert_eq!(body["by"], "api (token admin): a release");
    assert_eq!(world.get("/pools/here").await["budget"][0]["amount"], 32.5);
    assert_eq!(world.get("/pools/here/grants").await["items"], json!([body]));
    let events = world.get("/events/list?subject=pool/here&kind=budget_granted").await;
    assert_eq!(events["items"][0]["payload"]["by"], "api (token admin): a release", "{events}");
    for wrong in [
        json!({"amount": 0, "seconds": 60}),
        json!({"amount": -3, "seconds": 60}),
        json!({"amount": 1e300, "seconds": 60}),
        json!({"amount": 1, "seconds": 0}),
        json!({"amount": 1, "seconds": 1e8}),
        json!({"amount": 1}),
    ] {
        let (status, body) = grant(wrong.clone()).await;
        assert!(status.is_client_error(), "{wrong}: {body}");
    }
    let path = "/pools/here/grants";
    let (status, _) = world.post(path, json!({"amount": 1, "seconds": 60})).await;
    assert_eq!(status, StatusCode::FORBIDDEN, "an operator is no admin");
    let file = world.folder.path().join("rouse.yaml");
    std::fs::write(&file, CONFIG.replace("budget:", "# budget:")).unwrap();
    world.call(ADMIN, Method::POST, "/config/reload", Some(json!({}))).await;
    let (status, body) = grant(json!({"amount": 1, "seconds": 60})).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert_eq!(body["error"]["message"], "pool `here` has no budget to go beyond");
}

#[tokio::test]
async fn forcing_makes_one_buildset_for_each_key() {
    let world = World::seeded().await;
    let force = async |key: &str, body: Value| {
        let mut asked = request(OPERATE, Method::POST, "/schedulers/release/force", Some(body));
        if !key.is_empty() {
            asked.headers_mut().insert("idempotency-key", key.parse().unwrap());
        }
        answer(world.send(asked).await).await
    };
    let wanted =
        json!({"parameters": {"version": "1.2", "sign": "true", "level": 4}, "reason": "the big one"});
    let (status, made) = force("k1", wanted.clone()).await;
    assert_eq!((status, &made["fresh"]), (StatusCode::CREATED, &true.into()), "{made}");
    let (status, again) = force("k1", wanted.clone()).await;
    assert_eq!((status, &again["fresh"]), (StatusCode::OK, &false.into()));
    assert_eq!((&made["buildset"], &made["requests"]), (&again["buildset"], &again["requests"]));
    let (_, other) = force("", wanted).await;
    assert_ne!(made["buildset"], other["buildset"]);
    let id = made["buildset"].as_i64().unwrap();
    let buildset = world.ctx.store.buildset(BuildsetId(id)).await.unwrap().unwrap();
    let value =
        |name: &str| buildset.properties.get(name).map(|p| (p.value.clone(), p.source.clone())).unwrap();
    assert_eq!(value("version"), (json!("1.2"), "force by operate".into()));
    assert_eq!(value("sign"), (json!(true), "force by operate".into()));
    assert_eq!(value("target"), (json!("debian"), "force by operate".into()));
    assert_eq!(value("kind"), (json!("release"), "scheduler release".into()));
    assert_eq!((buildset.reason.as_str(), buildset.owner.as_deref()), ("the big one", Some("operate")));
    let request = RequestId(made["requests"][0]["id"].as_i64().unwrap());
    let request = world.ctx.store.request(request).await.unwrap().unwrap();
    assert_eq!((request.builder.as_str(), request.priority, request.trust), ("unit", 5, Trust::Trusted));
}

#[tokio::test]
async fn a_branch_that_is_not_watched_makes_an_untrusted_build_that_no_pool_takes() {
    let world = World::seeded().await;
    let (status, made) = world.post("/builders/unit/build", json!({"sources": [{"branch": "wip"}]})).await;
    assert_eq!(status, StatusCode::CREATED, "{made}");
    let id = made["requests"][0]["id"].as_i64().unwrap();
    let explained = world.get(&format!("/requests/{id}/explain")).await;
    assert_eq!(explained["request"]["trust"], "untrusted");
    assert_eq!(
        (&explained["primary"]["code"], &explained["primary"]["permanent"]),
        (&"no_pool_accepts".into(), &true.into())
    );
    insta::assert_json_snapshot!("explain_no_pool", explained["pools"]);
}

#[tokio::test]
async fn a_rebuild_has_the_same_sources_and_properties() {
    let world = World::seeded().await;
    let (status, made) = world.post("/builds/1/rebuild", json!({"reason": "flaky?"})).await;
    assert_eq!(status, StatusCode::CREATED, "{made}");
    let path = format!("/buildsets/{}", made["buildset"]);
    let (new, old) = (world.get(&path).await, world.get("/buildsets/1").await);
    assert_eq!(
        (&new["sources"], &new["properties"], &new["trust"]),
        (&old["sources"], &old["properties"], &old["trust"])
    );
    assert_eq!((&new["reason"], &new["owner"]), (&"flaky?".into(), &"operate".into()));
}

#[tokio::test]
async fn a_posted_change_is_a_nudge_and_says_what_is_known() {
    let world = World::seeded().await;
    let nudged = world.ctx.nudges.changes.notified();
    let known = json!({"codebase": "app", "branch": "main", "revision": super::seed::REVISION});
    let (status, body) = world.post("/changes", known).await;
    assert_eq!((status, &body["known"]), (StatusCode::ACCEPTED, &true.into()));
    let (status, body) = world
        .post("/changes", json!({"codebase": "app", "revision": "2222222222222222222222222222222222222222"}))
        .await;
    assert_eq!((status, &body["known"]), (StatusCode::ACCEPTED, &false.into()));
    nudged.await;
}

#[tokio::test]
async fn a_configuration_is_checked_planned_and_applied_or_left() {
    let world = World::seeded().await;
    let admin = async |method, path: &str, body: Value| world.call(ADMIN, method, path, Some(body)).await;
    let (_, shown) = admin(Method::GET, "/config", json!({})).await;
    assert_eq!((&shown["revision"], &shown["files"][0]["text"]), (&1.into(), &CONFIG.into()));
    let (status, checked) = admin(
        Method::POST,
        "/config/check",
        json!({"files": [{"name": "rouse.yaml", "text": "version: 1\npols: {}\n"}]}),
    )
    .await;
    assert_eq!(
        (status, &checked["ok"], &checked["errors"]),
        (StatusCode::OK, &false.into(), &1.into()),
        "{checked}"
    );
    assert!(checked["text"].as_str().unwrap().contains("rouse.yaml:2:1"), "{checked}");
    let file = world.folder.path().join("rouse.yaml");
    std::fs::write(&file, CONFIG.replace("max: 2", "max: 3")).unwrap();
    let (_, planned) = admin(Method::POST, "/config/plan", json!({})).await;
    assert_eq!(
        (&planned["base"], &planned["changes"][0]["sentence"]),
        (&1.into(), &"~ pool here  max 2 → 3".into())
    );
    let (_, done) = admin(Method::POST, "/config/reload", json!({})).await;
    assert_eq!((&done["revision"], &done["changed"]), (&2.into(), &true.into()), "{done}");
    assert_eq!(done["changes"], planned["changes"]);
    assert_eq!(world.get("/pools/here").await["max"], 3);
    let (_, done) = admin(Method::POST, "/config/reload", json!({})).await;
    assert_eq!((&done["revision"], &done["changed"]), (&2.into(), &false.into()));
    std::fs::write(&file, "version: 1\npools: {a: {local: {}, max: no}}\n").unwrap();
    let (status, refused) = admin(Method::POST, "/config/reload", json!({})).await;
    assert_eq!((status, &refused["error"]["code"]), (StatusCode::BAD_REQUEST, &"invalid".into()));
    assert!(refused["error"]["detail"]["text"].as_str().unwrap().contains("max"), "{refused}");
    assert_eq!(world.get("/pools/here").await["max"], 3);
    assert_eq!(world.get("/config").await["revision"], 2);
}
