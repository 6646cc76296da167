//! Which statements the loops run to find their work, so that a database's own tests can ask how it would go about them.

use super::{Subject, samples};
use crate::batch::Batch;
use crate::value::Value;
use crate::{Answer, Backend, CommitError, Committed, DatabaseError, Identity, Row, Store};
use async_trait::async_trait;
use rouse_model::event::EventKind;
use rouse_model::*;
use std::sync::{Arc, Mutex};
use tokio::sync::watch;

/// A statement and its parameters.
pub type Asked = (String, Vec<Value>);

#[derive(Debug)]
struct Recording {
    inner: Store,
    asked: Arc<Mutex<Vec<Asked>>>,
}

#[async_trait]
impl Backend for Recording {
    async fn submit(&self, batch: Batch) -> Result<Answer, CommitError> {
        self.inner.inner.backend.submit(batch).await
    }

    fn announce(&self) {
        self.inner.inner.backend.announce();
    }

    async fn query(&self, sql: &str, params: Vec<Value>) -> Result<Vec<Row>, DatabaseError> {
        self.asked.lock().expect("nothing panics while it is held").push((sql.to_owned(), params.clone()));
        self.inner.inner.backend.query(sql, params).await
    }

    async fn reserve(&self, kind: &'static str, count: i64) -> Result<i64, CommitError> {
        self.inner.inner.backend.reserve(kind, count).await
    }

    fn fence(&self, identity: Identity) {
        self.inner.inner.backend.fence(identity);
    }
}

/// Asks as the loops do, and tells what was asked.
///
/// # Errors
/// Where the database cannot be read.
pub async fn of_work(subject: &dyn Subject) -> Result<Vec<Asked>, crate::ReadError> {
    let asked = Arc::new(Mutex::new(Vec::new()));
    let recording = Recording { inner: subject.open().await, asked: Arc::clone(&asked) };
    let committed: Committed = Arc::new(watch::Sender::new(0));
    let store = Store::over(Box::new(recording), committed, None).await.expect("it is open already");
    asked.lock().expect("nothing panics while it is held").clear();
    store.queue(100).await?;
    store.queue_anew(100, vec![super::samples::request(1)]).await?;
    store.has_queue().await?;
    store.queue_length().await?;
    store.lapsed_requests(super::NOW, 100).await?;
    store.request(RequestId(1)).await?;
    store.requests_of(BuildsetId(1)).await?;
    store.open_requests_of(BuildsetId(1)).await?;
    store.ends_of(BuildsetId(1)).await?;
    store.workers_with_room().await?;
    store.buildset_by_origin("push/1").await?;
    store.buildsets_by_id(&[BuildsetId(1), BuildsetId(2)]).await?;
    store.stamps_by_buildset(&[BuildsetId(1), BuildsetId(2)]).await?;
    store.open_buildsets("push").await?;
    store.open_builds().await?;
    store.build(BuildId(1)).await?;
    store.build_properties(BuildId(1)).await?;
    store.steps(BuildId(1)).await?;
    store.commands(BuildId(1)).await?;
    store.wanted_commands(WorkerId(1)).await?;
    store.artifacts(BuildId(1)).await?;
    store.live_workers().await?;
    store.live_workers_anew(vec![super::samples::worker(1)]).await?;
    store.worker_by_name("big-1").await?;
    store.workers_by_id(&[WorkerId(1)]).await?;
    store.leases_of(WorkerId(1)).await?;
    store.heads("app").await?;
    store.changes_at("app", "r").await?;
    store.changes_of(ChangeSetId(1)).await?;
    store.scheduler_states("push").await?;
    store.newest_config().await?;
    store.plan("h").await?;
    store.api_token("00").await?;
    store.all_scheduler_states().await?;
    store.next_attempt(RequestId(1)).await?;
    store.events_after(1, 500).await?;
    store.events_of_kind_after(EventKind::ChangeSetSeen, 1, 500).await?;
    store.events_of_kind_after(EventKind::BuildsetDone, 1, 500).await?;
    store.events_of_kind_after(EventKind::RequestDone, 1, 500).await?;
    store.cursor("traces").await?;
    store.event_of_config(ConfigRevisionId(1)).await?;
    store.events_of_worker(WorkerId(1)).await?;
    store.newest_event().await?;
    store.oldest_event().await?;
    store.logs_of(BuildId(1)).await?;
    store.segments(LogId(1)).await?;
    store.last_segment(LogId(1)).await?;
    let asked = asked.lock().expect("nothing panics while it is held").clone();
    Ok(asked)
}

/// Some thousand finished things and a few that wait, so that a planner has something to weigh.
///
/// # Panics
/// Where they cannot be written.
pub async fn fill(subject: &dyn Subject) {
    use rouse_model::buildset::RequestState;
    let store = subject.open().await;
    for block in 0..20 {
        let mut batch = Batch::new("suite.fill");
        for id in block * 100 + 1..=block * 100 + 100 {
            let mut request = samples::request(id);
            let mut build = samples::build(id);
            let mut worker = samples::worker(id);
            if id % 100 != 0 {
                request.state = RequestState::Done;
                build.finished = Some(super::NOW);
                worker.gone = Some(super::NOW);
            }
            batch.insert(&samples::buildset(id)).insert(&request).insert(&build).insert(&worker);
            batch.insert(&samples::step(id)).insert(&samples::command(id)).insert(&samples::log(id));
            batch.event(super::event("build/1", serde_json::json!(id)));
        }
        store.commit(batch).await.expect("new rows can be written");
    }
}
