//! Who gets a lock, for any order in which requests come and go.

use proptest::prelude::*;
use rouse_model::locks::{
    Blocked, Hold, Ledger, Lock, Need, Scope, Share, at_once_on_a_worker, has_all, of_workers,
};
use rouse_model::{RequestId, Trust, WorkerId};

const fn lock(count: u32, per: Scope) -> Lock {
    Lock { count, per, accepts: Trust::Trusted }
}

fn need(name: &'static str, count: u32, share: Share) -> Need<'static> {
    Need { name, lock: lock(count, Scope::Installation), share, branch: None }
}

fn share() -> impl Strategy<Value = Share> {
    prop_oneof![Just(Share::Exclusive), (1..4u32).prop_map(Share::Count)]
}

proptest! {
    /// As the fleet does it, pass by pass: the oldest first; whoever cannot have all keeps its place.
    #[test]
    fn no_lock_is_had_beyond_its_count_and_everybody_has_his_turn(
        wishes in prop::collection::vec((prop::option::of(share()), prop::option::of(share())), 1..12),
        ends in prop::collection::vec(0..12usize, 0..40),
    ) {
        let needs_of = |n: usize| {
            let (a, b) = wishes[n];
            let needs = [a.map(|share| need("a", 3, share)), b.map(|share| need("b", 5, share))];
            needs.into_iter().flatten().collect::<Vec<_>>()
        };
        let mut waiting: Vec<usize> = (0..wishes.len()).collect();
        let mut running: Vec<(usize, Vec<Hold>)> = Vec::new();
        let mut ends = ends.into_iter();
        let mut passes = 0;
        while !(waiting.is_empty() && running.is_empty()) {
            passes += 1;
            prop_assert!(passes < 100, "{waiting:?} wait for ever");
            let holds = running.iter().flat_map(|(n, holds)| holds.iter().map(|h| (RequestId(*n as i64), h)));
            let mut ledger = Ledger::of(holds);
            let first = waiting.first().copied();
            let before = running.len();
            waiting.retain(|n| {
                let needs = needs_of(*n);
                let id = RequestId(*n as i64);
                match ledger.try_all(&needs, Trust::Trusted, None) {
                    Ok(()) => {
                        let holds = ledger.take(id, &needs, None);
                        assert!(has_all(&holds, &needs));
                        running.push((*n, holds));
                        false
                    }
                    Err(_) => {
                        ledger.wait(id, &needs, None);
                        true
                    }
                }
            });
            if before == 0 && let Some(first) = first {
                prop_assert!(!waiting.contains(&first), "nobody is before the first");
            }
            for (name, count) in [("a", 3), ("b", 5)] {
                let of_lock = running.iter().flat_map(|(_, holds)| holds).filter(|hold| hold.lock == name);
                let shares: Vec<Share> = of_lock.map(|hold| hold.share).collect();
                let sum: u32 = shares.iter().map(|s| if let Share::Count(n) = s { *n } else { 0 }).sum();
                prop_assert!(sum <= count);
                prop_assert!(!shares.contains(&Share::Exclusive) || shares.len() == 1);
            }
            if !running.is_empty() {
                let at = ends.next().unwrap_or(0) % running.len();
                running.remove(at);
            }
        }
    }
}

#[test]
fn who_waits_for_all_of_a_lock_is_not_passed_by_who_wants_a_part() {
    let part = [need("a", 3, Share::Count(1))];
    let all = [need("a", 3, Share::Exclusive)];
    let mut ledger = Ledger::default();
    ledger.take(RequestId(1), &part, None);
    let blocked = Blocked::Taken { lock: "a".into(), by: vec![RequestId(1)], ahead: vec![] };
    assert_eq!(ledger.try_all(&all, Trust::Trusted, None), Err(blocked));
    assert_eq!(ledger.try_all(&part, Trust::Trusted, None), Ok(()));
    ledger.wait(RequestId(2), &all, None);
    let blocked = Blocked::Taken { lock: "a".into(), by: vec![RequestId(1)], ahead: vec![RequestId(2)] };
    assert_eq!(ledger.try_all(&part, Trust::Trusted, None), Err(blocked));
    ledger.forget(RequestId(2));
    assert_eq!(ledger.try_all(&part, Trust::Trusted, None), Ok(()));
}

#[test]
fn what_is_counted_on_workers_matters_once_there_is_one() {
    let rig = [Need { name: "rig", lock: lock(1, Scope::Worker), share: Share::Count(1), branch: None }];
    let mut ledger = Ledger::default();
    assert!(has_all(&[], &rig));
    let holds = ledger.take(RequestId(1), &rig, Some(WorkerId(7)));
    assert_eq!(
        holds,
        [Hold { lock: "rig".into(), share: Share::Count(1), worker: Some(WorkerId(7)), branch: None }]
    );
    assert_eq!(ledger.try_all(&rig, Trust::Trusted, None), Ok(()));
    assert_eq!(ledger.try_all(&rig, Trust::Trusted, Some(WorkerId(8))), Ok(()));
    assert!(ledger.try_all(&rig, Trust::Trusted, Some(WorkerId(7))).is_err());
    let elsewhere = need("a", 3, Share::Exclusive);
    assert_eq!(of_workers(&[elsewhere.clone(), rig[0].clone()]), rig);
    assert_eq!(at_once_on_a_worker(&rig), Some(1));
    assert_eq!(at_once_on_a_worker(std::slice::from_ref(&elsewhere)), None);
    let of = |count, share| Need { name: "port", lock: lock(count, Scope::Worker), share, branch: None };
    let at_once = |count, share| at_once_on_a_worker(&[elsewhere.clone(), of(count, share)]);
    assert_eq!((at_once(7, Share::Count(2)), at_once(7, Share::Exclusive)), (Some(3), Some(1)));
    assert_eq!((at_once(2, Share::Count(3)), at_once(2, Share::Count(0))), (Some(1), Some(2)));
}

#[test]
fn what_is_counted_for_each_branch_is_taken_there_alone() {
    let stage =
        |branch| [Need { name: "stage", lock: lock(1, Scope::Branch), share: Share::Exclusive, branch }];
    let (main, side) = (stage(Some("main")), stage(Some("side")));
    let mut ledger = Ledger::default();
    let holds = ledger.take(RequestId(1), &main, None);
    assert_eq!(holds[0].branch.as_deref(), Some("main"));
    assert!(has_all(&holds, &main) && !has_all(&holds, &side) && !has_all(&[], &main));
    assert_eq!(ledger.try_all(&side, Trust::Trusted, None), Ok(()));
    assert!(ledger.try_all(&main, Trust::Trusted, None).is_err());
    // What is about no branch is a branch of its own.
    assert_eq!(ledger.try_all(&stage(None), Trust::Trusted, None), Ok(()));
    ledger.take(RequestId(2), &stage(None), None);
    let again = Ledger::of(holds.iter().map(|hold| (RequestId(1), hold)));
    assert!(
        again.try_all(&main, Trust::Trusted, None).is_err()
            && ledger.try_all(&stage(None), Trust::Trusted, None).is_err()
    );
    assert_eq!(again.try_all(&side, Trust::Trusted, None), Ok(()));
}

#[test]
fn an_untrusted_build_has_no_lock_that_is_not_open_to_it() {
    let key = [need("key", 1, Share::Count(1))];
    let refused = Blocked::Untrusted { lock: "key".into() };
    assert_eq!(Ledger::default().try_all(&key, Trust::Untrusted, None), Err(refused));
    let open = Lock { accepts: Trust::Untrusted, ..lock(1, Scope::Installation) };
    let open = [Need { name: "open", lock: open, share: Share::Exclusive, branch: None }];
    assert_eq!(Ledger::default().try_all(&open, Trust::Untrusted, None), Ok(()));
}

#[test]
fn what_one_has_is_not_what_it_needs_where_another_lock_or_share_is_meant() {
    let needs = |name, share| [need(name, 3, share)];
    let holds = Ledger::default().take(RequestId(1), &needs("a", Share::Count(1)), None);
    assert!(has_all(&holds, &needs("a", Share::Count(1))));
    assert!(!has_all(&holds, &needs("b", Share::Count(1))) && !has_all(&holds, &needs("a", Share::Count(2))));
}
