//! Cases of a provider with all that a master puts around it, and with calls that go wrong below that.

use super::hand::accepted;
use super::{Bench, Hand, Joins, Of};
use crate::layers::{
    self, CallKind, CallRecord, CallSink, Chance, Deadlines, Fault, Faulty, Pace, Rates, Setup,
};
use crate::units::{Per, Rate};
use crate::{LaunchItem, LaunchOutcome};
use futures::future::join_all;
use rouse_model::worker::ProviderRef;
use std::collections::HashSet;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// Enough for a launch of any back end on a busy machine.
const SHORT: Duration = Duration::from_secs(5);

#[derive(Debug)]
struct Nobody;

impl CallSink for Nobody {
    fn record(&self, _: &str, _: CallRecord) {}
}

/// A hand whose calls go through the layers; of each kind the first that is left strikes the next one.
async fn layered<'a>(bench: &'a dyn Bench, deadlines: Deadlines, faults: &[(CallKind, Fault)]) -> Hand<'a> {
    let mut hand = Hand::new(bench, Of::Ours).await;
    let left = Mutex::new(faults.to_vec());
    let script = move |kind| {
        let mut left = left.lock().expect("nothing panics while it is held");
        let at = left.iter().position(|(of, _)| *of == kind)?;
        Some(left.remove(at).1)
    };
    let fast = Some(Rate { calls: 1000, per: Per::Second });
    let setup = Setup {
        deadlines,
        pace: Arc::new(Pace::new(Rates { reads: fast, writes: fast })),
        chance: Chance::none(),
        sink: Arc::new(Nobody),
    };
    hand.provider = layers::around(Arc::new(Faulty::new(hand.provider, script)), "suite", setup);
    hand
}

async fn prepared(hand: &Hand<'_>, count: usize) -> Vec<LaunchItem> {
    let mut items = Vec::new();
    for _ in 0..count {
        items.push(hand.prepare(&hand.tag("layered"), Joins::InVain).await);
    }
    items
}

/// Each item has an instance of its own, at the reference that its outcome says.
async fn assert_each_has_its_own(hand: &Hand<'_>, items: &[LaunchItem], at: &[ProviderRef]) {
    assert_eq!(at.iter().collect::<HashSet<_>>().len(), items.len(), "{at:?}");
    for (item, at) in items.iter().zip(at) {
        hand.wait_running(&item.tag, 1).await;
        let seen = hand.provider.inspect(at).await.expect("inspected").expect("there");
        assert_eq!(seen.tag.as_ref(), Some(&item.tag), "in the order of the items");
    }
}

pub async fn throttled_calls_come_to_their_turn(bench: &dyn Bench) {
    let soon = Fault::Throttled(Duration::from_millis(50));
    let kinds = [CallKind::Launch, CallKind::List, CallKind::Inspect, CallKind::Terminate];
    let faults: Vec<_> = kinds.iter().map(|kind| (*kind, soon)).collect();
    let hand = layered(bench, Deadlines::default(), &faults).await;
    let tag = hand.tag("throttled");
    let item = hand.prepare(&tag, Joins::InVain).await;
    let refused = hand.launch(&item).await;
    assert!(matches!(refused, LaunchOutcome::Throttled { .. }), "its driver decides: {refused:?}");
    assert_eq!(bench.running(&tag).await, 0);
    let at = accepted(hand.launch(&item).await);
    hand.wait_running(&tag, 1).await;
    assert!(hand.listed(&tag).await.iter().any(|seen| seen.at == at));
    assert!(hand.provider.inspect(&at).await.expect("inspected").is_some());
    hand.provider.terminate(&at).await.expect("terminated");
    hand.clear().await;
}

/// Of three one is made; whoever asks again for all has three.
pub async fn a_part_of_a_batch_is_told_item_by_item(bench: &dyn Bench) {
    let hand = layered(bench, Deadlines::default(), &[(CallKind::Launch, Fault::Partial(1))]).await;
    let items = prepared(&hand, 3).await;
    let mut first = hand.provider.launch(&hand.spec, &items).await;
    assert_eq!(first.len(), 3);
    assert!(first[1..].iter().all(|o| matches!(o, LaunchOutcome::NoCapacity { .. })), "{first:?}");
    let made = accepted(first.swap_remove(0));
    let again = hand.provider.launch(&hand.spec, &items).await;
    let all: Vec<ProviderRef> = again.into_iter().map(accepted).collect();
    assert_eq!(all[0], made, "the one that was there");
    assert_each_has_its_own(&hand, &items, &all).await;
    hand.clear().await;
}

pub async fn a_call_that_hangs_comes_back_by_its_deadline(bench: &dyn Bench) {
    for (fault, most) in [(Fault::Unanswered, 1), (Fault::Unheard, 0)] {
        let deadlines = Deadlines { launch: SHORT, ..Deadlines::default() };
        let hand = layered(bench, deadlines, &[(CallKind::Launch, fault)]).await;
        let tag = hand.tag("hangs");
        let item = hand.prepare(&tag, Joins::InVain).await;
        let since = Instant::now();
        let outcome = hand.launch(&item).await;
        assert!(matches!(outcome, LaunchOutcome::Unknown { .. }), "{fault:?}: {outcome:?}");
        assert!(since.elapsed() < 3 * SHORT, "{fault:?}: after {:?}", since.elapsed());
        assert!(bench.running(&tag).await <= most, "{fault:?}");
        let at = accepted(hand.launch(&item).await);
        assert_each_has_its_own(&hand, std::slice::from_ref(&item), &[at]).await;
        hand.clear().await;
    }
}

/// Each by a driver of its own, as a master does.
pub async fn launches_at_the_same_time_have_their_own_instances(bench: &dyn Bench) {
    let hand = layered(bench, Deadlines::default(), &[]).await;
    let items = prepared(&hand, 5).await;
    let outcomes = join_all(items.iter().map(|item| hand.launch(item))).await;
    let all: Vec<ProviderRef> = outcomes.into_iter().map(accepted).collect();
    assert_each_has_its_own(&hand, &items, &all).await;
    hand.clear().await;
}

/// What a list does not show yet is not made twice, and what it still shows can be ended again.
pub async fn a_list_of_a_moment_ago_misleads_nobody(bench: &dyn Bench) {
    let as_it_is = Fault::Late(Duration::ZERO);
    let lists = [Fault::Stale, as_it_is, Fault::Stale].map(|fault| (CallKind::List, fault));
    let hand = layered(bench, Deadlines::default(), &lists).await;
    let tag = hand.tag("stale");
    let item = hand.prepare(&tag, Joins::InVain).await;
    let at = accepted(hand.launch(&item).await);
    assert_eq!(hand.listed(&tag).await, vec![], "not yet");
    assert_eq!(accepted(hand.launch(&item).await), at, "the same one");
    hand.wait_running(&tag, 1).await;
    assert!(hand.provider.inspect(&at).await.expect("inspected").is_some(), "asked for itself it is there");
    assert_eq!(hand.listed(&tag).await.len(), 1);
    hand.provider.terminate(&at).await.expect("terminated");
    assert_eq!(hand.listed(&tag).await.len(), 1, "still");
    hand.provider.terminate(&at).await.expect("absent is success");
    hand.clear().await;
}
