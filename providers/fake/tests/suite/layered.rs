//! What the layers make of a cloud that takes its time and has its limits.

use crate::bench::{Air, air};
use futures::future::join_all;
use rouse_contract::conformance::{Bench, Hand, Joins, Of};
use rouse_contract::layers::{self, CallRecord, CallSink, Chance, Deadlines, Pace, Rates, Setup};
use rouse_contract::{LaunchItem, LaunchOutcome};
use rouse_provider_fake::{Fault, on};
use serde_json::json;
use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

#[derive(Debug)]
struct Nobody;

impl CallSink for Nobody {
    fn record(&self, _: &str, _: CallRecord) {}
}

/// With all that a master puts around it.
pub async fn layered(air: &Air, rates: Rates) -> Hand<'_> {
    let mut hand = Hand::new(air, Of::Ours).await;
    let setup = Setup {
        deadlines: Deadlines::default(),
        pace: Arc::new(Pace::new(rates)),
        chance: Chance::none(),
        sink: Arc::new(Nobody),
    };
    hand.provider = layers::around(hand.provider, "cloud", setup);
    hand
}

fn writes(rate: &str) -> Rates {
    Rates { reads: None, writes: Some(rate.parse().expect("a rate")) }
}

/// As a driver does: until it is there, again by its token.
async fn drive(hand: &Hand<'_>, item: &LaunchItem) -> LaunchOutcome {
    loop {
        match hand.launch(item).await {
            LaunchOutcome::Throttled { retry_after } => tokio::time::sleep(retry_after).await,
            LaunchOutcome::Unknown { .. } => tokio::time::sleep(Duration::from_secs(2)).await,
            outcome => return outcome,
        }
    }
}

async fn items(hand: &Hand<'_>, count: usize) -> Vec<LaunchItem> {
    let mut items = Vec::new();
    for _ in 0..count {
        items.push(hand.prepare(&hand.tag("one"), Joins::InVain).await);
    }
    items
}

/// Asks for so many at once, each by itself; how many seconds that takes.
async fn launch_at_once(hand: &Hand<'_>, count: usize) -> f64 {
    let items = items(hand, count).await;
    let since = Instant::now();
    let outcomes = join_all(items.iter().map(|item| drive(hand, item))).await;
    let took = since.elapsed().as_secs_f64();
    let there: HashSet<_> = outcomes
        .into_iter()
        .map(|outcome| match outcome {
            LaunchOutcome::Accepted { at } => at.0,
            other => panic!("not accepted: {other:?}"),
        })
        .collect();
    assert_eq!(there.len(), count, "each has its own");
    took
}

#[tokio::test(start_paused = true)]
async fn five_hundred_at_once_come_as_fast_as_the_account_lets_them() {
    for (batch, rate, most) in [(1, "10/s", 50.0), (1, "4/s", 125.0), (20, "1/s", 25.0), (500, "1/s", 1.0)] {
        let air = air(json!({"latency": "200ms", "batch": batch, "rate": rate}));
        let hand = layered(&air, writes(rate)).await;
        let took = launch_at_once(&hand, 500).await;
        let (calls, refused) = air.0.calls(on::LAUNCH);
        eprintln!("{rate}, {batch} by a call: {took:.1} s, {calls} calls");
        assert!(took <= 1.2 * most, "{rate}, {batch} by a call: {took} s");
        assert_eq!((calls, refused), (500 / batch, 0), "{rate}, {batch} by a call");
    }
}

#[tokio::test(start_paused = true)]
async fn a_rate_that_nobody_wrote_is_found() {
    let air = air(json!({"latency": "200ms", "rate": "10/s"}));
    let hand = layered(&air, Rates::default()).await;
    let took = launch_at_once(&hand, 500).await;
    let (calls, refused) = air.0.calls(on::LAUNCH);
    eprintln!("{took:.1} s, {calls} calls, of which {refused} were refused");
    assert!(took <= 200.0, "{took} s");
    let first = launch_at_once(&hand, 500).await;
    let (_, more) = air.0.calls(on::LAUNCH);
    eprintln!("then {first:.1} s, of which {} were refused", more - refused);
    assert!(
        first <= 120.0 && more - refused <= 60,
        "once it is known: {first} s, {more} - {refused} refused"
    );
}

#[tokio::test(start_paused = true)]
async fn who_is_alone_waits_for_nobody_where_nothing_is_gained() {
    let alone = air(json!({"latency": "200ms"}));
    assert_eq!(launch_at_once(&layered(&alone, Rates::default()).await, 1).await, 0.2);
    let batches = air(json!({"latency": "200ms", "batch": 10}));
    let hand = layered(&batches, Rates::default()).await;
    assert_eq!(launch_at_once(&hand, 1).await, 0.25, "for a moment where it is");
    assert_eq!(launch_at_once(&hand, 10).await, 0.2, "and not where nothing more fits");
    let items = items(&hand, 10).await;
    let since = Instant::now();
    assert_eq!(hand.provider.launch(&hand.spec, &items).await.len(), 10);
    assert_eq!(since.elapsed(), Duration::from_millis(200), "those that come together need no others");
    assert_eq!(batches.0.calls(on::LAUNCH), (3, 0));
}

#[tokio::test(start_paused = true)]
async fn a_batch_gives_each_its_own_outcome() {
    let air = air(json!({"latency": "200ms", "batch": 10, "capacity": 3}));
    let hand = layered(&air, Rates::default()).await;
    air.0.script(|script| script.plan(on::LAUNCH, Fault::Quota));
    let items = items(&hand, 5).await;
    let outcomes = join_all(items.iter().map(|item| hand.launch(item))).await;
    assert!(matches!(outcomes[0], LaunchOutcome::Quota { .. }), "{outcomes:?}");
    for (item, outcome) in items.iter().zip(&outcomes).skip(1).take(3) {
        let LaunchOutcome::Accepted { at } = outcome else { panic!("{outcomes:?}") };
        let seen = hand.provider.inspect(at).await.expect("inspected").expect("there");
        assert_eq!(seen.tag.as_ref(), Some(&item.tag));
    }
    assert!(matches!(outcomes[4], LaunchOutcome::NoCapacity { .. }), "{outcomes:?}");
    assert_eq!(air.0.calls(on::LAUNCH), (1, 0));
    hand.clear().await;
}

#[tokio::test(start_paused = true)]
async fn other_specs_and_the_same_token_are_other_calls() {
    let air = air(json!({"latency": "200ms", "batch": 10}));
    let hand = layered(&air, Rates::default()).await;
    let items = items(&hand, 2).await;
    let mut other = hand.spec.clone();
    other.project = "another".into();
    let (one, again, stranger) = tokio::join!(
        hand.launch(&items[0]),
        hand.launch(&items[0]),
        hand.provider.launch(&other, &items[1..]),
    );
    assert!(matches!(&one, LaunchOutcome::Accepted { .. }) && one == again, "{one:?} {again:?}");
    assert!(matches!(stranger[..], [LaunchOutcome::Accepted { .. }]), "{stranger:?}");
    assert_eq!(air.0.calls(on::LAUNCH), (3, 0));
    hand.clear().await;
}

#[tokio::test(start_paused = true)]
async fn who_gives_up_takes_nothing_from_the_others() {
    let air = air(json!({"latency": "200ms", "batch": 10}));
    let hand = layered(&air, Rates::default()).await;
    let items = items(&hand, 4).await;
    let within = |millis, item| tokio::time::timeout(Duration::from_millis(millis), hand.launch(item));
    // One before the call, one while it is made.
    let (before, during, good) =
        tokio::join!(within(20, &items[0]), within(100, &items[1]), within(1000, &items[2]));
    assert!(before.is_err() && during.is_err());
    assert!(matches!(good, Ok(LaunchOutcome::Accepted { .. })), "{good:?}");
    let made: Vec<usize> = items.iter().map(|item| air.0.running(&item.tag.token)).collect();
    assert_eq!(made, [0, 0, 0, 0], "they boot");
    tokio::time::sleep(Duration::from_secs(1)).await;
    let made: Vec<usize> = items.iter().map(|item| air.0.running(&item.tag.token)).collect();
    assert_eq!(made, [0, 1, 1, 0]);
    // Where all have gone nobody goes on.
    assert!(within(20, &items[3]).await.is_err());
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!((air.0.running(&items[3].tag.token), air.0.calls(on::LAUNCH)), (0, (1, 0)));
    hand.clear().await;
}

#[tokio::test(start_paused = true)]
async fn looks_and_ends_that_fail_for_a_moment_are_tried_again_and_launches_are_not() {
    let air = air(json!({"latency": "200ms"}));
    let hand = layered(&air, Rates::default()).await;
    let at = hand.launched(&hand.tag("seen")).await;
    air.0.script(|script| {
        for call in [on::LIST, on::INSPECT, on::TERMINATE] {
            script.plan(call, Fault::Broken);
            script.plan(call, Fault::Throttled);
        }
    });
    assert_eq!(hand.provider.list().await.expect("a list").len(), 1);
    assert!(hand.provider.inspect(&at).await.expect("inspected").is_some());
    hand.provider.terminate(&at).await.expect("terminated");
    assert_eq!(
        (air.0.calls(on::LIST).0, air.0.calls(on::INSPECT).0, air.0.calls(on::TERMINATE).0),
        (3, 3, 3)
    );
    // What lasts is told with its own words, and soon. By an account that nothing is known of yet.
    let hand = layered(&air, Rates::default()).await;
    air.0.script(|script| (0..3).for_each(|_| script.plan(on::LIST, Fault::Broken)));
    let since = Instant::now();
    let error = hand.provider.list().await.expect_err("it lasts");
    assert!(error.to_string().contains("the connection broke"), "{error}");
    assert!(since.elapsed() < Duration::from_secs(2), "after {:?}", since.elapsed());
    let item = hand.prepare(&hand.tag("refused"), Joins::InVain).await;
    air.0.script(|script| script.plan(on::LAUNCH, Fault::Broken));
    assert!(matches!(hand.launch(&item).await, LaunchOutcome::Unknown { .. }));
    assert_eq!(air.0.calls(on::LAUNCH).0, 2);
    assert_eq!(air.running(&item.tag).await, 0, "it boots");
    hand.clear().await;
}
