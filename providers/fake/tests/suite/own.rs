//! What goes wrong, each fault by itself.

use crate::bench::{Air, bench};
use crate::layered::layered;
use rouse_contract::conformance::{Bench, Hand, Joins, Of};
use rouse_contract::layers::Rates;
use rouse_contract::{LaunchOutcome, ObservedState};
use rouse_provider_fake::{Fault, on};
use std::time::Duration;

/// Far longer than a call or a boot takes.
const LONG: Duration = Duration::from_secs(60);

async fn air() -> Air {
    bench().await.expect("it is in memory")
}

#[tokio::test(start_paused = true)]
async fn a_launch_that_is_not_answered_may_have_been_heard_or_not() {
    for (fault, made) in [(Fault::Unanswered, 1), (Fault::Broken, 1), (Fault::Unheard, 0)] {
        let air = air().await;
        let hand = layered(&air, Rates::default()).await;
        let tag = hand.tag("lost");
        let item = hand.prepare(&tag, Joins::InVain).await;
        air.0.script(|script| script.plan(on::LAUNCH, fault));
        let outcome = hand.launch(&item).await;
        assert!(matches!(outcome, LaunchOutcome::Unknown { .. }), "{fault:?}: {outcome:?}");
        assert_eq!(hand.listed(&tag).await.len(), made, "{fault:?}");
        assert!(matches!(hand.launch(&item).await, LaunchOutcome::Accepted { .. }));
        assert_eq!((hand.listed(&tag).await.len(), air.0.launched()[&tag.token]), (1, 1), "{fault:?}");
        hand.clear().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_late_launch_comes_whoever_has_gone_and_once() {
    let air = air().await;
    let hand = Hand::new(&air, Of::Ours).await;
    let (late, overtaken) = (hand.tag("late"), hand.tag("overtaken"));
    for tag in [&late, &overtaken] {
        let item = hand.prepare(tag, Joins::InVain).await;
        air.0.script(|script| script.plan(on::LAUNCH, Fault::Late(LONG)));
        assert!(tokio::time::timeout(LONG / 2, hand.launch(&item)).await.is_err(), "it is late");
    }
    assert_eq!(air.0.leftovers().len(), 2, "on their way");
    let item = hand.prepare(&overtaken, Joins::InVain).await;
    let LaunchOutcome::Accepted { at } = hand.launch(&item).await else { panic!("not accepted") };
    hand.provider.terminate(&at).await.expect("terminated");
    tokio::time::sleep(LONG).await;
    assert_eq!((hand.listed(&late).await.len(), hand.listed(&overtaken).await.len()), (1, 0));
    hand.clear().await;
}

#[tokio::test(start_paused = true)]
async fn instances_go_wrong_as_their_fate_says() {
    let air = air().await;
    let hand = Hand::new(&air, Of::Ours).await;
    for (fate, after) in [
        (Fault::Dies, "ended"),
        (Fault::Mute, "runs alone"),
        (Fault::Slow(2 * LONG), "boots"),
        (Fault::Vanishes(LONG / 2), "nothing"),
        (Fault::Preempted(LONG / 2), "ended"),
    ] {
        let tag = hand.tag("fated");
        air.0.script(|script| script.plan(on::INSTANCE, fate));
        hand.launched(&tag).await;
        tokio::time::sleep(LONG).await;
        let seen = match hand.listed(&tag).await.first().map(|seen| seen.state.clone()) {
            None => "nothing",
            Some(ObservedState::Ended { .. }) => "ended",
            Some(ObservedState::Starting) => "boots",
            Some(_) if air.joined(&tag).await => "runs",
            Some(_) => "runs alone",
        };
        assert_eq!(seen, after, "{fate:?}");
    }
    hand.clear().await;
}

#[tokio::test(start_paused = true)]
async fn a_list_lags_and_a_call_is_refused() {
    let air = air().await;
    let hand = Hand::new(&air, Of::Ours).await;
    let tag = hand.tag("seen");
    let at = hand.launched(&tag).await;
    air.0.script(|script| script.plan(on::LIST, Fault::Lags(LONG)));
    assert_eq!(hand.listed(&tag).await, vec![], "as it was a minute ago");
    assert_eq!(hand.listed(&tag).await.len(), 1);
    air.0.script(|script| {
        script.plan(on::TERMINATE, Fault::Throttled);
        script.plan(on::LAUNCH, Fault::NoCapacity);
    });
    assert!(hand.provider.terminate(&at).await.expect_err("throttled").retry_after.is_some());
    let item = hand.prepare(&hand.tag("refused"), Joins::InVain).await;
    assert!(matches!(hand.launch(&item).await, LaunchOutcome::NoCapacity { .. }));
    assert_eq!(air.0.struck(), 3);
    hand.clear().await;
}
