//! Builds that wait for builds that they have started: their workers take no room, up to the pool's own cap for them.

use super::stage::{Stage, play};
use crate::explain::{ReasonCode, decision};
use rouse_model::BuildResult;
use rouse_model::build::waiting_workers;
use rouse_model::buildset::RequestState;
use rouse_model::decision::DecisionCode;
use rouse_store::Page;
use rouse_store::reads::BuildFilter;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

fn config(max: usize, waiting: usize) -> String {
    format!(
        r#"version: 1
server: {{agents: {{advertise: {{one: "127.0.0.1:1"}}}}}}
providers:
  cloud: {{fake: {{latency: 200ms}}}}
pools:
  one: {{fake: {{on: cloud, image: "debian:12", boot: 20s}}, max: {max}, waiting: {waiting}, reuse: {{builds: 5, idle: 30s}}}}
builders:
  top: {{steps: [{{run: make}}, {{trigger: middle}}, {{run: make}}]}}
  middle: {{steps: [{{trigger: {{builder: leaf, each: {{n: [1, 2, 3]}}}}}}]}}
  leaf: {{steps: [{{run: make}}]}}
"#
    )
}

/// How many workers are there, and how many of them only wait.
async fn count(stage: &Stage) -> (usize, usize) {
    let store = &stage.ctx.store;
    let live = store.live_workers().await.unwrap().len();
    let leases = store.leases().await.unwrap();
    (live, waiting_workers(&leases, &store.waiting_builds().await.unwrap()).len())
}

#[test]
fn workers_that_wait_leave_room_up_to_their_cap_and_explain_says_so() {
    play(
        21,
        &config(1, 1),
        |_| {},
        async |stage| {
            let top = stage.wish("top").await;
            // The top waits beside the maximum; the middle waits, too, and there is no room for a second one of those.
            let leaf = stage
                .until("a leaf to be asked for", async || {
                    let queue = stage.ctx.store.queue(10).await.unwrap();
                    queue.into_iter().find(|request| request.builder == "leaf")
                })
                .await;
            let said = stage.says(leaf.id, ReasonCode::PoolFull).await;
            assert!(
                said.contains("maximum of 1 worker ") && said.contains("1 worker waits for builds"),
                "{said}"
            );
            let full = stage.decided("one", DecisionCode::PoolFull).await;
            let said = decision::sentence(&full);
            assert!(said.ends_with("; 1 worker waits for builds that it started, not counted"), "{said}");
            assert_eq!(count(stage).await, (2, 2));

            stage.reload(&config(1, 2)).await;
            let mut most = 0;
            let done = stage
                .until("all to end", async || {
                    let (live, waiting) = count(stage).await;
                    most = most.max(live);
                    assert!(live <= 1 + 2, "{live} workers, {waiting} of which wait");
                    let top = stage.ctx.store.request(top).await.unwrap().unwrap();
                    (top.state == RequestState::Done).then_some(top)
                })
                .await;
            assert_eq!((done.result, most), (Some(BuildResult::Success), 3));
        },
    );
}

#[test]
fn what_is_waited_for_goes_before_new_builds_that_would_wait_too() {
    play(
        22,
        &config(2, 1),
        |_| {},
        async |stage| {
            let mut all = Vec::new();
            for _ in 0..6 {
                all.push(stage.wish("middle").await);
            }
            for asked in all {
                let done = stage
                    .until("each to end", async || {
                        let row = stage.ctx.store.request(asked).await.unwrap().unwrap();
                        (row.state == RequestState::Done).then_some(row)
                    })
                    .await;
                assert_eq!(done.result, Some(BuildResult::Success));
            }
        },
    );
}

#[test]
fn what_a_build_will_start_finds_its_machine_up_once_such_builds_are_known() {
    let config = r#"version: 1
server: {agents: {advertise: {lead: "127.0.0.1:1", rear: "127.0.0.1:1"}}}
providers:
  cloud: {fake: {latency: 200ms}}
pools:
  lead: {fake: {on: cloud, image: "debian:12", boot: 20s}}
  rear: {fake: {on: cloud, image: "debian:12", boot: 60s}}
builders:
  lead: {pool: lead, steps: [{run: make}, {trigger: rear}]}
  rear: {pool: rear, steps: [{run: make}]}
"#;
    let lasts = Some(Duration::from_secs(120));
    let waited = play(
        23,
        config,
        |agents| agents.lasts = lasts,
        async |stage| {
            let stop = CancellationToken::new();
            tokio::spawn(crate::schedulers::run(Arc::clone(&stage.ctx), stop.clone()));
            for _ in 0..6 {
                stage.build("lead").await;
            }
            stop.cancel();
            let filter = BuildFilter { builder: Some("rear".into()), ..BuildFilter::default() };
            let mut builds = stage.ctx.store.builds(&filter, Page { before: None, limit: 50 }).await.unwrap();
            builds.reverse();
            builds.iter().map(|build| build.matched.since(build.requested).as_secs()).collect::<Vec<_>>()
        },
    );
    eprintln!("seconds that each waited for its machine: {waited:?}");
    assert!(waited.len() == 6 && waited[0] >= 60, "{waited:?}");
    assert!(waited[5] <= 10, "{waited:?}");
}
