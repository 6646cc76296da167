//! What is spent, and what is kept, on a whole fleet in simulated time.

use super::stage::{Stage, play};
use crate::budgets::{Ledger, spent};
use crate::explain::{ReasonCode, decision};
use rouse_model::decision::DecisionCode;
use rouse_model::event::EventKind;
use rouse_model::money::{Money, Price};
use rouse_model::worker::{CauseCode, Phase, Worker};
use rouse_model::{BuildResult, Timestamp};
use rouse_store::Page;
use std::time::Duration;

const BUDGET: &str = r#"version: 1
server: {agents: {advertise: {cloud: "127.0.0.1:1", rest: "127.0.0.1:1"}}}
providers:
  there: {fake: {latency: 200ms}}
pools:
  cloud:
    fake: {on: there, image: "debian:12", boot: 20s}
    max: 500
    price: 6 USD/h
    budget: {limits: 4 USD/h, build: 1m}
  rest: {fake: {on: there, image: "debian:12", boot: 20s}, max: 2}
builders:
  unit: {pool: cloud, steps: [{run: make}]}
  either: {pool: [cloud, rest], steps: [{run: make}]}
"#;

/// What all workers of a pool have cost between two moments, by their rows alone.
pub(super) async fn cost(stage: &Stage, pool: &str, from: Timestamp, until: Timestamp) -> Money {
    let cost = |worker: &Worker| {
        let since = worker.accepted?.max(from);
        Some(worker.price.over(worker.gone.unwrap_or(until).min(until).since(since)))
    };
    stage.workers(pool).await.iter().filter_map(cost).sum()
}

/// Until a moment, with a look at the budget twice a second: what is spent and what is promised are within it all the time.
pub(super) async fn watch(stage: &Stage, until: Timestamp, most: Money) {
    while stage.ctx.now() < until {
        let live = stage.ctx.store.live_workers().await.unwrap();
        let live: Vec<&Worker> = live.iter().filter(|worker| worker.pool == "cloud").collect();
        let active = stage.ctx.config();
        let pool = &active.config.pools["cloud"];
        let now =
            spent(&stage.ctx.store, &Ledger::default(), "cloud", pool, &live, stage.ctx.now()).await.unwrap();
        assert!(now[0].spent <= most, "{} of {most} are spent", now[0].spent);
        // Whatever they do, they are there for a while.
        let rest: Money = live.iter().map(|worker| worker.price.over(Duration::from_secs(20))).sum();
        assert!(now[0].spent + rest <= most, "{} and {rest} of {most}", now[0].spent);
        stage.pause().await;
    }
}

#[test]
fn five_hundred_at_once_do_not_overdraw_a_budget() {
    play(
        1,
        BUDGET,
        |agents| agents.lasts = Some(Duration::from_secs(50)),
        async |stage| {
            let start = stage.ctx.now();
            let mut requests = Vec::new();
            for _ in 0..500 {
                requests.push(stage.wish("unit").await);
            }
            let said = stage.says(requests[499], ReasonCode::Budget).await;
            assert!(
                said.starts_with("the budget of 4.00 USD/h has not the 0.40 that one is counted with: "),
                "{said}"
            );
            assert!(said.contains("it begins anew at 2025-11-25 02:00 UTC"), "{said}");
            let full = stage.decided("cloud", DecisionCode::Budget).await;
            let told = full.reckoning.budget.expect("it has one");
            assert_eq!((told.amount, told.launch), (Money(4_000_000), Money(400_000)));
            assert!(told.left() < told.launch && told.left() >= Money(0), "{told:?}");
            eprintln!("{}", decision::sentence(&stage.decided("cloud", DecisionCode::Budget).await));
            let hour = Duration::from_secs(3600);
            watch(stage, start + hour, Money(4_000_000)).await;
            let first = cost(stage, "cloud", start, start + hour).await;
            // What is left does not pay for one more that may take as long as it is counted with.
            assert!((Money(3_500_000)..=Money(4_000_000)).contains(&first), "{first}");
            let done = stage.ended_as(BuildResult::Success).await;
            eprintln!("{first}, {done} builds");
            assert!((25..=35).contains(&done), "{done} builds");
            // It has begun anew.
            stage.wait_for(start + hour + Duration::from_secs(300)).await;
            let second = cost(stage, "cloud", start + hour, stage.ctx.now()).await;
            assert!((Money(1_000_000)..=Money(4_000_000)).contains(&second), "{second}");
        },
    );
}

#[test]
fn what_somebody_grants_is_spent_and_on_record() {
    play(
        2,
        BUDGET,
        |agents| agents.lasts = Some(Duration::from_secs(50)),
        async |stage| {
            for _ in 0..60 {
                stage.wish("unit").await;
            }
            stage.decided("cloud", DecisionCode::Budget).await;
            let start = stage.ctx.now();
            stage.grant("cloud", Money(4_000_000), Duration::from_secs(1800)).await;
            let more = async || (stage.workers("cloud").await.len() >= 20).then_some(());
            stage.until("twice as many", more).await;
            watch(stage, start + Duration::from_secs(1500), Money(8_000_000)).await;
            let spent = cost(stage, "cloud", Timestamp(0), stage.ctx.now()).await;
            assert!((Money(5_000_000)..=Money(8_000_000)).contains(&spent), "{spent}");
            assert_eq!(stage.events(EventKind::BudgetGranted).await, 1);
            let grants = stage.ctx.store.budget_grants("cloud", Page::default()).await.unwrap();
            assert_eq!(grants.iter().map(|grant| grant.by.as_str()).collect::<Vec<_>>(), ["test: a release"]);
        },
    );
}

#[test]
fn what_a_budget_does_not_pay_for_goes_to_the_next_pool() {
    play(
        3,
        BUDGET,
        |agents| agents.lasts = Some(Duration::from_secs(50)),
        async |stage| {
            for _ in 0..20 {
                stage.wish("unit").await;
            }
            stage.decided("cloud", DecisionCode::Budget).await;
            stage.build("either").await;
            assert_eq!(stage.workers("rest").await.len(), 1);
        },
    );
}

#[test]
fn workers_that_are_used_again_are_given_no_more_than_is_paid_for() {
    let config = BUDGET.replace("max: 500", "max: 500\n    reuse: {builds: 50, idle: 10m}");
    play(
        4,
        &config,
        |agents| agents.lasts = Some(Duration::from_secs(50)),
        async |stage| {
            let start = stage.ctx.now();
            for _ in 0..200 {
                stage.wish("unit").await;
            }
            let hour = Duration::from_secs(3600);
            watch(stage, start + hour, Money(4_000_000)).await;
            let first = cost(stage, "cloud", start, start + hour).await;
            assert!((Money(3_300_000)..=Money(4_000_000)).contains(&first), "{first}");
            let ended = |worker: &&Worker| matches!(&worker.phase, Phase::Gone { cause } if cause.code == CauseCode::Budget && cause.decision.is_some());
            let workers = stage.workers("cloud").await;
            assert!(workers.iter().filter(ended).count() > 0, "{workers:#?}");
            assert!(workers.iter().all(|worker| worker.price == Price(6_000_000)));
            let done = stage.ended_as(BuildResult::Success).await;
            eprintln!("{first}, {} workers, {done} builds", workers.len());
            assert!(done >= 35, "used again they do more: {done}");
        },
    );
}

const KEPT: &str = r#"version: 1
server: {agents: {advertise: {warm: "127.0.0.1:1"}}}
providers:
  there: {fake: {latency: 200ms}}
pools:
  warm:
    fake: {on: there, image: "debian:12", boot: 20s}
    max: 9
    ramp: 3
    reuse: {builds: 50, idle: 1m}
    schedule:
      - {cron: "30 1 * * *", for: 1h, min: 2}
      - {cron: "0 4 * * *", for: 1h, warm: 3}
builders:
  unit: {pool: warm, steps: [{run: make}]}
"#;

/// Workers of the pool that are up, and those that are on their way.
async fn there(stage: &Stage) -> (usize, usize) {
    let live = stage.ctx.store.live_workers().await.unwrap();
    let up = live.iter().filter(|worker| worker.attached.is_some()).count();
    (up, live.len() - up)
}

#[test]
fn hours_have_limits_of_their_own_and_what_is_kept_is_launched() {
    play(
        5,
        KEPT,
        |_| {},
        async |stage| {
            let start = stage.ctx.now();
            let at = |minutes: u64| start + Duration::from_secs(minutes * 60);
            for _ in 0..8 {
                stage.wish("unit").await;
            }
            let mut most = 0;
            while stage.ctx.now() < at(20) {
                most = most.max(there(stage).await.1);
                stage.pause().await;
            }
            assert_eq!(most, 3, "on their way at one time");
            assert_eq!(there(stage).await, (0, 0), "and gone");
            stage.wait_for(at(30)).await;
            assert_eq!(there(stage).await, (2, 0), "launched before the hour begins");
            // One dies, and another takes its place.
            let victim = stage.ctx.store.live_workers().await.unwrap()[0].clone();
            stage.die(&victim);
            stage.wait_for(at(33)).await;
            assert_eq!(there(stage).await, (2, 0));
            stage.wait_for(at(93)).await;
            assert_eq!(there(stage).await, (0, 0), "the hour is over");
            stage.wait_for(at(182)).await;
            assert_eq!(there(stage).await, (3, 0), "warm");
            // What takes one of them is made good at once.
            let request = stage.wish("unit").await;
            let took = async || stage.started_within(request).await;
            let waited = stage.until("it runs", took).await;
            assert!(waited < Duration::from_secs(2), "{waited:?}");
            stage.wait_for(at(183)).await;
            assert!(there(stage).await.0 >= 3);
            stage.wait_for(at(250)).await;
            assert_eq!(there(stage).await, (0, 0));
        },
    );
}
