//! How many to launch and whom to end, for any demand and any fleet.

use proptest::prelude::*;
use rouse_model::durations::Durations;
use rouse_model::matching::ReuseClass;
use rouse_model::money::Money;
use rouse_model::scaling::{Answer, Bound, Capacity, Coming, Demand, Limits, Reason, Running, decide};
use rouse_model::{Timestamp, Trust, WorkerId};
use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

pub(crate) const NOW: Timestamp = Timestamp(10_000_000_000);
const BOOT: Duration = Duration::from_secs(80);

pub(crate) fn class(n: usize) -> ReuseClass {
    ReuseClass {
        pool: "big".into(),
        spec_digest: format!("{n}"),
        trust: Trust::Trusted,
        project: "default".into(),
    }
}

/// What a worker is doing.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Doing {
    Coming,
    Idle(i64),
    Busy(usize),
    Leaving,
}

fn limits() -> impl Strategy<Value = Limits> {
    (0..4usize, 0..8usize, 1..4usize, 1..6usize, prop::sample::select(vec![0u64, 60, 600])).prop_map(
        |(min, more, slots, builds, idle)| Limits {
            min,
            max: min + more,
            waiting: 0,
            slots,
            builds,
            idle: Duration::from_secs(idle),
            ..plain(0)
        },
    )
}

fn doing() -> impl Strategy<Value = Doing> {
    prop_oneof![
        Just(Doing::Coming),
        (0..1200i64).prop_map(Doing::Idle),
        (1..4usize).prop_map(Doing::Busy),
        Just(Doing::Leaving),
    ]
}

pub(crate) fn fleet() -> impl Strategy<Value = (Limits, Vec<Demand>, Vec<Capacity>)> {
    let demand = prop::collection::vec((0..4usize, 0..9usize), 0..6);
    let workers = prop::collection::vec((0..4usize, doing(), 0..6usize), 0..10);
    (limits(), demand, workers).prop_map(|(limits, demand, workers)| {
        let demand = demand.into_iter().map(|(n, waiting)| Demand::waiting(class(n), waiting)).collect();
        let capacity = workers
            .into_iter()
            .zip(1..)
            .map(|((n, doing, uses), id)| capacity(&limits, id, n, doing, uses))
            .collect();
        (limits, demand, capacity)
    })
}

/// The same with all that can be looked ahead to.
fn foreseen() -> impl Strategy<Value = (Limits, Vec<Demand>, Vec<Capacity>)> {
    let coming = prop::collection::vec((0..200u64, 0..=10u8), 0..6);
    let ahead = prop::collection::vec((coming, 0..30u8), 6);
    let ages = prop::collection::vec(0..300u64, 10);
    (fleet(), ahead, ages, 0..20u8, 0..=4u8).prop_map(
        |((mut limits, mut demand, mut capacity), ahead, ages, reserve, foretold)| {
            limits.boot = Some(BOOT);
            limits.reserve = f64::from(reserve) / 10.0;
            limits.foretold = f64::from(foretold) / 4.0;
            for (wish, (mut coming, unforeseen)) in demand.iter_mut().zip(ahead) {
                coming.sort_unstable();
                let coming = coming.into_iter().map(|(seconds, likely)| Coming {
                    due: NOW + Duration::from_secs(seconds),
                    likely: f64::from(likely) / 10.0,
                    beside: f64::from(likely) / 50.0,
                });
                wish.coming = coming.collect();
                wish.unforeseen = f64::from(unforeseen) / 10.0;
            }
            let usual = Arc::new(Durations::of((1..=200).map(Duration::from_secs)));
            for (worker, age) in capacity.iter_mut().zip(ages) {
                let running = Running { since: NOW - Duration::from_secs(age), usual: Arc::clone(&usual) };
                worker.running = vec![running; worker.slots - worker.free];
            }
            (limits, demand, capacity)
        },
    )
}

fn capacity(limits: &Limits, id: i64, n: usize, doing: Doing, uses: usize) -> Capacity {
    let busy = if let Doing::Busy(busy) = doing { busy.min(limits.slots) } else { 0 };
    let fresh = matches!(doing, Doing::Coming);
    Capacity {
        worker: WorkerId(id),
        class: class(n),
        free: limits.slots - busy,
        locked: 0,
        slots: limits.slots,
        leaving: doing == Doing::Leaving,
        waits: false,
        idle_since: if let Doing::Idle(s) = doing {
            Some(NOW - Duration::from_secs(s.unsigned_abs()))
        } else {
            None
        },
        up_by: fresh.then_some(NOW + BOOT),
        parked: None,
        running: Vec::new(),
        uses_left: if fresh { limits.builds } else { uses.min(limits.builds) },
        spares: Money::default(),
    }
}

pub(crate) fn launched(decision: &Answer) -> usize {
    decision.launch.iter().map(|(_, n)| n).sum()
}

/// The fleet once everything that was decided has been done, and nothing else has happened.
pub(crate) fn carried_out(limits: &Limits, capacity: &[Capacity], decision: &Answer) -> Vec<Capacity> {
    let ended: HashSet<WorkerId> = decision.end.iter().map(|(w, _)| *w).collect();
    let mut after: Vec<Capacity> = capacity.to_vec();
    for worker in &mut after {
        worker.leaving |= ended.contains(&worker.worker);
    }
    let mut id = 1000;
    for (class, count) in &decision.launch {
        for _ in 0..*count {
            id += 1;
            after.push(Capacity {
                class: class.clone(),
                ..self::capacity(limits, id, 0, Doing::Coming, limits.builds)
            });
        }
    }
    after
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn it_never_grows_above_the_maximum((limits, demand, capacity) in fleet()) {
        let decision = decide(&limits, &demand, &capacity, NOW);
        let room = limits.max.saturating_sub(capacity.len());
        prop_assert!(launched(&decision) <= room, "those on their way and those that leave take room, too");
        let held: usize = decision.held_back.iter().map(|(_, n, _)| n).sum();
        prop_assert!(held == 0 || launched(&decision) == room, "nobody is held back while there is room");
    }

    #[test]
    fn it_launches_what_is_missing_and_no_more((limits, demand, capacity) in fleet()) {
        let decision = decide(&limits, &demand, &capacity, NOW);
        let mut waiting: BTreeMap<ReuseClass, usize> = BTreeMap::new();
        for wish in &demand {
            *waiting.entry(wish.class.clone()).or_default() += wish.waiting;
        }
        let each = limits.slots.min(limits.builds);
        for (class, waiting) in waiting {
            let supply: usize = capacity
                .iter()
                .filter(|w| w.class == class && !w.leaving)
                .map(|w| w.free.min(w.uses_left))
                .sum();
            let of = |list: &[(ReuseClass, usize)]| -> usize {
                list.iter().filter(|(c, _)| *c == class).map(|(_, n)| n).sum()
            };
            let held: Vec<_> = decision.held_back.iter().map(|(class, n, _)| (class.clone(), *n)).collect();
            let (new, held) = (of(&decision.launch), of(&held));
            if supply >= waiting {
                prop_assert_eq!(new + held, 0, "{:?} is covered", class);
            } else {
                let missing = waiting - supply;
                prop_assert_eq!(new + held, missing.div_ceil(each), "of {:?}", class);
            }
        }
        prop_assert!(decision.launch.iter().all(|(c, n)| *n > 0 && demand.iter().any(|d| d.class == *c)));
    }

    #[test]
    fn it_ends_idle_workers_alone_and_each_once((limits, demand, capacity) in fleet()) {
        let decision = decide(&limits, &demand, &capacity, NOW);
        let mut seen = HashSet::new();
        for (id, reason) in &decision.end {
            prop_assert!(seen.insert(*id), "{} twice", id);
            let worker = capacity.iter().find(|w| w.worker == *id).expect("it was shown");
            prop_assert!(!worker.leaving, "it leaves already");
            let since = worker.idle_since.ok_or_else(|| TestCaseError::fail("it is busy, or on its way"))?;
            let wanted = demand.iter().any(|d| d.class == worker.class && d.waiting > 0);
            match reason {
                Reason::Used => prop_assert_eq!(worker.uses_left, 0),
                Reason::Idle => prop_assert!(!wanted && NOW.since(since) >= limits.idle),
                Reason::Displaced => prop_assert!(!wanted && !decision.held_back.is_empty()),
                Reason::Budget => prop_assert!(false, "there is none"),
            }
        }
    }

    #[test]
    fn idleness_alone_never_goes_below_the_minimum((limits, demand, capacity) in fleet()) {
        let decision = decide(&limits, &demand, &capacity, NOW);
        let there = capacity.iter().filter(|w| !w.leaving).count() + launched(&decision);
        let idle = decision.end.iter().filter(|(_, r)| *r == Reason::Idle).count();
        let others = decision.end.len() - idle;
        prop_assert!(idle == 0 || there - others - idle >= limits.min, "{} of {} stay", there - others - idle, there);
    }

    #[test]
    fn no_more_are_displaced_than_wait((limits, demand, capacity) in fleet()) {
        let decision = decide(&limits, &demand, &capacity, NOW);
        let displaced = decision.end.iter().filter(|(_, r)| *r == Reason::Displaced).count();
        let held: usize = decision.held_back.iter().map(|(_, n, _)| n).sum();
        let leaving = capacity.iter().filter(|w| w.leaving).count();
        prop_assert!(displaced + leaving.min(held) <= held.max(displaced * usize::from(leaving == 0)));
    }

    #[test]
    fn whatever_is_foreseen_the_limits_hold((limits, demand, capacity) in foreseen()) {
        let decision = decide(&limits, &demand, &capacity, NOW);
        prop_assert!(launched(&decision) <= limits.max.saturating_sub(capacity.len()));
        let there = capacity.iter().filter(|w| !w.leaving).count() + launched(&decision);
        let idle = decision.end.iter().filter(|(_, r)| *r == Reason::Idle).count();
        prop_assert!(idle == 0 || there - decision.end.len() >= limits.min);
        for (class, terms) in &decision.terms {
            let waiting: usize = demand.iter().filter(|d| d.class == *class).map(|d| d.waiting).sum();
            prop_assert_eq!(terms.waiting, waiting);
            let wanted = terms.waiting as f64 + terms.announced + terms.unforeseen + terms.reserve;
            let more = wanted - terms.free as f64 - terms.booting as f64 - terms.ending;
            let of = |list: &[(ReuseClass, usize)]| -> usize {
                list.iter().filter(|(c, _)| c == class).map(|(_, n)| n).sum()
            };
            let held: Vec<_> = decision.held_back.iter().map(|(class, n, _)| (class.clone(), *n)).collect();
            let each = limits.slots.min(limits.builds);
            let asked = of(&decision.launch) + of(&held);
            // Where it is just between two, in which order it is added up decides.
            let rounded = |more: f64| (more.round().max(0.0) as usize).div_ceil(each);
            let fits = [more - 1e-9, more + 1e-9].map(rounded).contains(&asked);
            prop_assert!(fits, "{} for {} more: {:?}", asked, more, terms);
        }
    }

    /// What is launched now is not launched again at the next look, nor is what is kept ended.
    #[test]
    fn what_is_foreseen_is_launched_once((limits, demand, capacity) in foreseen()) {
        let first = decide(&limits, &demand, &capacity, NOW);
        let after = carried_out(&limits, &capacity, &first);
        let second = decide(&limits, &demand, &after, NOW);
        prop_assert_eq!(&second.launch, &vec![], "after {:?}", first);
        let idle = |d: &Answer| d.end.iter().filter(|(_, r)| *r == Reason::Idle).count();
        prop_assert_eq!(idle(&second), 0, "after {:?}", first);
    }

    /// Done once, it is done.
    #[test]
    fn what_it_decides_it_decides_once((limits, demand, capacity) in fleet()) {
        let first = decide(&limits, &demand, &capacity, NOW);
        let after = carried_out(&limits, &capacity, &first);
        let second = decide(&limits, &demand, &after, NOW);
        prop_assert_eq!(&second.launch, &vec![], "after {:?}", first);
        prop_assert_eq!(&second.end, &vec![], "after {:?}", first);
        prop_assert_eq!(&second.held_back, &first.held_back);
    }

    #[test]
    fn it_is_a_function((limits, demand, capacity) in fleet()) {
        let once = decide(&limits, &demand, &capacity, NOW);
        let mut shuffled = capacity.clone();
        shuffled.reverse();
        let mut other = decide(&limits, &demand, &shuffled, NOW);
        prop_assert_eq!(decide(&limits, &demand, &capacity, NOW), once.clone());
        // In whatever order the workers are shown; those that are used up are named in that order.
        let sorted = |mut d: Answer| {
            d.end.sort_by_key(|(w, _)| *w);
            d
        };
        other = sorted(other);
        prop_assert_eq!(other, sorted(once));
    }
}

pub(crate) fn plain(max: usize) -> Limits {
    Limits {
        min: 0,
        max,
        waiting: 0,
        slots: 1,
        builds: 10,
        ramp: usize::MAX,
        idle: Duration::from_secs(60),
        boot: None,
        foretold: 0.0,
        reserve: 0.0,
        warm: 0,
        park: 0,
        usual: None,
        purse: None,
    }
}

#[test]
fn who_waits_first_is_served_first() {
    let demand = [Demand::waiting(class(2), 3), Demand::waiting(class(1), 3)];
    let decision = decide(&plain(4), &demand, &[], NOW);
    assert_eq!(decision.launch, [(class(2), 3), (class(1), 1)]);
    assert_eq!(decision.held_back, [(class(1), 2, Bound::Max)]);
}

#[test]
fn at_the_maximum_the_longest_idle_of_another_class_makes_room() {
    let limits = plain(3);
    let fleet = [
        capacity(&limits, 1, 0, Doing::Idle(5), 5),
        capacity(&limits, 2, 0, Doing::Idle(9), 5),
        capacity(&limits, 3, 0, Doing::Busy(1), 5),
    ];
    let demand = [Demand::waiting(class(1), 1)];
    let decision = decide(&limits, &demand, &fleet, NOW);
    assert_eq!(decision.end, [(WorkerId(2), Reason::Displaced)]);
    assert_eq!(decision.held_back, [(class(1), 1, Bound::Max)]);
}

#[test]
fn who_only_waits_takes_no_room_up_to_a_cap_of_its_own() {
    let limits = Limits { waiting: 2, ..plain(1) };
    let waits = |id| Capacity { waits: true, ..capacity(&limits, id, 0, Doing::Busy(1), 0) };
    let demand = [Demand::waiting(class(0), 1)];
    let launches = |fleet: &[Capacity]| launched(&decide(&limits, &demand, fleet, NOW));
    assert_eq!(launches(&[waits(1)]), 1);
    assert_eq!(launches(&[waits(1), waits(2)]), 1);
    let full = decide(&limits, &demand, &[waits(1), waits(2), waits(3)], NOW);
    assert_eq!((launched(&full), full.held_back), (0, vec![(class(0), 1, Bound::Max)]));
    // One that goes on counts again: there is one too many for a while, and nothing is launched.
    let goes_on = capacity(&limits, 1, 0, Doing::Busy(1), 0);
    let at_work = capacity(&limits, 4, 0, Doing::Busy(1), 0);
    assert_eq!(launches(&[goes_on, waits(2), at_work]), 0);
    assert_eq!(launches(&[Capacity { leaving: true, ..waits(1) }]), 0, "what leaves takes room as ever");
}

/// Four slots, but one build in all: such a worker is worth one.
#[test]
fn a_worker_that_serves_one_build_counts_for_one() {
    let limits = Limits { slots: 4, builds: 1, ..plain(10) };
    let decision = decide(&limits, &[Demand::waiting(class(1), 4)], &[], NOW);
    assert_eq!(decision.launch, [(class(1), 4)]);
}

#[test]
fn what_a_worker_may_run_once_asks_for_a_worker_each() {
    let limits = Limits { slots: 3, builds: 9, ..plain(4) };
    let wish = |waiting| [Demand { at_once: Some(1), ..Demand::waiting(class(0), waiting) }];
    let decided = decide(&limits, &wish(3), &[], NOW);
    assert_eq!(decided.launch, [(class(0), 3)]);
    let mut one = capacity(&limits, 1, 0, Doing::Busy(1), 9);
    assert_eq!(launched(&decide(&limits, &wish(1), &[one.clone()], NOW)), 0, "it is free there");
    one.locked = 1;
    assert_eq!(launched(&decide(&limits, &wish(1), &[one.clone()], NOW)), 1);
    let anybody = [Demand::waiting(class(0), 2)];
    assert_eq!(launched(&decide(&limits, &anybody, &[one], NOW)), 0, "its other slots are for others");
}

/// Twelve busy workers, each with a build that has run for so long, of a kind that takes 200 s at most.
fn busy(limits: &Limits, seconds: u64, uses: usize) -> Vec<Capacity> {
    let usual = Arc::new(Durations::of((1..=200).map(Duration::from_secs)));
    let running = Running { since: NOW - Duration::from_secs(seconds), usual };
    (1..=12)
        .map(|id| Capacity {
            running: vec![running.clone()],
            ..capacity(limits, id, 0, Doing::Busy(1), uses)
        })
        .collect()
}

fn ahead(max: usize) -> Limits {
    Limits { boot: Some(BOOT), ..plain(max) }
}

fn coming(seconds: &[u64]) -> Demand {
    let coming =
        seconds.iter().map(|s| Coming { due: NOW + Duration::from_secs(*s), likely: 1.0, beside: 0.0 });
    Demand { coming: coming.collect(), ..Demand::waiting(class(0), 0) }
}

#[test]
fn what_is_due_before_a_worker_could_come_is_launched_for() {
    let due = [coming(&[0, 40, 80, 81, 200])];
    assert_eq!(launched(&decide(&ahead(9), &due, &[], NOW)), 3);
    assert_eq!(launched(&decide(&plain(9), &due, &[], NOW)), 0, "nobody knows how long a worker takes");
    let fleet = [capacity(&ahead(9), 1, 0, Doing::Idle(1), 5), capacity(&ahead(9), 2, 0, Doing::Coming, 5)];
    let decided = decide(&ahead(9), &due, &fleet, NOW);
    assert_eq!(launched(&decided), 1);
    let (_, terms) = &decided.terms[0];
    assert_eq!((terms.waiting, terms.announced, terms.free, terms.booting), (0, 3.0, 1, 1));
}

#[test]
fn what_may_come_to_nothing_counts_by_how_likely_it_is() {
    let mut due = coming(&[10; 10]);
    due.coming.iter_mut().for_each(|coming| coming.likely = 0.3);
    assert_eq!(launched(&decide(&ahead(20), &[due.clone()], &[], NOW)), 3);
    // One standard deviation of ten such is 1.45.
    let careful = Limits { reserve: 1.0, ..ahead(20) };
    assert_eq!(launched(&decide(&careful, &[due.clone()], &[], NOW)), 4);
    due.coming.iter_mut().for_each(|coming| coming.beside = 0.2);
    assert_eq!(launched(&decide(&ahead(20), &[due], &[], NOW)), 5);
    let more = Demand { unforeseen: 2.6, ..Demand::waiting(class(0), 1) };
    assert_eq!(launched(&decide(&ahead(20), &[more], &[], NOW)), 4);
}

#[test]
fn builds_that_will_have_ended_by_then_give_their_slots_back() {
    let waiting = [Demand::waiting(class(0), 9)];
    let limits = ahead(40);
    // Of those that have run for 100 s, 80 of 101 end within the next 80.
    let decided = decide(&limits, &waiting, &busy(&limits, 100, 5), NOW);
    let (_, terms) = &decided.terms[0];
    assert!((terms.ending - 12.0 * 80.0 / 101.0).abs() < 0.2, "{terms:?}");
    assert_eq!(launched(&decided), 0);
    assert_eq!(launched(&decide(&limits, &waiting, &busy(&limits, 0, 5), NOW)), 4, "80 of 201");
    assert_eq!(launched(&decide(&limits, &waiting, &busy(&limits, 100, 0), NOW)), 9, "they serve no more");
    assert_eq!(launched(&decide(&limits, &waiting, &busy(&limits, 500, 5), NOW)), 9, "who knows when");
}

#[test]
fn an_idle_worker_that_will_be_wanted_before_another_could_come_stays() {
    let fleet = [1, 2, 3].map(|id| capacity(&ahead(9), id, 0, Doing::Idle(100 * id), 5));
    let ended = |limits: &Limits, demand: &[Demand]| {
        let decided = decide(limits, demand, &fleet, NOW);
        decided.end.iter().map(|(worker, _)| worker.0).collect::<Vec<_>>()
    };
    assert_eq!(ended(&ahead(9), &[]), [3, 2, 1]);
    assert_eq!(ended(&ahead(9), &[coming(&[70])]), [3, 2], "the one that became idle last is given it");
    assert_eq!(ended(&ahead(9), &[coming(&[90])]), [3, 2, 1], "by then another could come");
    assert_eq!(ended(&plain(9), &[coming(&[70])]), [3, 2, 1]);
    let patient = Limits { idle: Duration::from_secs(250), ..ahead(9) };
    assert_eq!(ended(&patient, &[]), [3]);
    assert_eq!(
        ended(&Limits { foretold: 0.5, ..patient.clone() }, &[]),
        [3, 2],
        "half of what comes is announced"
    );
    assert_eq!(
        ended(&Limits { foretold: 1.0, ..patient }, &[]),
        [3, 2, 1],
        "what is not announced does not come"
    );
}

#[test]
fn who_waits_comes_before_what_may_come_and_what_may_come_displaces_nobody() {
    let hoped = Demand { unforeseen: 3.0, ..Demand::waiting(class(1), 0) };
    let demand = [hoped.clone(), Demand::waiting(class(0), 2)];
    assert_eq!(decide(&ahead(3), &demand, &[], NOW).launch, [(class(0), 2), (class(1), 1)]);
    let fleet = [1, 2].map(|id| capacity(&ahead(2), id, 0, Doing::Idle(1), 5));
    let decided = decide(&ahead(2), &[hoped], &fleet, NOW);
    assert!(decided.end.is_empty(), "{decided:?}");
    let announced = Demand { class: class(1), ..coming(&[70]) };
    assert_eq!(decide(&ahead(2), &[announced], &fleet, NOW).end, [(WorkerId(1), Reason::Displaced)]);
}

#[test]
fn no_more_come_at_one_time_than_may() {
    let limits = Limits { ramp: 3, ..plain(9) };
    let fleet = [capacity(&limits, 1, 0, Doing::Coming, 5)];
    let decided = decide(&limits, &[Demand::waiting(class(0), 6)], &fleet, NOW);
    assert_eq!(decided.launch, [(class(0), 2)]);
    assert_eq!(decided.held_back, [(class(0), 3, Bound::Ramp)]);
    assert_eq!(decided.end, [], "nobody makes room where there is room");
}
