//! Workers that are stopped instead of ended, on a whole fleet in simulated time.

use super::stage::{Stage, World, play};
use crate::budgets::{Ledger, spent};
use crate::explain::{WorkerCode, decision};
use rouse_model::Timestamp;
use rouse_model::decision::DecisionCode;
use rouse_model::money::Money;
use rouse_model::worker::{CauseCode, Phase, Worker};
use rouse_provider_fake::{Fault, on};
use rouse_store::Page;
use std::time::Duration;

const CONFIG: &str = r#"version: 1
server: {agents: {advertise: {cloud: "127.0.0.1:1"}}}
providers: {there: {fake: {latency: 200ms}}}
pools:
  cloud:
    fake: {on: there, image: "debian:12", boot: 90s, resume: 8s}
    max: 3
    reuse: {builds: 5, idle: 30s}
    park: {keep: 2, for: 2h}
builders:
  unit: {pool: cloud, steps: [{run: make}]}
"#;

/// The workers of the pool that lie parked.
async fn lying(stage: &Stage) -> Vec<Worker> {
    let workers = stage.workers("cloud").await.into_iter();
    workers.filter(|worker| matches!(worker.phase, Phase::Parked { .. })).collect()
}

async fn newest(stage: &Stage) -> Option<Worker> {
    stage.workers("cloud").await.pop()
}

async fn until_parked(stage: &Stage, count: usize) {
    stage.until("workers are parked", async || (lying(stage).await.len() == count).then_some(())).await;
}

/// So long after the last build that nobody expects another one.
async fn until_quiet(stage: &Stage) {
    until_parked(stage, 1).await;
    stage.wait_for(stage.ctx.now() + Duration::from_secs(3600)).await;
}

/// It has built once, and lies.
async fn until_it_lies(stage: &Stage) {
    stage.build("unit").await;
    until_quiet(stage).await;
}

async fn until_started(stage: &Stage, request: rouse_model::RequestId) -> Duration {
    stage.until("its build began", async || stage.started_within(request).await).await
}

#[test]
fn an_idle_worker_is_parked_and_resumed_sooner_than_another_would_boot() {
    play(
        1,
        CONFIG,
        |_| {},
        async |stage| {
            let first = stage.wish("unit").await;
            let boot = until_started(stage, first).await;
            assert!(boot > Duration::from_secs(80), "{boot:?}");
            stage.worker_says("cloud", WorkerCode::Parked).await;
            stage.decided("cloud", DecisionCode::Park).await;
            until_parked(stage, 1).await;
            assert_eq!(stage.cloud.parked(), 1);
            until_quiet(stage).await;
            let again = stage.wish("unit").await;
            stage.worker_says("cloud", WorkerCode::Coming).await;
            let resumed = until_started(stage, again).await;
            eprintln!("booted in {boot:?}, resumed in {resumed:?}");
            assert!(resumed < Duration::from_secs(20), "{resumed:?}");
            let decisions = stage.ctx.store.decisions("cloud", Page::default()).await.unwrap();
            let decision = decisions.iter().find(|one| one.code == DecisionCode::Resume).expect("it is kept");
            eprintln!("{}", decision::sentence(decision));
            let workers = stage.workers("cloud").await;
            let [worker] = workers.as_slice() else { panic!("nothing else was launched: {workers:#?}") };
            assert_eq!((worker.resumes, worker.builds_done), (1, 2));
            // What was learned of the first is not believed of the second.
            let took = worker.resume_took.expect("it came back");
            assert!(
                took < Duration::from_secs(15) && worker.attached.unwrap().since(worker.requested) > took
            );
            until_parked(stage, 1).await;
        },
    );
}

#[test]
fn no_more_are_parked_than_are_to_be_kept_and_none_for_longer() {
    play(
        2,
        CONFIG,
        |_| {},
        async |stage| {
            for _ in 0..3 {
                stage.wish("unit").await;
            }
            until_parked(stage, 2).await;
            let ended = async || {
                let workers = stage.workers("cloud").await;
                let ended = workers.into_iter().find(|worker| worker.gone.is_some())?;
                ended.cause().map(|cause| cause.code)
            };
            assert_eq!(stage.until("the third one ends", ended).await, CauseCode::Idle);
            let parked = stage.ctx.now();
            stage.wait_for(parked + Duration::from_secs(7000)).await;
            assert_eq!(lying(stage).await.len(), 2);
            stage.wait_for(parked + Duration::from_secs(7300)).await;
            let live = stage.ctx.store.live_workers().await.unwrap();
            assert_eq!((live, stage.cloud.leftovers()), (vec![], vec![]));
        },
    );
}

#[test]
fn one_that_does_not_come_back_is_ended_and_another_is_launched() {
    for fault in [Fault::Mute, Fault::Dies] {
        play(
            3,
            CONFIG,
            |_| {},
            async |stage| {
                until_it_lies(stage).await;
                stage.next_instance(fault);
                stage.build("unit").await;
                let workers = stage.workers("cloud").await;
                let [lost, _] = workers.as_slice() else { panic!("{fault:?}: {workers:#?}") };
                let code = lost.cause().expect("it ends").code;
                let expected = if fault == Fault::Mute { CauseCode::ResumeFailed } else { CauseCode::Died };
                assert_eq!(code, expected, "{fault:?}: {lost:#?}");
            },
        );
    }
}

#[test]
fn a_reply_that_is_lost_is_asked_for_again() {
    for fault in [Fault::Unanswered, Fault::Unheard, Fault::Broken, Fault::Throttled] {
        play(
            4,
            CONFIG,
            |_| {},
            async |stage| {
                stage.cloud.script(|script| script.plan(on::PARK, fault));
                until_it_lies(stage).await;
                stage.cloud.script(|script| script.plan(on::RESUME, fault));
                let again = stage.wish("unit").await;
                until_started(stage, again).await;
                let workers = stage.workers("cloud").await;
                // Who is heard of no more after two minutes has had its time.
                let most = if matches!(fault, Fault::Unheard | Fault::Unanswered) { 2 } else { 1 };
                assert!(workers.len() <= most, "{fault:?}: {workers:#?}");
            },
        );
    }
}

#[test]
fn a_master_that_dies_half_way_is_followed_by_one_that_goes_on() {
    let world = World::of(5, CONFIG);
    // Its answer comes after the master's end.
    world.life(
        |_| {},
        async |stage| {
            stage.cloud.script(|script| script.plan(on::PARK, Fault::Unanswered));
            stage.build("unit").await;
            let parking = async || newest(stage).await.filter(|w| matches!(w.phase, Phase::Parking { .. }));
            stage.until("it is being parked", parking).await;
        },
    );
    world.life(
        |_| {},
        async |stage| {
            until_quiet(stage).await;
            stage.cloud.script(|script| script.plan(on::RESUME, Fault::Unheard));
            stage.wish("unit").await;
            let resuming = async || newest(stage).await.filter(|w| matches!(w.phase, Phase::Resuming { .. }));
            stage.until("it is being resumed", resuming).await;
        },
    );
    world.life(
        |_| {},
        async |stage| {
            let done = async || newest(stage).await.filter(|w| w.builds_done == 2);
            let worker = stage.until("its second build is over", done).await;
            assert_eq!((worker.resumes, stage.workers("cloud").await.len()), (1, 1));
        },
    );
}

const DEAR: &str = r#"version: 1
server: {agents: {advertise: {cloud: "127.0.0.1:1"}}}
providers: {there: {fake: {latency: 200ms}}}
pools:
  cloud:
    fake: {on: there, image: "debian:12", boot: 20s, resume: 4s}
    max: 3
    price: 6 USD/h
    budget: {limits: 2 USD/h, build: 1m}
    reuse: {builds: 9, idle: 10s}
    park: {keep: 1, price: 0.60 USD/h, for: 1h}
builders:
  unit: {pool: cloud, steps: [{run: make}]}
"#;

#[test]
fn a_parked_worker_costs_less_and_a_budget_holds() {
    play(
        6,
        DEAR,
        |_| {},
        async |stage| {
            let most = Money(2_000_000);
            stage.build("unit").await;
            until_parked(stage, 1).await;
            let from = stage.ctx.now();
            super::money::watch(stage, from + Duration::from_secs(1200), most).await;
            let worker = newest(stage).await.unwrap();
            let whole = worker.price.over(stage.ctx.now().since(worker.accepted.unwrap()));
            let active = stage.ctx.config();
            let pool = &active.config.pools["cloud"];
            let now = spent(&stage.ctx.store, &Ledger::default(), "cloud", pool, &[&worker], stage.ctx.now())
                .await
                .unwrap();
            let spared = whole - now[0].spent;
            // Twenty minutes of 5.40 an hour.
            assert!((Money(1_750_000)..=Money(1_850_000)).contains(&spared), "{spared} of {whole}");
            stage.build("unit").await;
            until_parked(stage, 1).await;
            let worker = newest(stage).await.unwrap();
            assert_eq!((worker.resumes, stage.workers("cloud").await.len()), (1, 1));
            super::money::watch(stage, stage.ctx.now() + Duration::from_secs(4000), most).await;
            let gone = newest(stage).await.unwrap();
            assert!(gone.gone.is_some(), "its time is over: {gone:#?}");
            let cost = stage
                .ctx
                .store
                .cost_of_gone("cloud", Timestamp(0), (Timestamp(0), Timestamp(i64::MAX)))
                .await;
            let whole = gone.price.over(gone.gone.unwrap().since(gone.accepted.unwrap()));
            let (cost, most) = (cost.unwrap(), Money(whole.0 / 5));
            assert!(cost < most, "{cost} of {whole}");
        },
    );
}
