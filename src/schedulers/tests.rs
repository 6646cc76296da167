//! What is announced, of each kind of scheduler.

use super::announced;
use crate::api::tests::seed::{REVISION, ago};
use crate::api::tests::world::{ADMIN, CONFIG, NOW, World};
use crate::ctx::Announced;
use axum::http::{Method, StatusCode};
use rouse_model::buildset::SchedulerState;
use rouse_store::Batch;
use serde_json::json;
use std::time::Duration;

/// Beside those of the world: `push` has one buildset under way there, and `nightly` is far off.
const SCHEDULERS: &str = "
  quiet: {changes: {app: {branch: main}}, settle: 5m, builders: [unit]}
  hourly: {every: 1h, builders: [docs]}
  soon: {every: 5m, builders: [docs], codebases: {site: {branch: main}}}
  same: {every: 5m, only_if_changed: true, builders: [unit], codebases: {app: {branch: main}}}
  then: {after: push, builders: [unit]}
  mourn: {after: {push: failure}, builders: [docs]}
";

#[tokio::test]
async fn what_is_coming_is_said_before_it_comes() {
    let world = World::seeded().await;
    std::fs::write(world.folder.path().join("rouse.yaml"), format!("{CONFIG}{SCHEDULERS}")).unwrap();
    let (status, said) = world.call(ADMIN, Method::POST, "/config/reload", Some(json!({}))).await;
    assert_eq!(status, StatusCode::OK, "{said}");
    let mut batch = Batch::new("test.memory");
    let due = (NOW + Duration::from_secs(120)).0;
    for (scheduler, key, value) in [
        ("quiet", "settle/app/main", json!({"newest": 1, "sets": 2, "due": due})),
        ("hourly", "last", json!(ago(60).0)),
        ("soon", "last", json!(ago(60).0)),
        ("nightly", "last", json!(ago(60).0)),
    ] {
        batch.insert(&SchedulerState {
            scheduler: scheduler.into(),
            key: key.into(),
            value: value.to_string(),
            generation: 0,
        });
    }
    world.commit(batch).await;
    let all = announced(&world.ctx, &world.ctx.config(), Duration::from_secs(600)).await;
    let line = |Announced { wish, due, .. }: &Announced| {
        let stamps = wish.stamps.iter().map(|stamp| {
            let revision = stamp.revision.as_deref().map(|revision| &revision[..7]);
            format!(
                "{} {} {}",
                stamp.codebase,
                stamp.branch.as_deref().unwrap_or("-"),
                revision.unwrap_or("-")
            )
        });
        let due = due.map_or("then".to_owned(), |due| format!("in {} s", due.since(NOW).as_secs()));
        format!("{} {due}: {:?} of {:?}", wish.origin, wish.builders, stamps.collect::<Vec<_>>())
    };
    let revision = &REVISION[..7];
    assert_eq!(
        all.iter().map(line).collect::<Vec<_>>(),
        [
            format!("quiet/changes/1 in 120 s: [\"unit\"] of [\"app main {revision}\"]"),
            format!("soon/at/{} in 240 s: [\"docs\"] of [\"site main -\"]", (ago(60).0 / 1_000_000) + 300),
            format!("then/after/2 then: [\"unit\"] of [\"app main {revision}\"]"),
        ]
    );
}
