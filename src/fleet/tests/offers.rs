//! What is sold, refused and taken back, on a whole fleet in simulated time.

use super::money::{cost, watch};
use super::stage::{Stage, World, play};
use crate::explain::ReasonCode;
use rouse_model::decision::DecisionCode;
use rouse_model::failure::FailureClass;
use rouse_model::money::{Money, Price};
use rouse_model::offering::Scarce;
use rouse_model::worker::Worker;
use rouse_model::{BuildResult, Timestamp};
use rouse_provider_fake::on;
use std::time::Duration;

const MINUTE: Duration = Duration::from_secs(60);
const SPOT: &str = "spot a";
const TRIED: Duration = Duration::from_secs(300);

const OFFERS: &str = r#"version: 1
server: {agents: {advertise: {cloud: "127.0.0.1:1", other: "127.0.0.1:1"}}}
providers:
  there: {fake: {latency: 200ms}}
pools:
  cloud:
    fake:
      on: there
      image: "debian:12"
      boot: 20s
      offers:
        - {types: [{name: "spot a", price: 0.60 USD/h}, {name: "spot b", price: 0.90 USD/h}], try_for: 5m}
        - {types: [{name: "on demand", price: 2 USD/h}]}
    max: 50
  other:
    fake:
      on: there
      image: "debian:12"
      boot: 20s
      offers:
        - {types: [{name: "spot a", price: 0.60 USD/h}], try_for: 5m}
        - {types: [{name: "on demand", price: 2 USD/h}]}
    max: 50
builders:
  unit: {pool: cloud, steps: [{run: make}]}
  docs: {pool: other, steps: [{run: make}]}
"#;

/// What a pool's workers were launched as that were taken, the oldest first.
async fn taken_as(stage: &Stage, pool: &str) -> Vec<String> {
    let taken = |worker: Worker| worker.accepted.and(worker.offering);
    stage.workers(pool).await.into_iter().filter_map(taken).collect()
}

/// A build, and what was taken for it and meanwhile.
async fn built_as(stage: &Stage, offering: &str) {
    let before = taken_as(stage, "cloud").await.len();
    stage.build("unit").await;
    let taken = taken_as(stage, "cloud").await.split_off(before);
    assert!(!taken.is_empty() && taken.iter().all(|one| one == offering), "{taken:?}");
}

/// The first worker of a pool that was launched as this.
async fn first_as(stage: &Stage, pool: &str, offering: &str) -> Worker {
    let found = async || {
        let workers = stage.workers(pool).await;
        workers
            .into_iter()
            .find(|worker| worker.offering.as_deref() == Some(offering) && worker.accepted.is_some())
    };
    stage.within(TRIED * 3, offering, found).await
}

fn out(stage: &Stage, offerings: &[&str]) {
    offerings.iter().for_each(|offering| stage.cloud.stock(offering, Some(0)));
}

/// Since when an offering has been refused without a break, as all masters know it.
async fn refused_since(stage: &Stage, offering: &str) -> Timestamp {
    let known = stage.ctx.store.offering_health().await.unwrap();
    let row = known.into_iter().find(|row| row.what == Scarce::Offering(offering.to_owned()));
    row.and_then(|row| row.refused_since).expect("it was refused")
}

#[test]
fn the_next_offer_is_taken_when_the_first_has_been_refused_for_its_time_and_left_when_it_is_back() {
    play(
        1,
        OFFERS,
        |_| {},
        async |stage| {
            // More than one may come for a build: what is likely to follow has its worker too.
            built_as(stage, SPOT).await;
            // The other one of the same offer at once.
            out(stage, &[SPOT]);
            built_as(stage, "spot b").await;
            // Whoever has come beside it is gone by then.
            stage.wait_for(stage.ctx.now() + MINUTE * 2).await;
            out(stage, &["spot b"]);
            let request = stage.wish("unit").await;
            let said = stage.says(request, ReasonCode::OfferingBackingOff).await;
            assert!(said.contains("no capacity for spot"), "{said}");
            let later = first_as(stage, "cloud", "on demand").await;
            let since = refused_since(stage, "spot b").await;
            let after = later.requested.since(since);
            assert!((TRIED..TRIED + Duration::from_secs(2)).contains(&after), "{after:?}");
            assert_eq!(later.price, Price(2_000_000));
            let fell_back = stage.decision_of(&later).await;
            assert_eq!(fell_back.code, DecisionCode::FallBack);
            let passed: Vec<&str> =
                fell_back.reckoning.passed.iter().map(|one| one.offering.as_str()).collect();
            assert_eq!(passed, [SPOT, "spot b"]);
            let told = fell_back.reckoning.passed[1].since.expect("it was refused");
            assert!(told.0.abs_diff(since.0) < 1_000, "{told:?} is {since:?}");
            let done = async || (stage.ended_as(BuildResult::Success).await == 3).then_some(());
            stage.until("it is built", done).await;
            stage.wait_for(stage.ctx.now() + MINUTE * 2).await;
            // From now on at once, but for the one that finds out.
            let asked = stage.ctx.now();
            built_as(stage, "on demand").await;
            assert!(stage.ctx.now().since(asked) < MINUTE);
            // It is back, which the next launch finds out when its pause is over.
            stage.cloud.stock(SPOT, None);
            stage.wait_for(stage.ctx.now() + TRIED).await;
            let before = taken_as(stage, "cloud").await.len();
            stage.build("unit").await;
            // What came beside it did not wait for that.
            assert_eq!(taken_as(stage, "cloud").await[before], SPOT);
            stage.wait_for(stage.ctx.now() + MINUTE * 2).await;
            built_as(stage, SPOT).await;
        },
    );
}

#[test]
fn pools_and_masters_share_what_is_known_of_an_offering() {
    let world = World::of(2, OFFERS);
    let (since, asked) = world.life(
        |_| {},
        async |stage| {
            out(stage, &[SPOT, "spot b"]);
            stage.wish("unit").await;
            // By then it has been asked for half a dozen times, the last time but a while ago.
            stage.wait_for(stage.ctx.now() + Duration::from_secs(100)).await;
            (refused_since(stage, SPOT).await, stage.cloud.calls(on::LAUNCH).0)
        },
    );
    assert!((8..=16).contains(&asked), "{asked} calls for two offerings");
    world.life(
        |_| {},
        async |stage| {
            let known = stage.ctx.store.offering_health().await.unwrap();
            let until = known.iter().map(|row| row.until).min().expect("two rows");
            assert!(until > stage.ctx.now() + Duration::from_secs(10), "{known:#?}");
            stage.wish("docs").await;
            while stage.ctx.now() + Duration::from_secs(1) < until {
                assert_eq!(stage.cloud.calls(on::LAUNCH).0, asked, "before its pause is over");
                stage.pause().await;
            }
            // The other pool has never asked for it, and takes its next offer when the first has been refused for its time by what the first one was told.
            let later = first_as(stage, "other", "on demand").await;
            let after = later.requested.since(since);
            assert!((TRIED..TRIED + Duration::from_secs(3)).contains(&after), "{after:?}");
            let calls = stage.cloud.calls(on::LAUNCH).0;
            assert!(calls <= asked + 12, "{calls} calls after {asked}");
        },
    );
}

#[test]
fn what_is_taken_back_runs_again_and_is_the_dearer_for_that() {
    let half = Duration::from_secs(1_800);
    play(
        3,
        OFFERS,
        |agents| agents.lasts = Some(half),
        async |stage| {
            for _ in 0..4 {
                stage.wish("unit").await;
            }
            stage.wait_for(stage.ctx.now() + half - MINUTE).await;
            assert_eq!(taken_as(stage, "cloud").await, [SPOT; 4]);
            stage.cloud.preempt(SPOT);
            let done = async || (stage.ended_as(BuildResult::Success).await == 4).then_some(());
            stage.within(half * 2, "they run again", done).await;
            assert_eq!(
                taken_as(stage, "cloud").await[4..],
                ["spot b"; 4],
                "dearer by the hour, not by what is lost"
            );
            let workers = stage.workers("cloud").await;
            let class = |worker: &Worker| worker.cause().and_then(|cause| cause.class);
            assert!(
                workers[..4].iter().all(|worker| class(worker) == Some(FailureClass::Preempted)),
                "{workers:#?}"
            );
        },
    );
}

#[test]
fn two_prices_do_not_overdraw_a_budget() {
    let config = OFFERS
        .replace("    max: 50\n  other", "    max: 500\n    budget: {limits: 4 USD/h, build: 1m}\n  other")
        .replace("try_for: 5m", "try_for: 2s")
        .replace("name: \"spot a\", price: 0.60", "name: \"spot a\", price: 3")
        .replace("0.90 USD/h", "3 USD/h")
        .replace("price: 2 USD/h", "price: 6 USD/h");
    play(
        4,
        &config,
        |agents| agents.lasts = Some(Duration::from_secs(50)),
        async |stage| {
            let start = stage.ctx.now();
            stage.cloud.stock(SPOT, Some(2));
            stage.cloud.stock("spot b", Some(1));
            for _ in 0..100 {
                stage.wish("unit").await;
            }
            let hour = Duration::from_secs(3600);
            watch(stage, start + hour, Money(4_000_000)).await;
            let first = cost(stage, "cloud", start, start + hour).await;
            assert!((Money(3_400_000)..=Money(4_000_000)).contains(&first), "{first}");
            let workers = stage.workers("cloud").await;
            let taken = |name: &str| {
                let of = workers.iter().filter(|worker| worker.offering.as_deref() == Some(name));
                of.filter(|worker| worker.accepted.is_some())
                    .map(|worker| worker.requested)
                    .collect::<Vec<_>>()
            };
            let (spot, sure) = (taken(SPOT), taken("on demand"));
            eprintln!("{first}: {} as {SPOT}, {} on demand", spot.len(), sure.len());
            assert!(sure.len() > 3 && spot.len() > sure.len() / 2);
            assert!(spot.last() > sure.last(), "what is left pays for the cheap one longest");
        },
    );
}
