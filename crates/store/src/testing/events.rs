//! The log of events: each once, in order, none skipped, whoever writes and whoever reads.

use super::{NOW, SOON, Subject, event, follow, insert, samples};
use crate::batch::Op;
use crate::record::Table;
use crate::value::Value;
use crate::{Batch, Store};
use rouse_model::WorkerId;
use rouse_model::event::{EventKind, NewEvent};
use std::collections::HashMap;
use std::sync::LazyLock;

/// The log as another version, or retention, would touch it.
static EVENTS: LazyLock<Table> = LazyLock::new(|| {
    Table::new("events", &["kind", "version", "subject", "project", "at", "payload"], &["kind"], &[])
});
static NUMBERED: LazyLock<Table> = LazyLock::new(|| Table::new("events", &["seq"], &["seq"], &[]));

fn foreign(batch: &mut Batch, n: i64) {
    let text = |t: &str| Value::from(t);
    let values =
        vec![text("of_tomorrow"), 9.into(), text("x"), text(""), NOW.0.into(), n.to_string().as_str().into()];
    batch.ops.push(Op::Insert { table: &EVENTS, values });
}

async fn say(store: &Store, words: &[i64]) {
    let mut batch = Batch::new("suite.say");
    for word in words {
        batch.event(event("build/1", serde_json::json!(word)));
    }
    store.commit(batch).await.expect("events can be written");
}

fn words(events: &[rouse_model::event::Event]) -> Vec<i64> {
    events.iter().map(|e| e.body.payload.as_i64().expect("it is a number")).collect()
}

pub async fn pages_follow_the_order_of_commits(subject: &dyn Subject) {
    let store = subject.open().await;
    assert_eq!(store.newest_event().await.expect("the log can be read"), 0);
    assert_eq!(store.oldest_event().await.expect("the log can be read"), 0);
    assert_eq!(store.events_after(0, 10).await.expect("the log can be read"), vec![]);
    for n in 0..10 {
        say(&store, &[3 * n, 3 * n + 1, 3 * n + 2]).await;
    }
    let all = follow(&store, 0, 30).await;
    assert_eq!(words(&all), (0..30).collect::<Vec<_>>());
    assert!(all.windows(2).all(|w| w[0].seq < w[1].seq));
    assert_eq!(all[3].body, event("build/1", serde_json::json!(3)));
    assert_eq!(store.newest_event().await.expect("the log can be read"), all[29].seq);
    assert_eq!(store.oldest_event().await.expect("the log can be read"), all[0].seq);
    let page = store.events_after(all[9].seq, 5).await.expect("the log can be read");
    assert_eq!(page, all[10..15]);
    assert_eq!(store.events_after(all[29].seq, 5).await.expect("the log can be read"), vec![]);
}

/// Four writers on each of two masters, and two readers meanwhile.
pub async fn a_reader_by_cursor_sees_each_event_once_and_in_order(subject: &dyn Subject) {
    const WRITERS: i64 = 8;
    const EACH: i64 = 40;
    let stores = [subject.open().await, subject.open().await];
    let count = usize::try_from(WRITERS * EACH).expect("small");
    let readers: Vec<_> =
        stores.iter().cloned().map(|s| tokio::spawn(async move { follow(&s, 0, count).await })).collect();
    let writers: Vec<_> = (0..WRITERS)
        .map(|writer| {
            let store = stores[usize::try_from(writer).expect("small") % 2].clone();
            tokio::spawn(async move {
                let mut said = 0;
                while said < EACH {
                    let several = (1 + (writer + said) % 3).min(EACH - said);
                    let own: Vec<i64> = (said..said + several).map(|n| writer * 1000 + n).collect();
                    say(&store, &own).await;
                    said += several;
                }
            })
        })
        .collect();
    for writer in writers {
        writer.await.expect("it does not panic");
    }
    let mut seen = Vec::new();
    for reader in readers {
        seen.push(reader.await.expect("it does not panic"));
    }
    assert_eq!(seen[0], seen[1], "both have seen the same");
    assert!(seen[0].windows(2).all(|w| w[0].seq < w[1].seq));
    assert_eq!(seen[0].len(), count, "and nothing twice");
    let mut next: HashMap<i64, i64> = HashMap::new();
    for word in words(&seen[0]) {
        let expected = next.entry(word / 1000).or_default();
        assert_eq!(word % 1000, *expected, "the order of one writer's commits");
        *expected += 1;
    }
    assert!(next.len() == 8 && next.values().all(|n| *n == EACH), "{next:?}");
}

pub async fn followers_are_woken_once_events_can_be_read(subject: &dyn Subject) {
    let store = subject.open().await;
    let mut committed = store.committed();
    for n in 1..=20 {
        committed.mark_unchanged();
        let before = store.newest_event().await.expect("the log can be read");
        say(&store, &[n]).await;
        while store.newest_event().await.expect("the log can be read") == before {
            tokio::time::timeout(SOON, committed.changed())
                .await
                .expect("the follower is woken")
                .expect("the store lives");
        }
    }
    assert_eq!(words(&follow(&store, 0, 20).await), (1..=20).collect::<Vec<_>>());
    insert(&store, &samples::buildset(1)).await;
}

/// A newer master writes what this version does not know.
pub async fn a_page_of_unknown_kinds_stops_nobody(subject: &dyn Subject) {
    let store = subject.open().await;
    say(&store, &[1]).await;
    let mut batch = Batch::new("suite.foreign");
    (0..40).for_each(|n| foreign(&mut batch, n));
    store.commit(batch).await.expect("events can be written");
    say(&store, &[2]).await;
    let mut batch = Batch::new("suite.foreign");
    foreign(&mut batch, 41);
    store.commit(batch).await.expect("events can be written");
    say(&store, &[3, 4]).await;
    // Pages of seven: several hold nothing that is known.
    let seen = follow(&store, 0, 4).await;
    assert_eq!(words(&seen), [1, 2, 3, 4]);
    assert_eq!(seen[1].seq - seen[0].seq, 41, "they have numbers all the same");
    let page = store.events_after(0, 3).await.expect("the log can be read");
    assert_eq!(words(&page), [1, 2, 3], "a page is full where the log goes on");
}

/// Retention takes the oldest away; who reads from before it sees where the log begins now.
pub async fn numbers_are_never_used_again(subject: &dyn Subject) {
    let store = subject.open().await;
    say(&store, &[1, 2, 3, 4]).await;
    let all = follow(&store, 0, 4).await;
    let forget = async |seq: i64| {
        let mut batch = Batch::new("suite.forget");
        batch.ops.push(Op::Delete { table: &NUMBERED, key: vec![seq.into()] });
        store.commit(batch).await.expect("it is there");
    };
    forget(all[0].seq).await;
    forget(all[1].seq).await;
    assert_eq!(store.oldest_event().await.expect("the log can be read"), all[2].seq);
    assert_eq!(words(&follow(&store, 0, 2).await), [3, 4]);
    forget(all[2].seq).await;
    forget(all[3].seq).await;
    assert_eq!(store.newest_event().await.expect("the log can be read"), 0);
    say(&store, &[5]).await;
    let after = follow(&store, 0, 1).await;
    assert!(after[0].seq > all[3].seq, "{} after {}", after[0].seq, all[3].seq);
    let reopened = subject.open().await;
    say(&reopened, &[6]).await;
    assert_eq!(words(&follow(&reopened, after[0].seq, 1).await), [6]);
}

pub async fn what_happened_to_a_worker_is_found_by_its_name(subject: &dyn Subject) {
    let store = subject.open().await;
    let of =
        |kind, id: i64, n: i64| NewEvent { kind, ..event(&format!("worker/{id}"), serde_json::json!(n)) };
    let mut batch = Batch::new("suite.workers");
    for n in 0..30 {
        batch.event(of(EventKind::WorkerPhase, n % 3, n));
    }
    batch.event(of(EventKind::WorkerLink, 1, 30)).event(of(EventKind::WorkerWanted, 1, 31));
    batch.event(of(EventKind::BuildPhase, 1, 32));
    store.commit(batch).await.expect("events can be written");
    follow(&store, 0, 33).await;
    let seen = store.events_of_worker(WorkerId(1)).await.expect("the log can be read");
    assert_eq!(words(&seen), [1, 4, 7, 10, 13, 16, 19, 22, 25, 28, 30, 31]);
}
