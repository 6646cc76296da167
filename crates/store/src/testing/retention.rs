//! What is forgotten goes whole, and what is not over stays.

use super::{NOW, Subject, event, insert, samples, stored};
use crate::Batch;
use rouse_model::logs::LogSegment;
use rouse_model::master::Role;
use rouse_model::{BuildId, BuildResult, BuildsetId, LogId, MasterId, RequestId, StepId, Timestamp};

async fn role(store: &crate::Store) -> Role {
    let role = Role { role: "upkeep".into(), shard: String::new(), master: MasterId(1), term: 1 };
    insert(store, &role).await;
    role
}

/// A build that has ended, with all that a build can have; its request's number is the build's unless it is named.
async fn ended(store: &crate::Store, id: i64, request: i64) {
    let mut batch = Batch::new("suite.build");
    if request == id {
        let mut asked = samples::request(id);
        (asked.state, asked.done) = (rouse_model::buildset::RequestState::Done, Some(NOW));
        batch.insert(&asked).insert(&samples::buildset(id));
    }
    let mut build = samples::build(id);
    (build.request, build.buildset) = (RequestId(request), BuildsetId(request));
    (build.attempt, build.finished, build.result) = (id, Some(NOW), Some(BuildResult::Success));
    let mut log = samples::log(id);
    (log.sealed, log.bytes) = (true, 100);
    let segment = LogSegment {
        log: LogId(id),
        seq: 0,
        first_byte: 0,
        bytes: 100,
        first_line: 0,
        lines: 1,
        key: format!("logs/{id}"),
    };
    let mut artifact = samples::artifact(id);
    (artifact.build, artifact.step, artifact.key) = (BuildId(id), StepId(id), format!("artifacts/{id}"));
    batch.insert(&build).insert(&samples::step(id)).insert(&samples::command(id));
    batch.insert(&log).insert(&segment).insert(&artifact);
    store.commit(batch).await.expect("a build can be written");
}

pub async fn a_build_goes_with_all_that_belongs_to_it(subject: &dyn Subject) {
    let store = subject.open().await;
    let role = role(&store).await;
    // Two attempts of one request, and another build beside.
    ended(&store, 1, 1).await;
    ended(&store, 2, 1).await;
    ended(&store, 3, 3).await;
    let build = async |id: i64| store.build(BuildId(id)).await.expect("it can be read");
    let first = build(1).await.expect("it is there");
    let keys = store.forget_build(&first, &role).await.expect("it can be forgotten").expect("it is over");
    assert_eq!(keys, ["logs/1", "artifacts/1"]);
    assert!(build(1).await.is_none() && build(2).await.is_some());
    assert!(stored(&store, &samples::request(1)).await.is_some(), "its second attempt is there");
    let second = build(2).await.expect("it is there");
    store.forget_build(&second, &role).await.expect("it can be forgotten").expect("it is over");
    assert!(stored(&store, &samples::request(1)).await.is_none());
    assert!(stored(&store, &samples::buildset(1)).await.is_none());
    for id in [1, 2] {
        assert!(stored(&store, &samples::step(id)).await.is_none());
        assert!(stored(&store, &samples::command(id)).await.is_none());
        assert!(stored(&store, &samples::log(id)).await.is_none());
        assert!(stored(&store, &samples::artifact(id)).await.is_none());
        assert_eq!(store.segments(LogId(id)).await.expect("they can be read"), []);
    }
    assert!(build(3).await.is_some() && stored(&store, &samples::step(3)).await.is_some());
    // Once more is nothing.
    assert_eq!(store.forget_build(&second, &role).await.expect("it can be asked"), None);
}

pub async fn what_is_not_over_stays(subject: &dyn Subject) {
    let store = subject.open().await;
    let role = role(&store).await;
    ended(&store, 1, 1).await;
    let mut running = samples::build(2);
    (running.request, running.buildset) = (RequestId(2), BuildsetId(2));
    insert(&store, &running).await;
    insert(&store, &samples::request(2)).await;
    // It has ended, and its request waits for the next attempt.
    let mut again = samples::build(3);
    (again.request, again.finished, again.result) = (RequestId(2), Some(NOW), Some(BuildResult::Retry));
    again.attempt = 2;
    insert(&store, &again).await;
    for build in [&running, &again] {
        assert_eq!(store.forget_build(build, &role).await.expect("it can be asked"), None);
    }
    assert!(!store.forget_worker(&samples::worker(1), &role).await.expect("it can be asked"));
    assert!(!store.forget_empty(&samples::buildset(2), &role).await.expect("it can be asked"));
    // A master that has lost the role forgets nothing.
    let old = Role { term: 9, ..role };
    let build = store.build(BuildId(1)).await.expect("it can be read").expect("it is there");
    assert!(store.forget_build(&build, &old).await.is_err());
    assert!(store.build(BuildId(1)).await.expect("it can be read").is_some());
}

pub async fn logs_are_emptied_and_say_why(subject: &dyn Subject) {
    let store = subject.open().await;
    let role = role(&store).await;
    ended(&store, 1, 1).await;
    let mut open = samples::log(2);
    (open.build, open.bytes) = (BuildId(1), 7);
    insert(&store, &open).await;
    let (count, keys) = store.forget_logs(BuildId(1), "too old", &role).await.expect("they can be forgotten");
    assert_eq!((count, keys), (1, vec!["logs/1".to_owned()]));
    let log = store.log(LogId(1)).await.expect("it can be read").expect("it is there");
    assert_eq!((log.bytes, log.note.as_deref()), (0, Some("too old")));
    assert_eq!(store.log(LogId(2)).await.expect("it can be read").expect("it is there").bytes, 7);
    let again = store.forget_logs(BuildId(1), "too old", &role).await.expect("it can be asked");
    assert_eq!(again, (0, vec![]));
}

pub async fn only_a_beginning_of_the_log_of_events_goes(subject: &dyn Subject) {
    let store = subject.open().await;
    let role = role(&store).await;
    let mut batch = Batch::new("suite.events");
    for at in [1, 2, 30, 4, 50, 60] {
        let mut event = event("build/1", serde_json::json!(at));
        event.at = Timestamp(at);
        batch.event(event);
    }
    store.commit(batch).await.expect("events can be written");
    super::follow(&store, 0, 6).await;
    let left = async || -> Vec<i64> {
        let events = store.events_after(0, 100).await.expect("the log can be read");
        events.iter().map(|event| event.body.at.0).collect()
    };
    assert_eq!(store.forget_events(Timestamp(10), 1, &role).await.expect("they can be forgotten"), 1);
    assert_eq!(left().await, [2, 30, 4, 50, 60]);
    assert_eq!(store.forget_events(Timestamp(10), 100, &role).await.expect("they can be forgotten"), 1);
    assert_eq!(left().await, [30, 4, 50, 60]);
    assert_eq!(store.forget_events(Timestamp(99), 100, &role).await.expect("they can be forgotten"), 3);
    assert_eq!(left().await, [60], "the newest stays");
    assert_eq!(store.forget_events(Timestamp(99), 100, &role).await.expect("it can be asked"), 0);
    assert_eq!(store.oldest_event().await.expect("the log can be read"), 6);
}

pub async fn decisions_go_that_were_true_for_the_last_time_long_ago(subject: &dyn Subject) {
    let store = subject.open().await;
    let role = role(&store).await;
    for (id, pool, until) in [(1, "big", 5), (2, "small", 7), (3, "big", 20), (4, "big", 6)] {
        let mut decision = samples::decision(id, pool);
        decision.until = Timestamp(until);
        insert(&store, &decision).await;
    }
    let left = async |pool: &str| -> Vec<i64> {
        let decisions = store.decisions(pool, crate::Page::default()).await.expect("they can be read");
        decisions.iter().map(|decision| decision.id.0).collect()
    };
    assert_eq!((left("big").await, left("small").await), (vec![4, 3, 1], vec![2]), "newest first");
    let forget = async |limit| store.forget_decisions(Timestamp(10), limit, &role).await.expect("forgotten");
    assert_eq!((forget(1).await, left("big").await), (1, vec![4, 3]));
    // The third is still true, and what came after it stays with it.
    assert_eq!((forget(9).await, left("big").await, left("small").await), (1, vec![4, 3], vec![]));
    assert_eq!(forget(9).await, 0);
}
