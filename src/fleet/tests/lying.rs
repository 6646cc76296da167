//! Workers that cannot be stopped or started again, and what is true of one that lies.

use super::lone::Lone;
use super::stage::{Stage, play};
use super::sweeps::{account, launched};
use crate::fleet::deadlines::Moments;
use crate::fleet::driver::Step;
use crate::fleet::{inspecting, parking};
use rouse_model::money::Price;
use rouse_model::worker::{CauseCode, Link, Phase, ProviderRef, Wanted, Worker};
use rouse_provider_fake::{Fault, on};
use rouse_store::Batch;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

const CONFIG: &str = r#"version: 1
server: {agents: {advertise: {cloud: "127.0.0.1:1", free: "127.0.0.1:1"}}}
providers: {there: {fake: {latency: 200ms}}}
pools:
  cloud:
    fake: {on: there, image: "debian:12", boot: 20s, resume: 4s}
    max: 3
    price: 6 USD/h
    reuse: {builds: 9, idle: 10s}
    park: {keep: 1, price: 0.60 USD/h, for: 1h}
  free:
    fake: {on: there, image: "debian:12", boot: 20s, resume: 4s}
    reuse: {builds: 9, idle: 10s}
    park: {keep: 1, for: 1h}
builders:
  unit: {pool: cloud, steps: [{run: make}]}
  free: {pool: free, steps: [{run: make}]}
"#;

fn seconds(of: u64) -> Duration {
    Duration::from_secs(of)
}

/// A pool's first worker, once this is true of it.
async fn first(stage: &Stage, pool: &str, is: impl Fn(&Worker) -> bool) -> Worker {
    let found = async || stage.workers(pool).await.into_iter().next().filter(|worker| is(worker));
    stage.within(seconds(2_000), "a worker is as it is waited for", found).await
}

fn lies(worker: &Worker) -> bool {
    matches!(worker.phase, Phase::Parked { .. })
}

fn code(worker: &Worker) -> Option<CauseCode> {
    worker.cause().map(|cause| cause.code)
}

#[test]
fn one_that_cannot_be_stopped_is_ended_after_a_while() {
    play(
        1,
        CONFIG,
        |_| {},
        async |stage| {
            stage.cloud.script(|script| script.draw(on::PARK, 100, |_| Fault::Throttled));
            stage.build("unit").await;
            let parking = first(stage, "cloud", |worker| matches!(worker.phase, Phase::Parking { .. })).await;
            let ended = first(stage, "cloud", |worker| worker.gone.is_some()).await;
            assert_eq!(code(&ended), Some(CauseCode::ParkFailed));
            let after = ended.gone.unwrap().since(parking.parked_since().unwrap()).as_secs();
            assert!((600..700).contains(&after), "after {after} s");
        },
    );
}

#[test]
fn one_that_lies_at_the_end_of_its_life_ends() {
    play(
        1,
        CONFIG,
        |_| {},
        async |stage| {
            stage.build("unit").await;
            let mut lying = first(stage, "cloud", lies).await;
            let expires = stage.ctx.now() + Duration::from_millis(95_500);
            lying.expires = expires;
            let mut batch = Batch::new("test.expires");
            batch.update(&mut lying);
            stage.ctx.store.commit(batch).await.unwrap();
            let ended = first(stage, "cloud", |worker| worker.gone.is_some()).await;
            assert_eq!(code(&ended), Some(CauseCode::Age), "{ended:#?}");
            let late = ended.gone.unwrap().since(expires);
            assert!(ended.gone.unwrap() >= expires && late <= seconds(3), "{late:?} late");
        },
    );
}

#[test]
fn one_that_cannot_be_started_again_is_given_up_like_one_that_does_not_come() {
    play(
        1,
        CONFIG,
        |_| {},
        async |stage| {
            stage.build("unit").await;
            first(stage, "cloud", lies).await;
            stage.cloud.script(|script| script.draw(on::RESUME, 100, |_| Fault::Throttled));
            let since = stage.ctx.now();
            stage.build("unit").await;
            let lost = first(stage, "cloud", |worker| worker.gone.is_some()).await;
            assert_eq!(code(&lost), Some(CauseCode::ResumeFailed));
            assert_eq!(lost.resumes, 1);
            let after = lost.gone.unwrap().since(since).as_secs();
            assert!((120..140).contains(&after), "it has the time of a boot: {after} s");
        },
    );
}

#[test]
fn what_is_spared_is_on_record_while_it_lies_where_anything_is() {
    play(
        1,
        CONFIG,
        |_| {},
        async |stage| {
            for (builder, pool, spares) in [("unit", "cloud", Some(Price(5_400_000))), ("free", "free", None)]
            {
                stage.build(builder).await;
                let lying = first(stage, pool, lies).await;
                let Phase::Parked { since, .. } = lying.phase else { panic!("it lies") };
                let record = stage.ctx.store.parking(lying.id, 0).await.unwrap();
                assert_eq!(record.map(|record| record.spares), spares);
                assert!(record.is_none_or(|record| record.since == since && record.until.is_none()));
                stage.build(builder).await;
                let record = stage.ctx.store.parking(lying.id, 0).await.unwrap();
                assert!(record.is_none_or(|record| record.until.is_some()), "it is up again");
            }
        },
    );
}

#[tokio::test(start_paused = true)]
async fn one_that_lies_costs_what_its_pool_says_and_no_more_than_one_that_runs() {
    let lone = Lone::of(CONFIG).await;
    let active = lone.active();
    let at = || ProviderRef("1".into());
    let worker =
        |pool: &str, price, phase| Worker { price: Price(price), phase, ..lone.worker(1, pool, "there") };
    let lying = || Phase::Parked { at: at(), since: lone.now() };
    let price = |worker: Worker| parking::price(&active.config, &worker);
    assert_eq!(price(worker("cloud", 6_000_000, lying())), Some(Price(600_000)));
    assert_eq!(price(worker("cloud", 100_000, lying())), Some(Price(100_000)));
    assert_eq!(price(worker("removed", 6_000_000, lying())), Some(Price::NONE));
    for runs in [
        Phase::Up { at: at() },
        Phase::Parking { at: at(), since: lone.now() },
        Phase::Resuming { at: at(), since: lone.now(), deadline: lone.now() },
    ] {
        assert_eq!(price(worker("cloud", 6_000_000, runs)), None);
    }
}

#[tokio::test(start_paused = true)]
async fn one_that_lies_again_is_asked_for_once_more() {
    let lone = Lone::of(CONFIG).await;
    let there = account(&lone, "there");
    let (worker, at) = launched(&lone, 1, "cloud", &there).await;
    there.provider.park(&at).await.unwrap();
    let deadline = lone.now() + seconds(600);
    let phase = Phase::Resuming { at: at.clone(), since: lone.now(), deadline };
    let worker = Worker { phase, resumes: 1, ..worker };
    lone.insert(&[&worker]).await;
    let mut moments = Moments::default();
    let there_is = parking::There { fleet: &lone.fleet, worker: &worker, at: &at };
    let mut start = async || parking::start(there_is, seconds(600), &mut moments).await.unwrap();
    let asked = |on| lone.cloud.calls(on).0;
    assert!(matches!(start().await, Step::Wait(_)));
    assert_eq!(asked(on::RESUME), 1);
    // Nobody has said anything of it: it is waited for.
    assert!(matches!(start().await, Step::Wait(_)));
    assert_eq!(asked(on::INSPECT), 0);
    // It is looked at, and is on its way.
    lone.fleet.look_at(worker.id);
    assert!(matches!(start().await, Step::Wait(_)));
    assert!(asked(on::INSPECT) > 0 && asked(on::RESUME) == 1);
    // Somebody's word came late.
    there.provider.park(&at).await.unwrap();
    lone.fleet.look_at(worker.id);
    assert!(matches!(start().await, Step::Again));
    assert!(matches!(start().await, Step::Wait(_)));
    assert_eq!((asked(on::RESUME), lone.cloud.parked()), (2, 0));
}

#[tokio::test(start_paused = true)]
async fn one_that_would_never_find_its_master_is_not_resumed() {
    let lone = Lone::of(&CONFIG.replace(", free: \"127.0.0.1:1\"", "")).await;
    let there = account(&lone, "there");
    let (worker, at) = launched(&lone, 1, "free", &there).await;
    let phase = Phase::Resuming { at: at.clone(), since: lone.now(), deadline: lone.now() + seconds(600) };
    let worker = Worker { phase, resumes: 1, ..worker };
    lone.insert(&[&worker]).await;
    let mut moments = Moments::default();
    let there_is = parking::There { fleet: &lone.fleet, worker: &worker, at: &at };
    parking::start(there_is, seconds(600), &mut moments).await.unwrap();
    let row = lone.worker_row(worker.id).await;
    assert_eq!((code(&row), lone.cloud.calls(on::RESUME).0), (Some(CauseCode::ResumeFailed), 0));
    assert!(row.cause().unwrap().message.contains("are not on this host"), "{row:#?}");
}

#[tokio::test(start_paused = true)]
async fn one_that_lies_and_is_taken_away_is_looked_for_twice_and_ends() {
    let lone = Lone::of(CONFIG).await;
    let there = account(&lone, "there");
    let (worker, at) = launched(&lone, 1, "cloud", &there).await;
    there.provider.park(&at).await.unwrap();
    let phase = Phase::Parked { at: at.clone(), since: lone.now() };
    let expires = lone.now() + seconds(36_000);
    let worker = Worker { phase, expires, wanted: Wanted::Park, ..worker };
    lone.insert(&[&worker]).await;
    let stop = CancellationToken::new();
    lone.fleet.ensure_driver(&worker, &stop);
    tokio::time::sleep(seconds(100)).await;
    assert!(lies(&lone.worker_row(worker.id).await), "nothing has happened to it");
    there.provider.terminate(&at).await.unwrap();
    lone.fleet.look_at(worker.id);
    tokio::time::sleep(seconds(5)).await;
    assert!(lies(&lone.worker_row(worker.id).await), "what is shown may lag behind");
    tokio::time::sleep(seconds(25)).await;
    let row = lone.worker_row(worker.id).await;
    assert!(row.gone.is_some() && code(&row) == Some(CauseCode::Died), "{row:#?}");
    stop.cancel();
}

#[tokio::test(start_paused = true)]
async fn one_that_somebody_else_has_stopped_is_lost_once_its_agent_is_silent() {
    let lone = Lone::of(CONFIG).await;
    let there = account(&lone, "there");
    let since = lone.now();
    let attached = Link::Attached { session: "1".into(), since };
    let silent = || Link::Silent { since };
    let up = |at: &ProviderRef| Phase::Up { at: at.clone() };
    let parking = |at: &ProviderRef| Phase::Parking { at: at.clone(), since };
    let mut lost = Vec::new();
    for id in 1..=3 {
        let (worker, at) = launched(&lone, id, "cloud", &there).await;
        there.provider.park(&at).await.unwrap();
        let (phase, link) = match id {
            1 => (up(&at), silent()),
            2 => (up(&at), attached.clone()),
            _ => (parking(&at), silent()),
        };
        let worker = Worker { phase, link, attached: Some(since), ..worker };
        lone.insert(&[&worker]).await;
        let step = inspecting::inspect(&lone.fleet, &worker, &at, &mut Moments::default()).await.unwrap();
        lost.extend(step.map(|_| id));
    }
    assert_eq!(lost, [1]);
    let cause = lone.worker_row(1.into()).await.cause().cloned().expect("it is lost");
    assert_eq!(cause.message, "its provider has stopped it, which nobody asked for");
}
