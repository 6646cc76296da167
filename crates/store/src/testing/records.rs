//! Rows come back as they were written, and are replaced only by who has read them.

use super::samples::{self, HARD};
use super::{NOW, Subject, event, insert, stored};
use crate::record::Record;
use crate::{Batch, CommitError, Store};
use rouse_model::build::{BuildProperty, CommandState};
use rouse_model::buildset::{Buildset, SchedulerState};
use rouse_model::config_revision::{ApiToken, ConfigRevision, PlanRow};
use rouse_model::cursor::Cursor;
use rouse_model::enrolment::Enrolment;
use rouse_model::logs::LogSegment;
use rouse_model::master::{Master, Role};
use rouse_model::offering::Scarce;
use rouse_model::property::{Properties, Property};
use rouse_model::source::{Change, ChangeSet, CodebaseState, Head, SourceStamp};
use rouse_model::*;
use std::fmt::Debug;

async fn comes_back<R: Record + PartialEq + Debug>(store: &Store, mut record: R) {
    insert(store, &record).await;
    assert_eq!(stored(store, &record).await.as_ref(), Some(&record), "as inserted");
    let mut batch = Batch::new("suite.update");
    batch.update(&mut record);
    store.commit(batch).await.expect("nobody else has changed it");
    assert_eq!(stored(store, &record).await.as_ref(), Some(&record), "as updated");
    let mut batch = Batch::new("suite.upsert");
    batch.upsert(&record);
    store.commit(batch).await.expect("an upsert always holds");
    assert_eq!(stored(store, &record).await.as_ref(), Some(&record), "as written over");
    let mut batch = Batch::new("suite.delete");
    batch.delete(&record);
    store.commit(batch).await.expect("it is there");
    assert_eq!(stored(store, &record).await, None, "as deleted");
}

pub async fn every_type_comes_back_as_it_was(subject: &dyn Subject) {
    let store = subject.open().await;
    wishes(&store).await;
    sources(&store).await;
    builds(&store).await;
    for worker in samples::workers() {
        comes_back(&store, worker).await;
    }
    comes_back(&store, samples::worker(99)).await;
    for decision in samples::decisions() {
        comes_back(&store, decision).await;
    }
    comes_back(&store, samples::budget_grant(1, HARD)).await;
    comes_back(&store, samples::offering_health(HARD, Scarce::Quota(HARD.into()))).await;
    comes_back(&store, samples::lease(1, i64::MAX)).await;
    comes_back(
        &store,
        Master {
            id: MasterId(1),
            name: HARD.into(),
            machine: String::new(),
            term: i64::MAX,
            counter: i64::MIN,
            started: NOW,
            stopped: true,
        },
    )
    .await;
    let role = Role { role: "poller".into(), shard: HARD.into(), master: MasterId(1), term: 1 };
    comes_back(&store, role).await;
    comes_back(
        &store,
        ConfigRevision {
            id: ConfigRevisionId(1),
            hash: "h".into(),
            sources: HARD.repeat(20_000),
            author: HARD.into(),
            effective: NOW,
        },
    )
    .await;
    comes_back(&store, PlanRow { hash: "h".into(), body: HARD.into() }).await;
    comes_back(
        &store,
        ApiToken {
            id: TokenId(1),
            name: HARD.into(),
            sha256: "s".into(),
            role: "admin".into(),
            project: String::new(),
            created: NOW,
        },
    )
    .await;
    comes_back(
        &store,
        Enrolment {
            account: "rack".into(),
            name: HARD.into(),
            public_key: "00".into(),
            enrolled: NOW,
            enrolled_by: HARD.into(),
            revoked: Some(NOW),
            generation: 3,
        },
    )
    .await;
}

async fn wishes(store: &Store) {
    comes_back(store, samples::buildset(1)).await;
    let mut properties = Properties::default();
    properties.set(HARD, serde_json::json!({"deep": [null, 1.5, HARD, {"z": 1, "a": 2}]}), HARD, true);
    comes_back(
        store,
        Buildset {
            scheduler: None,
            owner: Some(HARD.into()),
            reason: HARD.into(),
            properties,
            trust: Trust::Untrusted,
            parent: Some(BuildId(5)),
            done: Some(Timestamp(i64::MAX)),
            result: Some(BuildResult::Success),
            ..samples::buildset(2)
        },
    )
    .await;
    comes_back(store, samples::request(1)).await;
    comes_back(store, samples::full_request()).await;
    let state =
        SchedulerState { scheduler: "push".into(), key: HARD.into(), value: "{}".into(), generation: 3 };
    comes_back(store, state).await;
    comes_back(store, Cursor { reader: HARD.into(), seq: i64::MAX, generation: 3 }).await;
}

async fn sources(store: &Store) {
    comes_back(store, samples::head(HARD)).await;
    comes_back(store, Head { revision: None, ..samples::head("gone") }).await;
    let state = CodebaseState {
        codebase: "app".into(),
        url: HARD.into(),
        looked: None,
        error: None,
        failing_since: None,
        watching: None,
        default_branch: None,
        generation: 0,
    };
    let failing = CodebaseState {
        looked: Some(NOW),
        error: Some(HARD.into()),
        failing_since: Some(NOW),
        watching: Some(HARD.into()),
        default_branch: Some(HARD.into()),
        ..state.clone()
    };
    comes_back(store, state).await;
    comes_back(store, failing).await;
    let set = ChangeSet {
        id: ChangeSetId(1),
        project: "default".into(),
        codebase: "app".into(),
        branch: HARD.into(),
        revision: "r".into(),
        base: None,
        trust: Trust::Untrusted,
        commits: 300,
        seen_at: NOW,
        noticed_by: HARD.into(),
    };
    comes_back(store, set).await;
    let change = Change {
        id: ChangeId(1),
        change_set: ChangeSetId(1),
        codebase: "app".into(),
        branch: HARD.into(),
        revision: "r".into(),
        author: HARD.into(),
        message: HARD.repeat(1000),
        files: vec![HARD.into(), String::new()],
        authored_at: Timestamp(i64::MIN),
    };
    comes_back(store, change).await;
    let stamp = SourceStamp {
        buildset: BuildsetId(1),
        codebase: "app".into(),
        branch: None,
        revision: None,
        change_set: None,
        trust: Trust::Trusted,
    };
    comes_back(store, stamp).await;
}

async fn builds(store: &Store) {
    comes_back(store, samples::build(1)).await;
    comes_back(store, samples::full_build()).await;
    let property = Property { value: serde_json::Value::Null, source: HARD.into(), tainted: true };
    comes_back(store, BuildProperty { build: BuildId(1), name: HARD.into(), property }).await;
    for result in BuildResult::ALL {
        let mut step = samples::step(1);
        step.result = Some(result);
        step.memory = HARD.into();
        comes_back(store, step).await;
    }
    let mut command = samples::command(1);
    comes_back(store, command.clone()).await;
    command.state = CommandState::Done;
    command.outcome = Some("{\"exit\":0}".into());
    command.stop = Some(HARD.into());
    comes_back(store, command).await;
    let mut log = samples::log(1);
    comes_back(store, log.clone()).await;
    log.sealed = true;
    log.note = Some(HARD.into());
    for inline in [Vec::new(), (0..=255).cycle().take(16 * 1024).collect()] {
        log.inline = Some(inline);
        comes_back(store, log.clone()).await;
    }
    let segment = LogSegment {
        log: LogId(1),
        seq: 0,
        first_byte: i64::MAX,
        bytes: 1,
        first_line: 0,
        lines: 0,
        key: "1/l".into(),
    };
    comes_back(store, segment).await;
    comes_back(store, samples::artifact(1)).await;
}

/// Two have read the same row; the slower one's batch is as if it had never been, its events too.
pub async fn a_lost_race_leaves_nothing(subject: &dyn Subject) {
    let store = subject.open().await;
    insert(&store, &samples::request(1)).await;
    let (mut fast, mut slow) = (samples::request(1), samples::request(1));
    fast.priority = 7;
    slow.priority = -7;
    let mut batch = Batch::new("suite.fast");
    batch.update(&mut fast).event(event("request/1", serde_json::json!("fast")));
    store.commit(batch).await.expect("it was first");

    let mut batch = Batch::new("suite.slow");
    batch.insert(&samples::buildset(1));
    batch.event(event("request/1", serde_json::json!("slow"))).update(&mut slow);
    batch.insert(&samples::buildset(2));
    let lost = store.commit(batch).await.expect_err("it has read an older row");
    assert!(lost.is_conflict(), "{lost}");
    assert!(matches!(lost, CommitError::Conflict { batch: "suite.slow", table: "requests" }), "{lost:?}");
    assert_eq!(stored(&store, &fast).await, Some(fast));
    for id in [1, 2] {
        assert_eq!(stored(&store, &samples::buildset(id)).await, None);
    }
    let mut batch = Batch::new("suite.last");
    batch.event(event("request/1", serde_json::json!("last")));
    store.commit(batch).await.expect("an event alone is a batch");
    let seen = super::follow(&store, 0, 2).await;
    assert_eq!(seen[0].body.payload, "fast");
    assert_eq!(seen[1].body.payload, "last");
}

pub async fn a_row_that_is_not_there_is_a_conflict(subject: &dyn Subject) {
    let store = subject.open().await;
    let mut batch = Batch::new("suite.update");
    batch.update(&mut samples::build(1));
    assert!(store.commit(batch).await.expect_err("no such row").is_conflict());
    let mut batch = Batch::new("suite.delete");
    batch.insert(&samples::lease(1, 1)).delete(&samples::lease(2, 2));
    assert!(store.commit(batch).await.expect_err("no such row").is_conflict());
    assert_eq!(store.leases().await.expect("leases can be read"), vec![]);
}

pub async fn a_taken_key_breaks_the_whole_batch(subject: &dyn Subject) {
    let store = subject.open().await;
    insert(&store, &samples::buildset(1)).await;
    insert(&store, &samples::lease(1, 1)).await;
    let same_origin = Buildset { origin: "suite/1".into(), ..samples::buildset(2) };
    let mut broken: Vec<(&str, Batch)> = Vec::new();
    let mut batch = Batch::new("suite.key");
    batch.insert(&samples::request(1)).insert(&samples::buildset(1));
    broken.push(("buildsets", batch));
    let mut batch = Batch::new("suite.origin");
    batch.insert(&samples::request(1)).insert(&same_origin);
    broken.push(("buildsets", batch));
    let mut batch = Batch::new("suite.slot");
    batch.insert(&samples::request(1)).insert(&samples::lease(1, 2));
    broken.push(("leases", batch));
    let mut batch = Batch::new("suite.build");
    batch.insert(&samples::request(1)).insert(&samples::lease(2, 1));
    broken.push(("leases", batch));
    for (where_, mut batch) in broken {
        let name = batch.name;
        batch.event(event("request/1", serde_json::json!(name)));
        let error = store.commit(batch).await.expect_err("the key is taken");
        assert!(error.is_duplicate(), "{name}: {error:?}");
        assert!(
            matches!(error, CommitError::Constraint { table, .. } if table == where_),
            "{name}: {error:?}"
        );
        assert_eq!(stored(&store, &samples::request(1)).await, None, "{name}");
    }
    let mut batch = Batch::new("suite.last");
    batch.event(event("request/1", serde_json::json!("last")));
    store.commit(batch).await.expect("an event alone is a batch");
    assert_eq!(super::follow(&store, 0, 1).await[0].body.payload, "last");
}

pub async fn the_first_or_the_last_writer_stands_as_asked(subject: &dyn Subject) {
    let store = subject.open().await;
    let plan = |body: &str| PlanRow { hash: "h".into(), body: body.into() };
    for body in ["first", "second"] {
        let mut batch = Batch::new("suite.plan");
        batch.insert_or_ignore(&plan(body)).insert(&samples::buildset(body.len() as i64));
        store.commit(batch).await.expect("an equal key is no fault");
    }
    assert_eq!(store.plan("h").await.expect("plans can be read"), Some(plan("first")));
    for body in ["third", "fourth"] {
        let mut batch = Batch::new("suite.plan");
        batch.upsert(&plan(body));
        store.commit(batch).await.expect("an upsert always holds");
    }
    assert_eq!(store.plan("h").await.expect("plans can be read"), Some(plan("fourth")));
}

/// Whatever language the database was made for; and what no text can hold is shown as such.
pub async fn words_are_ordered_by_their_bytes(subject: &dyn Subject) {
    let store = subject.open().await;
    let sorted = ["A", "B-1", "B1", "Z", "_x", "a", "a b", "a-b", "a/b", "ab", "\u{e4}", "\u{1f980}"];
    for branch in sorted.iter().rev() {
        insert(&store, &samples::head(branch)).await;
    }
    let heads = store.heads("app").await.expect("heads can be read");
    assert_eq!(heads.iter().map(|h| h.branch.as_str()).collect::<Vec<_>>(), sorted);

    insert(&store, &samples::head("nul\0nul")).await;
    let head = store.head("app", "nul\0nul").await.expect("heads can be read").expect("it was written");
    assert_eq!(head.branch, "nul\u{fffd}nul");
}

/// An update leaves alone what its table calls fixed, whatever the caller's copy says.
pub async fn what_is_written_once_stays(subject: &dyn Subject) {
    let store = subject.open().await;
    insert(&store, &samples::build(1)).await;
    let mut build = samples::build(1);
    (build.builder, build.summary) = ("another".into(), "it goes on".into());
    let mut batch = Batch::new("suite.update");
    batch.update(&mut build);
    store.commit(batch).await.expect("nobody else has changed it");
    build.builder = samples::build(1).builder;
    assert_eq!(stored(&store, &build).await, Some(build));
}
