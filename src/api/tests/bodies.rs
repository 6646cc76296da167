//! What is answered, word for word: a change here is a change of the API.

use super::seed::{LOG, LOG_TEXT};
use super::world::{OPERATE, OPERATE_SHOP, READ, SHOP, World, request};
use axum::http::{Method, StatusCode};
use serde_json::Value;

/// All plain reads, with one of each kind.
const READS: [(&str, &str); 41] = [
    ("master", "/master"),
    ("projects", "/projects"),
    ("codebases", "/codebases"),
    ("codebase", "/codebases/app"),
    ("changes", "/changes"),
    ("change", "/changes/1"),
    ("change_sets", "/change-sets?codebase=app"),
    ("change_set", "/change-sets/1"),
    ("builders", "/builders"),
    ("builder", "/builders/unit"),
    ("schedulers", "/schedulers"),
    ("scheduler", "/schedulers/release"),
    ("buildsets", "/buildsets?scheduler=push"),
    ("buildset", "/buildsets/1"),
    ("requests", "/requests?state=queued"),
    ("request", "/requests/1"),
    ("explain", "/requests/3/explain"),
    ("locks", "/locks"),
    ("builds", "/builds"),
    ("build", "/builds/1"),
    ("build_steps", "/builds/1/steps"),
    ("build_logs", "/builds/1/logs"),
    ("build_artifacts", "/builds/1/artifacts"),
    ("build_tests", "/builds/1/tests"),
    ("builder_tests", "/builders/unit/tests?suite=words&test=counts"),
    ("step", "/steps/2"),
    ("log", "/logs/2"),
    ("lines", "/logs/2/lines?from=1&limit=2"),
    ("artifact", "/artifacts/1"),
    ("caches", "/caches"),
    ("machines", "/machines"),
    ("workers", "/workers?live=true"),
    ("worker", "/workers/here-7f3k1"),
    ("worker_explain", "/workers/here-7f3k1/explain"),
    ("pools", "/pools"),
    ("pool", "/pools/here"),
    ("pool_grants", "/pools/here/grants"),
    ("pool_explain", "/pools/here/explain?limit=2"),
    ("events", "/events/list?subject=worker/1&kind=worker_link,worker_wanted"),
    ("revisions", "/config/revisions"),
    ("config_diff", "/config/diff?from=1"),
];

/// What is random in each installation.
fn settled(mut body: Value, world: &World) -> Value {
    if let Some(installation) = body.get_mut("installation") {
        assert_eq!(installation, &world.ctx.store.facts().installation);
        *installation = "INSTALLATION".into();
    }
    body
}

#[tokio::test]
async fn every_read_answers_as_it_is_written_down() {
    let world = World::seeded().await;
    for (name, path) in READS {
        let body = settled(world.get(path).await, &world);
        insta::assert_json_snapshot!(name, body);
    }
}

#[tokio::test]
async fn every_read_of_the_document_is_among_them() {
    let document = crate::api::openapi();
    let templates: Vec<&str> = READS.iter().map(|(_, path)| path.split('?').next().unwrap()).collect();
    let streams = [
        "/events",
        "/events/ws",
        "/logs/{id}/follow",
        "/logs/{id}/raw",
        "/logs/{id}/plain",
        "/artifacts/{id}/content",
    ];
    for (path, item) in &document.paths.paths {
        let Some(path) = path.strip_prefix(crate::api::BASE) else { continue };
        let elsewhere = ["/openapi.json", "/tokens", "/secrets", "/config", "/config/revisions/{id}"]
            .contains(&path)
            || streams.contains(&path);
        if item.get.is_none() || elsewhere {
            continue;
        }
        let shape = |concrete: &str| {
            let (a, b): (Vec<&str>, Vec<&str>) = (concrete.split('/').collect(), path.split('/').collect());
            a.len() == b.len() && a.iter().zip(&b).all(|(a, b)| a == b || b.starts_with('{'))
        };
        assert!(templates.iter().any(|t| shape(t)), "GET {path} has no kept answer");
    }
}

#[tokio::test]
async fn a_log_is_read_as_it_came_and_as_text() {
    let world = World::seeded().await;
    assert_eq!(world.get("/logs/2/raw").await, LOG_TEXT);
    assert_eq!(
        world.get("/logs/2/plain").await,
        "running 14 tests\nwords_test.sh:12: expected 3, got 4\nprogress 2\n1 of 14 failed\n"
    );
    assert_eq!(world.get("/logs/2/raw?from=84").await, LOG_TEXT[84..]);
    let lines = world.get("/logs/2/lines?from=-1").await;
    assert_eq!(lines["lines"][0]["text"], "1 of 14 failed");
    assert_eq!((&lines["lines"][0]["n"], &lines["end"]), (&3.into(), &true.into()));
    assert_eq!(LOG.0, 2);
}

#[tokio::test]
async fn pages_are_walked_by_key_and_miss_nothing() {
    let world = World::seeded().await;
    let mut seen = Vec::new();
    let mut path = "/requests?limit=2".to_owned();
    loop {
        let page = world.get(&path).await;
        seen.extend(page["items"].as_array().unwrap().iter().map(|r| r["id"].as_i64().unwrap()));
        let Some(next) = page["next"].as_i64() else { break };
        path = format!("/requests?limit=2&before={next}");
    }
    assert_eq!(seen, [3, 2, 1]);
    // A page that is just full cannot know that nothing follows.
    assert_eq!(world.get("/requests?limit=3").await["next"], 1);
    assert_eq!(world.get("/requests?limit=3&before=1").await["items"].as_array().unwrap().len(), 0);
}

#[tokio::test]
async fn a_token_of_one_project_sees_no_other() {
    let world = World::seeded().await;
    let get = async |path: &str| world.call(SHOP, Method::GET, path, None).await;
    let ids = |body: &Value| -> Vec<i64> {
        body["items"].as_array().unwrap().iter().filter_map(|item| item["id"].as_i64()).collect()
    };
    assert_eq!(ids(&get("/requests").await.1), [2, 1]);
    assert_eq!(ids(&get("/requests?project=default").await.1), [2, 1]);
    assert_eq!(ids(&get("/buildsets").await.1), [2, 1]);
    assert_eq!(ids(&get("/workers").await.1), [2, 1]);
    let builders = get("/builders").await.1;
    assert_eq!(builders["items"].as_array().unwrap().len(), 1);
    for path in [
        "/requests/3",
        "/requests/3/explain",
        "/buildsets/3",
        "/workers/3",
        "/builders/docs",
        "/codebases/site",
    ] {
        assert_eq!(get(path).await.0, StatusCode::NOT_FOUND, "{path}");
    }
    for path in ["/config", "/config/revisions", "/config/revisions/1", "/config/diff?from=1"] {
        assert_eq!(get(path).await.0, StatusCode::FORBIDDEN, "{path}");
    }
}

#[tokio::test]
async fn what_the_master_keeps_for_itself_is_shown_to_nobody() {
    let world = World::seeded().await;
    for path in ["/artifacts/2", "/artifacts/2/content"] {
        let (status, body) = world.call(OPERATE, Method::GET, path, None).await;
        assert_eq!(status, StatusCode::NOT_FOUND, "{path}: {body}");
    }
}

#[tokio::test]
async fn that_a_secret_exists_is_seen_by_those_who_may_start_what_it_is_for() {
    let world = World::seeded().await;
    let (status, body) = world.call(SHOP, Method::GET, "/secrets", None).await;
    assert_eq!((status, &body["error"]["code"]), (StatusCode::FORBIDDEN, &"forbidden".into()));
    let secret = |name: &str, source: &str, builders: &[&str], projects: &[&str], used_by: &[&str]| serde_json::json!({"name": name, "source": source, "builders": builders, "projects": projects, "used_by": used_by});
    let all = world.call(OPERATE, Method::GET, "/secrets", None).await.1;
    let expected = [
        secret("deploy", "file", &[], &[], &[]),
        secret("signing", "env", &["unit", "docs"], &[], &[]),
        secret("site", "credential", &[], &["default"], &["docs"]),
    ];
    assert_eq!(all["items"], serde_json::json!(expected));
    let of_shop = world.call(OPERATE_SHOP, Method::GET, "/secrets", None).await.1;
    let expected = [secret("deploy", "file", &[], &[], &[]), secret("signing", "env", &["unit"], &[], &[])];
    assert_eq!(of_shop["items"], serde_json::json!(expected));
}

#[tokio::test]
async fn the_three_open_doors_need_no_token() {
    let world = World::seeded().await;
    for path in ["/livez", "/readyz", "/openapi.json"] {
        let response = world.send(request("", Method::GET, path, None)).await;
        assert_eq!(response.status(), StatusCode::OK, "{path}");
    }
    world.stopping.cancel();
    let response = world.send(request(READ, Method::GET, "/readyz", None)).await;
    assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
}
