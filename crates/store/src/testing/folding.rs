//! Many commit at once, and share transactions: nobody may notice.

use super::{NOW, Subject, event, follow, insert, samples, stored};
use crate::{Batch, CommitError, Store};
use rouse_model::buildset::{Buildset, SchedulerState};
use rouse_model::{BuildsetId, RequestId};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::sync::Barrier;

const MANY: i64 = 64;

/// What the batch of this number does wrong.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Fault {
    None,
    TakenKey,
    Stale,
}

fn fault_of(id: i64) -> Fault {
    match id {
        20 | 21 | 50 => Fault::TakenKey,
        33 => Fault::Stale,
        _ => Fault::None,
    }
}

fn batch_of(id: i64) -> Batch {
    let fault = fault_of(id);
    let mut batch = Batch::new("suite.fold");
    batch.insert(&samples::request(id));
    batch.event(event(&format!("request/{id}"), serde_json::json!(id)));
    let origin = if fault == Fault::TakenKey { "suite/1000".to_owned() } else { format!("fold/{id}") };
    batch.insert(&Buildset { origin, ..samples::buildset(id) });
    if fault == Fault::Stale {
        let mut stale = samples::request(1000);
        stale.generation = 5;
        batch.update(&mut stale);
    }
    batch
}

/// Sixty-four commit together, four of them cannot: the others hold, and each hears its own answer.
pub async fn a_broken_batch_fails_alone(subject: &dyn Subject) {
    let store = subject.open().await;
    insert(&store, &samples::buildset(1000)).await;
    insert(&store, &samples::request(1000)).await;
    let start = Arc::new(Barrier::new(usize::try_from(MANY).expect("small")));
    let tasks: Vec<_> = (1..=MANY)
        .map(|id| {
            let (store, start) = (store.clone(), Arc::clone(&start));
            tokio::spawn(async move {
                start.wait().await;
                store.commit(batch_of(id)).await
            })
        })
        .collect();
    for (task, id) in tasks.into_iter().zip(1..) {
        let answer = task.await.expect("it does not panic");
        match fault_of(id) {
            Fault::None => assert!(answer.is_ok(), "{id}: {answer:?}"),
            Fault::TakenKey => {
                assert!(matches!(answer, Err(CommitError::Constraint { .. })), "{id}: {answer:?}");
            }
            Fault::Stale => assert!(matches!(answer, Err(CommitError::Conflict { .. })), "{id}: {answer:?}"),
        }
        let there = fault_of(id) == Fault::None;
        let request = store.request(RequestId(id)).await.expect("requests can be read");
        let buildset = store.buildset(BuildsetId(id)).await.expect("buildsets can be read");
        assert_eq!((request.is_some(), buildset.is_some()), (there, there), "{id}");
    }
    let mut seen: Vec<i64> = follow(&store, 0, 60)
        .await
        .iter()
        .map(|event| event.body.payload.as_i64().expect("it is a number"))
        .collect();
    seen.sort_unstable();
    assert_eq!(seen, (1..=MANY).filter(|id| fault_of(*id) == Fault::None).collect::<Vec<_>>());
    let mut batch = Batch::new("suite.last");
    batch.event(event("request/1", serde_json::json!("last")));
    store.commit(batch).await.expect("an event alone is a batch");
    let newest = follow(&store, 0, 61).await;
    assert_eq!(newest[60].body.payload, "last", "no event of a broken batch");
}

/// Sixteen raise one number, each ten times, through two masters' handles: none is lost.
pub async fn increments_of_many_are_all_counted(subject: &dyn Subject) {
    let stores = [subject.open().await, subject.open().await];
    let state = SchedulerState { scheduler: "s".into(), key: "k".into(), value: "0".into(), generation: 0 };
    insert(&stores[0], &state).await;
    let tasks: Vec<_> =
        (0..16).map(|n| tokio::spawn(raise(stores[n % 2].clone(), state.clone(), 10))).collect();
    for task in tasks {
        task.await.expect("it does not panic");
    }
    let end = stored(&stores[0], &state).await.expect("it is there");
    assert_eq!((end.value.as_str(), end.generation), ("160", 160));
}

async fn raise(store: Store, key: SchedulerState, times: u32) {
    for _ in 0..times {
        loop {
            let mut state = stored(&store, &key).await.expect("it is there");
            state.value = (state.value.parse::<i64>().expect("it is a number") + 1).to_string();
            let mut batch = Batch::new("suite.raise");
            batch.update(&mut state);
            match store.commit(batch).await {
                Ok(()) => break,
                Err(error) => assert!(error.is_conflict(), "{error:?}"),
            }
        }
    }
}

pub async fn what_follows_a_commit_happens_only_if_it_held(subject: &dyn Subject) {
    let store = subject.open().await;
    let calls = Arc::new(AtomicUsize::new(0));
    let batch = |name| {
        let mut batch = Batch::new(name);
        batch.insert(&samples::buildset(NOW.0));
        let counted = Arc::clone(&calls);
        batch.after_commit(move || {
            counted.fetch_add(1, Ordering::SeqCst);
        });
        batch
    };
    store.commit(batch("suite.first")).await.expect("the key is free");
    assert_eq!(calls.load(Ordering::SeqCst), 1);
    assert!(store.commit(batch("suite.second")).await.expect_err("the key is taken").is_duplicate());
    assert_eq!(calls.load(Ordering::SeqCst), 1);
    let mut outer = Batch::new("suite.outer");
    outer.insert(&samples::request(1)).append(batch("suite.inner"));
    assert!(store.commit(outer).await.expect_err("the key is taken").is_duplicate());
    assert_eq!(calls.load(Ordering::SeqCst), 1);
    assert_eq!(stored(&store, &samples::request(1)).await, None);
}

/// Each is submitted before the one that it builds on has been answered.
pub async fn what_expects_a_batch_on_its_way_is_true_after_it_or_not_at_all(subject: &dyn Subject) {
    let store = subject.open().await;
    insert(&store, &samples::request(1)).await;
    let mut request = samples::request(1);
    let mut answers = Vec::new();
    for priority in 1..=40 {
        request.priority = priority;
        let mut batch = Batch::new("suite.chain");
        batch.update(&mut request);
        answers.push(store.submit(batch).await.expect("the writer is there"));
    }
    for answer in answers {
        answer.committed().await.expect("all before it hold");
    }
    assert_eq!(stored(&store, &request).await, Some(request.clone()));
    let mut stale = samples::request(1);
    let mut answers = Vec::new();
    for _ in 0..3 {
        let mut batch = Batch::new("suite.broken");
        batch.update(&mut stale);
        answers.push(store.submit(batch).await.expect("the writer is there"));
    }
    for answer in answers {
        assert!(answer.committed().await.expect_err("the first of them has read an older row").is_conflict());
    }
    assert_eq!(stored(&store, &request).await, Some(request));
}
