//! Which idle workers are parked, and which parked ones are resumed or end.

use crate::scaling::{NOW, class, plain};
use rouse_model::money::Money;
use rouse_model::scaling::{Answer, Bound, Capacity, Demand, Limits, Purse, Reason, decide};
use rouse_model::{Timestamp, WorkerId};

fn ago(seconds: i64) -> Timestamp {
    Timestamp(NOW.0 - seconds * 1_000_000)
}

fn idle(id: i64, n: usize, seconds: i64) -> Capacity {
    Capacity {
        worker: WorkerId(id),
        class: class(n),
        free: 1,
        locked: 0,
        slots: 1,
        leaving: false,
        waits: false,
        idle_since: Some(ago(seconds)),
        up_by: None,
        parked: None,
        spares: Money(0),
        uses_left: 5,
        running: Vec::new(),
    }
}

fn parked(id: i64, n: usize, seconds: i64) -> Capacity {
    Capacity { free: 0, idle_since: None, parked: Some(ago(seconds)), ..idle(id, n, 0) }
}

fn limits(max: usize, park: usize) -> Limits {
    Limits { park, ..plain(max) }
}

fn answer(limits: &Limits, waiting: &[(usize, usize)], fleet: &[Capacity]) -> Answer {
    let demand: Vec<Demand> = waiting.iter().map(|(n, count)| Demand::waiting(class(*n), *count)).collect();
    decide(limits, &demand, fleet, NOW)
}

fn ids(of: &[i64]) -> Vec<WorkerId> {
    of.iter().copied().map(WorkerId).collect()
}

#[test]
fn who_would_end_for_idleness_is_parked_as_far_as_there_is_room() {
    let fleet = [idle(1, 0, 900), idle(2, 0, 100), idle(3, 0, 200), idle(4, 0, 5)];
    let none = answer(&limits(9, 0), &[], &fleet);
    assert_eq!((none.park, none.end.len()), (vec![], 3));
    let two = answer(&limits(9, 2), &[], &fleet);
    assert_eq!((two.park, two.end), (ids(&[2, 3]), vec![(WorkerId(1), Reason::Idle)]), "who was used last");
    let used = answer(&limits(9, 2), &[], &[Capacity { uses_left: 0, ..idle(1, 0, 900) }]);
    assert_eq!((used.park, used.end), (vec![], vec![(WorkerId(1), Reason::Used)]));
    let one = answer(&limits(9, 2), &[], &[idle(1, 0, 900), idle(2, 0, 100), parked(7, 0, 50)]);
    assert_eq!((one.park, one.end), (ids(&[2]), vec![(WorkerId(1), Reason::Idle)]));
}

#[test]
fn rather_one_of_each_class_is_kept_than_several_of_one() {
    let fleet = [parked(1, 0, 50), parked(2, 0, 500), idle(3, 1, 100)];
    let swapped = answer(&limits(9, 2), &[], &fleet);
    assert_eq!((swapped.park, swapped.end), (ids(&[3]), vec![(WorkerId(2), Reason::Displaced)]));
    let fleet = [parked(1, 0, 50), parked(2, 1, 500), idle(3, 1, 100)];
    let stays = answer(&limits(9, 2), &[], &fleet);
    assert_eq!((stays.park, stays.end), (vec![], vec![(WorkerId(3), Reason::Idle)]), "nothing is gained");
    let two = [parked(1, 0, 50), parked(2, 0, 500), idle(3, 1, 100), idle(4, 1, 200)];
    let once = answer(&limits(9, 2), &[], &two);
    assert_eq!(once.park, ids(&[3]), "one of each: the other one gains nothing more");
    assert_eq!(once.end, [(WorkerId(4), Reason::Idle), (WorkerId(2), Reason::Displaced)]);
    let fewer = answer(&limits(9, 1), &[], &fleet[..2]);
    assert_eq!(fewer.end, [(WorkerId(2), Reason::Idle)], "after a change of the configuration");
}

#[test]
fn parked_ones_come_before_launches_the_last_one_first() {
    let fleet = [parked(1, 0, 500), parked(2, 0, 50), parked(3, 1, 5)];
    let some = answer(&limits(9, 3), &[(0, 1)], &fleet);
    assert_eq!((some.resume, some.launch, some.end), (ids(&[2]), vec![], vec![]));
    let all = answer(&limits(9, 3), &[(0, 4)], &fleet);
    assert_eq!((all.resume, all.launch), (ids(&[2, 1]), vec![(class(0), 2)]));
    // They have their room in the maximum already; one of another class makes some.
    let full = answer(&limits(3, 3), &[(0, 4)], &fleet);
    assert_eq!((full.resume, full.launch), (ids(&[2, 1]), vec![]));
    assert_eq!(full.held_back, [(class(0), 2, Bound::Max)]);
    assert_eq!(full.end, [(WorkerId(3), Reason::Displaced)]);
    let used = [Capacity { uses_left: 0, ..parked(1, 0, 5) }];
    let used = answer(&limits(9, 3), &[(0, 1)], &used);
    assert_eq!((used.resume, used.launch), (vec![], vec![(class(0), 1)]));
    assert_eq!(used.end, [(WorkerId(1), Reason::Used)]);
    let expired = answer(&limits(9, 3), &[(0, 1)], &[Capacity { leaving: true, ..parked(1, 0, 5) }]);
    assert_eq!((expired.resume, expired.launch), (vec![], vec![(class(0), 1)]));
}

#[test]
fn a_parked_one_is_neither_idle_nor_warm_and_makes_room_first() {
    let fleet = [parked(1, 0, 50), idle(2, 1, 5)];
    let full = answer(&limits(2, 2), &[(2, 1)], &fleet);
    assert_eq!(full.end, [(WorkerId(1), Reason::Displaced)], "before who idles");
    let leaves = [parked(1, 0, 50), Capacity { leaving: true, ..idle(2, 1, 5) }];
    assert_eq!(answer(&limits(2, 2), &[(2, 1)], &leaves).end, [], "one makes room already");
    // Nobody's class makes room for another while something waits for it.
    let wanted = [parked(1, 0, 500), parked(2, 0, 50), parked(3, 1, 5)];
    let full = answer(&limits(3, 3), &[(0, 1), (2, 1)], &wanted);
    assert_eq!((full.resume, full.end), (ids(&[2]), vec![(WorkerId(3), Reason::Displaced)]));
    let kept = Limits { min: 1, usual: Some(class(0)), ..limits(9, 2) };
    let warm = answer(&kept, &[], &[parked(1, 0, 50)]);
    assert_eq!((warm.resume, warm.launch), (ids(&[1]), vec![]), "one is to be there");
    assert_eq!(answer(&limits(9, 2), &[], &[parked(1, 0, 50)]), Answer::default());
}

#[test]
fn ramp_and_budget_hold_for_those_that_are_resumed() {
    let fleet = [parked(1, 0, 500), parked(2, 0, 50)];
    let slow = answer(&Limits { ramp: 1, ..limits(9, 2) }, &[(0, 2)], &fleet);
    assert_eq!((slow.resume, slow.held_back), (ids(&[2]), vec![(class(0), 1, Bound::Ramp)]));
    let purse = Some(Purse { left: Money(25), launch: Money(20) });
    let poor = answer(&Limits { purse, ..limits(9, 2) }, &[(0, 2)], &fleet);
    assert_eq!((poor.resume, poor.held_back), (ids(&[2]), vec![(class(0), 1, Bound::Budget)]));
    assert_eq!(poor.end, [], "what lies costs little");
}
