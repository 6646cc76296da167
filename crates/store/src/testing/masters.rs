//! Who is alive, who does what, and whose writes are refused.

use super::{NOW, Subject, event, insert, samples, stored};
use crate::{Batch, CommitError, Observer, Store};
use rouse_model::master::Master;
use rouse_model::{MasterId, Timestamp};
use std::cell::Cell;
use std::time::{Duration, Instant};

const LEASE: Duration = Duration::from_secs(15);
const SECOND: Duration = Duration::from_secs(1);

async fn enter(store: &Store, name: &str) -> Master {
    store.enter(name, "machine", NOW).await.expect("a master can enter")
}

async fn masters(store: &Store) -> Vec<Master> {
    store.masters().await.expect("masters can be read")
}

async fn refused(store: &Store, id: i64) {
    let mut batch = Batch::new("suite.refused");
    batch.insert(&samples::buildset(id)).event(event("build/1", serde_json::json!("refused")));
    let error = store.commit(batch).await.expect_err("it was fenced");
    assert!(matches!(error, CommitError::Fenced { batch: "suite.refused" }), "{error:?}");
    assert_eq!(stored(store, &samples::buildset(id)).await, None);
}

/// The same name again: a restart, or a second process by mistake. The elder may still run.
pub async fn a_master_that_enters_again_fences_the_one_before(subject: &dyn Subject) {
    let (old, new) = (subject.open().await, subject.open().await);
    let mut before = enter(&old, "one").await;
    old.beat(&mut before).await.expect("nobody has fenced it");
    insert(&old, &samples::buildset(1)).await;
    let after = enter(&new, "one").await;
    assert_eq!((after.id, after.term), (before.id, before.term + 1));
    refused(&old, 2).await;
    let error = old.beat(&mut before).await.expect_err("it was fenced");
    assert!(matches!(error, CommitError::Fenced { .. }), "{error:?}");
    let error = old.leave(&mut before, NOW).await.expect_err("it was fenced");
    assert!(matches!(error, CommitError::Fenced { .. }), "{error:?}");
    // Many at once are refused as one is.
    let tasks: Vec<_> = (3..20)
        .map(|id| {
            let old = old.clone();
            tokio::spawn(async move { refused(&old, id).await })
        })
        .collect();
    for task in tasks {
        task.await.expect("it does not panic");
    }
    insert(&new, &samples::buildset(2)).await;
    assert_eq!(masters(&new).await, vec![after]);
}

pub async fn a_role_has_one_holder(subject: &dyn Subject) {
    let mut tasks = Vec::new();
    for n in 0..6 {
        let store = subject.open().await;
        let me = enter(&store, &format!("m{n}")).await.id;
        tasks.push(tokio::spawn(async move {
            (me, store.hold("matcher", "", me, &[]).await.expect("roles can be asked for"), store)
        }));
    }
    let mut held = Vec::new();
    let mut stores = Vec::new();
    for task in tasks {
        let (me, role, store) = task.await.expect("it does not panic");
        held.extend(role.map(|role| (me, role)));
        stores.push((me, store));
    }
    assert_eq!(held.len(), 1, "{held:?}");
    let (holder, role) = &held[0];
    assert_eq!((role.master, role.term), (*holder, 1));
    for (me, store) in &stores {
        let again = store.hold("matcher", "", *me, &[]).await.expect("roles can be asked for");
        assert_eq!(again.as_ref(), (me == holder).then_some(role), "asked again by {me}");
    }
    // Another shard is another role.
    let (me, store) = stores.iter().find(|(me, _)| me != holder).expect("six have asked");
    assert!(store.hold("matcher", "b", *me, &[]).await.expect("roles can be asked for").is_some());
}

/// Looks second after second, as a master does, from where it looked last until `to`; what it sees then.
fn watch(observer: &Observer, last: &Cell<Instant>, masters: &[Master], to: Instant) -> Vec<Master> {
    while last.get() + SECOND < to {
        last.set(last.get() + SECOND);
        observer.observe(masters, last.get());
    }
    last.set(to);
    observer.observe(masters, to)
}

/// Dead is whose counter has not moved for a lease of the observer's own clock.
pub async fn a_role_is_taken_over_from_the_dead_alone(subject: &dyn Subject) {
    let (a, b) = (subject.open().await, subject.open().await);
    let (mut one, two) = (enter(&a, "one").await, enter(&b, "two").await);
    let role =
        a.hold("poller", "app", one.id, &[]).await.expect("roles can be asked for").expect("it is free");
    let (observer, start) = (Observer::new(LEASE), Instant::now());
    let last = Cell::new(start);
    let dead = async |at: Instant| -> Vec<Master> {
        let others: Vec<Master> = masters(&b).await.into_iter().filter(|m| m.id != two.id).collect();
        watch(&observer, &last, &others, at)
    };
    let hold =
        async |dead: &[Master]| b.hold("poller", "app", two.id, dead).await.expect("roles can be asked for");
    assert_eq!(hold(&dead(start).await).await, None);
    assert_eq!(hold(&dead(start + LEASE - SECOND).await).await, None, "not a lease ago");
    a.beat(&mut one).await.expect("nobody has fenced it");
    assert_eq!(hold(&dead(start + LEASE).await).await, None, "it has moved meanwhile");
    assert_eq!(hold(&dead(start + LEASE * 2 - SECOND).await).await, None, "not a lease after that");
    let gone = dead(start + LEASE * 2).await;
    assert_eq!(gone.iter().map(|m| m.id).collect::<Vec<_>>(), [one.id]);

    // It was only slow: what it says after it was judged is what counts.
    a.beat(&mut one).await.expect("nobody has fenced it");
    assert_eq!(hold(&gone).await, None, "it has moved since it was judged");
    let gone = dead(start + LEASE * 2 + SECOND).await;
    assert_eq!(gone, vec![], "seen moving now");
    let gone = dead(start + LEASE * 3 + SECOND).await;
    let taken = hold(&gone).await.expect("its holder is dead");
    assert_eq!((taken.master, taken.term), (two.id, role.term + 1));
    refused(&a, 1).await;
    assert_eq!(hold(&[]).await.as_ref(), Some(&taken));
    let mut batch = Batch::new("suite.role");
    batch.expect_role(&taken).insert(&samples::buildset(2));
    b.commit(batch).await.expect("the role is held");
}

pub async fn a_batch_of_an_old_role_conflicts(subject: &dyn Subject) {
    let (a, b) = (subject.open().await, subject.open().await);
    let (mut one, two) = (enter(&a, "one").await, enter(&b, "two").await);
    let first = a.hold("fleet", "", one.id, &[]).await.expect("roles can be asked for").expect("it is free");
    a.leave(&mut one, NOW).await.expect("nobody has fenced it");
    let gone: Vec<Master> = masters(&b).await.into_iter().filter(|m| m.stopped).collect();
    let second =
        b.hold("fleet", "", two.id, &gone).await.expect("roles can be asked for").expect("it is free");
    assert_eq!(second.term, first.term + 1);
    // Said goodbye, and yet one of its tasks still writes.
    let mut batch = Batch::new("suite.old");
    batch.insert(&samples::buildset(1)).expect_role(&first).event(event("x", serde_json::json!(1)));
    assert!(a.commit(batch).await.expect_err("the term has risen").is_conflict());
    assert_eq!(stored(&a, &samples::buildset(1)).await, None);
    let never = rouse_model::master::Role { shard: "never".into(), ..second.clone() };
    let mut batch = Batch::new("suite.never");
    batch.expect_role(&never);
    assert!(b.commit(batch).await.expect_err("nobody has ever held it").is_conflict());
    let mut batch = Batch::new("suite.new");
    batch.expect_role(&second).insert(&samples::buildset(1));
    b.commit(batch).await.expect("the role is held");
}

pub async fn a_master_that_leaves_frees_its_roles(subject: &dyn Subject) {
    let (a, b) = (subject.open().await, subject.open().await);
    let (mut one, two) = (enter(&a, "one").await, enter(&b, "two").await);
    for role in ["matcher", "fleet", "reaper"] {
        assert!(a.hold(role, "", one.id, &[]).await.expect("roles can be asked for").is_some());
    }
    a.leave(&mut one, NOW).await.expect("nobody has fenced it");
    let gone = Observer::new(LEASE).observe(&masters(&b).await, Instant::now());
    assert_eq!(gone.iter().map(|m| m.id).collect::<Vec<_>>(), [one.id], "at once");
    for role in ["matcher", "fleet", "reaper"] {
        let taken = b.hold(role, "", two.id, &gone).await.expect("roles can be asked for");
        assert_eq!(taken.map(|r| r.term), Some(2), "{role}");
    }
}

/// Seen as stopped by one who then was slow to act on it.
pub async fn a_master_that_comes_back_keeps_its_roles(subject: &dyn Subject) {
    let (a, b) = (subject.open().await, subject.open().await);
    let (mut one, two) = (enter(&a, "one").await, enter(&b, "two").await);
    let role = a.hold("matcher", "", one.id, &[]).await.expect("roles can be asked for");
    a.leave(&mut one, NOW).await.expect("nobody has fenced it");
    let gone = Observer::new(LEASE).observe(&masters(&b).await, Instant::now());
    let again = subject.open().await;
    let one = enter(&again, "one").await;
    assert_eq!(b.hold("matcher", "", two.id, &gone).await.expect("roles can be asked for"), None);
    assert_eq!(again.hold("matcher", "", one.id, &[]).await.expect("roles can be asked for"), role);
    insert(&again, &samples::buildset(1)).await;
}

/// Each takes the other for dead, after a long pause of the machine.
pub async fn two_that_fence_each_other_leave_one(subject: &dyn Subject) {
    for round in 0..5 {
        let (a, b) = (subject.open().await, subject.open().await);
        let (one, two) = (enter(&a, &format!("a{round}")).await, enter(&b, &format!("b{round}")).await);
        let (ra, rb) = (format!("ra{round}"), format!("rb{round}"));
        assert!(a.hold(&ra, "", one.id, &[]).await.expect("roles can be asked for").is_some());
        assert!(b.hold(&rb, "", two.id, &[]).await.expect("roles can be asked for").is_some());
        let (dead_a, dead_b) = ([one.clone()], [two.clone()]);
        let (of_a, of_b) = tokio::join!(a.hold(&rb, "", one.id, &dead_b), b.hold(&ra, "", two.id, &dead_a));
        let taken = [matches!(of_a, Ok(Some(_))), matches!(of_b, Ok(Some(_)))];
        assert_eq!(taken.iter().filter(|t| **t).count(), 1, "{of_a:?} {of_b:?}");
        let (winner, loser) = if taken[0] { (&a, &b) } else { (&b, &a) };
        refused(loser, 1).await;
        let id = 100 + round;
        insert(winner, &samples::buildset(id)).await;
    }
}

/// A master whose clock stands at the beginning, or the end, of time is as alive as its counter.
pub async fn clocks_on_walls_prove_nothing(subject: &dyn Subject) {
    let store = subject.open().await;
    let mut all = Vec::new();
    for (name, now) in
        [("past", Timestamp(i64::MIN)), ("zero", Timestamp(0)), ("future", Timestamp(i64::MAX))]
    {
        let own = subject.open().await;
        all.push((own.enter(name, "machine", now).await.expect("a master can enter"), own));
    }
    let (observer, start) = (Observer::new(LEASE), Instant::now());
    let last = Cell::new(start);
    let dead = async |at| -> Vec<MasterId> {
        watch(&observer, &last, &masters(&store).await, at).iter().map(|m| m.id).collect()
    };
    assert_eq!(dead(start).await, []);
    assert_eq!(dead(start + LEASE - SECOND).await, []);
    all.remove(1);
    for (master, own) in &mut all {
        own.beat(master).await.expect("nobody has fenced it");
    }
    let silent = dead(start + LEASE).await;
    let beating: Vec<MasterId> = all.iter().map(|(m, _)| m.id).collect();
    assert_eq!(silent.len(), 1);
    assert!(!beating.contains(&silent[0]));
}

/// Whoever was away, frozen or without its database, has not watched the others meanwhile: they may have been away with it.
pub async fn who_was_away_judges_nobody(subject: &dyn Subject) {
    let (a, b) = (subject.open().await, subject.open().await);
    let (_one, two) = (enter(&a, "one").await, enter(&b, "two").await);
    let others: Vec<Master> = masters(&b).await.into_iter().filter(|m| m.id != two.id).collect();
    let (observer, start) = (Observer::new(LEASE), Instant::now());
    assert_eq!(observer.observe(&others, start), []);
    let back = start + LEASE * 10;
    assert_eq!(observer.observe(&others, back), [], "nobody was watched");
    assert!(observer.still(others[0].id) < LEASE);
    let seen: Vec<bool> =
        (1..=15).map(|n| !observer.observe(&others, back + SECOND * n).is_empty()).collect();
    assert_eq!((seen[0], seen[14]), (false, true), "a lease under its eyes, and nothing less: {seen:?}");
}

/// What a dead master had is taken over once, and only as long as it is dead.
pub async fn the_work_of_the_dead_is_taken_once(subject: &dyn Subject) {
    let (a, b, c) = (subject.open().await, subject.open().await, subject.open().await);
    let (mut one, two) = (enter(&a, "one").await, enter(&b, "two").await);
    let three = enter(&c, "three").await;
    insert(&a, &samples::worker(1)).await;
    let as_judged = one.clone();
    a.beat(&mut one).await.expect("nobody has fenced it");
    assert_eq!(b.fence_off(&as_judged, NOW).await.expect("it can be asked"), None, "it lives");
    let fenced = b.fence_off(&one, NOW).await.expect("it can be asked").expect("it has not moved");
    assert_eq!((fenced.term, fenced.stopped), (one.term + 1, true));
    refused(&a, 1).await;
    assert_eq!(c.fence_off(&fenced, NOW).await.expect("it can be asked"), Some(fenced.clone()));
    let take = async |store: &Store, me: MasterId| {
        let mut worker = samples::worker(1).adopted(me, NOW);
        let mut batch = Batch::new("suite.adopt");
        batch.expect_master(&fenced).update(&mut worker);
        store.commit(batch).await
    };
    let (by_b, by_c) = tokio::join!(take(&b, two.id), take(&c, three.id));
    assert!(by_b.is_ok() != by_c.is_ok(), "{by_b:?} {by_c:?}");
    let owner = b.worker(rouse_model::WorkerId(1)).await.expect("it can be read").expect("it is there");
    assert_eq!((owner.master, owner.term), (if by_b.is_ok() { two.id } else { three.id }, 2));
    // Back again, it keeps what nobody has taken.
    enter(&subject.open().await, "one").await;
    let mut batch = Batch::new("suite.late");
    batch.expect_master(&fenced).insert(&samples::buildset(2));
    assert!(b.commit(batch).await.expect_err("it is back").is_conflict());
}
