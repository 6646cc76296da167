//! The cases. Each ends by clearing all that it made, and by counting from outside that nothing is left.

use super::hand::{accepted, is_there, until};
use super::{Bench, Hand, Joins, Of, Sold};
use crate::{Hint, LaunchItem, LaunchOutcome, Observed, ObservedState};
use futures::FutureExt;
use futures::future::join_all;
use rouse_model::failure::FailureClass;
use rouse_model::worker::ProviderRef;
use std::collections::HashSet;
use std::time::{Duration, Instant};

pub async fn launched_twice_with_one_token_it_is_one_instance(bench: &dyn Bench) {
    let mut hand = Hand::new(bench, Of::Ours).await;
    let tag = hand.tag("twice");
    let item = hand.prepare(&tag, Joins::InVain).await;
    let (one, other) = tokio::join!(hand.launch(&item), hand.launch(&item));
    let at = accepted(one);
    assert_eq!(accepted(other), at, "at the same time");
    hand.wait_running(&tag, 1).await;
    hand.wait_joined(&tag).await;
    assert_eq!(accepted(hand.launch(&item).await), at, "one after the other");
    hand.restart();
    let item = hand.prepare(&tag, Joins::InVain).await;
    assert_eq!(accepted(hand.launch(&item).await), at, "by a master that has just started");
    assert_eq!(bench.running(&tag).await, 1);
    let listed = hand.listed(&tag).await;
    assert_eq!(listed.iter().map(|o| &o.at).collect::<Vec<_>>(), [&at]);
    hand.clear().await;
}

/// The call is cut off after a growing number of its steps; each time a fresh provider object must make one instance of it.
pub async fn a_crash_between_calls_leaves_one_instance(bench: &dyn Bench) {
    let mut hand = Hand::new(bench, Of::Ours).await;
    let mut finished = false;
    for cut in 0..200_u32 {
        // Few steps are many states early on, and ever fewer later.
        let steps = cut * cut.div_ceil(4).max(1);
        let tag = hand.tag("crash");
        let item = hand.prepare(&tag, Joins::InVain).await;
        finished = {
            let mut call = Box::pin(hand.launch(&item));
            poll_some(&mut call, steps).await
        };
        hand.restart();
        let seen = hand.listed(&tag).await;
        assert!(seen.iter().filter(|o| is_there(o)).count() <= 1, "{seen:?}");
        let item = hand.prepare(&tag, Joins::InVain).await;
        let at = accepted(hand.launch(&item).await);
        hand.wait_running(&tag, 1).await;
        let instances: Vec<Observed> = hand.listed(&tag).await.into_iter().filter(is_there).collect();
        assert_eq!(instances.iter().map(|o| &o.at).collect::<Vec<_>>(), [&at]);
        hand.provider.terminate(&at).await.expect("terminated");
        assert_eq!(bench.running(&tag).await, 0);
        assert_eq!(hand.listed(&tag).await, vec![]);
        if finished {
            break;
        }
    }
    assert!(finished, "the launch never came to its end");
    hand.clear().await;
}

/// Polls until it is done or was woken so many times.
pub(super) async fn poll_some<T>(call: &mut (impl Future<Output = T> + Unpin), steps: u32) -> bool {
    for _ in 0..=steps {
        if call.now_or_never().is_some() {
            return true;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    false
}

pub async fn a_lost_reply_is_found_by_token(bench: &dyn Bench) {
    let mut hand = Hand::new(bench, Of::Ours).await;
    let tag = hand.tag("lost");
    let item = hand.prepare(&tag, Joins::InVain).await;
    let reply = accepted(hand.launch(&item).await);
    hand.restart();
    let listed = hand.listed(&tag).await;
    assert_eq!(listed.iter().map(|o| &o.at).collect::<Vec<_>>(), [&reply]);
    assert!(is_there(&listed[0]), "{listed:?}");
    let inspected = hand.provider.inspect(&reply).await.expect("inspected").expect("there");
    assert_eq!(inspected.tag.as_ref(), Some(&tag));
    assert_eq!(accepted(hand.launch(&item).await), reply);
    hand.clear().await;
}

pub async fn terminating_twice_is_as_good_as_once(bench: &dyn Bench) {
    let hand = Hand::new(bench, Of::Ours).await;
    let tag = hand.tag("end");
    let at = hand.launched(&tag).await;
    hand.wait_running(&tag, 1).await;
    let (one, other) = tokio::join!(hand.provider.terminate(&at), hand.provider.terminate(&at));
    one.and(other).expect("both at once");
    assert_eq!(bench.running(&tag).await, 0, "Ok means that it is gone");
    hand.provider.terminate(&at).await.expect("again");
    assert_eq!(hand.provider.inspect(&at).await.expect("inspected"), None);
    assert_eq!(hand.provider.console_tail(&at, 100).await.expect("read"), None);
    let never = ProviderRef(at.0.replace(|c: char| c.is_ascii_digit(), "7"));
    hand.provider.terminate(&never).await.expect("what never was");
    hand.provider.terminate(&ProviderRef("no reference".into())).await.expect("what cannot be");
    hand.clear().await;
}

pub async fn an_image_that_does_not_exist_is_named(bench: &dyn Bench) {
    let provider = bench.provider(Of::Ours);
    let Some((request, name)) = bench.missing_image() else {
        assert!(!provider.capabilities().images, "a provider with images lends a missing one");
        return;
    };
    let error = provider.resolve(&request).await.expect_err("it does not exist");
    assert_eq!(error.class, FailureClass::Image, "{error}");
    assert!(error.to_string().contains(&name), "{error}");
}

/// Within a second and with its own words, best of three: the machine may be busy.
pub async fn an_instance_that_dies_before_attaching_is_seen_at_once(bench: &dyn Bench) {
    let hand = Hand::new(bench, Of::Ours).await;
    let mut best = Duration::MAX;
    for _ in 0..3 {
        let tag = hand.tag("dies");
        let item = hand.prepare(&tag, Joins::Never).await;
        let hints = async {
            loop {
                hand.provider.next_hint().await;
                let seen = hand.listed(&tag).await;
                if seen.iter().any(|o| matches!(o.state, ObservedState::Ended { .. })) {
                    return Instant::now();
                }
            }
        };
        let launch = async {
            let outcome = hand.launch(&item).await;
            (outcome, Instant::now())
        };
        // Listening before the launch, as the fleet does.
        let (seen, (outcome, launched)) = tokio::join!(tokio::time::timeout(PATIENCE, hints), launch);
        let at = match outcome {
            LaunchOutcome::Accepted { at } | LaunchOutcome::Died { at, .. } => at,
            other => panic!("{other:?}"),
        };
        best = best.min(seen.expect("a hint").saturating_duration_since(launched));
        let inspected = hand.provider.inspect(&at).await.expect("inspected").expect("there");
        assert!(matches!(inspected.state, ObservedState::Ended { .. }), "{inspected:?}");
        let console = hand.console_with(&at, "join document").await;
        let short = hand.provider.console_tail(&at, 10).await.expect("read").expect("its output");
        assert!(short.len() <= 10 && console.ends_with(&short), "{short}");
        let again = hand.launch(&item).await;
        assert!(matches!(&again, LaunchOutcome::Died { at: dead, .. } if *dead == at), "{again:?}");
        hand.provider.terminate(&at).await.expect("terminated");
    }
    eprintln!("seen {best:?} after the launch");
    assert!(best < Duration::from_secs(1), "seen after {best:?}");
    hand.clear().await;
}

/// How long a hint may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

pub async fn an_instance_killed_from_outside_is_seen(bench: &dyn Bench) {
    let mut hand = Hand::new(bench, Of::Ours).await;
    let tag = hand.tag("killed");
    let at = hand.launched(&tag).await;
    hand.wait_running(&tag, 1).await;
    // By a master that did not launch it.
    hand.restart();
    assert!(hand.listed(&tag).await.iter().any(is_there));
    let hint = async {
        loop {
            match hand.provider.next_hint().await {
                Hint::Instance(seen) if seen == at => return,
                Hint::Instance(_) | Hint::Everything => {}
            }
        }
    };
    let kill = async {
        // Once the hint is being waited for.
        tokio::task::yield_now().await;
        bench.kill(&tag).await;
    };
    let (hinted, ()) = tokio::join!(tokio::time::timeout(PATIENCE, hint), kill);
    hinted.expect("a hint");
    until("it is seen as ended", async || {
        let seen = hand.provider.inspect(&at).await.expect("inspected");
        seen.is_some_and(|o| matches!(o.state, ObservedState::Ended { .. }))
    })
    .await;
    hand.clear().await;
}

pub async fn an_orphan_of_an_earlier_store_epoch_is_listed_with_its_tag(bench: &dyn Bench) {
    let before = Hand::new(bench, Of::Ours).await;
    let tag = before.tag("orphan");
    let at = before.launched(&tag).await;
    let after = Hand::new(bench, Of::Restored).await;
    let listed = after.listed(&tag).await;
    assert_eq!(listed.iter().map(|o| &o.at).collect::<Vec<_>>(), [&at]);
    assert_eq!(tag.store_epoch, 1);
    // A worker of the new epoch with the same number is another one.
    let mut reborn = after.tag("orphan");
    (reborn.worker, reborn.store_epoch) = (tag.worker, 2);
    let other = after.launched(&reborn).await;
    assert_ne!(other, at);
    after.provider.terminate(&at).await.expect("terminated");
    assert_eq!((bench.running(&tag).await, after.listed(&tag).await.len()), (0, 0));
    after.wait_running(&reborn, 1).await;
    after.clear().await;
}

pub async fn what_belongs_to_others_is_neither_listed_nor_touched(bench: &dyn Bench) {
    let theirs = Hand::new(bench, Of::Foreign).await;
    let tag = theirs.tag("foreign");
    let at = theirs.launched(&tag).await;
    theirs.wait_running(&tag, 1).await;
    let ours = Hand::new(bench, Of::Ours).await;
    assert_eq!(ours.provider.list().await.expect("a list"), vec![]);
    assert_eq!(ours.provider.inspect(&at).await.expect("inspected"), None);
    assert_eq!(ours.provider.console_tail(&at, 100).await.expect("read"), None);
    ours.provider.terminate(&at).await.expect("nothing of ours is there");
    assert_eq!(bench.running(&tag).await, 1, "killed what belongs to another installation");
    assert!(theirs.listed(&tag).await.iter().any(|o| o.at == at && is_there(o)));
    theirs.clear().await;
}

/// What is asked for is launched, that alone, and what an account does not have says nothing of what else it has.
pub async fn an_offering_that_is_out_is_named_and_leaves_the_others(bench: &dyn Bench) {
    let Some(Sold { spec, out, other }) = bench.sold().await else { return };
    let mut hand = Hand::new(bench, Of::Ours).await;
    hand.spec = spec;
    let (lacks, comes) = (hand.tag("lacks"), hand.tag("comes"));
    let of = async |tag, offering: &String| LaunchItem {
        offering: Some(offering.clone()),
        ..hand.prepare(tag, Joins::InVain).await
    };
    let items = [of(&lacks, &out).await, of(&comes, &other).await];
    let refused = LaunchOutcome::NoCapacity { offering: out.clone() };
    let mut outcomes = hand.provider.launch(&hand.spec, &items).await;
    assert_eq!(outcomes.len(), 2, "one outcome for each item");
    assert_eq!(outcomes.remove(0), refused, "in one call, by its own name");
    let at = accepted(outcomes.remove(0));
    assert_eq!(hand.launch(&items[0]).await, refused, "however often");
    assert_eq!(accepted(hand.launch(&items[1]).await), at, "the token makes it one");
    hand.wait_running(&comes, 1).await;
    let instances: Vec<Observed> = hand.listed(&lacks).await.into_iter().filter(is_there).collect();
    assert_eq!(instances, vec![], "no other one in its place");
    hand.clear().await;
}

pub async fn a_crowd_at_once(bench: &dyn Bench) {
    let hand = Hand::new(bench, Of::Ours).await;
    let tags: Vec<_> = (0..bench.crowd()).map(|_| hand.tag("crowd")).collect();
    let mut items = Vec::new();
    for tag in &tags {
        items.push(hand.prepare(tag, Joins::InVain).await);
    }
    let since = Instant::now();
    let outcomes = hand.provider.launch(&hand.spec, &items).await;
    eprintln!("{} launches took {:?}", items.len(), since.elapsed());
    let all: Vec<ProviderRef> = outcomes.into_iter().map(accepted).collect();
    assert_eq!(all.iter().collect::<HashSet<_>>().len(), tags.len(), "one instance for each");
    for (tag, at) in tags.iter().zip(&all) {
        hand.wait_running(tag, 1).await;
        let seen = hand.provider.inspect(at).await.expect("inspected").expect("there");
        assert_eq!(seen.tag.as_ref(), Some(tag), "in the order of the items");
    }
    let listed = hand.provider.list().await.expect("a list");
    assert_eq!(listed.iter().filter(|o| is_there(o)).count(), tags.len());
    let since = Instant::now();
    for ended in join_all(all.iter().map(|at| hand.provider.terminate(at))).await {
        ended.expect("terminated");
    }
    eprintln!("{} ends took {:?}", items.len(), since.elapsed());
    hand.clear().await;
}

pub async fn side_resources_are_listed_and_removed(bench: &dyn Bench) {
    let mut hand = Hand::new(bench, Of::Ours).await;
    let prepared = hand.tag("prepared");
    // The master dies after it had made the link folder.
    hand.prepare(&prepared, Joins::InVain).await;
    let at = hand.launched(&hand.tag("launched")).await;
    hand.restart();
    let left = hand.listed(&prepared).await;
    assert!(left.iter().all(|o| matches!(o.state, ObservedState::Resource { keep: false, .. })), "{left:?}");
    for resource in &left {
        hand.provider.terminate(&resource.at).await.expect("removed");
    }
    assert_eq!(hand.listed(&prepared).await, vec![]);
    hand.provider.terminate(&at).await.expect("terminated");
    // What is to stay as long as the installation says so; all else has gone with the instance.
    let stays = hand.provider.list().await.expect("a list");
    assert!(stays.iter().all(|o| matches!(o.state, ObservedState::Resource { .. })), "{stays:?}");
    assert!(stays.iter().all(|o| o.tag.is_none()), "{stays:?}");
    hand.clear().await;
}
