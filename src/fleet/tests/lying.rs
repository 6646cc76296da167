//! Workers that cannot be stopped or started again, and what is true of one that lies.

use super::lone::Lone;
use super::stage::{Stage, play};
use crate::fleet::parking;
use rouse_model::money::Price;
use rouse_model::worker::{CauseCode, Phase, ProviderRef, Worker};
use rouse_provider_fake::{Fault, on};
use rouse_store::Batch;
use std::time::Duration;

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
            stage.build("unit").await;
            let lost = first(stage, "cloud", |worker| worker.gone.is_some()).await;
            assert_eq!(code(&lost), Some(CauseCode::ResumeFailed));
            assert_eq!(lost.resumes, 1);
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
