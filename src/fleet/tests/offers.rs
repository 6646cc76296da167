//! What is sold, refused and taken back, on a whole fleet in simulated time.

use super::stage::{Stage, play};
use crate::explain::ReasonCode;
use rouse_model::decision::DecisionCode;
use rouse_model::money::Price;
use rouse_model::worker::Worker;
use rouse_model::Timestamp;
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

/// When an offering was refused first: the earliest launch of it that came to nothing.
async fn refused_first(stage: &Stage, pool: &str, offering: &str) -> Timestamp {
    let workers = stage.workers(pool).await;
    let refused =
        |worker: &&Worker| worker.offering.as_deref() == Some(offering) && worker.accepted.is_none();
    workers.iter().find(refused).and_then(|worker| worker.gone).expect("it was refused")
}

#[test]
fn the_next_offer_is_taken_when_the_first_has_been_refused_for_its_time_and_left_when_it_is_back() {
    play(
        1,
        OFFERS,
        |_| {},
        async |stage| {
            stage.build("unit").await;
            assert_eq!(taken_as(stage, "cloud").await, [SPOT], "the cheapest");
            // The other one of the same offer at once.
            out(stage, &[SPOT]);
            stage.build("unit").await;
            assert_eq!(taken_as(stage, "cloud").await, [SPOT, "spot b"]);
            out(stage, &["spot b"]);
            let request = stage.wish("unit").await;
            let said = stage.says(request, ReasonCode::OfferingBackingOff).await;
            assert!(said.contains("no capacity for spot"), "{said}");
            let later = first_as(stage, "cloud", "on demand").await;
            let since = refused_first(stage, "cloud", "spot b").await;
            let after = later.requested.since(since);
            assert!((TRIED..TRIED + Duration::from_secs(2)).contains(&after), "{after:?}");
            assert_eq!(later.price, Price(2_000_000));
            let fell_back = stage.decision_of(&later).await;
            assert_eq!(fell_back.code, DecisionCode::FallBack);
            let passed: Vec<&str> =
                fell_back.reckoning.passed.iter().map(|one| one.offering.as_str()).collect();
            assert_eq!(passed, [SPOT, "spot b"]);
            assert_eq!(fell_back.reckoning.passed[1].since, Some(since));
            // From now on at once, but for the one that finds out.
            let asked = stage.ctx.now();
            stage.build("unit").await;
            assert!(stage.ctx.now().since(asked) < MINUTE);
            assert_eq!(taken_as(stage, "cloud").await[2..], ["on demand", "on demand"]);
            // It is back, which the next launch finds out when its pause is over.
            stage.cloud.stock(SPOT, None);
            stage.wait_for(stage.ctx.now() + TRIED).await;
            stage.build("unit").await;
            stage.build("unit").await;
            assert_eq!(taken_as(stage, "cloud").await[4..], [SPOT, SPOT]);
        },
    );
}
