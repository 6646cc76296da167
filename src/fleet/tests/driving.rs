//! What the driver of a worker makes of answers that do not come, of agents that fall silent, and of words of its provider.

use super::agents::Agents;
use super::lone::Lone;
use super::stage::{Stage, play};
use rouse_model::failure::FailureClass;
use rouse_model::worker::{Cause, CauseCode, LaunchToken, Link, Phase, Wanted, Worker, WorkerEvent};
use rouse_model::{BuildResult, Timestamp};
use rouse_provider_fake::{Fault, on};
use rouse_store::Batch;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

const CONFIG: &str = r#"version: 1
server: {agents: {advertise: {p: "127.0.0.1:1", used: "127.0.0.1:1"}}}
providers: {cloud: {fake: {latency: 200ms}}}
pools:
  p: {fake: {on: cloud, image: "debian:12"}, deadlines: {launch: 1m}}
  used: {fake: {on: cloud, image: "debian:12"}, max: 3, reuse: {builds: 50, idle: 2h}}
builders:
  unit: {pool: p, steps: [{run: make}]}
  again: {pool: used, steps: [{run: make}]}
"#;

fn seconds(of: u64) -> Duration {
    Duration::from_secs(of)
}

async fn first_gone(stage: &Stage, pool: &str) -> Worker {
    stage
        .until("the first one is gone", async || {
            let first = stage.workers(pool).await.into_iter().next()?;
            first.gone.is_some().then_some(first)
        })
        .await
}

#[test]
fn a_launch_of_which_nobody_knows_what_came_is_asked_for_again() {
    play(
        1,
        CONFIG,
        |_| {},
        async |stage| {
            for fault in [Fault::Broken, Fault::Throttled] {
                let before = stage.workers("p").await.len();
                stage.cloud.script(|script| (0..3).for_each(|_| script.plan(on::LAUNCH, fault)));
                stage.build("unit").await;
                assert_eq!(stage.workers("p").await.len(), before + 1, "{fault:?}: it is the same one");
            }
        },
    );
}

#[test]
fn a_launch_that_is_never_answered_has_the_time_that_its_pool_gives_it() {
    for (fault, class) in [(Fault::Throttled, FailureClass::Throttle), (Fault::Broken, FailureClass::Boot)] {
        let all: fn(&mut rouse_testkit::chance::Dice) -> Fault = match fault {
            Fault::Throttled => |_| Fault::Throttled,
            _ => |_| Fault::Broken,
        };
        play(
            1,
            CONFIG,
            |_| {},
            async |stage| {
                stage.cloud.script(|script| script.draw(on::LAUNCH, 100, all));
                stage.wish("unit").await;
                let gone = first_gone(stage, "p").await;
                let cause = gone.cause().expect("it ended");
                assert_eq!((cause.code, cause.class), (CauseCode::LaunchRefused, Some(class)));
                let after = gone.gone.unwrap().since(gone.requested).as_secs();
                assert!((60..75).contains(&after), "{fault:?}: after {after} s");
            },
        );
    }
}

#[tokio::test(start_paused = true)]
async fn what_a_master_cannot_make_sense_of_another_one_may() {
    let lone = Lone::of(CONFIG).await;
    let phase = Phase::Requested { token: LaunchToken("t".into()) };
    let worker = Worker { spec: "nonsense".into(), phase, ..lone.worker(1, "p", "cloud") };
    lone.insert(&[&worker]).await;
    let stop = CancellationToken::new();
    lone.fleet.ensure_driver(&worker, &stop);
    tokio::time::sleep(seconds(50)).await;
    let row = lone.worker_row(worker.id).await;
    assert!(matches!(row.phase, Phase::Launching { .. }) && row.wanted == Wanted::Run, "{row:#?}");
    tokio::time::sleep(seconds(20)).await;
    let row = lone.worker_row(worker.id).await;
    let cause = row.cause().expect("its time is over");
    assert!(cause.message.contains("read the worker's launch spec"), "{cause:?}");
    stop.cancel();
}

/// So many idle workers.
async fn idle(stage: &Stage, count: usize) -> Vec<Worker> {
    for _ in 0..count {
        stage.wish("again").await;
    }
    let done = async || (stage.ended_as(BuildResult::Success).await == count).then_some(());
    stage.until("all are over", done).await;
    let workers = stage.workers("used").await;
    assert_eq!(workers.len(), count);
    workers
}

async fn row(stage: &Stage, worker: &Worker) -> Worker {
    stage.ctx.store.worker(worker.id).await.unwrap().expect("it is kept")
}

#[test]
fn an_agent_may_be_silent_for_its_time_of_grace() {
    play(
        1,
        CONFIG,
        |_| {},
        async |stage| {
            let [worker] = idle(stage, 1).await.try_into().expect("one");
            let Link::Attached { session, .. } = row(stage, &worker).await.link else { panic!("it speaks") };
            // Its connection is lost, and does not come back.
            let event = WorkerEvent::Detached { session };
            crate::workers::apply(&stage.ctx, worker.id, "test.silent", &event, |_, _| {}).await.unwrap();
            let since = stage.ctx.now();
            let ends = async || (row(stage, &worker).await.wanted != Wanted::Run).then(|| stage.ctx.now());
            let after = stage.until("it is lost", ends).await.since(since).as_secs();
            assert!((60..72).contains(&after), "after {after} s");
        },
    );
}

#[test]
fn a_worker_ends_at_the_end_of_its_life_and_not_some_time_after() {
    play(
        1,
        CONFIG,
        |_| {},
        async |stage| {
            let [worker] = idle(stage, 1).await.try_into().expect("one");
            let expires: Timestamp = worker.attached.unwrap() + Duration::from_millis(95_500);
            let mut row_now = row(stage, &worker).await;
            row_now.expires = expires;
            let mut batch = Batch::new("test.expires");
            batch.update(&mut row_now);
            stage.ctx.store.commit(batch).await.unwrap();
            let ends = async || (row(stage, &worker).await.wanted != Wanted::Run).then(|| stage.ctx.now());
            let at = stage.until("it ends", ends).await;
            assert!(at >= expires && at.since(expires) <= seconds(2), "{:?} late", at.since(expires));
            let gone = first_gone(stage, "used").await;
            assert_eq!(gone.cause().map(|cause| cause.code), Some(CauseCode::Age));
        },
    );
}

#[test]
fn a_provider_that_says_that_one_has_ended_is_heard_at_once() {
    let haunted = |agents: &mut Agents| agents.speak_on = true;
    play(1, CONFIG, haunted, async |stage| {
        // Each list would show it too; but no three of them in a row come so soon.
        for worker in idle(stage, 3).await {
            let since = stage.ctx.now();
            stage.die(&worker);
            let ends = async || {
                let row = row(stage, &worker).await;
                (!matches!(row.phase, Phase::Up { .. })).then_some(())
            };
            stage.until("it is noticed", ends).await;
            let after = stage.ctx.now().since(since);
            assert!(after <= seconds(2), "{after:?}");
            tokio::time::sleep(Duration::from_millis(3_300)).await;
        }
    });
}

#[test]
fn what_an_account_has_is_looked_at_though_nobody_wants_anything_of_it() {
    play(
        1,
        CONFIG,
        |_| {},
        async |stage| {
            let listed = async || (stage.cloud.calls(on::LIST).0 > 1).then_some(());
            stage.within(seconds(30), "it is listed", listed).await;
            assert_eq!(stage.cloud.calls(on::LAUNCH).0, 0);
        },
    );
}

#[test]
fn nothing_is_idle_while_it_is_found_out_what_somebody_wants() {
    let config = CONFIG.replace("idle: 2h", "idle: 10s");
    play(
        1,
        &config,
        |_| {},
        async |stage| {
            let [worker] = idle(stage, 1).await.try_into().expect("one");
            // What it wants is what that one is, which is known in half a minute.
            stage.cloud.script(|script| script.plan(on::RESOLVE, Fault::Late(seconds(30))));
            stage.build("again").await;
            assert_eq!(stage.workers("used").await.len(), 1);
            assert_eq!(row(stage, &worker).await.builds_done, 2);
        },
    );
}

#[test]
fn what_ends_as_one_thing_says_nothing_of_another() {
    let config = CONFIG
        .replace(r#"p: {fake: {on: cloud, image: "debian:12"}"#, r#"p: {fake: {on: cloud, image: "debian:12", offers: [{types: [{name: a, price: 1 USD/h}, {name: b, price: 2 USD/h}]}]}"#);
    let (minute, haunted) = (seconds(60), |agents: &mut Agents| agents.speak_on = true);
    play(1, &config, haunted, async |stage| {
        stage.cloud.stock("a", Some(0));
        // Until it is let alone for minutes.
        for _ in 0..9 {
            stage.build("unit").await;
            stage.wait_for(stage.ctx.now() + minute).await;
        }
        let request = stage.wish("unit").await;
        stage.until("it runs", async || stage.started_within(request).await).await;
        let (before, workers) = (stage.cloud.calls(on::LAUNCH).0, stage.workers("p").await);
        let ran = workers.last().expect("it has a worker");
        assert_eq!(ran.offering.as_deref(), Some("b"));
        stage.die(ran);
        let another =
            async || stage.workers("p").await.pop().filter(|one| one.id != ran.id && one.attached.is_some());
        stage.until("it runs on another one", another).await;
        assert_eq!(stage.cloud.calls(on::LAUNCH).0 - before, 1, "the other thing was not asked for again");
    });
}

#[test]
fn a_driver_hears_of_what_others_have_decided() {
    play(
        1,
        CONFIG,
        |_| {},
        async |stage| {
            let [worker] = idle(stage, 1).await.try_into().expect("one");
            // It has been looked at a moment ago, and will not be for a minute.
            let mut judged = row(stage, &worker).await;
            let cause = Cause::new(CauseCode::Operator, None, "another master was told to");
            judged.wanted = Wanted::End { cause };
            let mut batch = Batch::new("test.end");
            batch.update(&mut judged);
            stage.ctx.store.commit(batch).await.unwrap();
            let gone = async || row(stage, &worker).await.gone;
            stage.within(seconds(5), "it ends", gone).await;
        },
    );
}
