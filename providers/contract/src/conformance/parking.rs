//! Cases of providers that park; the others pass them by what they do not declare.

use super::cases::poll_some;
use super::{Bench, Hand, Joins, Of};
use crate::{ObservedState, Turned};
use rouse_model::worker::ProviderRef;

/// What the list says of a tag's only instance.
async fn state(hand: &Hand<'_>, tag: &crate::Tag, at: &ProviderRef) -> ObservedState {
    let listed = hand.listed(tag).await;
    let [one] = listed.as_slice() else { panic!("not one: {listed:?}") };
    assert_eq!(&one.at, at);
    assert_eq!(hand.provider.inspect(at).await.expect("inspected").as_ref(), Some(one));
    one.state.clone()
}

pub async fn a_parked_instance_lies_and_comes_back(bench: &dyn Bench) {
    let mut hand = Hand::new(bench, Of::Ours).await;
    if !hand.provider.capabilities().park {
        return;
    }
    let tag = hand.tag("parked");
    let at = hand.launched(&tag).await;
    hand.wait_joined(&tag).await;
    for _ in 0..2 {
        let (one, other) = tokio::join!(hand.provider.park(&at), hand.provider.park(&at));
        assert_eq!((one.expect("parked"), other.expect("parked")), (Turned::Done, Turned::Done), "at once");
        assert_eq!(bench.running(&tag).await, 0, "Done means that nothing runs");
        assert_eq!(state(&hand, &tag, &at).await, ObservedState::Parked);
        hand.restart();
        assert_eq!(
            state(&hand, &tag, &at).await,
            ObservedState::Parked,
            "for a master that has just started"
        );
        assert_eq!(hand.provider.park(&at).await.expect("again"), Turned::Done);
        let item = hand.prepare(&tag, Joins::InVain).await;
        assert_eq!(hand.provider.resume(&at, &item).await.expect("resumed"), Turned::Done);
        hand.wait_running(&tag, 1).await;
        hand.wait_joined(&tag).await;
        assert_eq!(hand.provider.resume(&at, &item).await.expect("again"), Turned::Done);
        assert_eq!((bench.running(&tag).await, state(&hand, &tag, &at).await), (1, ObservedState::Running));
    }
    // Its token is still its own.
    let item = hand.prepare(&tag, Joins::InVain).await;
    assert_eq!(super::hand::accepted(hand.launch(&item).await), at);
    hand.provider.terminate(&at).await.expect("terminated");
    assert_eq!((bench.running(&tag).await, hand.listed(&tag).await), (0, vec![]));
    hand.clear().await;
}

/// As for a launch: each call is cut off after a growing number of its steps.
pub async fn a_crash_while_parking_or_resuming_leaves_one_instance(bench: &dyn Bench) {
    let mut hand = Hand::new(bench, Of::Ours).await;
    if !hand.provider.capabilities().park {
        return;
    }
    let tag = hand.tag("crash");
    let at = hand.launched(&tag).await;
    hand.wait_running(&tag, 1).await;
    let mut finished = (false, false);
    for cut in 0..200_u32 {
        let steps = cut * cut.div_ceil(4).max(1);
        finished.0 = poll_some(&mut hand.provider.park(&at), steps).await;
        hand.restart();
        // What was cut off may still be under way: each look is right by itself.
        let listed = hand.listed(&tag).await;
        let [seen] = listed.as_slice() else { panic!("not one: {listed:?}") };
        assert_eq!(seen.at, at);
        assert!(matches!(seen.state, ObservedState::Running | ObservedState::Parked), "{seen:?}");
        assert_eq!(hand.provider.park(&at).await.expect("parked"), Turned::Done, "after {steps} steps");
        assert_eq!((bench.running(&tag).await, state(&hand, &tag, &at).await), (0, ObservedState::Parked));
        let item = hand.prepare(&tag, Joins::InVain).await;
        finished.1 = poll_some(&mut hand.provider.resume(&at, &item), steps).await;
        hand.restart();
        let item = hand.prepare(&tag, Joins::InVain).await;
        assert_eq!(
            hand.provider.resume(&at, &item).await.expect("resumed"),
            Turned::Done,
            "after {steps} steps"
        );
        hand.wait_running(&tag, 1).await;
        if finished == (true, true) {
            break;
        }
    }
    assert_eq!(finished, (true, true), "the calls never came to their end");
    hand.clear().await;
}

pub async fn what_is_not_there_is_neither_parked_nor_resumed(bench: &dyn Bench) {
    let hand = Hand::new(bench, Of::Ours).await;
    if !hand.provider.capabilities().park {
        return;
    }
    let (parked, dead) = (hand.tag("parked"), hand.tag("dead"));
    let (one, other) = (hand.launched(&parked).await, hand.launched(&dead).await);
    hand.wait_running(&parked, 1).await;
    hand.wait_running(&dead, 1).await;
    let item = hand.prepare(&parked, Joins::InVain).await;
    assert_eq!(hand.provider.park(&one).await.expect("parked"), Turned::Done);
    hand.provider.terminate(&one).await.expect("where it lies");
    assert_eq!(hand.listed(&parked).await, vec![]);
    bench.kill(&dead).await;
    hand.wait_running(&dead, 0).await;
    let never = ProviderRef("no reference".into());
    for at in [&one, &other, &never] {
        assert_eq!(hand.provider.park(at).await.expect("it is said"), Turned::Absent, "{at:?}");
        assert_eq!(hand.provider.resume(at, &item).await.expect("it is said"), Turned::Absent, "{at:?}");
    }
    assert_eq!(bench.running(&dead).await, 0);
    hand.clear().await;
    let theirs = Hand::new(bench, Of::Foreign).await;
    let tag = theirs.tag("foreign");
    let at = theirs.launched(&tag).await;
    theirs.wait_running(&tag, 1).await;
    assert_eq!(hand.provider.park(&at).await.expect("it is said"), Turned::Absent);
    assert_eq!(bench.running(&tag).await, 1, "stopped what belongs to another installation");
    theirs.clear().await;
}
