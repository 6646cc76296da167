//! The word of a person: who is asked for it, who may give it, and what it is for.

use super::seed::REVISION;
use super::world::{ADMIN, CONFIG, OPERATE, OPERATE_SHOP, READ, World};
use axum::http::{Method, StatusCode};
use rouse_model::buildset::RequestState;
use rouse_model::event::EventKind;
use rouse_model::{RequestId, Timestamp};
use serde_json::{Value, json};
use std::time::Duration;

/// With `unit` three that ask for strangers, of which one is of another project, and one that asks for all.
const BUILDERS: &str = r#"builders:
  lint: {project: shop, approval: strangers, steps: [{run: make lint}]}
  other: {approval: strangers, steps: [{run: make}]}
  deploy: {project: shop, approval: {of: all, within: 3d}, steps: [{run: make deploy}]}
  free: {project: shop, steps: [{run: make free}]}
"#;

async fn world() -> World {
    let world = World::seeded().await;
    let config = CONFIG
        .replace("https://git.example.org/shop/app.git", "file:///nowhere/app.git")
        .replace("builders:\n", BUILDERS)
        .replace("    pool: here\n", "    approval: strangers\n")
        .replace("schedulers:\n", "schedulers:\n  all: {force: {}, builders: [unit, lint, deploy, free]}\n");
    std::fs::write(world.folder.path().join("rouse.yaml"), config).unwrap();
    let (status, done) = world.call(ADMIN, Method::POST, "/config/reload", Some(json!({}))).await;
    assert_eq!(status, StatusCode::OK, "{done}");
    world
}

/// Requests by builder: unit, lint, deploy, free.
async fn force(world: &World, branch: &str) -> [RequestId; 4] {
    let wish = json!({"sources": [{"codebase": "app", "branch": branch, "revision": REVISION}]});
    let (status, made) = world.post("/schedulers/all/force", wish).await;
    assert_eq!(status, StatusCode::CREATED, "{made}");
    ["unit", "lint", "deploy", "free"].map(|builder| {
        let all = made["requests"].as_array().unwrap();
        let request = all.iter().find(|request| request["builder"] == builder).unwrap();
        RequestId(request["id"].as_i64().unwrap())
    })
}

async fn states(world: &World, requests: &[RequestId]) -> Vec<RequestState> {
    let mut states = Vec::new();
    for id in requests {
        states.push(world.ctx.store.request(*id).await.unwrap().unwrap().state);
    }
    states
}

async fn approve(world: &World, token: &str, id: RequestId) -> (StatusCode, Value) {
    let body = json!({"reason": " read it "});
    world.call(token, Method::POST, &format!("/requests/{id}/approve"), Some(body)).await
}

#[tokio::test]
async fn one_word_lets_a_strangers_push_go_on_and_no_deployment() {
    use RequestState::{Queued, Unapproved};
    let world = world().await;
    let requests = force(&world, "wip").await;
    let [unit, lint, deploy, _] = requests;
    assert_eq!(states(&world, &requests).await, [Unapproved, Unapproved, Unapproved, Queued]);
    let shown = world.get(&format!("/requests/{unit}/explain")).await;
    assert_eq!(shown["primary"]["code"], "approval");
    assert!(shown["primary"]["help"].as_str().unwrap().contains(&format!("rouse request approve {unit}")));
    assert_eq!(shown["request"]["approval"]["until"], "2025-12-25T01:00:00.000000Z");
    assert_eq!(world.get("/builders/lint").await["waiting"], 0);

    assert_eq!(approve(&world, READ, unit).await.0, StatusCode::FORBIDDEN);
    // A token of one project does not see another's.
    let wish = json!({"sources": [{"codebase": "app", "branch": "wip", "revision": REVISION}]});
    let (_, made) = world.post("/builders/other/build", wish).await;
    let other = RequestId(made["requests"][0]["id"].as_i64().unwrap());
    assert_eq!(approve(&world, OPERATE_SHOP, other).await.0, StatusCode::NOT_FOUND);
    let (status, approved) = approve(&world, OPERATE_SHOP, unit).await;
    assert_eq!((status, &approved["with"]), (StatusCode::OK, &json!([lint.0])), "{approved}");
    assert_eq!(
        approved["approval"],
        json!({"of": "strangers", "until": null, "by": "api (token operate-shop)", "reason": "read it", "at": "2025-11-25T01:00:00.000000Z"})
    );
    assert_eq!((&approved["state"], &approved["trust"]), (&json!("queued"), &json!("untrusted")));
    assert_eq!(states(&world, &requests).await, [Queued, Queued, Unapproved, Queued]);
    assert_eq!(states(&world, &[other]).await, [Unapproved]);
    let newest = world.ctx.store.newest_event().await.unwrap();
    let event = world.ctx.store.events_after(newest - 1, 1).await.unwrap().remove(0).body;
    assert_eq!((event.kind, event.subject), (EventKind::RequestChanged, format!("request/{lint}")));
    assert_eq!(event.payload["approval"]["given"]["by"], "api (token operate-shop)");

    // Twice is once, and the first one counts.
    let (status, again) = approve(&world, OPERATE, lint).await;
    assert_eq!((status, &again["with"]), (StatusCode::OK, &json!([])));
    assert_eq!(again["approval"]["by"], "api (token operate-shop)");
    approve(&world, OPERATE, deploy).await;
    assert_eq!(states(&world, &requests).await, [Queued, Queued, Queued, Queued]);
    // What comes next is asked for anew.
    let next = force(&world, "wip").await;
    assert_eq!(states(&world, &next[..2]).await, [Unapproved, Unapproved]);
}

#[tokio::test]
async fn of_what_is_trusted_only_deployments_wait() {
    use RequestState::{Queued, Unapproved};
    let world = world().await;
    let requests = force(&world, "main").await;
    assert_eq!(states(&world, &requests).await, [Queued, Queued, Unapproved, Queued]);
    let row = world.ctx.store.request(requests[2]).await.unwrap().unwrap();
    assert_eq!(row.lapses, Some(row.created + Duration::from_secs(3 * 86_400)));
}

#[tokio::test]
async fn what_waits_for_nobody_or_is_about_to_end_is_not_approved() {
    let world = world().await;
    let [unit, _, deploy, free] = force(&world, "wip").await;
    let (status, refused) = approve(&world, OPERATE, free).await;
    assert_eq!(status, StatusCode::CONFLICT);
    assert_eq!(refused["error"]["message"], format!("request {free} waits for nobody's approval"));
    let (status, cancelled) = world.post(&format!("/requests/{deploy}/cancel"), json!({})).await;
    assert_eq!((status, &cancelled["approval"]["until"]), (StatusCode::ACCEPTED, &Value::Null));
    let (status, refused) = approve(&world, OPERATE, deploy).await;
    assert_eq!(status, StatusCode::CONFLICT);
    assert_eq!(refused["error"]["message"], format!("request {deploy} is being cancelled"));
    // Whose end was wished for is found by whoever ends those that nobody approved, whatever the clock says.
    let lapsed = world.ctx.store.lapsed_requests(Timestamp(1), 10).await.unwrap();
    assert_eq!(lapsed.iter().map(|r| r.id).collect::<Vec<_>>(), [deploy]);
    assert_eq!(approve(&world, OPERATE, RequestId(99_999)).await.0, StatusCode::NOT_FOUND);
    assert_eq!(approve(&world, OPERATE, unit).await.0, StatusCode::OK);
}

#[tokio::test]
async fn a_strangers_branch_without_a_revision_is_nothing_to_approve() {
    let world = world().await;
    // The repository is not there, so where the branch stands cannot be told.
    let wish = json!({"sources": [{"codebase": "app", "branch": "wip"}]});
    let (_, made) = world.post("/builders/lint/build", wish).await;
    let id = RequestId(made["requests"][0]["id"].as_i64().unwrap());
    let (status, refused) = approve(&world, OPERATE, id).await;
    assert_eq!(status, StatusCode::CONFLICT, "{refused}");
    assert!(refused["error"]["message"].as_str().unwrap().contains("no revision"), "{refused}");
    assert_eq!(states(&world, &[id]).await, [RequestState::Unapproved]);
}

#[tokio::test]
async fn many_who_approve_at_once_agree() {
    let world = world().await;
    let [unit, lint, ..] = force(&world, "wip").await;
    let calls = (0..8).map(|n| approve(&world, OPERATE, if n % 2 == 0 { unit } else { lint }));
    let answers = futures::future::join_all(calls).await;
    assert!(answers.iter().all(|(status, _)| *status == StatusCode::OK), "{answers:?}");
    assert_eq!(states(&world, &[unit, lint]).await, [RequestState::Queued; 2]);
}

#[tokio::test]
async fn whoever_builds_something_once_more_has_approved_it() {
    let world = world().await;
    let file = world.folder.path().join("rouse.yaml");
    let config = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, config.replace("    approval: strangers\n", "    approval: all\n")).unwrap();
    world.call(ADMIN, Method::POST, "/config/reload", Some(json!({}))).await;
    let (status, made) = world.post("/builds/1/rebuild", json!({"reason": "flaky?"})).await;
    assert_eq!(status, StatusCode::CREATED, "{made}");
    let shown = world.get(&format!("/requests/{}", made["requests"][0]["id"])).await;
    assert_eq!((&shown["state"], &shown["approval"]["of"]), (&json!("queued"), &json!("all")));
    assert_eq!(
        (&shown["approval"]["by"], &shown["approval"]["reason"]),
        (&json!("api (token operate)"), &json!("flaky?"))
    );
}
