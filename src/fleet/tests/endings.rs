//! Workers that end for what others do: a changed configuration, and a death that their provider hints at.

use super::agents::Agents;
use super::stage::{Stage, play};
use rouse_model::BuildResult;
use rouse_model::worker::{CauseCode, Phase, Wanted, Worker};
use std::time::Duration;

/// The first of the pools is the builder's.
fn config(pools: &[(&str, &str)]) -> String {
    let all = |of: fn(&str, &str) -> String| {
        pools.iter().map(|(name, more)| of(name, more)).collect::<Vec<_>>().join(", ")
    };
    let advertise = all(|name, _| format!(r#"{name}: "127.0.0.1:1""#));
    let made =
        all(|name, more| format!("{name}: {{fake: {{{more}}}, max: 4, reuse: {{builds: 50, idle: 30m}}}}"));
    format!(
        r#"version: 1
server: {{agents: {{advertise: {{{advertise}}}}}}}
providers: {{cloud: {{fake: {{latency: 200ms}}}}, away: {{fake: {{}}}}}}
pools: {{{made}}}
builders:
  unit: {{pool: {first}, steps: [{{run: make}}]}}
"#,
        first = pools[0].0,
    )
}

const HERE: &str = r#"on: cloud, image: "debian:12""#;
const THERE: &str = r#"on: away, image: "debian:12""#;
const SLOWER: &str = r#"on: cloud, image: "debian:12", boot: 1s"#;

fn minute(agents: &mut Agents) {
    agents.lasts = Some(Duration::from_secs(60));
}

/// Two workers, one of which has a build for a minute to come; the idle one first.
async fn idle_and_busy(stage: &Stage) -> [Worker; 2] {
    let started = async |request| stage.until("it runs", async || stage.started_within(request).await).await;
    let (first, second) = (stage.wish("unit").await, stage.wish("unit").await);
    started(first).await;
    started(second).await;
    let done = async || (stage.ended_as(BuildResult::Success).await == 2).then_some(());
    stage.until("both are over", done).await;
    let third = stage.wish("unit").await;
    started(third).await;
    let leases = stage.ctx.store.leases().await.unwrap();
    let mut workers = stage.workers("one").await;
    workers.sort_by_key(|worker| leases.iter().any(|lease| lease.worker == worker.id));
    workers.try_into().expect("two workers")
}

async fn row(stage: &Stage, worker: &Worker) -> Worker {
    stage.ctx.store.worker(worker.id).await.unwrap().expect("it is kept")
}

/// The idle one goes at once, the busy one when its build is over; both for this.
async fn both_go(stage: &Stage, [idle, busy]: [Worker; 2], why: &str) {
    let gone = async |worker: &Worker| match row(stage, worker).await.phase {
        Phase::Gone { cause } => Some(cause),
        _ => None,
    };
    let cause = stage.within(Duration::from_secs(20), "the idle one goes", async || gone(&idle).await).await;
    assert_eq!((cause.code, cause.message.as_str()), (CauseCode::PoolChanged, why));
    let busy_now = row(stage, &busy).await;
    assert!(matches!(&busy_now.wanted, Wanted::Drain { cause } if cause.message == why), "{busy_now:#?}");
    let cause = stage.until("the busy one goes", async || gone(&busy).await).await;
    assert_eq!(cause.message, why);
    assert_eq!(stage.ended_as(BuildResult::Success).await, 3, "its build came to its end");
}

#[test]
fn a_pool_that_is_changed_or_removed_takes_its_workers_along_and_one_that_is_not_does_not() {
    for (then, why) in [
        (("one", SLOWER), "pool `one` was changed"),
        (("one", THERE), "pool `one` is not on `cloud` any more"),
        (("two", HERE), "pool `one` was removed"),
    ] {
        play(1, &config(&[("one", HERE)]), minute, async |stage| {
            let workers = idle_and_busy(stage).await;
            // Another one beside it is nothing to them.
            stage.reload(&config(&[("one", HERE), ("two", HERE)])).await;
            tokio::time::sleep(Duration::from_secs(20)).await;
            for worker in &workers {
                assert_eq!(row(stage, worker).await.wanted, Wanted::Run);
            }
            stage.reload(&config(&[then])).await;
            both_go(stage, workers, why).await;
        });
    }
}

#[test]
fn who_is_hinted_at_is_looked_at_at_once() {
    play(1, &config(&[("one", HERE)]), minute, async |stage| {
        let [_, busy] = idle_and_busy(stage).await;
        let since = stage.ctx.now();
        stage.die(&busy);
        let ends = async || (!matches!(row(stage, &busy).await.wanted, Wanted::Run)).then_some(());
        stage.until("it is noticed", ends).await;
        let after = stage.ctx.now().since(since);
        assert!(after <= Duration::from_secs(3), "{after:?}");
    });
}
