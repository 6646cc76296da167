//! What may be spent, and what is kept though nothing waits.

use crate::scaling::{NOW, carried_out, class, fleet, launched};
use proptest::prelude::*;
use rouse_model::budget::Parking;
use rouse_model::money::{Money, Price};
use rouse_model::scaling::{Bound, Capacity, Demand, Limits, Purse, Reason, decide};
use rouse_model::{Timestamp, WorkerId};
use std::collections::HashSet;

/// A fleet whose workers may each spare something, and a purse for it.
fn paid() -> impl Strategy<Value = (Limits, Vec<Demand>, Vec<Capacity>)> {
    let spares = prop::collection::vec(0..40i64, 10);
    (fleet(), spares, -100..200i64, 1..30i64).prop_map(
        |((mut limits, demand, mut capacity), spares, left, launch)| {
            limits.purse = Some(Purse { left: Money(left), launch: Money(launch) });
            for (worker, spares) in capacity.iter_mut().zip(spares) {
                worker.spares = Money(if worker.leaving { 0 } else { spares });
            }
            (limits, demand, capacity)
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn it_never_launches_what_it_cannot_pay((limits, demand, capacity) in paid()) {
        let answer = decide(&limits, &demand, &capacity, NOW);
        let Purse { left, launch } = limits.purse.expect("it has one");
        let cost = launch.0 * i64::try_from(launched(&answer)).unwrap();
        prop_assert!(cost <= left.0.max(0), "{} of {}", cost, left);
        let room = limits.max.saturating_sub(capacity.len()) - launched(&answer);
        let affords = left.0 - cost >= launch.0;
        prop_assert!(answer.held_back.is_empty() || room == 0 || !affords, "held back for no reason");
        let budget = answer.held_back.iter().any(|(_, _, bound)| *bound == Bound::Budget);
        prop_assert!(!budget || (room > 0 && !affords));
    }

    /// Where too much is promised, so many are given no more that it is not, or all are; and none beyond that.
    #[test]
    fn what_is_not_paid_for_is_spared((limits, demand, capacity) in paid()) {
        let answer = decide(&limits, &demand, &capacity, NOW);
        let of = |id: WorkerId| capacity.iter().find(|w| w.worker == id).expect("it was shown");
        let told: Vec<&Capacity> =
            answer.end.iter().filter(|(_, why)| *why == Reason::Budget).map(|(id, _)| of(*id)).collect();
        let lacks = -limits.purse.expect("it has one").left.0;
        let spared: i64 = told.iter().map(|worker| worker.spares.0).sum();
        prop_assert!(told.iter().all(|worker| !worker.leaving && worker.spares.0 > 0));
        let last = told.last().map_or(0, |worker| worker.spares.0);
        prop_assert!(told.is_empty() || spared - last < lacks, "{} too many for {}", spared, lacks);
        let named: HashSet<WorkerId> = answer.end.iter().map(|(id, _)| *id).collect();
        let more = capacity.iter().any(|w| !w.leaving && w.spares.0 > 0 && !named.contains(&w.worker));
        prop_assert!(spared >= lacks || !more, "{} of {}", spared, lacks);
        if told.iter().any(|worker| worker.idle_since.is_none()) {
            let idle = |w: &&Capacity| !w.leaving && w.idle_since.is_some() && w.spares.0 > 0;
            prop_assert!(capacity.iter().filter(idle).all(|w| named.contains(&w.worker)), "the idle ones first");
        }
    }

    /// `min` and `warm` hold of the class that was asked for last, as far as the maximum lets them, and what is launched for them is not launched again.
    #[test]
    fn what_is_kept_is_there((limits, demand, capacity) in fleet(), warm in 0..4usize) {
        let limits = Limits { warm, usual: Some(class(0)), ..limits };
        let first = decide(&limits, &demand, &capacity, NOW);
        let after = carried_out(&limits, &capacity, &first);
        let second = decide(&limits, &demand, &after, NOW);
        prop_assert_eq!(&second.launch, &vec![], "after {:?}", first);
        prop_assert!(second.end.iter().all(|(_, why)| *why != Reason::Idle), "after {:?}", first);
        if first.held_back.is_empty() {
            let stays = |w: &&Capacity| !w.leaving && (w.class == class(0) || w.idle_since.is_none());
            prop_assert!(after.iter().filter(stays).count() >= limits.min);
            let free = |w: &&Capacity| {
                !w.leaving && w.class == class(0) && w.uses_left > 0 && (w.idle_since.is_some() || w.up_by.is_some())
            };
            let waiting: usize = demand.iter().filter(|d| d.class == class(0)).map(|d| d.waiting).sum();
            let kept = after.iter().filter(free).count();
            prop_assert!(kept + waiting >= warm.min(kept + waiting) && kept >= warm.saturating_sub(waiting));
        }
    }
}

#[test]
fn what_lay_parked_has_spared_something_for_that_time_alone() {
    let hours = |n: i64| Timestamp::from_secs(n * 3_600);
    let of =
        |until| Parking { worker: WorkerId(1), nth: 0, since: hours(2), until, spares: Price(1_000_000) };
    assert_eq!(of(Some(hours(5))).spared(hours(0), hours(9)), Money(3_000_000), "until it was resumed");
    assert_eq!(of(None).spared(hours(0), hours(9)), Money(7_000_000), "it lies");
    assert_eq!(of(Some(hours(5))).spared(hours(4), hours(9)), Money(1_000_000), "from then on");
}
